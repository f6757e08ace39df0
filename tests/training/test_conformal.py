"""Calls are wrong about no more films than they promise, and uncertain where too few patients could tell."""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom

from handlers.certainty import Bounds
from handlers.findings import FINDINGS, LABELS
from handlers.metadata import Metadata
from training.archive import archive, main
from training.evaluation.conformal import ERRORS, certainty_table, coverage, fewest, fit_bounds, fit_certainty
from training.evaluation.metrics import Scored, gated


def films_of(number: int, prevalence: float, seed: int, strength: float = 1.5, gate: float = 0.0) -> Scored:
    """Each finding moves a normal distribution by ``strength``; stage 1 sees the strongest of the 14."""
    chance = np.random.default_rng(seed)
    targets = (chance.random((number, 14)) < prevalence).astype(np.int8)
    diseases = expit(chance.normal(strength * targets - 1, 1.0)).astype(np.float32)
    finding = diseases.max(axis=1)
    routed = finding >= gate
    ways = {"ungated": diseases, "gated": gated(routed, diseases)}
    return Scored(targets, finding, routed, ways, ways["gated"] >= 0.5, targets.any(axis=1).astype(np.int8))


def names(number: int) -> np.ndarray:
    return np.arange(number).astype(str)


def test_the_bounds_are_the_formulas_order_statistics() -> None:
    """Of 39 films with it the 4th lowest, floor(40 x 0.1); of 59 without it the 54th, ceil(60 x 0.9)."""
    shown, without = np.linspace(0.4, 0.78, 39), np.linspace(0.0, 0.58, 59)
    targets = np.repeat([1, 0, -1], [39, 59, 500]).astype(np.int8)
    scores = np.concatenate([shown, without, np.full(500, 0.99)])
    order = np.random.default_rng(0).permutation(len(targets))
    bounds = fit_bounds(targets[order], scores[order], names(len(targets)), 0.1)
    assert bounds == Bounds(low=shown[3], high=without[53])


# With n films of an outcome the mean coverage is exactly 1 - floor((n + 1) error) / (n + 1): 0.9 for n = 39 and 0.1.
@pytest.mark.parametrize("prevalence", [0.05, 0.5])
def test_new_films_are_denied_as_seldom_as_was_chosen_whatever_the_prevalence(prevalence: float) -> None:
    chance, denied = np.random.default_rng(1), np.zeros(2)
    draws, new = 400, 4000
    for _ in range(draws):
        fitted = np.concatenate([chance.normal(1.5, 1, 39), chance.normal(0, 1, 39)])
        bounds = fit_bounds(np.repeat([1, 0], 39).astype(np.int8), expit(fitted), names(78), 0.1)
        assert bounds
        truth = chance.random(new) < prevalence
        scores = expit(chance.normal(1.5 * truth, 1))
        absent = (scores < bounds.low) & (scores <= bounds.high)
        present = (scores >= bounds.low) & (scores > bounds.high)
        denied += absent[truth].mean(), present[~truth].mean()
    assert denied / draws == pytest.approx([0.1, 0.1], abs=0.008)


@pytest.mark.parametrize(("error", "number"), [(0.05, 61), (0.1, 30), (0.2, 10)])
def test_from_so_many_patients_on_bounds_are_worth_something(error: float, number: int) -> None:
    """So that with a probability of 95% no more than twice the error is denied of all new films."""
    assert fewest(error) == number

    def risk(films: int) -> float:
        """That the bound's own share of all films is over twice the error, by the distribution of its rank."""
        rank = int((films + 1) * error + 1e-9)
        return float(binom.cdf(rank - 1, films, 2 * error)) if rank else 1.0

    assert risk(number - 1) > 0.05
    assert all(risk(films) <= 0.05 for films in range(number, number + 200))


def test_with_fewer_patients_every_film_is_uncertain() -> None:
    targets = np.repeat([1, 0], [60, 200]).astype(np.int8)
    scores = np.concatenate([np.linspace(0.6, 1, 60), np.linspace(0, 0.4, 200)])
    assert fit_bounds(targets, scores, names(260), 0.1)
    two_films_each = np.concatenate([np.arange(60) // 2, 100 + np.arange(200)]).astype(str)
    assert fit_bounds(targets, scores, two_films_each, 0.1)  # 30 patients with it
    shared = two_films_each.copy()
    shared[:4] = "one"
    assert fit_bounds(targets, scores, shared, 0.1) is None  # 29
    assert fit_bounds(1 - targets, 1 - scores, shared, 0.1) is None


def test_what_the_gate_holds_back_counts_among_the_errors() -> None:
    """A gate that costs 30% of the films with a finding leaves no film to be called absent at 10%."""
    known = films_of(3000, 0.1, seed=2)
    leaky = np.quantile(known.finding[known.targets[:, 0] == 1], 0.3)
    closed = films_of(3000, 0.1, seed=2, gate=float(leaky))
    fitted = fit_certainty(closed, names(3000), 0.1)
    assert fitted.bounds["Atelectasis"].low == 0.0
    assert fitted.bounds["Atelectasis"].call(0.0) == "uncertain"
    open_ = fit_certainty(known, names(3000), 0.1)
    assert open_.bounds["Atelectasis"].call(0.0) == "absent"


def test_the_coverage_of_a_test_list_is_what_its_calls_are_worth() -> None:
    known, unseen = films_of(4000, 0.15, seed=3, gate=0.35), films_of(4000, 0.3, seed=4, gate=0.35)
    fitted = fit_certainty(known, names(4000), 0.1)
    measured = coverage(unseen, names(4000), fitted)
    assert list(measured) == list(LABELS)
    for name in FINDINGS:
        at, truth = FINDINGS.index(name), unseen.targets[:, FINDINGS.index(name)] == 1
        served = np.where(unseen.routed, unseen.ways["ungated"][:, at], 0.0)
        bounds, of = fitted.bounds[name], measured[name]
        absent, present = served < min(bounds.low, bounds.high), served > max(bounds.low, bounds.high)
        assert of["films_with"] == truth.sum()
        assert of["with_finding"]["value"] == pytest.approx(1 - absent[truth].mean(), abs=1e-3)
        assert of["without_finding"]["value"] == pytest.approx(1 - present[~truth].mean(), abs=1e-3)
        assert of["uncertain"]["value"] == pytest.approx(1 - (absent | present).mean(), abs=1e-3)
        for kind in KINDS:
            assert of[kind]["value"] == pytest.approx(0.9, abs=0.05)
            assert of[kind]["low"] < of[kind]["value"] < of[kind]["high"]
    for kind in KINDS:  # whatever the prevalence
        assert np.mean([measured[name][kind]["value"] for name in FINDINGS]) == pytest.approx(0.9, abs=0.015)


def test_percentiles_are_among_the_films_that_a_model_saw() -> None:
    known = films_of(3000, 0.15, seed=5, gate=0.5)
    standing = fit_certainty(known, names(3000), 0.1).standing["Mass"]
    at = FINDINGS.index("Mass")
    shown = known.ways["ungated"][known.routed & (known.targets[:, at] == 1), at]
    assert standing.with_finding == pytest.approx(np.percentile(shown, range(101)).tolist(), rel=1e-5)
    assert min(standing.without_finding) > 0.0


def test_a_finding_that_nobody_is_labelled_for_is_always_uncertain() -> None:
    known = films_of(2000, 0.15, seed=6)
    known.targets[:, 3] = -1
    table = certainty_table(known, names(2000), known, names(2000))
    assert [row["error"] for row in table["table"]] == list(ERRORS)
    for row in table["table"]:
        assert row["uncertain"] == [FINDINGS[3]]
        assert FINDINGS[3] not in row["bounds"]
    assert table["standing"][FINDINGS[3]] == {"with_finding": [], "without_finding": []}


def test_an_archive_is_made_with_the_error_that_it_is_told(run: Path, tmp_path: Path) -> None:
    evaluation = json.loads((run / "evaluation.json").read_text())
    for row in evaluation["certainty"]["table"]:
        row["bounds"]["Finding"] = {"low": row["error"], "high": 0.9}
        row["coverage"]["Finding"] = measured = {"films_with": 7, "films_without": 9}
        measured.update(dict.fromkeys(("covered", "with_finding", "without_finding", "uncertain"), SHARE))
    other = tmp_path / "run"
    other.mkdir()
    for stage in ("binary", "disease"):
        (other / stage).symlink_to(run / stage)
    (other / "evaluation.json").write_text(json.dumps(evaluation))
    main(["--run", str(other), "--store", str(tmp_path / "store"), "--error", "0.2"])
    with zipfile.ZipFile(tmp_path / "store" / "binary.mar") as packed:
        metadata = Metadata.model_validate_json(packed.read("metadata.json"))
    assert metadata.certainty
    assert (metadata.certainty.error, metadata.certainty.bounds) == (0.2, {"Finding": Bounds(low=0.2, high=0.9)})
    card = (tmp_path / "store" / "MODEL_CARD.md").read_text()
    row = "| any finding, call | 0.200 | 0.900 | 7 | 0.875 (0.800–0.950) | 9 |"
    assert row in card
    assert "at most 20.0% are to be called absent" in " ".join(card.split())
    with pytest.raises(SystemExit):
        main(["--run", str(other), "--store", str(tmp_path / "no"), "--error", "0.3"])
    archive(other, tmp_path / "again", "1.0.0")
    assert re.search(r"With fewer than 30\s+patients", (tmp_path / "again" / "MODEL_CARD.md").read_text())


KINDS = ("with_finding", "without_finding", "covered")
SHARE = {"value": 0.875, "low": 0.8, "high": 0.95}
