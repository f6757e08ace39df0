"""Operating points come from validation scores as they are: no gate, no grid, no 0.5."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from training.evaluate import evaluate
from training.evaluation.thresholds import threshold_for_f1, threshold_for_sensitivity


@pytest.mark.parametrize("sensitivity", [0.5, 0.9, 0.95, 0.99, 1.0])
def test_the_highest_threshold_that_keeps_the_sensitivity(sensitivity: float) -> None:
    """The notebook took 0.5 whatever the model said."""
    chance = np.random.default_rng(0)
    targets = chance.integers(0, 2, 500).astype(np.int8)
    scores = 0.2 * chance.random(500) + 0.05 * targets  # a model whose scores never reach 0.5
    threshold = threshold_for_sensitivity(targets, scores, sensitivity)
    positives = scores[targets == 1]
    assert (positives >= threshold).mean() >= sensitivity
    assert (positives > threshold).mean() < sensitivity
    assert threshold < 0.25


def test_without_positives_a_threshold_by_sensitivity_is_an_error() -> None:
    with pytest.raises(ValueError, match="no film with a finding"):
        threshold_for_sensitivity(np.zeros(5, np.int8), np.ones(5), 0.95)


def test_the_f1_threshold_is_the_best_of_the_scores_themselves() -> None:
    """The notebook searched a grid of 0.05, whose edge was 0.10."""
    chance = np.random.default_rng(1)
    targets = (chance.random(300) < 0.1).astype(np.int8)
    scores = 0.05 * chance.random(300) + 0.02 * targets

    def f1(threshold: float) -> float:
        called = scores >= threshold
        hits = (called & (targets == 1)).sum()
        return 2 * hits / (called.sum() + targets.sum())

    threshold = threshold_for_f1(targets, scores)
    assert threshold in scores
    assert f1(threshold) == pytest.approx(max(f1(score) for score in scores))


def test_a_positive_that_the_gate_skipped_counts_as_missed() -> None:
    targets, scores = np.array([1, 0, 0, 1], np.int8), np.array([0.9, 0.6, 0.4, 0.2])
    assert threshold_for_f1(targets, scores) in (0.9, 0.2)  # F1 from above: 2/3, 1/2, 2/5, 2/3
    assert threshold_for_f1(targets, scores, missed=3) == 0.2  # 2/6, 2/7, 2/8, 4/9


def test_disease_thresholds_are_chosen_on_the_films_that_they_are_used_on(run: Path, tmp_path: Path) -> None:
    """The notebook fitted them on scores that the gate had zeroed already."""
    for stage in ("binary", "disease"):
        (tmp_path / stage).symlink_to(run / stage)
    wide, narrow = evaluate(tmp_path, sensitivity=1.0), evaluate(tmp_path, sensitivity=0.2)
    assert narrow["thresholds"].pop("Finding") > wide["thresholds"].pop("Finding")
    assert narrow["routed"]["validation"] < wide["routed"]["validation"]
    assert set(narrow["without_threshold"]) >= set(wide["without_threshold"])
    for evaluation in (wide, narrow):
        for name, threshold in evaluation["thresholds"].items():
            assert threshold > 0.0
            assert name not in evaluation["without_threshold"] or threshold == 0.5
    assert narrow["test"]["skipped"] > wide["test"]["skipped"]


def test_the_served_gate_reaches_its_sensitivity_on_validation(run: Path, tmp_path: Path) -> None:
    for stage in ("binary", "disease"):
        (tmp_path / stage).symlink_to(run / stage)
    evaluation = evaluate(tmp_path)
    assert evaluation["validation"]["binary"]["sensitivity"] >= 0.95
    assert json.loads((tmp_path / "thresholds.json").read_text()) == evaluation["thresholds"]
    predictions = pd.read_csv(tmp_path / "predictions.csv")
    called = (predictions["Finding"] >= evaluation["thresholds"]["Finding"]).sum()
    assert called == evaluation["test"]["routed"]
