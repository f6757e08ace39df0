"""Does stage 2 look where radiologists drew a box? Heatmaps against a data folder's boxes, and against a guess.

    python -m training.localise --run runs/nih                          # its own films, those of training left out
    python -m training.localise --run runs/nih --data /data/other       # every box of another folder

Two questions per box, asked of the finding's heatmap and of two maps that see no film:
    pointing game   is the map's maximum in the box? (Zhang et al., IJCV 2018; strictly, without their 15 px around it)
    hit rate        is a quarter of the map's hot region, all from half its maximum up, in the box?
                    (Wang et al., CVPR 2017: intersection over the detected area, T(IoBB) = 0.25)
    centre          a Gaussian in the middle of the film
    place           where the finding lies on other patients' films: a Gaussian per box of the folder, of its size
Writes ``localisation.json`` into the run and prints it as a table.
"""

import argparse
import json
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from handlers.decoding.image import read_film, to_pixels
from handlers.findings import FINDINGS
from handlers.networks.explain import relevance
from handlers.networks.vit import Vit, serving_device
from training.data.boxes import FILM_SIDE, FindingBox, read_boxes
from training.data.films import configured_films
from training.fit.config import DataConfig
from workflows import command_line
from workflows.files.atomic import write_text
from workflows.files.text_files import DataError

HOT = 0.5
"""Of its maximum: a map is hot from here up."""
OVERLAP = 0.25
"""Of the hot region, in the box: a hit."""
BATCH = 16
MAPS = ("heatmap", "place", "centre")

Map = NDArray[np.float32]


BoxedFilm = tuple[FindingBox, dict[Hashable, Any]]
"""A box, and the film table's row of the film that it is on."""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m training.localise") -> None:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder with the two stages' runs")
    parser.add_argument("--data", type=Path, help="films with boxes; the run's own unless told")
    chosen = parser.parse_args(arguments)
    localise(chosen.run, chosen.data)


def localise(run: Path, data: Path | None = None) -> dict[str, Any]:
    """Scores the run's disease model; returns what ``localisation.json`` holds.

    Args:
        run: holds ``disease/checkpoint``.
        data: a folder with boxes. The run's own data folder, which is the default, is scored without the films of
            the training split; any other with all its films (NIH's boxes are all on films of its official test list).

    Raises:
        DataError: no boxes, or none on a film that may be scored.
        FileNotFoundError: the run has no disease checkpoint.
    """
    checkpoint = run / "disease" / "checkpoint"
    config = DataConfig(**yaml.safe_load((checkpoint / "training.yaml").read_text())["data"])
    own = Path(config.folder)
    folder = data or own
    films = configured_films(replace(config, folder=str(folder), layout=None if data else config.layout))
    film_of = films.table.set_index("image").to_dict("index")
    # NIH's box file lists films that a subset does not have.
    boxed = [(box, film_of[box.image]) for box in read_boxes(films.folder) if box.image in film_of]
    unseen = [(box, film) for box, film in boxed if folder.resolve() != own.resolve() or film["split"] != "train"]
    if not unseen:
        raise DataError(f"{folder}: none of the {len(boxed)} boxes is on a film that the run was not trained on")
    vit = Vit(checkpoint, serving_device())
    scored = [row for finding in FINDINGS for row in _score(vit, finding, unseen, boxed)]
    localisation = {
        "data": {"folder": folder.resolve().name, "synthetic": films.synthetic},
        "boxes": len(scored),
        "films": len({row["image"] for row in scored}),
        "left_out_training_boxes": len(boxed) - len(unseen),
        "rule": {"pointing_tolerance_px": 0, "hot_from": HOT, "iobb_from": OVERLAP},
        "overall": _summary(scored),
        "findings": {
            finding: _summary(rows) for finding in FINDINGS if (rows := [r for r in scored if r["finding"] == finding])
        },
        "per_box": scored,
    }
    write_text(run / "localisation.json", json.dumps(localisation, indent=2, allow_nan=False))
    _print(localisation)
    return localisation


def points_into(heatmap: Map, mask: NDArray[np.bool_]) -> bool:
    """[S, S] in [0, 1] and [S, S]: is the maximum (the first of equals, row by row) in the box? An empty map is not."""
    return bool(heatmap.max() > 0 and mask.flat[heatmap.argmax()])


def hits(heatmap: Map, mask: NDArray[np.bool_]) -> bool:
    """[S, S] in [0, 1] and [S, S]: are ``OVERLAP`` of the hot region's pixels in the box? An empty map has none."""
    hot = heatmap >= HOT * heatmap.max()
    return bool(heatmap.max() > 0 and (hot & mask).sum() >= OVERLAP * hot.sum())


def centre_map(side: int) -> Map:
    """[side, side]: a Gaussian in the film's middle, its standard deviation a quarter of the film's side."""
    return _gaussian((FILM_SIDE / 2, FILM_SIDE / 2), (FILM_SIDE / 4, FILM_SIDE / 4), side)


def place_map(others: Sequence[FindingBox], side: int) -> Map:
    """[side, side]: the sum of a Gaussian per box, its standard deviations half the box's width and height.

    ``centre_map`` where there is no other box.
    """
    if not others:
        return centre_map(side)
    total = sum(_gaussian(box.centre, (box.width / 2, box.height / 2), side) for box in others)
    return np.asarray(total, np.float32)


def _gaussian(centre: tuple[float, float], deviation: tuple[float, float], side: int) -> Map:
    middles = (np.arange(side) + 0.5) * FILM_SIDE / side
    distances = (middles - np.array(centre)[:, None]) / np.array(deviation)[:, None]  # [2, side]
    columns, rows = np.exp(-(distances**2) / 2)
    return np.outer(rows, columns).astype(np.float32)


def _score(vit: Vit, finding: str, unseen: Sequence[BoxedFilm], boxed: Sequence[BoxedFilm]) -> list[dict[str, Any]]:
    """A row per box of the finding: where it is, and both answers of each map."""
    targets = [(box, film) for box, film in unseen if box.finding == finding]
    side, label = vit.image_size, FINDINGS.index(finding)
    rows = []
    for start in range(0, len(targets), BATCH):
        batch = targets[start : start + BATCH]
        pixels = np.stack([to_pixels(read_film(film["path"].read_bytes()), side) for _, film in batch])
        for (box, film), heatmap in zip(batch, relevance(vit, pixels, label), strict=True):
            others = [other for other, of in boxed if other.finding == finding and of["patient"] != film["patient"]]
            maps = zip(MAPS, (heatmap, place_map(others, side), centre_map(side)), strict=True)
            mask = box.mask(side)
            answers = {name: {"pointing": points_into(map_, mask), "hit": hits(map_, mask)} for name, map_ in maps}
            rows.append({"image": box.image, "finding": finding, "split": film["split"], **answers})
    return rows


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Per map and question: how many boxes, of how many, and the share with its exact 95% interval.

    Clopper and Pearson's: it takes boxes for independent, of which a film has seldom more than one.
    """
    return {
        "boxes": len(rows),
        **{name: {asked: _share([row[name][asked] for row in rows]) for asked in ("pointing", "hit")} for name in MAPS},
    }


def _share(answers: Sequence[bool]) -> dict[str, Any]:
    interval = binomtest(sum(answers), len(answers)).proportion_ci(0.95, method="exact")
    share = sum(answers) / len(answers)
    return {"yes": sum(answers), "share": share, "low": float(interval.low), "high": float(interval.high)}


def _print(localisation: dict[str, Any]) -> None:
    console, data = Console(width=120), localisation["data"]
    console.print(f"{data['folder']}: {localisation['boxes']} boxes on {localisation['films']} films")
    if data["synthetic"]:
        console.print("[bold]Synthetic films[/]: these figures show that the code works, and nothing else.")
    table = Table(title="Localisation, % of the boxes (exact 95% interval)")
    columns = [(asked, name) for asked in ("pointing", "hit") for name in MAPS]
    for column in ("finding", "boxes", *(f"{asked}\n{name}" for asked, name in columns)):
        table.add_column(column, justify="left" if column == "finding" else "right")
    for finding, summary in {**localisation["findings"], "all": localisation["overall"]}.items():
        shares = (summary[name][asked] for asked, name in columns)
        cells = (f"{100 * one['share']:.0f} ({100 * one['low']:.0f}–{100 * one['high']:.0f})" for one in shares)
        table.add_row(finding, str(summary["boxes"]), *cells, style="bold" if finding == "all" else None)
    console.print(table)


if __name__ == "__main__":
    command_line.run(main)
