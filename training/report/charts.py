"""A report's charts as PNGs, in colours that the colour-blind tell apart; the film beside its heatmap."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_curve, roc_curve

from handlers.cascade import Scores
from training.data.splits import Split
from training.evaluation.metrics import BINS, bins_of, labelled

DPI = 192
"""Twice a screen's 96, so that a chart stays sharp where it is enlarged."""
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
"""Okabe M, Ito K, Color Universal Design, 2008."""
MARK = "#D55E00"
COLUMNS = 5
"""Of the small multiples."""

Rates = dict[str, float | None]


def save_chart(figure: Figure, path: Path, synthetic: bool) -> None:
    """Writes the PNG; on synthetic films' it says so, for it may travel without its page."""
    if synthetic:
        figure.suptitle("synthetic films, not a medical result", fontsize=9, color=MARK)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def draw_labels(counts: Mapping[Split, dict[str, int]], films: Mapping[Split, int]) -> Figure:
    """A bar per label and split: per cent of the split's films, with their number.

    Args:
        counts: films with the label, by split and label; the first split's order is the chart's.
        films: of each split.
    """
    labels = list(next(iter(counts.values())))
    figure, axis = plt.subplots(figsize=(8, 9), layout="constrained")
    height = 0.8 / len(counts)
    for place, (split, of) in enumerate(counts.items()):
        per_cent = [100 * of[label] / films[split] for label in labels]
        rows = np.arange(len(labels)) + (place - (len(counts) - 1) / 2) * height
        bars = axis.barh(rows, per_cent, height, color=COLOURS[place], label=f"{split} ({films[split]:,} films)")
        axis.bar_label(bars, [f"{of[label]:,}" for label in labels], padding=2, fontsize=7)
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.margins(x=0.08, y=0.01)
    axis.set(xlabel="% of the split's films (number at the bar)")
    axis.legend(loc="lower right")
    axis.grid(axis="x", alpha=0.3)
    return figure


def draw_histories(histories: dict[str, list[dict[str, Any]]]) -> Figure:
    """Per training run a row: loss of training and validation, validation AUC, by epoch; the kept epoch marked."""
    figure, axes = plt.subplots(
        len(histories), 2, figsize=(9, 3.2 * len(histories)), layout="constrained", squeeze=False
    )
    for (losses, areas), (name, history) in zip(axes, histories.items(), strict=True):
        epochs = [line["epoch"] for line in history]
        auc = np.array([line["validation_auc"] for line in history], dtype=np.float64)
        for colour, key, label in ((COLOURS[0], "loss", "train"), (COLOURS[1], "validation_loss", "validation")):
            losses.plot(epochs, [line[key] for line in history], marker="o", ms=4, color=colour, label=label)
        losses.set(title=f"{name}: loss", xlabel="epoch")
        losses.legend()
        areas.plot(epochs, auc, marker="o", ms=4, color=COLOURS[2])
        if np.isfinite(auc).any():
            best = int(np.nanargmax(auc))
            kept = {"label": f"kept: epoch {epochs[best]}", "mfc": "none", "mec": MARK, "mew": 2}
            areas.plot(epochs[best], auc[best], "o", ms=11, **kept)
            areas.legend()
        areas.set(title=f"{name}: validation AUC", xlabel="epoch")
        for axis in (losses, areas):
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.grid(alpha=0.3)
    return figure


def draw_roc(names: Sequence[str], targets: NDArray[np.int8], scores: Scores, served: Sequence[Rates]) -> Figure:
    """A panel per label: its ROC curve; a cross at what is served. [N, L] each, L names and rates."""

    def draw(axis: Axes, label: int) -> None:
        wrong, right, _ = roc_curve(*labelled(targets[:, label], scores[:, label]))
        axis.plot([0, 1], [0, 1], color="0.6", ls="--", lw=1)
        axis.plot(wrong, right, color=COLOURS[0])
        _cross(axis, served[label]["specificity"], served[label]["sensitivity"], lambda share: 1 - share)

    return _small_multiples(names, targets, draw, "1 - specificity", "sensitivity")


def draw_pr(names: Sequence[str], targets: NDArray[np.int8], scores: Scores, served: Sequence[Rates]) -> Figure:
    """A panel per label: precision by recall, and the share of positives, dashed; as ``draw_roc`` otherwise."""

    def draw(axis: Axes, label: int) -> None:
        known, its_scores = labelled(targets[:, label], scores[:, label])
        precision, recall, _ = precision_recall_curve(known, its_scores)
        axis.axhline(float(known.mean()), color="0.6", ls="--", lw=1)
        # The last point, of precision 1 at recall 0, is no threshold's.
        axis.step(recall[:-1], precision[:-1], where="post", color=COLOURS[0])
        _cross(axis, served[label]["sensitivity"], served[label]["ppv"], lambda share: share)

    return _small_multiples(names, targets, draw, "recall (sensitivity)", "precision (PPV)")


def reliability(targets: NDArray[np.int8], scores: Scores) -> list[tuple[int, float, float, int]]:
    """[N] and [N] -> per bin of the ECE that holds a score: its place, mean score, share of positives, number."""
    bins = bins_of(scores)
    held = [(int(place), bins == place) for place in np.unique(bins)]
    return [(place, float(scores[one].mean()), float(targets[one].mean()), int(one.sum())) for place, one in held]


def draw_reliability(panels: Mapping[str, tuple[NDArray[np.int8], Scores]]) -> Figure:
    """A panel per title, [N] and [N]: share of positives by mean score of each bin, 95% intervals (Wilson), numbers."""
    figure, axes = plt.subplots(
        2, len(panels), figsize=(9, 5.6), layout="constrained", height_ratios=(3, 1), sharex="col", squeeze=False
    )
    for (above, below), (title, (targets, scores)) in zip(axes.T, panels.items(), strict=True):
        bins = reliability(targets, scores)
        places, means, shares, numbers = (np.array(part) for part in zip(*bins, strict=True))
        exact = [binomtest(round(share * number), number).proportion_ci(method="wilson") for *_, share, number in bins]
        low, high = (np.array([getattr(one, edge) for one in exact]) for edge in ("low", "high"))
        above.plot([0, 1], [0, 1], color="0.6", ls="--", lw=1)
        errors = np.maximum([shares - low, high - shares], 0)
        above.errorbar(means, shares, yerr=errors, fmt="o-", ms=4, capsize=2, color=COLOURS[0])
        above.set(title=title, ylabel="share with the label", xlim=(0, 1), ylim=(0, 1))
        below.bar((places + 0.5) / BINS, numbers, width=0.8 / BINS, color=COLOURS[1])
        below.set(xlabel="probability, mean of each bin", ylabel="scores", yscale="log", ylim=(0.5, None))
        for axis in (above, below):
            axis.grid(alpha=0.3)
    return figure


def draw_aucs(areas: dict[str, dict[str, Rates]]) -> Figure:
    """Bars from 0.5, which is chance, with their intervals: a group per label, a bar per way to score it.

    Args:
        areas: by way and label, the AUC as ``bootstrap.Interval`` in JSON; a label without a value has no bar.
    """
    labels = list(next(iter(areas.values())))
    figure, axis = plt.subplots(figsize=(8, 1.5 + 0.17 * len(areas) * len(labels)), layout="constrained")
    height = 0.8 / len(areas)
    for place, (way, known) in enumerate(areas.items()):
        bounds = [[area["value"], area["low"], area["high"]] for area in known.values()]
        values, low, high = np.array(bounds, dtype=np.float64).T  # None becomes NaN
        has = np.isfinite(values)
        errors = np.maximum(np.nan_to_num([values - low, high - values]), 0)[:, has]
        at = np.flatnonzero(has) + (place - (len(areas) - 1) / 2) * height
        thin = {"elinewidth": 0.9, "ecolor": "0.25"}
        axis.barh(at, values[has] - 0.5, height, left=0.5, xerr=errors, color=COLOURS[place], label=way, error_kw=thin)
    axis.axvline(0.5, color="0.25", lw=1)
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.margins(y=0.01)
    axis.set(xlabel="AUC on the test list, 95% interval over patients", xlim=(None, 1.0))
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(areas), frameon=False)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    return figure


def draw_film(film: NDArray[np.uint8], heatmap: NDArray[np.float32], title: str) -> Figure:
    """[H, W] film alone, and under its heatmap, [S, S] in [0, 1]: the more relevant, the less transparent."""
    rows, columns = film.shape
    figure, axes = plt.subplots(1, 2, figsize=(6.4, 0.35 + 3.2 * rows / columns), layout="constrained")
    for axis, name in zip(axes, ("film", title), strict=True):
        axis.imshow(film, cmap="gray", vmin=0, vmax=255, extent=(0, columns, rows, 0))
        axis.set_title(name, fontsize=9)
        axis.axis("off")
    axes[1].imshow(
        heatmap,
        cmap="plasma",
        vmin=0,
        vmax=1,
        alpha=0.65 * heatmap,
        extent=(0, columns, rows, 0),
        interpolation="bilinear",
    )
    return figure


def _small_multiples(
    names: Sequence[str], targets: NDArray[np.int8], draw: Callable[[Axes, int], None], across: str, up: str
) -> Figure:
    rows = -(-len(names) // COLUMNS)
    figure, axes = plt.subplots(
        rows, COLUMNS, figsize=(10, 2.15 * rows), layout="constrained", sharex=True, sharey=True
    )
    for label, (axis, name) in enumerate(zip(axes.flat, names, strict=False)):
        axis.set_title(name, fontsize=9)
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axis.grid(alpha=0.3)
        outcomes = len(np.unique(targets[:, label][targets[:, label] >= 0]))
        if outcomes == 2:
            draw(axis, label)
        else:
            axis.text(
                0.5, 0.5, "one outcome only" if outcomes else "not labelled", ha="center", va="center", fontsize=8
            )
    for axis in list(axes.flat)[len(names) :]:
        axis.axis("off")
    figure.supxlabel(across, fontsize=9)
    figure.supylabel(up, fontsize=9)
    return figure


def _cross(axis: Axes, across: float | None, up: float | None, turn: Callable[[float], float]) -> None:
    if across is not None and up is not None:
        axis.plot(turn(across), up, "X", color=MARK, ms=7, mec="white", mew=0.8, clip_on=False, zorder=5)
