"""What the checks of a film catch: pictures that are no frontal chest film, and chest films that lie wrongly.

    python -m benchmarks.quality --store model_store --films ../shared/nih-1024 --also hands=DIR --also knees=DIR

Reads ``binary.mar`` alone, in process, as the service does. Prints a row per set: pictures, those that the decoder
refuses already, those unlike the training films, turned, inverted, mirrored, those that are not readable or get any
warning; and of the check that the set is meant for, against the upright films, the share found where it warns of 5% of
those, and the area under the ROC curve. With ``--json`` the same as JSON. Pictures that the decoder refuses count as
caught, and in no area.
"""

import argparse
import json
import sys
import tempfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks import pictures
from benchmarks.pictures import Picture
from handlers.decoding.image import read_film, to_pixels
from handlers.quality import Scores
from handlers.reading import Screening
from handlers.refusals import RefusedFilm
from handlers.report import Quality
from training.quality.measure import area, flagged

UPRIGHT = "upright frontal films"
MEANT_FOR = {"turned by 90": "turned", "turned by 180": "turned", "turned by 270": "turned"} | {
    name: name for name in ("inverted", "mirrored")
}
"""By set, the check; any other set is for ``unlike``."""
CHECKS = ("unlike", "turned", "inverted", "mirrored")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, default=Path("model_store"), help="with binary.mar (%(default)s)")
    parser.add_argument("--films", type=Path, required=True, help="folder of upright frontal chest films (PNG)")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=DIR", help="another set of pictures")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    others = {
        name: list(pictures.in_folder(Path(folder))) for name, _, folder in (one.partition("=") for one in chosen.also)
    }
    films = [
        picture
        for folder in sorted({path.parent for path in chosen.films.rglob("*.png")})
        for picture in pictures.in_folder(folder)
    ]
    sets = {UPRIGHT: films} | spoilt(films) | others | pictures.from_dicom()
    sets |= {"photographs": pictures.photographs(), "documents": pictures.documents(), "noise": pictures.noise()}
    sets["blank"] = pictures.blank()
    with tempfile.TemporaryDirectory(prefix="cxr-") as name:
        with zipfile.ZipFile(chosen.store / "binary.mar") as packed:
            packed.extractall(name)
        screening = Screening(Path(name), torch.device("cpu"))
        if screening.quality is None:
            sys.exit(f"{chosen.store}/binary.mar was made without these checks: make archive")
        rows = measure(screening, sets) | {"seconds": cost(screening, films[:32])}
    print(json.dumps(rows, indent=2)) if chosen.json else show(rows)
    return 0


def spoilt(films: list[Picture]) -> dict[str, list[Picture]]:
    return {name: [spoil(film, number) for number, film in enumerate(films)] for name, spoil in pictures.SPOILT.items()}


class Seen(NamedTuple):
    """A set's pictures: how many the decoder refuses, and what the checks say of the others."""

    refused: int
    quality: list[Quality]
    scores: Scores


def measure(screening: Screening, sets: dict[str, list[Picture]]) -> dict[str, Any]:
    """By set: what was caught by what; of the check that it is meant for, the area and the share at 5% false alarms."""
    seen = {name: see(screening, some) for name, some in sets.items()}
    upright, rows = seen[UPRIGHT], {}
    for name, one in seen.items():
        number, check = len(sets[name]), MEANT_FOR.get(name, "unlike")
        rows[name] = {
            "pictures": number,
            "refused": one.refused,
            **{kind: sum(flagged(of, kind) for of in one.quality) for kind in CHECKS},
            "not readable": sum(not of.readable for of in one.quality),
            "warned": sum(flagged(of, "any") for of in one.quality),
            "at 5%": None,
            "area": None,
        }
        if one.quality and name != UPRIGHT:
            those, without = one.scores.of(check), upright.scores.of(check)
            rows[name]["at 5%"] = (one.refused + int((those > np.quantile(without, 0.95)).sum())) / number
            rows[name]["area"] = area(without, those)
    return rows


def see(screening: Screening, some: list[Picture]) -> Seen:
    """Through the decoder, as the service takes them."""
    assert screening.quality
    pixels = []
    for picture in some:
        with suppress(RefusedFilm):
            pixels.append(to_pixels(read_film(pictures.as_png(picture)), screening.vit.image_size))
    parts = [screening.vit.features(np.stack(pixels[at : at + 16])) for at in range(0, len(pixels), 16)]
    features = np.concatenate([np.zeros((0, screening.vit.width), np.float32), *parts])
    return Seen(len(some) - len(pixels), screening.quality.judge(features), screening.quality.scores(features))


def cost(screening: Screening, films: list[Picture]) -> dict[str, float]:
    """Seconds a film: the checks alone, and all of stage 1, decoded from PNG; the best of some rounds."""
    files = [pictures.as_png(film) for film in films]
    pixels = np.stack([to_pixels(read_film(file), screening.vit.image_size) for file in files])
    features = screening.vit.features(pixels)
    assert screening.quality
    alone, whole = [], []
    for _ in range(3):
        began = time.perf_counter()
        for row in features:
            screening.quality.judge(row[None])
        alone.append((time.perf_counter() - began) / len(films))
        began = time.perf_counter()
        for file in files:
            screening.screen([file])
        whole.append((time.perf_counter() - began) / len(films))
    return {"checks": min(alone), "stage 1": min(whole)}


def show(rows: dict[str, Any]) -> None:
    seconds, kinds = rows.pop("seconds"), (*CHECKS, "not readable", "warned")
    head = "".join(f"{kind:>14}" for kind in kinds)
    print(f"{'caught by decoder or check':28} {'n':>4} {'decoder':>9}{head}{'at 5%':>9}{'area':>8}")
    for name, row in rows.items():
        counts = [row["refused"], *(row["refused"] + row[kind] for kind in kinds)]
        refused, *shares = (f"{100 * count / row['pictures']:.1f}%" for count in counts)
        own = "" if row["area"] is None else f"{100 * row['at 5%']:8.1f}%{row['area']:8.3f}"
        print(f"{name:28} {row['pictures']:4} {refused:>9}{''.join(f'{share:>14}' for share in shares)}{own}")
    share = seconds["checks"] / seconds["stage 1"]
    print(
        f"checks: {1e3 * seconds['checks']:.2f} ms a film, {share:.1%} of stage 1's {1e3 * seconds['stage 1']:.0f} ms"
    )


if __name__ == "__main__":
    sys.exit(main())
