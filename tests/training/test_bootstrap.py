"""Intervals over patients: the areas are scikit-learn's, the resamples are of patients, and pairs share them."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from training.evaluation.bootstrap import intervals, patient_weights, weighted_areas

NAMES = ("common", "rare", "everywhere")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("levels", [3, 20, 10**9], ids=["three scores only", "many ties", "no ties"])
def test_areas_are_those_of_scikit_learn_with_the_same_weights(rng: np.random.Generator, levels: int) -> None:
    targets = (rng.random((300, 4)) < [0.5, 0.2, 0.05, 0.9]).astype(np.int8)
    scores = np.round((rng.random((300, 4)) + 0.3 * targets) * levels) / levels
    weights = rng.poisson(1.0, size=(6, 300)).astype(np.int32)
    auc, auprc = weighted_areas(targets, scores, [weights[:1], weights[1:]])
    for resample in range(6):
        for label in range(4):
            one = (targets[:, label], scores[:, label])
            assert auc[resample, label] == pytest.approx(
                roc_auc_score(*one, sample_weight=weights[resample]), abs=1e-12
            )
            assert auprc[resample, label] == pytest.approx(
                average_precision_score(*one, sample_weight=weights[resample]), abs=1e-12
            )


def test_a_resample_draws_as_many_patients_as_there_are_and_takes_all_films_of_each(rng: np.random.Generator) -> None:
    patients = rng.integers(20, size=100).astype(str)
    weights = np.concatenate(list(patient_weights(patients, resamples=50, seed=3)))
    assert weights.shape == (50, 100)
    first = {patient: int(np.flatnonzero(patients == patient)[0]) for patient in np.unique(patients)}
    assert (weights == weights[:, [first[patient] for patient in patients]]).all()
    assert (weights[:, list(first.values())].sum(axis=1) == len(first)).all()
    assert len({row.tobytes() for row in weights}) == 50
    again = np.concatenate(list(patient_weights(patients, resamples=50, seed=3)))
    other = np.concatenate(list(patient_weights(patients, resamples=50, seed=4)))
    assert (weights == again).all()
    assert (weights != other).any()


def test_bounds_are_percentiles_of_scikit_learns_areas_over_the_same_resamples(rng: np.random.Generator) -> None:
    targets = (rng.random((120, 2)) < 0.4).astype(np.int8)
    scores = rng.random((120, 2)) + 0.5 * targets
    patients = rng.integers(40, size=120)
    found = intervals(targets, scores, patients, ["a", "b"], resamples=100, seed=5)
    weights = np.concatenate(list(patient_weights(patients, resamples=100, seed=5)))
    areas = np.array(
        [[roc_auc_score(targets[:, k], scores[:, k], sample_weight=row) for k in range(2)] for row in weights]
    )
    for column, name in enumerate("ab"):
        auc = found.labels[name].auc
        assert auc.value == pytest.approx(roc_auc_score(targets[:, column], scores[:, column]))
        assert (auc.low, auc.high) == pytest.approx(tuple(np.percentile(areas[:, column], [2.5, 97.5])))
        assert auc.low < auc.value < auc.high
    low, high = np.percentile(areas.mean(axis=1), [2.5, 97.5])
    assert (found.mean_auc.low, found.mean_auc.high) == pytest.approx((low, high))
    assert found.mean_auc.value == pytest.approx((found.labels["a"].auc.value + found.labels["b"].auc.value) / 2)
    assert (found.films, found.patients, found.resamples) == (120, len(set(patients.tolist())), 100)


def test_more_copies_of_the_same_films_do_not_narrow_the_interval(rng: np.random.Generator) -> None:
    """A bootstrap over films would take five copies for five times the evidence."""
    targets = (rng.random((60, 1)) < 0.4).astype(np.int8)
    scores = rng.random((60, 1)) + 0.4 * targets
    patients = np.arange(60)
    once = intervals(targets, scores, patients, ["a"], resamples=200)
    copies = [np.repeat(part, 5, axis=0) for part in (targets, scores, patients)]
    five = intervals(*copies, ["a"], resamples=200)
    assert asdict(five.labels["a"].auc) == pytest.approx(asdict(once.labels["a"].auc), abs=1e-12)
    assert asdict(five.labels["a"].auprc) == pytest.approx(asdict(once.labels["a"].auprc), abs=1e-12)
    films = intervals(*copies[:2], np.arange(300), ["a"], resamples=200).labels["a"].auc
    assert films.high - films.low < 0.6 * (once.labels["a"].auc.high - once.labels["a"].auc.low)


def test_intervals_over_patients_hold_the_true_area_about_95_times_in_100(rng: np.random.Generator) -> None:
    """Films of a patient share the label and half of the noise; two normal scores a distance d apart: known area."""
    distance, repeats, patients = 1.2, 150, np.repeat(np.arange(50), 4)
    truth = norm.cdf(distance / 2)
    held = {"patients": 0, "films": 0}
    for _ in range(repeats):
        sick = (rng.random(50) < 0.5).astype(np.int8)
        targets = sick[patients][:, None]
        scores = distance * targets + (rng.normal(size=50)[patients] + rng.normal(size=200))[:, None]
        for name, clusters in (("patients", patients), ("films", np.arange(200))):
            auc = intervals(targets, scores, clusters, ["a"], resamples=200).labels["a"].auc
            held[name] += auc.low <= truth <= auc.high
    assert 0.90 <= held["patients"] / repeats <= 0.99
    assert held["films"] / repeats < 0.85


def test_a_resample_with_one_outcome_only_is_left_out_of_that_label_and_counted() -> None:
    targets = np.zeros((30, 3), np.int8)
    targets[::2, 0] = 1
    targets[4, 1] = 1
    targets[:, 2] = 1
    scores = np.random.default_rng(1).random((30, 3))
    found = intervals(targets, scores, np.arange(30), NAMES, resamples=400)
    weights = np.concatenate(list(patient_weights(np.arange(30), 400, seed=0)))
    assert found.labels["rare"].left_out == (weights[:, 4] == 0).sum() > 100
    assert found.labels["rare"].auc.low is not None
    assert found.labels["common"].left_out == 0
    never = found.labels["everywhere"]
    assert (never.positives, never.left_out) == (30, 400)
    assert {*asdict(never.auc).values(), *asdict(never.auprc).values()} == {None}
    known = [found.labels[name].auc.value for name in ("common", "rare")]
    assert found.mean_auc.value == pytest.approx(np.mean(known))
    text = json.dumps(asdict(found), allow_nan=False)
    assert json.loads(text)["labels"]["everywhere"]["auc"] == {"value": None, "low": None, "high": None}


def test_the_mean_of_a_resample_is_over_the_labels_that_have_both_outcomes_in_it() -> None:
    """'sure' is ranked perfectly and 'rare' wrongly: the mean is 1 where 'rare' is absent, else about one half."""
    targets = np.zeros((20, 2), np.int8)
    targets[10:, 0] = 1
    targets[0, 1] = 1
    scores = np.stack([np.arange(20.0), np.arange(20.0)], axis=1)
    found = intervals(targets, scores, np.arange(20), ["sure", "rare"], resamples=300)
    assert found.mean_auc.value == 0.5
    assert found.mean_auc.high == 1.0


def test_identical_tables_differ_by_exactly_zero(rng: np.random.Generator) -> None:
    targets = (rng.random((80, 2)) < 0.3).astype(np.int8)
    scores = rng.random((80, 2))
    found = intervals(targets, scores, rng.integers(30, size=80), ["a", "b"], resamples=100, less=scores.copy())
    areas = [found.mean_auc, found.mean_auprc, found.labels["a"].auc, found.labels["b"].auprc]
    assert [asdict(area) for area in areas] == [{"value": 0.0, "low": 0.0, "high": 0.0}] * 4


def test_a_paired_difference_is_the_first_less_the_second_and_surer_than_two_intervals(
    rng: np.random.Generator,
) -> None:
    targets = (rng.random((300, 1)) < 0.3).astype(np.int8)
    better = rng.normal(size=(300, 1)) + targets
    worse = better + 0.3 * rng.normal(size=(300, 1))
    patients = np.arange(300) // 2
    first, second = (intervals(targets, scores, patients, ["a"], 200).labels["a"].auc for scores in (better, worse))
    paired = intervals(targets, better, patients, ["a"], 200, less=worse).labels["a"].auc
    assert paired.value == pytest.approx(first.value - second.value)
    assert paired.low < paired.value < paired.high
    assert paired.high - paired.low < 0.7 * (first.high - first.low)
    back = intervals(targets, worse, patients, ["a"], 200, less=better).labels["a"].auc
    assert (back.value, back.low, back.high) == pytest.approx((-paired.value, -paired.high, -paired.low))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 patients and 1 names"):
        intervals(np.zeros((4, 1), np.int8), np.zeros((4, 1)), np.arange(3), ["a"])
