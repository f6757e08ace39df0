"""A heatmap for a person to look at: the film in grey, the map over it in colour, and below it what that is."""

from base64 import b64decode
from io import BytesIO

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from handlers.report import Report
from pacs import codes
from pacs.film_attributes import DEVICE_NAME, NOT_FOR_DIAGNOSIS

LONGEST = 1280
"""px of the film's longer side. A map holds no more than the model's patches; the film itself is in the archive."""
LEAST_WIDTH = 640
"""px, to which a small film is enlarged: the legend's text has to be read."""
OPACITY = 0.6
"""Of the map where it is highest; it falls with the map as on the gateway's page."""
MAP_COLOURS = np.rint(mpl.colormaps["inferno"](np.arange(256))[:, :3] * 255.0).astype(np.uint8)
"""[256, 3]: perceptually even, and read alike by those who see few colours; the gateway's page has the same."""
INK = (235, 235, 235)


def heatmap_of(report: Report, name: str) -> Image.Image:
    """The report's map of a finding: 8-bit grey, 255 where it is highest."""
    picture = Image.open(BytesIO(b64decode((report.heatmaps or {})[name])))
    return picture.convert("L")


def heatmap_picture(film: NDArray[np.uint8], report: Report, name: str) -> NDArray[np.uint8]:
    """[H, W, 3] the film, up to ``LONGEST`` px a side, with the map of ``name`` over it and the legend below.

    Args:
        film: [H, W] as ``read_film`` gives it.
    """
    scale = min(max(1.0, LEAST_WIDTH / film.shape[1]), LONGEST / max(film.shape))
    size = round(film.shape[1] * scale), round(film.shape[0] * scale)
    grey = np.asarray(Image.fromarray(film).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0), np.float32)
    values = np.asarray(heatmap_of(report, name).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))
    opacity = (OPACITY * (values / 255.0) ** 1.5)[..., None]
    overlaid = grey[..., None] * (1.0 - opacity) + MAP_COLOURS[values] * opacity
    return np.vstack([np.rint(overlaid).astype(np.uint8), _legend(size[0], report, name)])


def _legend(width: int, report: Report, name: str) -> NDArray[np.uint8]:
    """[h, width, 3] three lines of text and the scale of colours."""
    score, models = report.diseases[name], report.models
    state = "present" if score.present else "not present"
    lines = (
        f"{codes.FINDING_CODES[name].meaning}: probability {score.probability:.3f}, "
        f"operating point {score.threshold:.3f}, {state}",
        "Colour: where on the film the evidence lies, against this map's own maximum; no outline of a lesion",
        f"{DEVICE_NAME}, binary {models.binary}, disease {models.disease}. {NOT_FOR_DIAGNOSIS}",
    )
    margin = max(4, width // 50)
    at_100 = max(ImageFont.load_default(100).getlength(line) for line in lines)
    font = ImageFont.load_default(min(22.0, 100 * (width - 2 * margin) / at_100))
    line_height = round(font.getbbox("Ag")[3] * 1.3)
    band = Image.new("RGB", (width, margin * 3 + line_height * (len(lines) + 1)))
    draw = ImageDraw.Draw(band)
    for at, line in enumerate(lines):
        draw.text((margin, margin + at * line_height), line, INK, font)
    scale = Image.fromarray(MAP_COLOURS[None]).resize((width - 2 * margin, line_height // 2))
    band.paste(scale, (margin, 2 * margin + len(lines) * line_height))
    return np.asarray(band)
