"""Calibration: probabilities become frequencies, films keep their order, and no patient measures a fit of its own."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from handlers.calibration import UNCALIBRATED, Platt, calibrated
from training.evaluation.calibration import (
    calibration_errors,
    cross_fitted,
    fit_labels,
    fit_platt,
    patient_folds,
)
from training.evaluation.metrics import MIN_COUNT, class_mean
from workflows.files.text_files import DataError


def simulated(films: int, slope: float, intercept: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Targets that follow sigmoid(slope x logit + intercept), and the logits."""
    chance = np.random.default_rng(seed)
    logits = chance.normal(-1.0, 2.0, films).astype(np.float32)
    return (chance.random(films) < expit(slope * logits + intercept)).astype(np.int8), logits


@pytest.mark.parametrize(("slope", "intercept"), [(1.7, -0.8), (0.4, 0.5), (1.0, 0.0)])
def test_platt_finds_the_map_that_the_films_were_drawn_from(slope: float, intercept: float) -> None:
    found = fit_platt(*simulated(40_000, slope, intercept))
    assert found
    assert found.slope == pytest.approx(slope, abs=0.05)
    assert found.intercept == pytest.approx(intercept, abs=0.05)


def test_few_films_are_fitted_to_platts_smoothed_targets() -> None:
    """Without smoothing, classes that a threshold divides have no finite slope."""
    logits = np.linspace(-2.0, 3.0, 12).astype(np.float32)
    targets = (logits > 0.8).astype(np.int8)  # 7 negatives, then 5 positives
    wanted = np.where(targets == 1, (5 + 1) / (5 + 2), 1 / (7 + 2))

    def loss(parameters: np.ndarray) -> float:
        scores = expit(parameters[0] * logits + parameters[1])
        return -float(np.sum(wanted * np.log(scores) + (1 - wanted) * np.log(1 - scores)))

    expected = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10}).x
    found = fit_platt(targets, logits)
    assert found
    assert [found.slope, found.intercept] == pytest.approx(expected.tolist(), abs=1e-3)


def test_films_keep_their_order_and_their_auc() -> None:
    targets, logits = simulated(3000, 0.3, -2.0)
    scores = calibrated(logits[:, None], [fit_platt(targets, logits) or UNCALIBRATED])[:, 0]
    assert (np.diff(scores[np.argsort(logits)]) >= 0).all()
    assert roc_auc_score(targets, scores) == pytest.approx(roc_auc_score(targets, logits), abs=1e-6)


def test_too_few_films_keep_the_old_map_and_without_one_get_the_prevalence() -> None:
    targets, logits = simulated(500, 1.0, 0.0)
    rare, enough, none = np.zeros((3, 500), np.int8)
    rare[np.argsort(logits)[-(MIN_COUNT - 1) :]] = 1
    enough[np.argsort(logits)[-MIN_COUNT:]] = 1
    columns = np.stack([rare, 1 - rare, enough, none, targets], axis=1)
    old = Platt(slope=2.0, intercept=1.0)
    maps, fits = fit_labels(columns, np.stack([logits] * 5, axis=1), [old] * 5)
    assert fits == ["nothing", "nothing", "slope", "nothing", "slope"]
    assert (maps[0], maps[1], maps[3]) == (old, old, old)
    assert maps[4].slope == pytest.approx(1.0, abs=0.3)
    maps, fits = fit_labels(columns, np.stack([logits] * 5, axis=1), [None] * 5)
    assert fits == ["intercept", "intercept", "slope", "nothing", "slope"]
    assert (maps[0].slope, maps[3]) == (1.0, UNCALIBRATED)
    assert calibrated(logits[:, None], maps[:1]).mean() == pytest.approx(rare.mean(), abs=1e-4)


def test_scores_against_the_labels_keep_their_slope_and_get_the_prevalence() -> None:
    targets, logits = simulated(500, 1.0, 0.0)
    assert fit_platt(targets, -logits) is None
    [found], fits = fit_labels(targets[:, None], -logits[:, None], [Platt(slope=2.0, intercept=1.0)])
    assert (found.slope, fits) == (2.0, ["intercept"])
    assert calibrated(-logits[:, None], [found]).mean() == pytest.approx(targets.mean(), abs=1e-4)


def test_a_label_with_just_enough_films_is_measured_by_the_fit_that_it_gets() -> None:
    """Each fold has a fifth fewer, and so under ``MIN_COUNT`` of them."""
    targets, logits = simulated(400, 1.0, -1.0)
    rare = np.zeros(400, np.int8)
    rare[np.flatnonzero(targets)[:MIN_COUNT]] = 1
    old, patients = Platt(slope=9.0, intercept=-4.0), np.arange(400).astype(str)
    scores = cross_fitted(rare[:, None], logits[:, None], patients, [old])
    assert np.abs(scores - calibrated(logits[:, None], [old])).max() > 0.1
    assert scores.mean() == pytest.approx(rare.mean(), abs=0.02)


def test_a_calibration_for_another_number_of_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="14 logits per film, but 1 calibrations"):
        calibrated(np.zeros((2, 14), np.float32), [UNCALIBRATED])


def test_a_map_that_would_turn_the_order_round_cannot_be_stored() -> None:
    for slope in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="slope"):
            Platt(slope=slope)


def test_no_patient_is_on_both_sides_of_a_fold() -> None:
    patients = np.random.default_rng(0).integers(0, 30, 200).astype(str)
    folds = patient_folds(patients)
    assert len(folds) == 5
    for fitted, held in folds:
        assert not set(patients[fitted]) & set(patients[held])
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(200))
    with pytest.raises(DataError, match="films of two at least"):
        patient_folds(np.array(["7", "7"]))


def test_a_patients_own_labels_do_not_change_that_patients_cross_fitted_scores() -> None:
    targets, logits = simulated(300, 1.5, -0.5)
    patients = np.repeat(np.arange(60), 5).astype(str)
    own = patients == "7"
    other = targets.copy()
    other[own] = 1 - other[own]
    first, second = (cross_fitted(t[:, None], logits[:, None], patients, [UNCALIBRATED]) for t in (targets, other))
    assert (first[own] == second[own]).all()
    assert (first[~own] != second[~own]).any()


def test_calibration_brings_both_errors_down_on_films_that_it_was_not_fitted_on() -> None:
    targets, logits = simulated(4000, 0.5, -1.5)
    patients = np.arange(4000).astype(str)
    raw = calibrated(logits[:, None], [UNCALIBRATED])
    after = cross_fitted(targets[:, None], logits[:, None], patients, [UNCALIBRATED])
    errors = calibration_errors(targets[:, None], raw, after, ["Mass"])
    assert errors["Mass"]["ece"]["before"] > 0.1
    assert errors["Mass"]["ece"]["after"] < 0.02
    assert errors["Mass"]["brier"]["after"] < errors["Mass"]["brier"]["before"]
    assert errors["Mass"]["brier"]["before"] == pytest.approx(np.mean((expit(logits) - targets) ** 2), abs=1e-6)


def test_the_class_mean_weighs_every_label_alike() -> None:
    errors = {
        name: {measure: {"before": value, "after": value / 2} for measure in ("ece", "brier")}
        for name, value in (("Mass", 0.2), ("Nodule", 0.4), ("Finding", 9.0))
    }
    assert class_mean(errors, ["Mass", "Nodule"])["ece"] == pytest.approx({"before": 0.3, "after": 0.15})
