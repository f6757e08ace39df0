"""The gate's policy: what a threshold costs and saves, and which is served, by validation alone."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from training.evaluation.gate import SENSITIVITIES, Gated, choose_gate, gate_table


def hand_made(changes: dict[float, float | None]) -> list[dict]:
    return [{"sensitivity": wanted, "validation": {"auc_change": change}} for wanted, change in changes.items()]


def drawn(films: int, seed: int) -> Gated:
    """Films with two of the findings; the higher the logit, the likelier."""
    chance = np.random.default_rng(seed)
    targets = np.zeros((films, 14), np.int8)
    targets[:, :2] = chance.random((films, 2)) < 0.3
    finding = chance.random(films) * 0.5 + targets.any(axis=1) * 0.3
    diseases = chance.random((films, 14)) * 0.5 + targets * 0.2
    ill = targets.any(axis=1).astype(np.int8)
    return Gated(targets, finding.astype(np.float32), diseases.astype(np.float32), ill)


@pytest.mark.parametrize(
    ("changes", "served"),
    [
        ({0.90: -0.001, 0.95: -0.004, 0.98: -0.001}, 0.95),  # not 0.90, cheap as it is
        ({0.90: -0.001, 0.95: -0.006, 0.97: -0.005, 0.98: -0.001}, 0.97),
        ({0.90: 0.01, 0.95: -0.02, 0.98: -0.01, 0.99: -0.006}, 0.99),  # none is cheap enough
        ({0.90: 0.02, 0.95: 0.01, 0.98: -0.01}, 0.95),  # a gate may help
        ({0.90: None, 0.95: None, 0.98: None}, 0.95),
    ],
)
def test_the_policy_serves_the_cheapest_gate_that_loses_little(changes: dict[float, float], served: float) -> None:
    row, why = choose_gate(hand_made(changes))
    assert row["sensitivity"] == served
    assert why


def test_a_sensitivity_that_was_asked_for_is_served_whatever_it_costs() -> None:
    row, why = choose_gate(hand_made({0.90: -0.2, 0.95: -0.001}), 0.90)
    assert row["sensitivity"] == 0.90
    assert "asked for" in why


def test_a_row_says_what_its_gate_costs_and_saves() -> None:
    validation, test = drawn(400, 0), drawn(300, 1)
    rows = gate_table(validation, test, wanted=0.5)
    assert [row["sensitivity"] for row in rows] == sorted([0.5, *SENSITIVITIES])
    for row in rows:
        for name, films in (("validation", validation), ("test", test)):
            present, routed = films.targets.any(axis=1), films.finding >= row["threshold"]
            measured = row[name]
            assert measured["sensitivity"] == pytest.approx(routed[present].mean())
            assert measured["specificity"] == pytest.approx((~routed)[~present].mean())
            assert measured["skipped"] == pytest.approx(1 - routed.mean())
            passes = len(routed) + routed.sum()
            assert measured["compute_saved"] == pytest.approx(1 - passes / (2 * len(routed)))
            ungated, gated = (
                np.mean([roc_auc_score(films.targets[:, one], scores[:, one]) for one in (0, 1)])
                for scores in (films.diseases, films.diseases * routed[:, None])
            )
            assert measured["auc_change"] == pytest.approx(gated - ungated)
        assert row["validation"]["sensitivity"] >= row["sensitivity"]
    json.dumps(rows, allow_nan=False)


def test_the_test_list_changes_neither_thresholds_nor_choice() -> None:
    validation = drawn(400, 0)
    tables = [gate_table(validation, test) for test in (drawn(300, 1), drawn(50, 2), None)]
    for table in tables:
        assert [row["threshold"] for row in table] == [row["threshold"] for row in tables[0]]
        served, why = choose_gate(table)
        assert (served["sensitivity"], why) == (choose_gate(tables[0])[0]["sensitivity"], choose_gate(tables[0])[1])


def test_a_list_without_any_finding_is_measured_without_nan() -> None:
    nothing = drawn(50, 3)
    nothing.targets[:] = nothing.any_finding[:] = 0
    row = gate_table(drawn(400, 0), nothing)[0]
    assert row["test"]["sensitivity"] is None
    assert row["test"]["auc_change"] is None
