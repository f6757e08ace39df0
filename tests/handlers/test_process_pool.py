"""A function in a process of its own: whatever a film does to it, that film alone is refused, by name and in time."""

import ctypes
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from pydicom.data import get_testdata_file

from handlers.decoding import process_pool
from handlers.decoding.process_pool import ProcessPool
from handlers.refusals import RefusedFilm

ROOT = Path(__file__).parents[2]
LONG = 300.0


# What runs in the process


def hostile(data: bytes, **options: int | str) -> bytes:
    """Does as the data say."""
    sys.stdout.write("a patient's name")
    sys.stderr.write("a patient's name")
    if data == b"crash":
        ctypes.string_at(0)
    if data == b"exit":
        os._exit(0)
    if data == b"raise":
        raise ZeroDivisionError
    if data == b"refuse":
        raise RefusedFilm("BlankImage", "nothing is on it")
    if data == b"stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    while data == b"spin":
        pass
    if data == b"limits":
        return repr((resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_AS))).encode()
    if data == b"hoard":
        return bytes(5 * 2**30)
    if data == b"wait":
        time.sleep(0.2)
    return f"{os.getpid()} {data.decode()} {options}".encode()


def pool_of(cpu_seconds: float = LONG) -> ProcessPool:
    return ProcessPool("tests.handlers.test_process_pool:hostile", cpu_seconds)


def refusal(pool: ProcessPool, data: bytes) -> str:
    with pytest.raises(RefusedFilm) as caught:
        pool.call(data)
    return caught.value.type


def process_of(pool: ProcessPool) -> int:
    return int(pool.call(b"film").split()[0])


# What its owner sees


def test_one_process_answers_call_after_call() -> None:
    pool = pool_of()
    assert pool.call(b"film", rows=3, syntax="1.2").endswith(b"film {'rows': 3, 'syntax': '1.2'}")
    assert len({process_of(pool) for _ in range(5)}) == 1


@pytest.mark.parametrize("data", [b"crash", b"exit", b"raise", b"hoard"])
def test_a_film_that_ends_the_process_is_refused_and_the_next_is_read(data: bytes) -> None:
    pool = pool_of()
    before = process_of(pool)
    assert refusal(pool, data) == "UnreadableImage"
    assert process_of(pool) != before


def test_a_film_that_takes_too_much_processor_time_is_refused_and_the_next_is_read() -> None:
    pool = pool_of(cpu_seconds=0.2)
    assert refusal(pool, b"spin") == "DecodeTimeout"
    assert process_of(pool)


@pytest.mark.parametrize("data", [b"spin", b"stop"])
def test_a_film_that_takes_too_long_is_refused_and_the_next_is_read(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of()
    with monkeypatch.context() as patched:
        patched.setattr(process_pool, "MAX_SECONDS", 1.0)
        assert refusal(pool, data) == "DecodeTimeout"
    assert process_of(pool)


def test_a_process_that_is_stopped_between_two_films_costs_one_film(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of()
    os.kill(process_of(pool), signal.SIGSTOP)
    with monkeypatch.context() as patched:
        patched.setattr(process_pool, "MAX_SECONDS", 1.0)
        assert refusal(pool, bytes(2**22)) == "DecodeTimeout"  # more than the socket holds
    assert process_of(pool)


def test_waiting_is_no_processor_time() -> None:
    """Nor is it where a busy machine makes a process wait."""
    assert pool_of(cpu_seconds=0.1).call(b"wait")


def test_what_the_function_refuses_is_refused_and_its_process_kept() -> None:
    pool = pool_of()
    before = process_of(pool)
    with pytest.raises(RefusedFilm, match="nothing is on it") as caught:
        pool.call(b"refuse")
    assert (caught.value.type, caught.value.code) == ("BlankImage", 422)
    assert process_of(pool) == before


def test_a_process_that_died_between_two_films_costs_none() -> None:
    pool = pool_of()
    before = process_of(pool)
    os.kill(before, signal.SIGKILL)
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
    assert process_of(pool) != before


def test_films_at_once_have_a_process_each() -> None:
    pool = pool_of()
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(pool.call, [b"wait %d" % n if n % 2 else b"wait" for n in range(8)]))
    assert [b"wait %d" % n in answer for n, answer in enumerate(answers)] == [n % 2 == 1 for n in range(8)]


def test_a_process_has_little_memory_no_core_file_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert pool_of().call(b"limits") == repr(((0, 0), (4 * 2**30, 4 * 2**30))).encode()
    assert capfd.readouterr() == ("", "")


def test_a_forked_child_has_processes_of_its_own() -> None:
    """As a data loader's workers, which are daemons."""
    pool = pool_of()
    before = process_of(pool)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put(process_of(pool)), daemon=True)
    child.start()
    assert answers.get() != before
    child.join()
    assert process_of(pool) == before


SCRIPT = """
import sys
from handlers.decoding.image import read_film
print(read_film(open(sys.argv[1], "rb").read()).shape, flush=True)
sys.stdin.read()
"""


def test_a_script_reads_a_compressed_film_and_its_decoder_ends_with_it_however_it_ends(tmp_path: Path) -> None:
    """A script that is no module and guards nothing."""
    film, script = Path(str(get_testdata_file("RG1_J2KR.dcm"))), tmp_path / "script.py"
    script.write_text(SCRIPT)
    owner = subprocess.Popen(
        [sys.executable, script, film],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert owner.stdout is not None
    assert owner.stdin is not None
    with owner:
        assert owner.stdout.readline() == b"(1955, 1841)\n"
        decoders = psutil.Process(owner.pid).children()
        assert len(decoders) == 1
        owner.kill()
    assert psutil.wait_procs(decoders, timeout=LONG)[1] == []
