"""The ratios that are published: none of them is larger for what was left out."""

import json
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import pytest

from benchmarks import machine, serving, training
from benchmarks.arms.arm import Peer
from benchmarks.plan import RIVALS
from benchmarks.summary import by_film, by_step, ratios_of, way

RATES = {"ours_workflow": 6.0, "limit": 8.0, "litserve": 4.0, "ray_serve": 3.0, "fastapi_pipelines": 2.0}


def rows(rates: dict[str, float], difference: float = 0.01) -> list[dict[str, object]]:
    about = {"pair": "base", "share": 50, "form": "png", "largest_difference": difference}
    return [
        {**about, "load": "in process" if name == "limit" else "closed, 32", "arm": name, "films_per_second": rate}
        for name, rate in rates.items()
    ]


def test_ours_is_compared_with_the_best_peer_and_the_limit() -> None:
    ratios = ratios_of(rows(RATES), {}, {}, "float32")
    assert ratios["ours_over_best_peer"] == 1.5
    assert ratios["ours_over_limit_base"] == 0.75
    assert ratios["ours_over_limit_small"] is None


def test_a_film_s_time_is_its_median_over_the_turns_and_its_way_adds_up_to_it() -> None:
    assert by_film([[100.0, 50.0], [900.0, 52.0], [104.0, 51.0]]) == [104.0, 51.0]
    steps = by_step([{"decode": 10.0, "hop": 1.0, "reply": 1.0}, {"decode": 12.0, "hop": 1.0, "reply": 3.0}])
    assert steps == {"decode": 11.0, "hop": 1.0, "reply": 2.0}
    found = way(steps, empty=12.0, took=[40.0, 50.0, 60.0])
    assert (found["whole"], found["http"], found["queue"], found["remainder"]) == (50.0, 5.0, 4.0, 27.0)


@pytest.mark.parametrize("missing", RIVALS)
def test_a_missing_peer_makes_the_ratio_null_and_never_larger(missing: str) -> None:
    assert ratios_of(rows(RATES | {missing: 0.0}), {}, {}, "float32")["ours_over_best_peer"] is None
    left = {name: rate for name, rate in RATES.items() if name != missing}
    assert ratios_of(rows(left), {}, {}, "float32")["ours_over_best_peer"] is None


def test_a_peer_that_answers_wrongly_is_none() -> None:
    wrong = rows(RATES, difference=0.05)
    assert ratios_of(wrong, {}, {}, "float32")["ours_over_best_peer"] is None
    assert ratios_of(wrong, {}, {}, "bfloat16")["ours_over_best_peer"] == 1.5


def test_a_peer_is_looked_for_in_the_peers_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    monkeypatch.setattr(machine, "PEERS_PYTHON", tmp_path / "bin" / "python")
    peer = Peer("a peer", "module", ("a_package_of_a_peer",))
    assert peer.missing() == "a_package_of_a_peer not installed: make .venv-peers/installed"
    (packages / "a_package_of_a_peer.py").touch()
    assert peer.missing() is None
    assert machine.peers_python() == sys.executable  # it was not made
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    assert machine.peers_python() == str(tmp_path / "bin" / "python")


def test_the_limit_s_process_finds_the_peers_engines(tmp_path: Path) -> None:
    (tmp_path / "an_engine.py").touch()
    with ProcessPoolExecutor(1, get_context("spawn"), machine.look_in, ([*sys.path, str(tmp_path)],)) as child:
        assert child.submit(find_spec, "an_engine").result() is not None


def test_a_quick_run_leaves_the_published_figures_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "RESULTS", tmp_path)
    assert serving.out_of("serving.json", quick=True) == tmp_path / "quick" / "serving.json"
    assert serving.out_of("serving.json", quick=False) == tmp_path / "serving.json"
    monkeypatch.setattr(training, "RESULTS", tmp_path)
    assert training.out_of(quick=True) == tmp_path / "quick" / "training.json"
    assert training.out_of(quick=False) == tmp_path / "training.json"


def test_quick_figures_are_not_committed() -> None:
    root = Path(serving.__file__).parents[1]
    if not (root / ".git").exists():
        pytest.skip("no checkout")
    ignored = ["git", "check-ignore", "-q", "benchmarks/results/quick/serving.json"]
    assert subprocess.run(ignored, cwd=root).returncode == 0
    published = json.loads((root / "benchmarks" / "results" / "serving.json").read_text())
    assert published["quick"] is False
