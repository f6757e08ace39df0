"""A cache of pixels is right whatever happens beside it: other trainings, kills, and films that change."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from numpy.typing import NDArray

from handlers.decoding.image import read_film, to_pixels
from training.data.films import Films, read_films
from training.data.pixels import LOCK, load_pixels

ROOT = Path(__file__).parents[2]
SIZE = 32

LOAD = f"""
import hashlib, os, signal, sys
from pathlib import Path
import training.data.pixels, workflows.files.atomic
from training.data.films import read_films

films = read_films(Path(sys.argv[1]), validation=0.2, seed=0)
decoded = []

def counted(data, read=training.data.pixels.read_film):
    decoded.append(1)
    return read(data)

training.data.pixels.read_film = counted
print("ready", flush=True)
sys.stdin.readline()
{{prelude}}
_, pixels = training.data.pixels.load_pixels(films, {SIZE}, Path(sys.argv[2]), skip_unreadable=False)
print(len(decoded), hashlib.sha256(pixels.tobytes()).hexdigest())
"""

KILL = """
def killed_at(call, number):
    calls = []

    def counting(*args, **options):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **options)

    return counting

"""

MOMENTS = {
    "before the first film": "training.data.pixels._reserve = killed_at(training.data.pixels._reserve, 1)",
    "between two films": "training.data.pixels.to_pixels = killed_at(training.data.pixels.to_pixels, 30)",
    "before the pixels have their name": "Path.replace = killed_at(Path.replace, 1)",
    "before the index": "training.data.pixels.write_text = killed_at(training.data.pixels.write_text, 1)",
    "before the index has its name": "Path.replace = killed_at(Path.replace, 2)",
    "before the old pixels go": (
        "training.data.pixels._remove_others = killed_at(training.data.pixels._remove_others, 2)"
    ),
}


def started(folder: Path, cache: Path, prelude: str = "") -> subprocess.Popen[str]:
    """A process that has read the table and waits for a line on its standard input."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOAD.format(prelude=prelude), str(folder), str(cache)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Films that it decoded, the hash of its pixels, and what it said."""
    said, complained = process.communicate("\n")
    assert process.returncode == 0, complained
    decoded, digest = said.split()
    return int(decoded), digest, complained


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture(scope="module")
def films(sample: Path) -> Films:
    return read_films(sample, validation=0.2, seed=0)


@pytest.fixture(scope="module")
def truth(films: Films) -> NDArray[np.uint8]:
    """Every film's pixels, decoded here one by one."""
    return np.stack([to_pixels(read_film(Path(path).read_bytes()), SIZE) for path in films.table["path"]])


@pytest.fixture(scope="module")
def right(truth: NDArray[np.uint8]) -> str:
    return hashlib.sha256(truth.tobytes()).hexdigest()


def test_two_trainings_that_start_at_once_on_an_empty_cache_both_see_every_film(
    sample: Path, tmp_path: Path, right: str
) -> None:
    """One decodes, the other waits and says so; before, one crashed and the other trained on black films."""
    for number in range(3):
        both = [started(sample, tmp_path / str(number)) for _ in range(2)]
        for process in both:
            go(process)
        results = [finished(process) for process in both]
        assert [digest for _, digest, _ in results] == [right, right]
        assert sorted(decoded for decoded, _, _ in results) == [0, 120]


def test_a_training_waits_for_another_that_fills_the_cache_and_says_so(
    sample: Path, films: Films, tmp_path: Path, right: str
) -> None:
    load_pixels(films, SIZE, tmp_path, skip_unreadable=False)
    [folder] = tmp_path.iterdir()
    (folder / "index.json").unlink()
    process = started(sample, tmp_path)
    with FileLock(folder / LOCK):
        go(process)
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said == f"another process decodes the films into {folder}; waiting for it\n"
    assert finished(process)[:2] == (120, right)


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_a_kill_at_any_moment_leaves_a_cache_that_the_next_training_can_use(
    sample: Path, films: Films, tmp_path: Path, truth: NDArray[np.uint8], moment: str
) -> None:
    load_pixels(films.keep(np.arange(120) >= 60), SIZE, tmp_path, skip_unreadable=False)
    [folder] = tmp_path.iterdir()
    process = started(sample, tmp_path, KILL + moment)
    process.communicate("\n")
    assert process.returncode == -9
    for wanted in (np.arange(120) >= 60, np.ones(120, bool)):  # what was there before, and what the killed one wanted
        _, pixels = load_pixels(films.keep(wanted), SIZE, tmp_path, skip_unreadable=False)
        assert (pixels == truth[wanted]).all()
    assert sorted(path.name.partition("-")[0] for path in folder.iterdir()) == ["index.json", LOCK, "pixels"]


def test_a_training_whose_neighbour_is_killed_while_it_decodes_goes_on_by_itself(
    sample: Path, tmp_path: Path, right: str
) -> None:
    asleep = "training.data.pixels.to_pixels = lambda *_: (os.write(1, b'in\\n'), signal.pause())"
    first = started(sample, tmp_path, asleep)
    go(first)
    assert first.stdout is not None
    assert first.stdout.readline() == "in\n"
    second = started(sample, tmp_path)
    go(second)
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    first.kill()
    first.communicate()
    assert finished(second)[:2] == (120, right)


def test_pixels_that_a_training_has_open_stay_while_another_replaces_the_cache(
    films: Films, tmp_path: Path, truth: NDArray[np.uint8]
) -> None:
    _, pixels = load_pixels(films, SIZE, tmp_path, skip_unreadable=False)
    fewer = np.arange(120) >= 60
    _, others = load_pixels(films.keep(fewer), SIZE, tmp_path, skip_unreadable=False)
    assert isinstance(pixels, np.memmap)
    assert (pixels == truth).all()
    assert (others == truth[fewer]).all()


def test_a_complete_cache_is_only_read(films: Films, tmp_path: Path, truth: NDArray[np.uint8]) -> None:
    """One that an administrator filled may lie where nobody else can write."""
    load_pixels(films, SIZE, tmp_path, skip_unreadable=False)
    [folder] = tmp_path.iterdir()
    before = {path.name: path.stat() for path in folder.iterdir()}
    with FileLock(folder / LOCK):  # which nobody waits for
        _, pixels = load_pixels(films, SIZE, tmp_path, skip_unreadable=False)
    assert (pixels == truth).all()
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == {
        name: status.st_mtime_ns for name, status in before.items()
    }


@pytest.mark.parametrize("damage", ["no pixels", "half the pixels", "half an index", "an index of another form"])
def test_a_damaged_cache_is_made_anew(films: Films, tmp_path: Path, truth: NDArray[np.uint8], damage: str) -> None:
    load_pixels(films, SIZE, tmp_path, skip_unreadable=False)
    [folder] = tmp_path.iterdir()
    [pixels] = folder.glob("pixels-*.npy")
    index = folder / "index.json"
    match damage:
        case "no pixels":
            pixels.unlink()
        case "half the pixels":
            os.truncate(pixels, pixels.stat().st_size // 2)
        case "half an index":
            index.write_text(index.read_text()[:100])
        case "an index of another form":
            index.write_text("{}")
    _, again = load_pixels(films, SIZE, tmp_path, skip_unreadable=False)
    assert (again == truth).all()
    assert len(list(folder.glob("pixels-*.npy"))) == 1
