"""The limit's rate: a stream's own films over its own time, the films that have waited for stage 2 included."""

import itertools
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import engines, limit, pairs
from benchmarks.limit import Setting, Steps
from handlers.networks.onednn import OneDnnLinear, PackedLinear
from handlers.networks.vit import Vit
from tests.conftest import TINY

CORES = os.cpu_count() or 1


def test_the_limit_reads_films_in_turn_and_ends_with_what_has_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()  # one stream looks at it: at its start, twice while it goes on, once at its end
    spent = itertools.count(0, 3)
    times = SimpleNamespace(perf_counter=lambda: float(next(clock)), process_time=lambda: float(next(spent)))
    monkeypatch.setattr(limit, "time", times)
    seen: list[list[int]] = []

    def stream() -> Steps:
        return lambda films: seen.append(films[:, 0, 0].tolist()), lambda: seen.append([])

    films = np.arange(5, dtype=np.uint8)[:, None, None]
    rate, number, seconds = limit._in_streams(Setting(4, "float32", CORES), films, 2.0, [], stream)
    assert seen == [[0, 1, 2, 3], [4, 0, 1, 2], []]
    assert (rate, number, seconds) == (8 / 3, 8, 3.0)


def test_every_stream_runs_a_batch_before_the_clock_starts(share, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, pixels = share
    vit, _, _ = limit.vits(folder, "float32")
    happened: list[tuple[str, int]] = []
    plain, clock = limit.padded, limit.time.perf_counter

    def noted(*arguments):
        happened.append(("batch", threading.get_ident()))
        return plain(*arguments)

    def looked() -> float:
        happened.append(("clock", threading.get_ident()))
        return clock()

    monkeypatch.setattr(limit, "padded", noted)
    monkeypatch.setattr(limit, "time", SimpleNamespace(perf_counter=looked, process_time=lambda: 0.0))
    limit._in_streams(Setting(2, "float32", 1), pixels, 0.0, [vit], lambda: (lambda films: None, lambda: None))
    before = {thread for _, thread in happened[: [what for what, _ in happened].index("clock")]}
    assert len(before) == CORES + 1
    assert before - {threading.get_ident()} == {thread for what, thread in happened if what == "clock"}


class Wrong(engines.Engine):
    """Says the same of every film."""

    name = "wrong"

    def load(self, vit: Vit, batch: int, threads: int, streams: int) -> engines.Run:
        return lambda inputs: np.zeros((len(inputs), 1), np.float32)


class Stub(engines.Eager):
    """Another name for torch as it comes."""

    name = "stub"


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, np.ndarray]:
    monkeypatch.setitem(pairs.SIZES, "tiny", TINY)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 224, 224), np.uint8)
    return pairs.make_pair("tiny", tmp_path / "tiny", pixels).at_share(50), pixels


def test_the_limit_is_the_fastest_engine_that_says_the_same(share, monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in (Wrong(), Stub()):
        monkeypatch.setitem(engines.ENGINES, engine.name, engine)
    speeds = {"eager": 10.0, "stub": 20.0, "wrong": 90.0}
    monkeypatch.setattr(limit, "_rate", lambda setting, *_: speeds[setting.engine] + setting.batch)
    folder, pixels = share
    found = limit.search(folder, pixels, (1, 2), 0.1, ("stub", "wrong"))
    assert found["best"] == found["float32"]
    assert (found["best"].engine, found["best"].batch, found["best"].dtype) == ("stub", 4, "float32")
    assert found["engines"]["eager"] == {"float32": 12.0}
    assert found["engines"]["stub"] == {"float32": 24.0}
    assert "from torch's" in found["engines"]["wrong"]["float32"]


def test_an_engine_that_is_not_installed_is_named(share, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stub, "needs", ("a_package_that_is_not_there",))
    monkeypatch.setitem(engines.ENGINES, "stub", Stub())
    monkeypatch.setattr(limit, "_rate", lambda setting, *_: 1.0)
    folder, pixels = share
    found = limit.search(folder, pixels, (2,), 0.1, ("stub",))
    assert found["engines"]["stub"] == "a_package_that_is_not_there not installed"
    assert found["best"].engine == "eager"


def test_a_batch_that_is_not_full_is_filled_for_an_engine_and_cut_again(share) -> None:
    folder, pixels = share
    vit, _, _ = limit.vits(folder, "float32")
    seen: list[int] = []

    def load(self, vit: Vit, batch: int, threads: int, streams: int) -> engines.Run:
        return lambda inputs: seen.append(len(inputs)) or vit.model(inputs).numpy()

    stub = type("Load", (engines.Engine,), {"name": "load", "load": load})
    engines.ENGINES["load"] = stub()
    try:
        said = limit.padded(vit, pixels[:3], Setting(4, "float32", 1, "load"))
    finally:
        del engines.ENGINES["load"]
    assert seen == [4]
    assert said == pytest.approx(limit.forward(vit, pixels[:3]), abs=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_other_engines_get_the_network_without_weights_that_onednn_alone_reads(share, dtype: str) -> None:
    folder, pixels = share
    vit, _, _ = limit.vits(folder, dtype)
    inputs = vit.inputs(pixels[:2])
    with torch.inference_mode():
        served = vit.model(inputs)
        rounding = 1e-5 if dtype == "float32" else 0.02
        for network, allowed in ((engines._unpacked(vit), rounding), (engines._plain(vit), 0.3)):
            assert all(weights.layout == torch.strided for weights in network.buffers())
            assert not any(type(module) in (OneDnnLinear, PackedLinear) for module in network.modules())
            torch.testing.assert_close(network(inputs), served, rtol=0, atol=allowed)
        torch.testing.assert_close(vit.model(inputs), served, rtol=0, atol=0)
