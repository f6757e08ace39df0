"""What the peers have in common: the same checkpoints in the same precision, the same decoder, the same gate.

Everything else, resizing and normalisation included, each of them does as its own documentation does.
"""

import os
from pathlib import Path

from PIL import Image

from handlers.decoding.image import read_film
from handlers.findings import FINDING
from handlers.metadata import Metadata
from handlers.networks.precision import choose
from handlers.networks.vit import serving_device


def checkpoint(stage: str) -> Path:
    return Path(os.environ["PAIR"]) / stage


DEVICE = serving_device()
DTYPE = choose(Metadata.read(checkpoint("binary")).precision, None, DEVICE).dtype
"""Of all weights and activations, as each of them is told by its documentation; the archives' own."""


def threshold() -> float:
    return Metadata.read(checkpoint("binary")).thresholds[FINDING]


def open_film(data: bytes) -> Image.Image:
    """PNG, JPEG or DICOM -> RGB."""
    return Image.fromarray(read_film(bytes(data))).convert("RGB")
