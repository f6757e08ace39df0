"""Pictures that are no upright frontal chest film: from packages, by code, and chest films that are spoilt.

None of them was used to fit anything.
"""

import importlib.resources
import warnings
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.data import get_testdata_files
from scipy.ndimage import gaussian_filter, map_coordinates

Picture = NDArray[np.uint8]

SHORTEST = 32
OF_MODALITY = {"CT": "CT slices", "MR": "MR slices", "US": "ultrasound", "NM": "bone scans"}
CHEST, LIMB, PATTERNS = "RG1", "RG3", ("OT", "SEG")
"""Of pydicom-data's two radiographs one is of a chest, the other of a forearm; the rest are test patterns and masks."""
TEXT = "Referral for chest radiograph. Cough for three weeks, no fever. Please report. Kind regards, the practice. "
SAMPLE_PAGES = 12


def from_dicom() -> dict[str, list[Picture]]:
    """What pydicom and pydicom-data bring, each picture once, as a viewer shows it."""
    sets: dict[str, list[Picture]] = {}
    seen: set[bytes] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = sorted({Path(str(path)) for path in get_testdata_files("*.dcm")})
        for path in paths:
            try:
                dataset = pydicom.dcmread(path)
                picture = _shown(dataset.pixel_array, dataset.get("PhotometricInterpretation", ""))
            except Exception:
                continue  # no picture, or one that is broken on purpose
            small = Image.fromarray(picture).resize((16, 16)).tobytes()
            if min(picture.shape) < SHORTEST or small in seen or path.name.startswith(CHEST):
                continue
            seen.add(small)
            modality = dataset.get("Modality", "OT")
            name = "a forearm" if path.name.startswith(LIMB) else OF_MODALITY.get(modality, "test patterns")
            sets.setdefault(name, []).append(picture)
    return sets


def photographs() -> list[Picture]:
    """In grey: scikit-image's pictures, where it is installed, and scikit-learn's two."""
    found = []
    for package, folder in (("skimage", "data"), ("sklearn", "datasets/images")):
        try:
            root = importlib.resources.files(package)
        except ModuleNotFoundError:
            continue
        for path in sorted(Path(str(root.joinpath(folder))).glob("*")):
            if path.suffix in (".png", ".jpg", ".jpeg"):
                picture = np.asarray(Image.open(path).convert("L"))
                if min(picture.shape) >= SHORTEST:
                    found.append(picture)
    return found


def documents(seed: int = 0) -> list[Picture]:
    """Pages of text, dark on bright and bright on dark."""
    chance, pages = np.random.default_rng(seed), []
    for number in range(SAMPLE_PAGES):
        page = Image.new("L", (850, 1100), 255)
        pen, size = ImageDraw.Draw(page), int(chance.integers(14, 34))
        font = ImageFont.load_default(size)
        for line in range(int(chance.integers(8, 1000 // (size + 6)))):
            start = int(chance.integers(len(TEXT)))
            pen.text((60, 60 + line * (size + 6)), (TEXT + TEXT)[start : start + 1200 // size], 20, font)
        pages.append(np.asarray(page) if number % 3 else 255 - np.asarray(page))
    return pages


def noise(seed: int = 0) -> list[Picture]:
    """Noise of all sizes, from a pixel to half of the picture."""
    chance = np.random.default_rng(seed)
    return [_stretched(gaussian_filter(chance.normal(size=(512, 512)), 2.0**step)) for step in range(9) for _ in "ab"]


def blank() -> list[Picture]:
    """One grey, and wedges of grey."""
    wedge = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    return [np.full((512, 512), grey, np.uint8) for grey in (0, 128, 255)] + [wedge, wedge.T.copy(), 255 - wedge]


SPOILT: dict[str, Callable[[Picture, int], Picture]] = {
    "turned by 90": lambda film, _: np.rot90(film, -1),
    "turned by 180": lambda film, _: np.rot90(film, 2),
    "turned by 270": lambda film, _: np.rot90(film, 1),
    "inverted": lambda film, _: 255 - film,
    "mirrored": lambda film, _: film[:, ::-1],
    "cropped to a quarter": lambda film, at: _quarter(film, at % 4),
}
"""Each makes of a film, and its number, another."""


TILES = 4


def shuffled(film: Picture, chance: np.random.Generator) -> Picture:
    """Its 16 tiles in another order."""
    side = film.shape[0] // TILES
    tiles = [
        film[row : row + side, column : column + side]
        for row in range(0, TILES * side, side)
        for column in range(0, TILES * side, side)
    ]
    drawn = [tiles[at] for at in chance.permutation(len(tiles))]
    rows = [np.concatenate(drawn[start : start + TILES], axis=1) for start in range(0, len(drawn), TILES)]
    return np.asarray(Image.fromarray(np.concatenate(rows)).resize(film.shape))


def scrambled(film: Picture, chance: np.random.Generator) -> Picture:
    """Noise of the film's own spectrum: its Fourier amplitudes with drawn phases."""
    phases = np.angle(np.fft.rfft2(chance.random(film.shape)))
    return _stretched(np.fft.irfft2(np.abs(np.fft.rfft2(film.astype(np.float64))) * np.exp(1j * phases), film.shape))


def rolled_out(film: Picture, _: np.random.Generator) -> Picture:
    """In polar coordinates about its middle: angles across, radii down."""
    side = film.shape[0]
    angles, radii = np.meshgrid(np.linspace(0, 2 * np.pi, side), np.linspace(0, side / 2, side))
    places = [side / 2 + radii * np.sin(angles), side / 2 + radii * np.cos(angles)]
    return map_coordinates(film, places, order=1, mode="nearest")


def edges(film: Picture, _: np.random.Generator) -> Picture:
    """The length of its gradient, as a drawing has it."""
    return _stretched(np.hypot(*np.gradient(film.astype(np.float64))))


NO_FILMS: dict[str, Callable[[Picture, np.random.Generator], Picture]] = {
    "shuffled": shuffled,
    "scrambled": scrambled,
    "rolled out": rolled_out,
    "edges": edges,
}
"""Each makes of a film what is none any more. The distance was chosen by these; real pictures of other
things are for the test alone."""


def in_folder(folder: Path) -> Iterator[Picture]:
    """In grey, whatever lies there."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
            yield np.asarray(Image.open(path).convert("L"))


def as_png(picture: Picture) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _quarter(film: Picture, corner: int) -> Picture:
    rows, columns = film.shape[0] // 2, film.shape[1] // 2
    down, across = divmod(corner, 2)
    return film[down * rows : (down + 1) * rows, across * columns : (across + 1) * columns]


def _shown(pixels: NDArray[np.generic], photometric: str) -> Picture:
    while pixels.ndim > 2 and not (pixels.ndim == 3 and pixels.shape[-1] in (3, 4)):
        pixels = pixels[len(pixels) // 2]
    grey = pixels[..., :3].mean(axis=-1) if pixels.ndim == 3 else pixels.astype(np.float64)
    picture = _stretched(grey)
    return 255 - picture if photometric == "MONOCHROME1" else picture


def _stretched(values: NDArray[np.floating]) -> Picture:
    low, high = np.percentile(values, [0.5, 99.5])
    return (255 * np.clip((values - low) / max(float(high - low), 1e-9), 0, 1)).astype(np.uint8)
