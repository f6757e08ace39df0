"""What the binary node tells the disease node of one film: one safetensors blob, its words as metadata."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from handlers.report import FilmFacts, Problem, Quality, Refusal, Score

_KEY = "film"


@dataclass(frozen=True)
class Asked:
    """The heatmaps that a film's sender asks for.

    Attributes:
        findings: by name; none stands for those that are present.
        shape: the film's own rows and columns.
    """

    findings: tuple[str, ...]
    shape: tuple[int, int]


@dataclass(frozen=True)
class Screened:
    """A film after stage 1.

    Attributes:
        finding: p(finding) against the gate's threshold.
        logit: stage 1's own, which a stage 2 that was trained with it is scored by.
        version: of the binary model.
        pixels: [S, S] uint8 for stage 2 where the film is routed and stage 2 needs them; None where it does not.
        heatmaps: None where none were asked for; they then take no byte of the message.
        features: [W] float32 instead of pixels, where both stages have one encoder and the film is routed; beside
            them, where heatmaps are asked for.
        encoder: that encoder's sha256.
        image: what the film is.
        quality: whether the models can read such a film; None where the archive does not say.
    """

    finding: Score
    logit: float
    version: str
    pixels: NDArray[np.uint8] | None
    heatmaps: Asked | None = None
    features: NDArray[np.float32] | None = None
    encoder: str | None = None
    image: FilmFacts | None = None
    quality: Quality | None = None

    @property
    def routed(self) -> bool:
        return self.finding.present


def pack(film: Screened | Refusal) -> bytes:
    """The message for one film; a few hundred bytes unless the film is routed."""
    if isinstance(film, Refusal):
        return save({}, metadata={_KEY: json.dumps({"error": film.error.model_dump()})})
    words: dict[str, Any] = {"finding": film.finding.model_dump(), "logit": film.logit, "version": film.version}
    if film.heatmaps:
        words["heatmaps"] = asdict(film.heatmaps)
    if film.quality is not None:
        words["quality"] = film.quality.model_dump()
    if film.features is not None:
        words["encoder"] = film.encoder
    if film.image is not None:
        words["image"] = film.image.model_dump()
    arrays = {"pixels": film.pixels, "features": film.features}
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items() if array is not None}
    return save(tensors, metadata={_KEY: json.dumps(words)})


def unpack(message: bytes) -> Screened | Refusal:
    """The film that ``pack`` wrote.

    Raises:
        ValueError: the message was not written by ``pack`` (pydantic's and safetensors' errors included).
    """
    try:
        length = int.from_bytes(message[:8], "little")
        words = json.loads(json.loads(message[8 : 8 + length])["__metadata__"][_KEY])
        if "error" in words:
            return Refusal(error=Problem(**words["error"]))
        tensors = load(bytes(message))
        pixels, features = tensors.get("pixels"), tensors.get("features")
        if pixels is not None and (pixels.dtype != np.uint8 or pixels.ndim != 2):
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, not uint8 [S, S]")
        if features is not None and (features.dtype != np.float32 or features.ndim != 1):
            raise ValueError(f"features are {features.dtype} {features.shape}, not float32 [W]")
        finding = Score(**words["finding"])
        if finding.present and pixels is None and features is None:
            raise ValueError("a routed film comes without pixels and without features")
        asked = words.get("heatmaps")
        heatmaps = Asked(tuple(asked["findings"]), tuple(asked["shape"])) if asked else None
        said = float(words["logit"]), str(words["version"])
        quality = Quality(**words["quality"]) if "quality" in words else None
        image = FilmFacts(**words["image"]) if "image" in words else None
        return Screened(finding, *said, pixels, heatmaps, features, words.get("encoder"), image, quality)
    except Exception as fault:
        raise ValueError(f"not a message of the binary node: {fault}") from fault
