"""Which layout a data folder has, by what lies in it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from training.data.layouts import chexpert, mimic, nih, padchest, plain, vindr
from training.data.layouts.source import Layout, Source, Uncertain
from workflows.files.text_files import DataError


class Reader(NamedTuple):
    """Of a layout: which of its tables a folder has, none where it is another; what they say; what they are called."""

    tables: Callable[[Path], list[Path]]
    read: Callable[[list[Path], Uncertain], Source]
    wanted: str


LAYOUTS: dict[Layout, Reader] = {
    "nih": Reader(nih.tables, nih.read, " or ".join(nih.TABLES)),
    "chexpert": Reader(chexpert.tables, chexpert.read, "train.csv, valid.csv with the columns Path, Frontal/Lateral"),
    "mimic": Reader(mimic.tables, mimic.read, "mimic-cxr-…-metadata.csv"),
    "vindr": Reader(vindr.tables, vindr.read, "image_labels_train.csv or annotations_train.csv"),
    "padchest": Reader(padchest.tables, padchest.read, "a CSV with the columns ImageID, PatientID, Projection, Labels"),
    "csv": Reader(plain.tables, plain.read, "a CSV with the columns path, patient and the findings"),
}


def find_tables(folder: Path, layout: Layout | None) -> tuple[Layout, list[Path]]:
    """The layout that is named, or else recognised, and its tables.

    Raises:
        DataError: no such folder, no layout's tables in it, or those of two.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder of films and tables")
    fits = {name: LAYOUTS[name].tables(folder) for name in ([layout] if layout else LAYOUTS)}
    fits = {name: paths for name, paths in fits.items() if paths}
    if not fits:
        raise DataError(f"{folder}: {_nothing(layout)}")
    if len(fits) > 1:
        named = " and ".join(f"{name} ({', '.join(path.name for path in paths)})" for name, paths in fits.items())
        raise DataError(f"{folder} fits {len(fits)} layouts, {named}: name one: data.layout")
    [(name, paths)] = fits.items()
    if name in ("padchest", "csv") and len(paths) > 1:
        files = " and ".join(path.name for path in paths)
        raise DataError(f"{folder} has {len(paths)} tables of films, {files}: leave one of them there")
    return name, paths


def read_source(folder: Path, layout: Layout | None, uncertain: Uncertain) -> tuple[Layout, Source]:
    """The layout, and what its tables say; raises DataError as ``find_tables`` and the layout's reader do."""
    name, paths = find_tables(folder, layout)
    return name, LAYOUTS[name].read(paths, uncertain)


def _nothing(layout: Layout | None) -> str:
    if layout:
        return f"no table of the layout {layout!r} is there: {LAYOUTS[layout].wanted}"
    others = "; ".join(f"{name}: {reader.wanted}" for name, reader in LAYOUTS.items() if name != "nih")
    return f"neither {nih.TABLES[0]} nor {nih.TABLES[1]} is there, nor another layout's table ({others})"
