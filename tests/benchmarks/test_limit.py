"""The limit's rate: a stream's own films over its own time, the films that have waited for stage 2 included."""

import itertools
import os
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import limit
from benchmarks.limit import Setting, Steps

CORES = os.cpu_count() or 1


def test_the_limit_reads_films_in_turn_and_ends_with_what_has_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()  # one stream looks at it: at its start, twice while it goes on, once at its end
    monkeypatch.setattr(limit, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    seen: list[list[int]] = []

    def stream() -> Steps:
        return lambda films: seen.append(films[:, 0, 0].tolist()), lambda: seen.append([])

    films = np.arange(5, dtype=np.uint8)[:, None, None]
    rate, number = limit._in_streams(Setting(4, "float32", CORES), films, 2.0, stream)
    assert seen == [[0, 1, 2, 3], [4, 0, 1, 2], []]
    assert (rate, number) == (8 / 3, 8)
