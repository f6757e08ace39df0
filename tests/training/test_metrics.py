"""Three ways to join the stages, side by side, and never NaN."""

import json

import numpy as np
import pytest

from training.metrics import auc, binary_metrics, disease_metrics, mean_auc


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


def test_ungated_gated_and_soft_differ_as_defined() -> None:
    targets = np.zeros((4, 14), np.int8)
    targets[[0, 1], 0] = 1
    finding = np.array([0.9, 0.1, 0.8, 0.2])
    diseases = np.full((4, 14), 0.5)
    diseases[:, 0] = [0.8, 0.9, 0.7, 0.1]
    metrics = disease_metrics(targets, finding, diseases, threshold=0.5)
    areas = metrics["diseases"]["Atelectasis"]
    assert (metrics["routed"], metrics["skipped"]) == (2, 2)
    assert areas["positives"] == 2
    assert areas["ungated"] == 1.0
    assert areas["gated"] == pytest.approx((1 + 1 + 0 + 0.5) / 4)  # the gate zeroes the second positive
    assert areas["soft"] == pytest.approx((1 + 1 + 0 + 1) / 4)  # 0.72 and 0.09 against 0.56 and 0.02
    assert metrics["left_out"] == [name for name in metrics["diseases"] if name != "Atelectasis"]
    assert metrics["mean_auc"]["gated"] == areas["gated"]
    json.dumps(metrics, allow_nan=False)
