"""A table of predictions holds the films that were asked for, as they are or with their mirror images."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.special import logit

from handlers.networks.vit import Vit
from training.predict import films_of, predict


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_split_is_predicted_film_by_film(run: Path, split) -> None:
    checkpoint = run / "binary" / "checkpoint"
    films, pixels = films_of(yaml.safe_load((checkpoint / "training.yaml").read_text()))
    rows = films.rows(split)
    table = predict(checkpoint, split)
    assert table["Image Index"].tolist() == films.table["image"].to_numpy()[rows].tolist()
    expected = Vit(checkpoint, torch.device("cpu")).logits(np.asarray(pixels[rows]))[:, 0]
    assert logit(table["Finding"].to_numpy()) == pytest.approx(expected, abs=1e-3)


def test_a_flip_averages_the_logits_of_film_and_mirror_image(run: Path) -> None:
    checkpoint = run / "binary" / "checkpoint"
    films, pixels = films_of(yaml.safe_load((checkpoint / "training.yaml").read_text()))
    vit, ours = Vit(checkpoint, torch.device("cpu")), np.asarray(pixels[films.rows("test")])
    straight, mirrored = vit.logits(ours)[:, 0], vit.logits(ours[:, :, ::-1])[:, 0]
    assert np.abs(straight - mirrored).max() > 1e-3
    flipped = predict(checkpoint, flip=True)["Finding"].to_numpy()
    assert logit(flipped) == pytest.approx((straight + mirrored) / 2, abs=1e-4)
