"""Three ways to join the stages, side by side, and never NaN."""

import json

import numpy as np
import pytest

from handlers.cascade import Cascade
from handlers.findings import LABELS
from training.evaluation.metrics import (
    Scored,
    auc,
    binary_metrics,
    brier,
    disease_metrics,
    expected_calibration_error,
    gated,
    mean_auc,
)


def test_auc_of_known_orders() -> None:
    targets = np.array([0, 0, 1, 1], np.int8)
    assert auc(targets, np.array([0.1, 0.2, 0.3, 0.4])) == 1.0
    assert auc(targets, np.array([0.4, 0.3, 0.2, 0.1])) == 0.0
    assert auc(targets, np.array([0.1, 0.3, 0.2, 0.4])) == 0.75


def test_a_class_with_one_outcome_is_none_and_not_in_the_mean() -> None:
    targets = np.array([[0, 0], [1, 0], [0, 0], [1, 0]], np.int8)
    scores = np.array([[0.1, 0.5], [0.9, 0.5], [0.2, 0.1], [0.8, 0.9]])
    assert auc(targets[:, 1], scores[:, 1]) is None
    assert mean_auc(targets, scores) == 1.0
    assert mean_auc(targets[:, 1:], scores[:, 1:]) is None


def test_stage_1_at_its_threshold() -> None:
    targets = np.array([1, 1, 1, 0, 0], np.int8)
    metrics = binary_metrics(targets, np.array([0.9, 0.6, 0.2, 0.7, 0.1]), threshold=0.6)
    assert metrics["sensitivity"] == pytest.approx(2 / 3)
    assert metrics["specificity"] == pytest.approx(1 / 2)
    assert metrics["accuracy"] == pytest.approx(3 / 5)
    assert metrics["prevalence"] == pytest.approx(3 / 5)
    assert metrics["auc"] == pytest.approx(4 / 6)
    assert metrics["ppv"] == pytest.approx(2 / 3)
    assert metrics["npv"] == pytest.approx(1 / 2)


def test_a_rate_of_nothing_is_none() -> None:
    metrics = binary_metrics(np.zeros(2, np.int8), np.array([0.1, 0.2]), threshold=0.5)
    assert (metrics["sensitivity"], metrics["ppv"]) == (None, None)
    assert (metrics["specificity"], metrics["npv"], metrics["accuracy"]) == (1.0, 1.0, 1.0)
    json.dumps(metrics, allow_nan=False)


def scored(targets: np.ndarray, finding: np.ndarray, diseases: np.ndarray, soft: np.ndarray) -> Scored:
    """Every threshold is 0.5."""
    cascade = Cascade(thresholds=dict.fromkeys(LABELS, 0.5))
    routed = cascade.routed(finding)
    ways = {"ungated": diseases, "gated": gated(routed, diseases), "soft": soft}
    present, ill = cascade.present(finding, diseases), targets.any(axis=1).astype(np.int8)
    return Scored(targets, finding, routed, ways, present, ill)


def test_a_finding_behind_the_gate_counts_as_missed() -> None:
    targets = np.zeros((5, 14), np.int8)
    targets[[0, 1, 2], 0] = 1
    finding = np.array([0.9, 0.1, 0.8, 0.7, 0.2])
    diseases = np.zeros((5, 14))
    diseases[:, 0] = [0.6, 0.9, 0.2, 0.7, 0.8]  # present; present, but gated; below; false alarm; gated false alarm
    served = disease_metrics(scored(targets, finding, diseases, diseases))["served"]
    expected = {"sensitivity": 1 / 3, "specificity": 1 / 2, "ppv": 1 / 2, "npv": 1 / 3}
    assert served["Atelectasis"] == pytest.approx(expected)
    assert served["Hernia"] == {"sensitivity": None, "specificity": 1.0, "ppv": None, "npv": 1.0}


def test_the_calibration_error_worked_by_hand() -> None:
    """15 bins of 1/15: two films in the first, one in the eighth, one in the last."""
    targets = np.array([0, 1, 1, 1], np.int8)
    scores = np.array([0.05, 0.05, 0.5, 0.95])
    expected = (2 * abs(0.5 - 0.05) + abs(1 - 0.5) + abs(1 - 0.95)) / 4
    assert expected_calibration_error(targets, scores) == pytest.approx(expected)
    assert brier(targets, scores) == pytest.approx((0.05**2 + 0.95**2 + 0.5**2 + 0.05**2) / 4)


def test_scores_of_0_and_1_and_on_an_edge_have_a_bin() -> None:
    assert expected_calibration_error(np.array([0, 1], np.int8), np.array([0.0, 1.0])) == 0.0
    assert expected_calibration_error(np.array([1, 1], np.int8), np.array([0.0, 1.0])) == 0.5
    same_bin = np.array([1 / 15, 0.01])  # together: mean score 0.0383, share 0.5; apart the gaps would be 0.93 and 0.01
    assert expected_calibration_error(np.array([1, 0], np.int8), same_bin) == pytest.approx(0.5 - same_bin.mean())


def test_ungated_gated_and_soft_differ_as_defined() -> None:
    targets = np.zeros((4, 14), np.int8)
    targets[[0, 1], 0] = 1
    finding = np.array([0.9, 0.1, 0.8, 0.2])
    diseases = np.full((4, 14), 0.5)
    diseases[:, 0] = [0.8, 0.9, 0.7, 0.1]
    metrics = disease_metrics(scored(targets, finding, diseases, finding[:, None] * diseases))
    areas = metrics["diseases"]["Atelectasis"]
    assert (metrics["routed"], metrics["skipped"]) == (2, 2)
    assert areas["positives"] == 2
    assert areas["ungated"] == 1.0
    assert areas["gated"] == pytest.approx((1 + 1 + 0 + 0.5) / 4)  # the gate zeroes the second positive
    assert areas["soft"] == pytest.approx((1 + 1 + 0 + 1) / 4)  # 0.72 and 0.09 against 0.56 and 0.02
    assert metrics["left_out"] == [name for name in metrics["diseases"] if name != "Atelectasis"]
    assert metrics["mean_auc"]["gated"] == areas["gated"]
    json.dumps(metrics, allow_nan=False)
