"""Says what a data folder is understood to hold, before anything trains on it.

    python -m training.check /data/mine
    python -m training.check /data/chexpert --uncertain positive

Layout and tables, films and what is missing, patients, splits, each finding's labels, ages and sexes that cannot be,
duplicates, labels that are none of the 14. No film is decoded, and nothing is written. Ends with ``error: ...`` and 1
where nothing can be trained on it.
"""

import argparse
import hashlib
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from handlers.findings import LABELS
from training.data.film_files import FilmFiles
from training.data.films import Films, locate, read_table, split_films
from training.data.layouts.recognise import find_tables
from training.data.layouts.source import Layout, Uncertain
from training.data.outcomes import describe_outcomes, require_outcomes
from training.data.splits import SPLITS
from training.evaluation.subgroups import OTHER, group_films
from training.fit.config import DataConfig
from workflows import command_line
from workflows.files.text_files import DataError

HEAD = 1 << 16
"""Bytes by which most films differ already."""
UNKNOWN_SEXES = ("", "UNKNOWN", "U", "O", "NONE")


def main(arguments: Sequence[str] | None = None, prog: str = "python -m training.check") -> None:
    own = DataConfig()
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the data folder")
    parser.add_argument("--layout", choices=get_args(Layout), help="of the folder, by what lies there unless told")
    meaning = "what a label -1 is taken for (%(default)s)"
    parser.add_argument("--uncertain", choices=get_args(Uncertain), default=own.uncertain, help=meaning)
    meaning = "share of the training patients for validation (%(default)s)"
    parser.add_argument("--validation", type=float, default=own.validation, help=meaning)
    parser.add_argument("--split-seed", type=int, default=own.split_seed, help="of the splits (%(default)s)")
    parser.add_argument("--skip-unreadable", action="store_true", help="go on without films that are missing")
    chosen = parser.parse_args(arguments)
    check(chosen.data, chosen.layout, chosen.uncertain, chosen.validation, chosen.split_seed, chosen.skip_unreadable)


def check(
    data: Path,
    layout: Layout | None = None,
    uncertain: Uncertain = "ignore",
    validation: float = 0.1,
    seed: int = 0,
    skip_unreadable: bool = False,
) -> None:
    """Prints all that is known of a data folder. The arguments are those of ``read_films``.

    Raises:
        DataError: the folder cannot be read, or not be trained on; what could be said has been said.
    """
    console = Console(width=116, highlight=False, soft_wrap=True)
    films = read_table(data, layout, uncertain)
    tables = ", ".join(path.relative_to(data).as_posix() for path in find_tables(data, films.layout)[1])
    console.print(f"{data}: layout {films.layout}, by {tables}")
    patients = films.table["patient"].nunique()
    console.print(f"{len(films.table)} films of {patients} patients{', synthetic' if films.synthetic else ''}")
    for line in (*films.remarks, *_of_people(films), *_unmapped(films), *_of_files(films)):
        console.print(f"- {line}")
    try:
        ready = split_films(films, validation, seed, skip_unreadable)
    except DataError as fault:
        raise DataError(str(fault).replace("--data.skip_unreadable true", "--skip-unreadable")) from fault
    finally:  # the labels of all films where no splits could be had
        console.print(_labels(films))
        for line in _same_bytes(films):
            console.print(f"- {line}")
    for stage in ("binary", "disease"):
        require_outcomes(ready, stage)
    console.print("\n".join(describe_outcomes(ready)))
    console.print("Both stages can be trained on these films; they have not been decoded yet.")


def _of_people(films: Films) -> list[str]:
    """Ages and sexes that the table gives and that cannot be; the films are named, the values not."""
    groups, lines = group_films(films.table), []
    for by, what in (("age", "an age that is no number of years up to 120"), ("sex", "a sex that is neither F nor M")):
        said = films.table[by].str.strip().str.upper()
        wrong = films.table["image"][(groups[by] == OTHER).to_numpy() & ~said.isin(UNKNOWN_SEXES).to_numpy()].tolist()
        if wrong:
            lines.append(f"{len(wrong)} films have {what}, the first: {', '.join(wrong[:5])}")
        if blank := int(((groups[by] == OTHER).to_numpy() & said.isin(UNKNOWN_SEXES).to_numpy()).sum()):
            lines.append(f"{blank} films are without {by}: in no subgroup of it")
    return lines


def _unmapped(films: Films) -> list[str]:
    named = sorted(films.unmapped.items(), key=lambda label: -label[1])
    if not named:
        return []
    return ["labels that are none of the 14: " + ", ".join(f"{name} ({count} films)" for name, count in named)]


def _of_files(films: Films) -> list[str]:
    listed = films.table["file"].tolist()
    files = FilmFiles(films.folder, listed)
    missing = [image for image, file in zip(films.table["image"], listed, strict=True) if file not in files.found]
    lines = []
    if missing:
        lines.append(f"{len(missing)} films are missing, the first: {', '.join(missing[:5])}")
    if files.elsewhere:
        first = next(iter(files.elsewhere))
        lines.append(
            f"{len(files.elsewhere)} films have another file of the same name in another folder, which is not read, "
            f"the first: {files.elsewhere[first][0].relative_to(films.folder)}, not {files.found[first].name} of "
            f"{files.found[first].parent.relative_to(films.folder)}"
        )
    if files.unlisted:
        lines.append(f"{files.unlisted} other image files lie in the folder, and are in no table or left out")
    return lines


def _labels(films: Films) -> Table:
    """A row a label: films with it, without it, and not labelled, by split."""
    table = Table(title="films with the finding / without it / not labelled")
    splits = [split for split in SPLITS if len(films.rows(split))]
    table.add_column("finding", no_wrap=True)
    for column in [str(split) for split in splits] or ["all films"]:
        table.add_column(column, justify="right", no_wrap=True)
    rows = [films.rows(split) for split in splits] or [np.arange(len(films.table))]
    targets = np.concatenate([films.findings, films.diseases], axis=1)
    for at, name in enumerate(LABELS):
        counts = [[int((targets[some, at] == value).sum()) for value in (1, 0, -1)] for some in rows]
        table.add_row("any finding" if not at else name, *(" / ".join(map(str, of)) for of in counts))
    return table


def _same_bytes(films: Films) -> list[str]:
    """Films whose files are the same, byte by byte: of a size, then of a beginning, then of a whole."""
    there = locate(films, skip_unreadable=True).table
    groups = [list(range(len(there)))]
    keys: tuple[Callable[[Path], Hashable], ...] = (lambda path: path.stat().st_size, _hash_of_head, _hash)
    for key in keys:
        several = [row for group in groups for row in group]
        known = {row: key(there["path"][row]) for row in tqdm(several, "comparing films", unit="film", disable=None)}
        groups = [same for group in groups for same in _alike(group, known)]
    if not groups:
        return []
    first, second = there["image"][groups[0][0]], there["image"][groups[0][1]]
    lines = [
        f"{sum(map(len, groups))} films are {len(groups)} by their bytes, the first two that are one: {first}, {second}"
    ]
    if across := sum(there["split"][group].nunique() > 1 for group in groups):
        lines.append(f"{across} of these lie in two splits: a model would be tested on films that it was trained on")
    return lines


def _alike(group: list[int], known: dict[int, Hashable]) -> list[list[int]]:
    by_key: dict[Hashable, list[int]] = {}
    for row in group:
        by_key.setdefault(known[row], []).append(row)
    return [rows for rows in by_key.values() if rows[1:]]


def _hash_of_head(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(HEAD)).digest()


def _hash(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


if __name__ == "__main__":
    command_line.run(main)
