"""What a checkpoint says of films, whatever any gate would say; as a table for ``training.evaluate --predictions``.

python -m training.predict --checkpoint runs/nih/single/checkpoint --out runs/nih/single/predictions.csv
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from handlers.calibration import UNCALIBRATED, Logits, calibrated
from handlers.cascade import Kind, score_logits
from handlers.findings import FINDINGS, STAGE_LABELS
from handlers.networks.vit import Vit, serving_device
from training.data.films import Films, configured_films, refuse_empty
from training.data.pixels import load_pixels
from training.data.splits import Split
from training.fit.config import DataConfig
from workflows import command_line
from workflows.files.atomic import write_text

BATCH = 64


def films_of(config: dict[str, Any]) -> tuple[Films, NDArray[np.uint8]]:
    """The films that a resolved training configuration names, split as they were, and their pixels [N, S, S].

    Raises:
        DataError: the data folder cannot be read as it was.
    """
    data = DataConfig(**config["data"])
    films = configured_films(data)
    films, pixels = load_pixels(films, config["model"]["image_size"], Path(data.cache), data.skip_unreadable)
    refuse_empty(films)
    return films, pixels


def kind_of(config: dict[str, Any]) -> Kind:
    """What a disease checkpoint of this resolved training configuration says: a joint run's is p(disease | finding)."""
    return "conditional" if config["stage"] == "joint" else "marginal"


def predict_logits(
    folder: Path,
    pixels: NDArray[np.uint8],
    rows: NDArray[np.int64],
    title: str,
    flip: bool = False,
    dtype: torch.dtype = torch.float32,
) -> NDArray[np.float32]:
    """[len(rows), L] of the checkpoint in ``folder``; with ``flip`` the mean over each film and its mirror image."""
    vit = Vit(folder, serving_device(), dtype)
    logits = vit.logits_of(predict_features(vit, pixels, rows, title))
    if not flip:
        return logits
    mirrored = vit.logits_of(predict_features(vit, pixels[:, :, ::-1], rows, f"{title}, mirrored"))
    return np.mean([logits, mirrored], axis=0, dtype=np.float32)


def predict_features(vit: Vit, pixels: NDArray[np.uint8], rows: NDArray[np.int64], title: str) -> NDArray[np.float32]:
    """[len(rows), W]: what the network's head sees."""
    starts = tqdm(range(0, len(rows), BATCH), f"{title}, {vit.precision}", unit="batch", disable=None)
    return np.concatenate([vit.features(pixels[rows[start : start + BATCH]]) for start in starts])


def predict(checkpoint: Path, split: Split = "test", flip: bool = False) -> pd.DataFrame:
    """``Image Index`` and a column of uncalibrated probabilities per label, a row per film of a split of the run.

    The disease branch of a joint run says p(disease | finding): its films are scored by the product with p(finding) of
    the binary branch beside it.

    Raises:
        FileNotFoundError: no checkpoint there.
        DataError: its data folder cannot be read as it was.
    """
    config = yaml.safe_load((checkpoint / "training.yaml").read_text())
    films, pixels = films_of(config)
    rows = films.rows(split)
    logits: Logits = predict_logits(checkpoint, pixels, rows, "predictions", flip)
    stage = "disease" if logits.shape[1] == len(FINDINGS) else "binary"
    if stage == "disease" and kind_of(config) == "conditional":
        finding = predict_logits(checkpoint.parents[1] / "binary" / "checkpoint", pixels, rows, "binary", flip)
        logits = score_logits("conditional", finding[:, 0], logits)
    labels = STAGE_LABELS[stage]
    scores = calibrated(logits, [UNCALIBRATED] * len(labels))
    images = pd.DataFrame({"Image Index": films.table["image"].to_numpy()[rows]})
    return images.assign(**dict(zip(labels, scores.T, strict=True)))


def main(arguments: Sequence[str] | None = None, prog: str = "python -m training.predict") -> None:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")
    parser.add_argument("--split", choices=get_args(Split), default="test", help="which films (%(default)s)")
    parser.add_argument("--flip", action="store_true", help="the mean logit of each film and its mirror image")
    chosen = parser.parse_args(arguments)
    table = predict(chosen.checkpoint, chosen.split, chosen.flip)
    write_text(chosen.out, table.to_csv(index=False))
    print(f"{len(table)} films in {chosen.out}")


if __name__ == "__main__":
    command_line.run(main)
