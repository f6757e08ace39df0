"""What nobody has labelled teaches nothing and counts in no figure; where all is labelled nothing has changed."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.nn.functional import binary_cross_entropy_with_logits

from handlers.cascade import Cascade
from handlers.findings import FINDINGS
from training.data.labels import any_finding
from training.evaluation.bootstrap import intervals
from training.evaluation.calibration import calibration_errors, cross_fitted, enough, fit_labels
from training.evaluation.fit_cascade import Labelled, fit_cascade, served_errors
from training.evaluation.gate import Gated, gate_table
from training.evaluation.metrics import (
    auc,
    binary_metrics,
    brier,
    class_mean,
    expected_calibration_error,
    mean_auc,
    rates,
)
from training.evaluation.subgroups import subgroups
from training.evaluation.thresholds import NEVER
from training.fit.batches import balancing_weights, labelled_rows, positive_weights
from training.fit.config import OptimConfig
from training.fit.optimise import asymmetric_loss, make_loss

LOSSES = [OptimConfig(), OptimConfig(class_weights=True), OptimConfig(loss="asymmetric")]
WEIGHTS = torch.tensor([3.0, 0.5])


def plain_loss(config: OptimConfig, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """[B, L] of the cells, without any mask."""
    if config.loss == "bce":
        weights = WEIGHTS if config.class_weights else None
        return binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="none")
    negative = (torch.sigmoid(logits) - 0.05).clamp(min=0)
    of_negatives = (1 - targets) * negative**4 * torch.log1p(-negative.clamp(max=1 - 1e-6))
    return -(targets * torch.nn.functional.logsigmoid(logits) + of_negatives)


def loss_and_gradient(loss, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.clone().requires_grad_()
    value = loss(logits, targets)
    value.backward()
    assert logits.grad is not None
    return value.detach(), logits.grad


@pytest.mark.parametrize("config", LOSSES, ids=["bce", "class weights", "asymmetric"])
def test_the_loss_is_the_mean_of_the_labelled_cells_and_the_others_have_no_gradient(config: OptimConfig) -> None:
    logits = torch.tensor([[0.3, -1.2], [2.0, 0.7], [-0.4, 90.0]])
    targets = torch.tensor([[1.0, -1.0], [0.0, 1.0], [-1.0, -1.0]])
    value, gradient = loss_and_gradient(make_loss(config, WEIGHTS), logits, targets)
    known = targets >= 0
    expected = plain_loss(config, logits, targets.clamp(min=0))[known].mean()
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert (gradient[~known] == 0).all()
    assert (gradient[known] != 0).all()
    nothing, still = loss_and_gradient(make_loss(config, WEIGHTS), logits, torch.full((3, 2), -1.0))
    assert nothing.item() == 0.0
    assert (still == 0).all()


@pytest.mark.parametrize("config", LOSSES, ids=["bce", "class weights", "asymmetric"])
def test_the_loss_of_films_that_are_all_labelled_is_what_it_was_bit_for_bit(config: OptimConfig) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(13, 2), torch.randint(0, 2, (13, 2)).float()

    def as_it_was(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if config.loss == "bce":
            weights = WEIGHTS if config.class_weights else torch.ones_like(WEIGHTS)
            return binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)
        return plain_loss(config, logits, targets).mean()

    for now, then in zip(
        loss_and_gradient(make_loss(config, WEIGHTS), logits, targets),
        loss_and_gradient(as_it_was, logits, targets),
        strict=True,
    ):
        assert torch.equal(now, then)
    assert asymmetric_loss(logits, targets).isfinite()


def test_films_without_a_label_are_neither_drawn_nor_weighed() -> None:
    targets = np.array([[1, -1], [0, 1], [-1, -1], [0, -1], [0, 0]], np.int8)
    rows = labelled_rows(targets, np.array([0, 2, 3, 4]))
    assert rows.tolist() == [0, 3, 4]
    assert torch.equal(positive_weights(targets), torch.tensor([3.0, 1.0]))
    assert balancing_weights(targets[rows]).tolist() == [1.0, 0.5, 0.5]


def drawn(films: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """[N, 15] targets of which a third are not labelled, Hernia of none, and scores in [0, 1]."""
    chance = np.random.default_rng(seed)
    diseases = (chance.random((films, 14)) < 0.15).astype(np.int8)
    targets = np.concatenate([any_finding(diseases), diseases], axis=1)
    scores = (chance.random((films, 15)) + 0.4 * targets) / 1.4
    targets[chance.random(targets.shape) < 0.33] = -1
    targets[:, 1 + FINDINGS.index("Hernia")] = -1
    return targets, scores.astype(np.float32)


def test_every_figure_is_that_of_the_labelled_films() -> None:
    targets, scores = drawn()
    for at in range(14):
        known = targets[:, at] >= 0
        of, on = targets[known, at], scores[known, at]
        assert auc(targets[:, at], scores[:, at]) == pytest.approx(roc_auc_score(of, on))
        called = scores[:, at] >= 0.5
        assert rates(targets[:, at], called) == rates(of, called[known])
        errors = calibration_errors(targets[:, [at]], scores[:, [at]], scores[:, [at]], ["x"])["x"]
        assert errors["ece"]["before"] == expected_calibration_error(of, on)
        assert errors["brier"]["after"] == brier(of, on)
        assert enough(targets[:, at]) == enough(of)
    areas = [
        roc_auc_score(targets[known, at], scores[known, at]) for at in range(14) if any(known := targets[:, at] >= 0)
    ]
    assert mean_auc(targets, scores) == pytest.approx(np.mean(areas))
    metrics = binary_metrics(targets[:, 0], scores[:, 0], 0.5)
    known = targets[:, 0] >= 0
    assert (metrics["films"], metrics["labelled"]) == (400, known.sum())
    assert metrics["prevalence"] == pytest.approx(targets[known, 0].mean())
    nothing = binary_metrics(np.full(5, -1, np.int8), scores[:5, 0], 0.5)
    assert [nothing[name] for name in ("prevalence", "auc", "accuracy", "sensitivity", "npv")] == [None] * 5


def test_intervals_are_over_the_labelled_films_and_a_lacking_finding_has_none() -> None:
    targets, scores = drawn()
    patients = np.arange(400) // 2
    found = intervals(targets[:, 1:], scores[:, 1:], patients, FINDINGS, resamples=50)
    areas = []
    for at, name in enumerate(FINDINGS, 1):
        known = targets[:, at] >= 0
        label = found.labels[name]
        assert (label.positives, label.negatives) == ((targets[:, at] == 1).sum(), (targets[:, at] == 0).sum())
        if name == "Hernia":
            assert (label.auc.value, label.auprc.value, label.auc.low) == (None, None, None)
            continue
        areas.append(roc_auc_score(targets[known, at], scores[known, at]))
        assert label.auc.value == pytest.approx(areas[-1])
        assert label.auprc.value == pytest.approx(average_precision_score(targets[known, at], scores[known, at]))
        assert label.auc.low < label.auc.value < label.auc.high
    assert found.mean_auc.value == pytest.approx(np.mean(areas))


def test_calibration_is_fitted_to_the_labelled_films() -> None:
    targets, scores = drawn()
    logits = np.log(scores / (1 - scores + 1e-6) + 1e-6)
    maps, fits = fit_labels(targets, logits, [None] * 15)
    for at in (0, 3):
        known = targets[:, at] >= 0
        [alone], _ = fit_labels(targets[known][:, [at]], logits[known][:, [at]], [None])
        assert maps[at] == alone
    assert fits[-1] == "nothing"
    assert (maps[-1].slope, maps[-1].intercept) == (1.0, 0.0)
    assert np.isfinite(cross_fitted(targets, logits, np.arange(400).astype(str), [None] * 15)).all()


def test_a_cascade_never_calls_present_what_no_film_is_labelled_for() -> None:
    targets, scores = drawn(2000)
    logits = np.log(scores / (1 - scores + 1e-6) + 1e-6)
    films = Labelled(targets, logits, np.arange(2000).astype(str))
    fitted = fit_cascade(films, Cascade())
    assert fitted.cascade.thresholds["Hernia"] == NEVER == 1.0
    assert fitted.fits["Hernia"] == "nothing"
    seen = fitted.score(films)
    assert not seen.present[:, -1].any()
    assert seen.present[:, 0].any()
    known = targets[:, 0] >= 0
    finding = fitted.cascade.finding(logits[:, 0])
    called = finding[known & (targets[:, 0] == 1)] >= fitted.cascade.thresholds["Finding"]
    assert called.mean() == pytest.approx(fitted.gate["sensitivity"], abs=0.01)
    assert fitted.gate["table"][0]["validation"]["skipped"] == pytest.approx(
        (finding < fitted.gate["table"][0]["threshold"]).mean()
    )
    errors = served_errors(films, Cascade(), fitted.cascade, fitted_here=True)
    assert errors["Hernia"]["ece"] == {"before": None, "after": None}
    of_13 = [errors[name]["ece"]["after"] for name in FINDINGS if name != "Hernia"]
    assert class_mean(errors, FINDINGS)["ece"]["after"] == pytest.approx(np.mean(of_13))
    # a gate's threshold and a site's refit look at the labelled films alone
    again = fit_cascade(films, fitted.cascade)
    assert again.cascade.thresholds["Hernia"] == NEVER
    table = gate_table(Gated(targets[:, 1:], finding, scores[:, 1:], targets[:, 0]))
    of_known = gate_table(Gated(targets[known, 1:], finding[known], scores[known, 1:], targets[known, 0]))
    assert [row["threshold"] for row in table] == [row["threshold"] for row in of_known]


def test_subgroups_count_the_labelled_films() -> None:
    targets, scores = drawn(2000)
    logits = np.log(scores / (1 - scores + 1e-6) + 1e-6)
    films = Labelled(targets, logits, np.arange(2000).astype(str))
    seen = fit_cascade(films, Cascade()).score(films)
    traits = pd.DataFrame({"sex": ["F", "M"] * 1000, "age": "40-59", "view": "PA"})
    women = subgroups(traits, films.patients, seen)[0]
    own = np.arange(0, 2000, 2)
    known = own[targets[own, 0] >= 0]
    assert women.films == 1000
    assert women.prevalence == pytest.approx(targets[known, 0].mean())
    assert women.auc is not None
    assert women.auc.value == pytest.approx(roc_auc_score(targets[known, 0], seen.finding[known]))
    assert women.findings == 13
