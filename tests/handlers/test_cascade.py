"""The cascade on films of known truth: what it says of the films it is shown of is what becomes of them.

Simulated films. Stage 1's logit is the log odds of a finding given what it sees; a film with a finding shows each
disease with odds of its own. Stage 2 is as good as one of its kind can be: ``conditional`` says the log odds of each
disease where there is a finding, as a perfect joint training leaves it; ``marginal`` knows the share of films with a
finding besides.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from handlers.calibration import Platt, calibrated
from handlers.cascade import Cascade, Kind, product_logits
from handlers.findings import FINDINGS, LABELS
from training.evaluation import gate
from training.evaluation.calibration import fit_labels
from training.evaluation.fit_cascade import Labelled, fit_cascade, served_errors
from training.evaluation.metrics import MIN_COUNT, brier, expected_calibration_error
from training.fit.joint import product_logits as torch_product_logits

PREVALENCE = 0.42
STRONG, WEAK = 1.99, 1.0
"""Of stage 1: an AUC of 0.92, and of 0.76."""


@pytest.fixture(autouse=True)
def only_the_gate_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of the others takes time."""
    monkeypatch.setattr(gate, "SENSITIVITIES", ())


def simulated(kind: Kind, strength: float, seed: int, films: int = 6000) -> Labelled:
    """Stage 1 sees a normal distribution, of which a finding moves the mean by ``strength``."""
    chance = np.random.default_rng(seed)
    ill = chance.random(films) < PREVALENCE
    seen = chance.normal(strength * ill, 1.0)
    finding = logit(PREVALENCE) + strength * seen - strength**2 / 2  # log odds between two normal distributions
    given = chance.normal(-1.5, 1.2, (films, 14))  # log odds of each disease where there is a finding
    diseases = ill[:, None] & (chance.random((films, 14)) < expit(given))
    second = given if kind == "conditional" else product_logits(np.array([logit(PREVALENCE)]), given)
    targets = np.concatenate([ill[:, None], diseases], axis=1).astype(np.int8)
    logits = np.concatenate([finding[:, None], second], axis=1).astype(np.float32)
    return Labelled(targets, logits, np.arange(films).astype(str))


def mean_ece(targets: np.ndarray, scores: np.ndarray) -> float:
    return float(np.mean([expected_calibration_error(targets[:, at], scores[:, at]) for at in range(14)]))


# Calibrated on all films to marginal targets, the 14's mean ECE was, over routed films / of soft over all films:
#   strong stage 1, gate at 0.95: marginal 0.057 / 0.058, conditional 0.057 / 0.058; now 0.008 / 0.006 and 0.008 / 0.005
#   strong stage 1, gate at 0.60: marginal 0.117 / 0.058, conditional 0.117 / 0.058; now 0.018 / 0.006 and 0.013 / 0.005
#   weak stage 1,   gate at 0.95: marginal 0.016 / 0.059, conditional 0.018 / 0.059; now 0.005 / 0.005 and 0.006 / 0.005
# (20,000 films; 0.005 is what the best possible scores have, by chance alone)
@pytest.mark.parametrize(
    ("strength", "sensitivity", "before"), [(STRONG, 0.95, 0.05), (STRONG, 0.6, 0.1), (WEAK, 0.95, 0.012)]
)
@pytest.mark.parametrize("kind", ["marginal", "conditional"])
def test_a_served_probability_is_the_share_of_routed_films_with_the_finding(
    kind: Kind, strength: float, sensitivity: float, before: float
) -> None:
    known, unseen = simulated(kind, strength, 0), simulated(kind, strength, 1)
    fitted = fit_cascade(known, Cascade(kind=kind), sensitivity)
    scored = fitted.score(unseen)
    routed, targets = scored.routed, scored.targets
    everywhere, _ = fit_labels(known.targets[:, 1:], known.logits[:, 1:], [None] * 14)
    assert mean_ece(targets[routed], calibrated(unseen.logits[routed, 1:], everywhere)) > before
    assert mean_ece(targets[routed], scored.ways["gated"][routed]) < before / 2 + 0.01
    assert scored.ways["gated"][routed].mean() == pytest.approx(targets[routed].mean(), abs=0.015)
    assert mean_ece(targets, scored.ways["soft"]) < 0.015


def test_the_errors_that_are_reported_are_those_of_the_films_that_it_is_shown_of() -> None:
    known, unseen = simulated("conditional", STRONG, 0), simulated("conditional", STRONG, 1)
    fitted = fit_cascade(known, Cascade(kind="conditional"), 0.95)
    scored = fitted.score(unseen)
    errors = served_errors(unseen, Cascade(kind="conditional"), fitted.cascade, fitted_here=False)
    shown = mean_ece(scored.targets[scored.routed], scored.ways["gated"][scored.routed])
    assert np.mean([errors[name]["ece"]["after"] for name in FINDINGS]) == pytest.approx(shown)
    own = served_errors(known, Cascade(kind="conditional"), fitted.cascade, fitted_here=True)
    assert np.mean([own[name]["ece"]["after"] for name in FINDINGS]) == pytest.approx(shown, abs=0.01)
    assert own["Finding"]["ece"]["after"] < 0.03


@pytest.mark.parametrize("kind", ["marginal", "conditional"])
def test_soft_multiplies_no_marginal_probability(kind: Kind) -> None:
    films = simulated(kind, STRONG, 2)
    soft = fit_cascade(films, Cascade(kind=kind), 0.95).score(films).ways["soft"]
    assert soft.mean(axis=0) == pytest.approx(films.targets[:, 1:].mean(axis=0), abs=0.01)


def test_the_product_in_numpy_is_that_of_the_training_loss() -> None:
    first, second = np.meshgrid(np.linspace(-120, 120, 41), np.linspace(-120, 120, 41))
    expected = torch_product_logits(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    np.testing.assert_allclose(product_logits(first, second), expected, rtol=1e-9, atol=1e-12)
    middle = np.abs(first) + np.abs(second) < 12
    np.testing.assert_allclose(expit(expected)[middle], (expit(first) * expit(second))[middle], rtol=1e-9)


def test_one_film_gets_the_scores_of_its_batch() -> None:
    films = simulated("conditional", WEAK, 3, films=2000)
    cascade = fit_cascade(films, Cascade(kind="conditional"), 0.9).cascade
    finding = cascade.finding(films.logits[:, 0])
    diseases = cascade.diseases(films.logits[:, 0], films.logits[:, 1:])
    present = cascade.present(finding, diseases)
    for row in range(50):
        score = cascade.finding_score(float(films.logits[row, 0]))
        assert (score.probability, score.present) == (finding[row], cascade.routed(finding)[row])
        scores = cascade.disease_scores(float(films.logits[row, 0]), films.logits[row, 1:] if score.present else None)
        assert list(scores) == list(FINDINGS)
        assert [one.present for one in scores.values()] == present[row].tolist()
        expected = diseases[row].tolist() if score.present else [0.0] * 14
        assert [one.probability for one in scores.values()] == expected


def few(positives: int, films: int = 600) -> Labelled:
    """Atelectasis is on so many films, those of its highest logits; Hernia on none."""
    some = simulated("marginal", STRONG, 4, films)
    order = np.argsort(-some.logits[:, 1])
    targets = some.targets.copy()
    targets[:, [1, 14]] = 0
    targets[order[:positives], :2] = 1
    return replace(some, targets=targets)


@pytest.mark.parametrize(("positives", "chosen"), [(0, False), (1, False), (MIN_COUNT - 1, False), (MIN_COUNT, True)])
def test_a_threshold_by_f1_needs_enough_films(positives: int, chosen: bool) -> None:
    fitted = fit_cascade(few(positives), Cascade(), 1.0)
    assert ("Atelectasis" not in fitted.without_threshold) == chosen
    assert (fitted.cascade.thresholds["Atelectasis"] != 0.5) == chosen
    assert fitted.fits["Atelectasis"] == ("slope" if chosen else "intercept" if positives else "nothing")
    assert "Hernia" in fitted.without_threshold


@pytest.mark.parametrize("positives", [1, MIN_COUNT - 1])
def test_an_old_cascade_keeps_what_too_few_films_cannot_move(positives: int) -> None:
    old = Cascade(
        calibration={label: Platt(slope=2.0, intercept=0.25) for label in LABELS},
        thresholds=dict.fromkeys(LABELS, 0.125),
    )
    fitted = fit_cascade(few(positives), old, 1.0)
    assert fitted.fits["Atelectasis"] == "nothing"
    assert fitted.cascade.calibration["Atelectasis"] == old.calibration["Atelectasis"]
    assert fitted.cascade.thresholds["Atelectasis"] == 0.125
    moved = fit_cascade(few(MIN_COUNT), old, 1.0)
    assert moved.cascade.thresholds["Atelectasis"] != 0.125
    assert moved.cascade.calibration["Atelectasis"] != old.calibration["Atelectasis"]


def test_what_is_there_behind_the_gate_is_no_film_to_fit_on() -> None:
    """Films that the gate skips count as missed, and for no minimum."""
    films = simulated("marginal", STRONG, 5, films=600)
    targets = films.targets.copy()
    targets[:, 1] = 0
    behind = np.argsort(films.logits[:, 0])[: 2 * MIN_COUNT]
    targets[behind, :2] = 1
    fitted = fit_cascade(replace(films, targets=targets), Cascade(), 0.8)
    assert not fitted.score(films).routed[behind].any()
    assert "Atelectasis" in fitted.without_threshold
    assert fitted.cascade.thresholds["Atelectasis"] == 0.5


def test_thresholds_have_the_best_f1_of_what_is_served() -> None:
    films = simulated("marginal", WEAK, 6, films=3000)
    fitted = fit_cascade(films, Cascade(), 0.8)
    scored = fitted.score(films)

    def f1(threshold: float, at: int) -> float:
        called, there = scored.ways["gated"][:, at] >= threshold, films.targets[:, at + 1] == 1
        return 2 * (called & there).sum() / (called.sum() + there.sum())

    for at, name in enumerate(FINDINGS[:3]):
        candidates = scored.ways["gated"][scored.routed, at]
        assert f1(fitted.cascade.thresholds[name], at) == pytest.approx(max(f1(one, at) for one in candidates))


def test_no_routed_film_at_all_is_measured_without_a_figure() -> None:
    films = simulated("marginal", WEAK, 7, films=300)
    closed = Cascade(thresholds={"Finding": 1.0})
    errors = served_errors(films, Cascade(), closed, fitted_here=False)
    assert errors["Finding"]["brier"]["after"] == pytest.approx(
        brier(films.targets[:, 0], expit(films.logits[:, 0])), abs=1e-6
    )
    assert errors["Mass"] == {measure: {"before": None, "after": None} for measure in ("ece", "brier")}
