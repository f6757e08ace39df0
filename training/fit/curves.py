"""A run's learning curves as a PNG."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from workflows.files.atomic import written


def draw_curves(history: list[dict[str, Any]], title: str, synthetic: bool, path: Path) -> None:
    """Loss (train, validation) and validation AUC by epoch; says so where the films are synthetic."""
    epochs = [line["epoch"] for line in history]
    figure, (losses, areas) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    losses.plot(epochs, [line["loss"] for line in history], marker="o", label="train")
    losses.plot(epochs, [line["validation_loss"] for line in history], marker="o", label="validation")
    losses.set(xlabel="epoch", ylabel="loss")
    losses.legend()
    areas.plot(epochs, [line["validation_auc"] for line in history], marker="o", color="tab:green")
    areas.set(xlabel="epoch", ylabel="validation AUC", ylim=(0.4, 1.0))
    for axis in (losses, areas):
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    figure.suptitle(f"{title} (synthetic films, not a medical result)" if synthetic else title)
    with written(path) as new:
        figure.savefig(new, dpi=120, format="png")
    plt.close(figure)
