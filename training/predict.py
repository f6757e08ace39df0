"""Writes one checkpoint's probabilities on the test list, for ``python -m training.evaluate --predictions``.

python -m training.predict --checkpoint runs/nih/single/checkpoint --out runs/nih/single/predictions.csv
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from handlers.findings import FINDINGS
from handlers.reading import FINDING
from handlers.vit import Vit, serving_device
from training.data import DataError, read_films
from training.pixels import load_pixels

BATCH = 64


def predict_rows(vit: Vit, pixels: NDArray[np.uint8], rows: NDArray[np.int64], title: str) -> NDArray[np.float32]:
    """[len(rows), L] in [0, 1]."""
    starts = tqdm(range(0, len(rows), BATCH), title, unit="batch", disable=None)
    return np.concatenate([vit.probabilities(pixels[rows[start : start + BATCH]]) for start in starts])


def predict(checkpoint: Path) -> pd.DataFrame:
    """``Image Index`` and a column per label, a row per film of the run's test list.

    Raises:
        FileNotFoundError: no checkpoint there.
        DataError: its data folder cannot be read as it was.
    """
    config = yaml.safe_load((checkpoint / "training.yaml").read_text())
    data = config["data"]
    films = read_films(Path(data["folder"]), data["validation"], data["split_seed"], data["skip_unreadable"])
    size, cache = config["model"]["image_size"], Path(data["cache"])
    films, pixels = load_pixels(films, size, cache, data["skip_unreadable"])
    rows = films.rows("test")
    scores = predict_rows(Vit(checkpoint, serving_device()), pixels, rows, "predictions")
    labels = FINDINGS if scores.shape[1] == len(FINDINGS) else (FINDING,)
    return pd.DataFrame(
        {"Image Index": films.table["image"].to_numpy()[rows], **dict(zip(labels, scores.T, strict=True))}
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.predict", description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")
    arguments = parser.parse_args()
    try:
        table = predict(arguments.checkpoint)
    except (DataError, FileNotFoundError) as fault:
        sys.exit(f"error: {fault}")
    partial = arguments.out.with_name(f"{arguments.out.name}.partial")
    table.to_csv(partial, index=False)
    partial.replace(arguments.out)
    print(f"{len(table)} films in {arguments.out}")


if __name__ == "__main__":
    main()
