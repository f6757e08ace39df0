"""A batch's films are decoded side by side, and one that is slow or breaks its decoder holds up no other."""

import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from handlers.decoding import batch
from handlers.decoding.batch import Decoding
from handlers.processors import processors
from handlers.report import Refusal

STUCK, WAITS, SPINS = b"stuck", b"waits", b"spins"


class Films:
    """A decoder whose film ``STUCK`` ends only when told; another's pixels are its first byte."""

    def __init__(self) -> None:
        self.end = threading.Event()
        self.at_once, self.most, self._lock = 0, 0, threading.Lock()

    def decode(self, film: bytes) -> NDArray[np.uint8] | Refusal:
        with self._lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        if film == STUCK:
            self.end.wait()
        with self._lock:
            self.at_once -= 1
        return np.full((2, 2), film[0], np.uint8)


@pytest.fixture
def films() -> Iterator[Films]:
    made = Films()
    yield made
    made.end.set()


def read(answers: list[NDArray[np.uint8] | Refusal]) -> list[int | str]:
    return [one.error.type if isinstance(one, Refusal) else int(one[0, 0]) for one in answers]


def test_every_film_gets_its_own_pixels(films: Films) -> None:
    assert read(Decoding(films.decode).decode([bytes([number]) for number in range(100)])) == list(range(100))
    assert 1 <= films.most <= processors()
    assert Decoding(films.decode).decode([]) == []


def test_a_container_s_share_of_the_processors_bounds_what_runs_side_by_side(
    films: Films, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert read(Decoding(films.decode).decode([bytes([number]) for number in range(20)])) == list(range(20))
    assert films.most == 1
    for told in ("", "0", "4,2", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", told)
        assert processors() == os.cpu_count()


def test_a_film_past_its_time_is_refused_and_the_others_are_read(films: Films, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "DECODE_SECONDS", 0.2)
    sent = [b"\1", STUCK, b"\2", STUCK, STUCK, b"\3"]
    assert read(Decoding(films.decode).decode(sent)) == [1, "DecodeTimeout", 2, "DecodeTimeout", "DecodeTimeout", 3]


def test_on_a_machine_that_is_busy_with_other_work_a_film_has_its_processor_time_all_the_same(
    films: Films, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "DECODE_SECONDS", 0.2)

    def decode(film: bytes) -> NDArray[np.uint8] | Refusal:
        if film == WAITS:  # as where others have the processors
            threading.Event().wait(0.3)
        elif film == SPINS:
            began_to_spin = time.thread_time()
            while time.thread_time() - began_to_spin < 0.5:
                pass
        return films.decode(film)

    assert read(Decoding(decode).decode([WAITS, b"\1"])) == [WAITS[0], 1]
    assert read(Decoding(decode).decode([SPINS, b"\1"])) == ["DecodeTimeout", 1]


def test_stuck_decoders_hold_up_no_answer_and_come_back(films: Films, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "DECODE_SECONDS", 0.1)
    decoding = Decoding(films.decode)
    assert set(read(decoding.decode([STUCK] * 16))) == {"DecodeTimeout"}
    assert read(decoding.decode([b"\1"])) == ["DecodeTimeout"]
    films.end.set()
    monkeypatch.undo()
    assert read(decoding.decode([b"\1", b"\2"])) == [1, 2]
