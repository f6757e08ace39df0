"""Heatmaps for the films whose sender asked for them: relevance maps as PNG in the film's coordinates."""

import logging
import time
import zlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handlers.findings import FINDINGS
from handlers.networks.explain import relevances
from handlers.networks.vit import Vit
from handlers.quality import turn
from handlers.report import Turned

PRESENT = "all-present"
"""Instead of names: the findings that the report calls present."""
LONGEST = 2560
"""px. A larger film's map has this longer side, in the film's proportions; at it a PNG takes some 50 ms."""
SECONDS = 8.0
"""For all maps of a batch, whose other films wait; the gateway restarts a TorchServe that is silent for long."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """The heatmaps of one film.

    Attributes:
        pixels: [S, S] uint8, as the ViT saw them.
        findings: each once.
        shape: the film's own rows and columns.
        turned: how the film lay before it was turned back to ``pixels``; its map is turned as it lay.
    """

    pixels: NDArray[np.uint8]
    findings: Sequence[str]
    shape: tuple[int, int]
    turned: Turned = "upright"


def findings_asked(option: str) -> tuple[str, ...]:
    """``Effusion,Mass`` -> the two, each once; ``all-present`` -> none, which stands for those that are present.

    Raises:
        ValueError: a name that is not one of the 14.
    """
    if option == PRESENT:
        return ()
    names = tuple(dict.fromkeys(option.split(",")))
    for name in names:
        if name not in FINDINGS:
            raise ValueError(f"no heatmap of {name[:40]!r}: name {', '.join(FINDINGS)}, or '{PRESENT}'")
    return names


def heatmaps_of(vit: Vit, films: Sequence[Wanted]) -> list[dict[str, str]]:
    """A PNG in base64 per finding, for each film. It does not raise.

    All maps of a film come of one pass. Those of a film that fails, or for which no time is left, are missing and stand
    in the log. Time goes first to films that want few.
    """
    maps: list[dict[str, str]] = [{} for _ in films]
    end = time.monotonic() + SECONDS
    for at in sorted(range(len(films)), key=lambda at: len(films[at].findings)):
        film = films[at]
        if not film.findings or time.monotonic() >= end:
            continue
        try:
            found = relevances(vit, film.pixels[None], [FINDINGS.index(name) for name in film.findings])[:, 0]
            for name, heatmap in zip(film.findings, found, strict=True):
                maps[at][name] = b64encode(to_png(turn(heatmap, film.turned), film.shape)).decode()
        except Exception:
            logger.exception("no heatmap of %s", ", ".join(film.findings))
    asked, made = sum(len(film.findings) for film in films), sum(map(len, maps))
    if made < asked:
        logger.warning(
            "%d of %d heatmaps are missing; there are %g s for those of a batch", asked - made, asked, SECONDS
        )
    return maps


def to_png(heatmap: NDArray[np.float32], shape: tuple[int, int]) -> bytes:
    """[S, S] in [0, 1] -> 8-bit grey PNG, 255 for 1, of the film's own rows and columns up to ``LONGEST`` a side.

    The model sees the whole film squeezed into its square (``handlers.decoding.image.to_pixels``), so the square
    stretched to the film's shape lies on it pixel by pixel.
    """
    scale = min(1.0, LONGEST / max(shape))
    rows, columns = (max(1, round(side * scale)) for side in shape)
    grey = Image.fromarray(np.rint(heatmap * 255.0).astype(np.uint8))
    png = BytesIO()
    # Run lengths: on a smooth map half the size of level 1's own search, and not slower.
    grey.resize((columns, rows), Image.Resampling.BILINEAR).save(png, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return png.getvalue()
