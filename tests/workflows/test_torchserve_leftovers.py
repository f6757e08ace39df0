"""A TorchServe leaves no worker and no unpacked archive, however it ends."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.arms.torchserve import configure
from tests.workflows.conftest import behave, refusal, start_by_hand
from workflows import jvm, torchserve
from workflows.server import Server

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("no_waiting")]
ROOT = Path(__file__).parents[2]
LEAVES = """
import subprocess, tempfile
from pathlib import Path
Path(tempfile.gettempdir(), "unpacked").write_text("a model")
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
Path("worker").write_text(f"{worker.pid} {tempfile.gettempdir()}")
listen().serve_forever()
"""
"""A TorchServe with a worker and a file in its temporary folder; killed, it leaves both."""


def started(server: Server) -> tuple[torchserve.Child, psutil.Process, psutil.Process, Path]:
    """The child, its JVM, the worker and the temporary folder of a TorchServe that leaves things behind."""
    behave(server, LEAVES)
    child = torchserve.start(server)
    (process,) = jvm.of_folder(server.folder)
    worker, temporary = (server.folder / "worker").read_text().split()
    assert Path(temporary, "unpacked").exists()
    return child, process, psutil.Process(int(worker)), Path(temporary)


@pytest.mark.parametrize("way", ["stopped", "ended", "killed JVM", "JVM that ends"])
def test_however_it_ends_no_worker_and_no_unpacked_archive_is_left(server: Server, way: str) -> None:
    child, process, worker, temporary = started(server)
    if way == "stopped":
        torchserve.stop(child)
    elif way == "ended":
        torchserve.end(server)
    elif way == "killed JVM":
        process.kill()
    else:
        process.terminate()
    child.wait()
    assert not any(map(jvm.runs, (process, worker)))
    assert not temporary.exists()


STARTS = """
import sys, time
from pathlib import Path
from workflows import torchserve
from workflows.server import Server
torchserve.start(Server.of_folder(Path(sys.argv[1])))
print("up", flush=True)
time.sleep(3600)
"""


def test_it_ends_with_the_process_that_started_it_whatever_ended_that(server: Server) -> None:
    behave(server, LEAVES)
    program = [sys.executable, "-c", STARTS, str(server.folder)]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        child, *_ = psutil.Process(parent.pid).children()
        process, worker = torchserve.running(server)
        temporary = Path((server.folder / "worker").read_text().split()[1])
        assert worker.parent() == process
        parent.kill()
        assert psutil.wait_procs([child, process, worker], timeout=30)[1] == []
    assert not temporary.exists()


def test_what_a_killed_child_leaves_is_known_and_goes_with_the_next_start(server: Server) -> None:
    child, process, worker, temporary = started(server)
    assert not torchserve.is_left_over(server)
    child.kill()
    child.wait()
    assert torchserve.is_left_over(server)
    (server.folder / "behaviour").unlink()
    torchserve.start(server)
    assert not torchserve.is_left_over(server)
    assert not any(map(jvm.runs, (process, worker)))
    assert not temporary.exists()


def test_one_that_was_started_by_hand_is_not_left_over(server: Server) -> None:
    process = start_by_hand(server)
    torchserve.wait_until_up(server)
    assert not torchserve.is_left_over(server)
    torchserve.end(server)
    process.wait()


def test_two_with_one_temporary_folder_do_not_meet(server: Server, tmp_path: Path) -> None:
    torchserve.start(server)
    second = tmp_path / "second"
    second.mkdir()
    configure(second)
    torchserve.start(other := Server.of_folder(second))
    try:
        assert server.alive()
        assert other.alive()
    finally:
        torchserve.end(other)
    assert server.alive()


def test_a_temporary_folder_that_is_too_deep_for_sockets_is_named(server: Server, tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 20)
    deep.mkdir()
    os.environ["TMPDIR"] = str(deep)
    assert "is too long for the workers' sockets: name a shorter temporary folder in TMPDIR" in refusal(server)
    assert not list(deep.iterdir())
