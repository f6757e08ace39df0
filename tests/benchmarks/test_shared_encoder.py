"""Both arms of the measurement say the same of a film."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import pairs
from benchmarks.shared_encoder import make_arms
from handlers.findings import FINDINGS
from training.fit.config import SizesConfig


def test_features_on_the_hop_change_no_report(film_paths: list[Path], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(pairs.SIZES, "least", SizesConfig(hidden=32, layers=2, heads=2, mlp=64, patch=16))
    films = [path.read_bytes() for path in film_paths[:6]]
    arms = make_arms("least", films, tmp_path)
    messages = {name: screening.screen(films) for name, (screening, _) in arms.items()}
    assert all(one.features is None and one.pixels is not None for one in messages["apart"])
    assert all(one.features is not None and one.pixels is None for one in messages["shared"])
    apart, shared = (arms[name][1].name(messages[name]) for name in ("apart", "shared"))
    for one, other in zip(apart, shared, strict=True):
        assert one.routed
        expected = [one.diseases[name].probability for name in FINDINGS]
        assert [other.diseases[name].probability for name in FINDINGS] == pytest.approx(expected, abs=1e-6)
        assert np.std(expected) > 0
