"""A TorchServe that does not come up, or ends, is noticed at once, and its cause is said.

``START_LIMIT`` is an hour here: a test that waited for it would not end.
"""

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.workflows.conftest import Holder, behave, change, refusal, start_by_hand
from tests.workflows.fake_java import JVM, make_java
from workflows import jvm, register, torchserve
from workflows.register import predict
from workflows.server import KEY_FILE, ForeignServer, Server, ServerDown, WrongToken

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("no_waiting")]
ROOT = Path(__file__).parents[2]
INVALID = 'Invalid configuration: For input string: "many"'
TRACE = """java.io.IOException: Failed to bind to address: http://127.0.0.1:8080
\tat org.pytorch.serve.ModelServer.initializeServer(ModelServer.java:330)
Caused by: io.netty.channel.unix.Errors$NativeIoException: bind(..) failed: Address already in use
\t... 12 more
"""


@pytest.fixture
def looked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for ``WAIT`` goes on when ``wait_until_up`` has looked for it once, and found it there, but silent.

    It looks before each ping: a process that is there at two pings was there at the look between them.
    """
    os.mkfifo(server.folder / "looked")
    ping, there = Server.ping, set[psutil.Process]()

    def ping_and_tell(one: Server) -> None:
        try:
            ping(one)
        finally:
            now = set(jvm.of_folder(one.folder))
            if now & there:
                with suppress(OSError):  # nothing waits: it is not there yet, or has gone on
                    os.close(os.open(one.folder / "looked", os.O_WRONLY | os.O_NONBLOCK))
            there.clear()
            there.update(now)

    monkeypatch.setattr(Server, "ping", ping_and_tell)


WAIT = "open('looked').read()"


def asked(server: Server) -> str:
    path = server.folder / "asked"
    return path.read_text() if path.exists() else ""


def test_it_is_up_when_start_returns(server: Server) -> None:
    child = torchserve.start(server)
    assert server.alive()
    (process,) = jvm.of_folder(server.folder)
    assert jvm.was_noted(server.folder, process)
    assert torchserve.wait_until_up(server) == process
    torchserve.end(server)
    assert child.wait() == 0
    assert not server.alive()
    assert not jvm.of_folder(server.folder)


def test_starting_again_replaces_the_one_that_runs(server: Server) -> None:
    torchserve.start(server)
    (first,) = jvm.of_folder(server.folder)
    torchserve.start(server)
    (second,) = jvm.of_folder(server.folder)
    assert second != first
    assert not jvm.runs(first)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("Unrecognized VM option 'UseFoo'\nError: Could not create the Java Virtual Machine.\n", None),
        ("Invalid maximum heap size: -Xmx999999g\nError: A fatal exception has occurred.\n", None),
        (
            TRACE,
            "java.io.IOException: Failed to bind to address: http://127.0.0.1:8080 Caused by: "
            "io.netty.channel.unix.Errors$NativeIoException: bind(..) failed: Address already in use",
        ),
        ("Model server started.\nTerminating due to java.lang.OutOfMemoryError: Java heap space\n", None),
        ("", "it was killed from outside, or the machine ran out of memory"),
        ("\\xff\\xfe", None),
    ],
)
@pytest.mark.parametrize("before", ["", WAIT], ids=["at once", "when it was seen"])
@pytest.mark.usefixtures("looked")
def test_its_last_words_are_said_as_soon_as_it_has_ended(server: Server, words: str, shown, before: str) -> None:
    behave(server, f"{before}; print({words!r}, end='', flush=True); os._exit(1)".removeprefix("; "))
    said = refusal(server)
    expected = shown or " ".join(line for line in words.splitlines() if line != "Model server started.")
    assert said == f"TorchServe has ended: {expected} (see {server.folder}/logs/console.log)"


def test_a_setting_that_it_cannot_read_is_named(server: Server) -> None:
    server = change(server.folder, job_queue_size="many", number_of_netty_threads="many")
    behave(server, f"print({INVALID!r}, flush=True); os._exit(1)")
    said = refusal(server)
    assert f"TorchServe has ended: {INVALID} (config.properties: job_queue_size, number_of_netty_threads)" in said


def test_one_that_listens_and_then_ends_says_why(server: Server, monkeypatch) -> None:
    """A gRPC port is bound last: the server answers already when that fails."""
    os.mkfifo(server.folder / "end")
    behave(
        server,
        "one = listen(); threading.Thread(target=one.serve_forever, daemon=True).start()\n"
        "open('end').read()\n"
        "print('java.io.IOException: Failed to bind to address /127.0.0.1:7070', flush=True); os._exit(1)",
    )
    torchserve.start(server)
    (process,) = jvm.of_folder(server.folder)

    def call() -> None:
        os.close(os.open(server.folder / "end", os.O_WRONLY))
        psutil.wait_procs([process], timeout=30)
        server.ping()

    with (
        pytest.raises(ServerDown, match=r"has ended: java.io.IOException: Failed to bind to address /127.0.0.1:7070"),
        torchserve.cause_of_end(server, process),
    ):
        call()


def test_one_that_ends_while_it_reads_its_first_film_says_why(server: Server) -> None:
    behave(
        server,
        "class Dying(Answer):\n"
        "    def do_POST(self): print('Terminating due to OutOfMemoryError', flush=True); os._exit(3)\n"
        "one = listen(); one.RequestHandlerClass = Dying; one.serve_forever()",
    )
    torchserve.start(server)
    with (
        pytest.raises(ServerDown, match="TorchServe has ended: Terminating due to OutOfMemoryError"),
        torchserve.cause_of_end(server, jvm.of_folder(server.folder)[0]),
    ):
        predict(server, register.probe_film(), "chest_xray")


def test_a_taken_port_leaves_the_running_server_alone(server: Server, hold: Holder) -> None:
    torchserve.start(server)
    (running,) = jvm.of_folder(server.folder)
    (port,) = re.findall(r"metrics_address=.*:(\d+)", (server.folder / "config.properties").read_text())
    owner = hold(f"one = socket.create_server(('127.0.0.1', {port}))")
    assert f"port {port} (metrics_address in" in (said := refusal(server))
    assert f"process {owner.pid} " in said
    assert jvm.of_folder(server.folder) == [running]
    assert server.alive()


def test_an_old_java_leaves_the_running_server_alone(server: Server, tmp_path: Path) -> None:
    torchserve.start(server)
    os.environ["JAVA_HOME"] = str(make_java(tmp_path / "old", '"1.8.0_392"'))
    assert "is Java 8, and TorchServe 0.12.0 needs 11 or newer" in refusal(server)
    assert server.alive()


def test_nothing_that_runs_is_said_without_a_minute_s_wait(server: Server) -> None:
    with pytest.raises(ServerDown, match=rf"no TorchServe runs in {server.folder}, and nothing answers at"):
        torchserve.wait_until_up(server)


@pytest.mark.usefixtures("looked")
def test_one_that_is_started_by_hand_is_waited_for_and_its_end_noticed(server: Server) -> None:
    process = start_by_hand(server, f"{WAIT}; exec({JVM!r})")
    assert torchserve.wait_until_up(server) == process
    process.kill()
    process.wait()
    dying = start_by_hand(server, WAIT)
    with pytest.raises(ServerDown, match="the TorchServe that was started by hand has ended: its cause stands where"):
        torchserve.wait_until_up(server)
    dying.wait()


def test_another_program_on_the_port_is_named_at_once(server: Server, hold: Holder) -> None:
    port = int(server.inference.rpartition(":")[2])
    owner = hold(f"one = socket.create_server(('127.0.0.1', {port}))")
    with pytest.raises(ForeignServer, match=f"listens process {owner.pid} "):
        torchserve.wait_until_up(server)


def test_a_key_file_that_is_not_the_running_server_s_is_said_at_once(server: Server) -> None:
    torchserve.start(server)
    keys = {kind: {"key": "wrong"} for kind in ("inference", "management", "API")}
    (server.folder / KEY_FILE).write_text(json.dumps(keys))
    with pytest.raises(WrongToken, match="refuses the inference token"):
        torchserve.wait_until_up(server)


def test_a_server_that_does_not_answer_says_what_it_does_instead(server: Server, monkeypatch) -> None:
    monkeypatch.setattr(torchserve, "START_LIMIT", 1.0)
    behave(server, "one = listen(); os.remove('key_file.json'); one.serve_forever()")
    assert re.search(r"not up after 1 s .*: .*key_file.json is not there", refusal(server))


def command(server: Server, module: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", *module.split(), "--server", str(server.folder)]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_commands_say_it_in_a_line(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    (server.folder / "config.properties").write_text("model_store=store\n")
    for module in ("gateway", "gateway.background start", "gateway.background stop", "workflows.register"):
        said = command(server, module)
        assert said.returncode == 1
        assert said.stderr.startswith(f"error: {server.folder}/config.properties has no inference_address")
        assert said.stderr.count("\n") == 1


def test_a_logs_folder_that_is_none_is_named(server: Server) -> None:
    (server.folder / "logs").rmdir()
    (server.folder / "logs").write_text("a file")
    said = command(server, "workflows.register")
    assert said.returncode == 1
    assert re.fullmatch(rf"error: {server.folder}/logs.*: (File exists|Not a directory)\n", said.stderr)
    (server.folder / "logs").unlink()
