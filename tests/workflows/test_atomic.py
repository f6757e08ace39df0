"""A reader finds a file or folder old or new, and whole; a fault of the machine is one line of a command."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from workflows.files import atomic
from workflows.files.atomic import restore, says_full, scratch_folder, write_text, written, written_folder

ROOT = Path(__file__).parents[2]

HOLDING = """
import signal, sys
from pathlib import Path
from workflows.files import atomic

with getattr(atomic, sys.argv[1])(Path(sys.argv[2])) as new:
    (new / "half" if new.is_dir() else new).write_text("half")
    print("holding", flush=True)
    signal.pause()
"""
WRITING = """
import sys
from pathlib import Path
from workflows.files.atomic import written_folder

for number in range(20):
    with written_folder(Path(sys.argv[1])) as new:
        (new / "number").write_text(f"{sys.argv[2]} {number}")
"""


def holding(kind: str, path: Path) -> subprocess.Popen[str]:
    """A process that has half written a file or folder, and goes no further."""
    command = [sys.executable, "-c", HOLDING, kind, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    return process


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["written", "written_folder", "scratch_folder"])
def test_what_a_killed_writer_left_goes_with_the_next_one_and_a_living_one_s_stays(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "result[1]"
    killed, alive = holding(kind, path), holding(kind, path)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(names(tmp_path)) == 2
    with getattr(atomic, kind)(path) as new:
        assert len(names(tmp_path)) == 2  # the living one's, and this
        assert not new.is_dir() or not names(new)
    assert len(names(tmp_path)) == (1 if kind == "scratch_folder" else 2)
    alive.terminate()
    alive.wait()
    with getattr(atomic, kind)(path):
        pass
    assert names(tmp_path) == ([] if kind == "scratch_folder" else ["result[1]"])


@pytest.mark.parametrize("fault", [ValueError("no"), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_the_old_and_nothing_else(tmp_path: Path, fault: BaseException) -> None:
    write_text(tmp_path / "file", "old")
    with written_folder(tmp_path / "folder") as new:
        (new / "inside").write_text("old")

    def fail(new: Path) -> None:
        new.write_text("half")
        raise fault

    with pytest.raises(type(fault)), written(tmp_path / "file") as new:
        fail(new)
    with pytest.raises(type(fault)), written_folder(tmp_path / "folder") as new:
        fail(new / "inside")
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "inside").read_text() == "old"


def test_a_folder_that_two_processes_replace_at_once_is_always_there_and_whole(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    with written_folder(folder) as new:
        (new / "number").write_text("0 0")
    both = [subprocess.Popen([sys.executable, "-c", WRITING, str(folder), str(one)], cwd=ROOT) for one in (1, 2)]
    seen = set()
    while any(process.poll() is None for process in both):
        try:
            inside = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # a moment that only a disk without renameat2's exchange has
            assert not exchanges(tmp_path)
            continue
        try:
            with open("number", opener=lambda name, flags, at=inside: os.open(name, flags, dir_fd=at)) as file:
                seen.add(file.read())
        except FileNotFoundError:  # this very folder was replaced, and is being deleted
            pass
        finally:
            os.close(inside)
    assert [process.returncode for process in both] == [0, 0]
    assert "" not in seen
    assert (folder / "number").read_text() in ("1 19", "2 19")
    assert names(tmp_path) == ["report"]


def exchanges(folder: Path) -> bool:
    one, other = folder / "one", folder / "other"
    one.mkdir()
    other.mkdir()
    can = atomic._exchange(one, other)
    one.rmdir()
    other.rmdir()
    return can


@pytest.mark.parametrize("killed", [False, True])
def test_where_folders_cannot_change_places_a_kill_between_two_renames_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """As on a network disk."""
    monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    for text in ("first", "second"):
        with written_folder(tmp_path / "state") as new:
            (new / "inside").write_text(text)
    assert names(tmp_path) == ["state"]
    if killed:
        (tmp_path / "state").rename(tmp_path / "state.old")
    restore(tmp_path / "state")
    assert (tmp_path / "state" / "inside").read_text() == "second"
    assert names(tmp_path) == ["state"]


def test_permissions_are_the_user_s_own_or_the_given_ones(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "result", "for the group")
        write_text(tmp_path / "secret", "for nobody", 0o600)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("result", "secret")]
    assert modes == [0o640, 0o600]


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "report").mkdir(parents=True)
    (tmp_path / "elsewhere" / "scores").write_text("old")
    for name in ("report", "scores"):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere" / name)
    write_text(tmp_path / "scores", "new")
    with written_folder(tmp_path / "report") as new:
        (new / "page").write_text("new")
    assert (tmp_path / "scores").is_symlink()
    assert (tmp_path / "report").is_symlink()
    assert (tmp_path / "elsewhere" / "scores").read_text() == "new"
    assert names(tmp_path / "elsewhere" / "report") == ["page"]


def test_a_pipe_is_written_not_replaced(tmp_path: Path) -> None:
    """--out /dev/stdout; and /dev/null stays what it is."""
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_text(tmp_path / "pipe", "scores")
    reader.join()
    assert read == ["scores"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")
    with (
        pytest.raises(NotADirectoryError, match="a file is there, where a folder belongs"),
        written_folder(tmp_path / "report"),
    ):
        pass
    assert (tmp_path / "report").read_text() == "mine"


def test_scratch_is_on_the_disk_of_what_it_is_for_and_goes(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "store" / "archives") as scratch:
        assert scratch.parent == tmp_path / "store"
        (scratch / "binary.mar").write_bytes(b"half")
    assert names(tmp_path / "store") == []


@pytest.mark.parametrize(
    ("fault", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EFBIG, "File too large"), True),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (ValueError("no"), False),
    ],
)
def test_a_full_disk_is_known_by_every_library_s_exception(fault: Exception, full: bool) -> None:
    assert says_full(fault) is full
    behind = RuntimeError("unexpected pos 640 vs 598")
    behind.__context__ = fault
    assert says_full(behind) is full


def test_a_command_whose_output_cannot_be_written_says_so_in_a_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gateway.keys", "first", "--secrets", str(tmp_path / "secrets")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")


def test_a_command_whose_reader_has_gone_ends_without_a_word(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "gateway.keys", "first", "--secrets", str(tmp_path / "secrets")]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_folder_that_nobody_may_write_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "gateway.keys", "make", "ward-3", "--secrets", str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert str(tmp_path / "file") in done.stderr
    assert "Traceback" not in done.stderr
