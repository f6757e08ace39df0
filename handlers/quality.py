"""Whether the models can read a film, told by stage 1's own features: no pixel is looked at again, no network run.

How far a film lies from the training films is its Mahalanobis distance (Lee et al., "A simple unified framework for
detecting out-of-distribution samples", NeurIPS 2018) under the covariance of probabilistic principal components
(Tipping, Bishop, J. R. Stat. Soc. B 1999), which also counts what no component explains. ``benchmarks.distances``
compares it with others on validation films. ``in_distribution`` is its conformal p-value (Bates et al., "Testing for
outliers with conformal p-values", Ann. Stat. 2023): the share of validation films that lie at least as far. How a film
lies is told by one linear head over its 16 ways to lie.
"""

from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from safetensors.numpy import load_file

from handlers.report import Correction, Orientation, Quality, Sign, Turned, Unit

QUALITY_FILE = "quality.safetensors"
"""In a binary archive; one that was made without serves without."""
KEY = "quality"
TURNS: tuple[Turned, ...] = get_args(Turned)
WAYS: tuple[tuple[Turned, bool, bool], ...] = tuple(product(TURNS, (False, True), (False, True)))
"""How a film may lie: turned, mirrored, inverted; the head's outputs, in this order."""

Number = TypeVar("Number", bound=np.generic)
Tensors = dict[str, NDArray[np.floating[Any]]]


class Levels(BaseModel):
    """From where on a film is warned of: ``in_distribution`` below, the others from their level up."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unlike: Unit
    turned: Unit
    mirrored: Unit
    inverted: Unit


class Scores(NamedTuple):
    """Of B films; the higher, the more a film is what a check looks for.

    Attributes:
        distance: [B], from the training films.
        turned: [B, 4] probabilities of ``TURNS``.
        mirrored: [B], a probability; ``inverted`` likewise.
    """

    distance: NDArray[np.float32]
    turned: NDArray[np.float32]
    mirrored: NDArray[np.float32]
    inverted: NDArray[np.float32]

    def of(self, check: str) -> NDArray[np.float32]:
        """[B] by the name of a check, a field of ``Levels``."""
        if check in ("mirrored", "inverted"):
            return self.mirrored if check == "mirrored" else self.inverted
        return self.distance if check == "unlike" else 1.0 - self.turned[:, 0]


class QualityReader:
    """Judges films by their features.

    Args:
        levels: from where on they are warned of.
        tensors: ``mean`` and ``scale`` [W] standardise features; ``weights`` [16, W] and ``bias`` [16] are the head;
            ``axes`` [W, D] are the principal components, ``spread`` [D] the training films' standard deviation along
            each, ``noise`` [1] that along each of the other axes; ``distances`` [V] are validation films', rising.
    """

    def __init__(self, levels: Levels, tensors: Tensors) -> None:
        self.levels = levels
        self._tensors = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}

    @classmethod
    def of_archive(cls, folder: Path) -> "QualityReader | None":
        """None where an archive was made without."""
        path = folder / QUALITY_FILE
        if not path.exists():
            return None
        with safe_open(path, "np") as file:
            levels = Levels.model_validate_json(file.metadata()[KEY])
        return cls(levels, load_file(path))

    def judge(self, features: NDArray[np.floating[Any]]) -> list[Quality]:
        """[B, W] -> B."""
        scores = self.scores(features)
        within = self.in_distribution(scores.distance)
        each = zip(within, scores.turned, scores.mirrored, scores.inverted, strict=True)
        return [self._quality(float(one), turned, float(left), float(dark)) for one, turned, left, dark in each]

    def scores(self, features: NDArray[np.floating[Any]]) -> Scores:
        """[B, W] -> what each check looks at."""
        standard = (features - self._tensors["mean"]) / self._tensors["scale"]
        logits = standard @ self._tensors["weights"].T + self._tensors["bias"]
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        ways = (powers / powers.sum(axis=1, keepdims=True)).reshape(-1, len(TURNS), 2, 2)
        of = {"turned": ways.sum(axis=(2, 3)), "mirrored": ways[:, :, 1].sum(axis=(1, 2))}
        return Scores(self._distance(standard), **of, inverted=ways[..., 1].sum(axis=(1, 2)))

    def in_distribution(self, distances: NDArray[np.float32]) -> NDArray[np.float64]:
        """[B] -> [B] in (0, 1]."""
        known = self._tensors["distances"]
        further = len(known) - np.searchsorted(known, distances, side="left")
        return (further + 1) / (len(known) + 1)

    def _distance(self, standard: NDArray[np.float32]) -> NDArray[np.float32]:
        axes, spread, noise = (self._tensors[name] for name in ("axes", "spread", "noise"))
        placed = standard @ axes
        left = np.maximum((standard**2).sum(axis=1) - (placed**2).sum(axis=1), 0.0)  # the axes are orthonormal
        return ((placed / spread) ** 2).sum(axis=1) + left / noise[0] ** 2

    def _quality(self, within: float, turned: NDArray[np.float32], mirrored: float, inverted: float) -> Quality:
        levels, lies = self.levels, 0
        if 1.0 - turned[0] >= levels.turned:
            lies = 1 + int(turned[1:].argmax())
        return _in_words(
            within,
            Orientation(value=TURNS[lies], score=min(1.0, float(turned[lies]))),
            Sign(value=mirrored >= levels.mirrored, score=min(1.0, mirrored)),
            Sign(value=inverted >= levels.inverted, score=min(1.0, inverted)),
            within < levels.unlike,
        )


def turn(picture: NDArray[Number], by: Turned) -> NDArray[Number]:
    """[S, S] turned clockwise."""
    return np.rot90(picture, -TURNS.index(by))


def put_right(pixels: NDArray[np.uint8], correction: Correction) -> NDArray[np.uint8]:
    """[S, S] turned and inverted back."""
    back = np.rot90(pixels, TURNS.index(correction.turned))
    return 255 - back if correction.inverted else back


def _in_words(within: float, orientation: Orientation, mirrored: Sign, inverted: Sign, unlike: bool) -> Quality:
    warnings = []
    if unlike:
        warnings.append(
            f"unlike the films that the models learned from: {within:.1%} of validation films lie as far from them"
        )
    if orientation.value != "upright":
        warnings.append(f"it looks turned by {orientation.value} degrees, clockwise")
    if inverted.value:
        warnings.append("it looks inverted: bones dark, air bright")
    if mirrored.value:
        warnings.append("left and right look exchanged: the film is mirrored, or the heart lies on the right")
    return Quality(
        in_distribution=within,
        orientation=orientation,
        mirrored=mirrored,
        inverted=inverted,
        unlike=unlike,
        readable=not (unlike or inverted.value or orientation.value != "upright"),
        warnings=warnings,
    )
