"""Where a film's files lie in the node's folder: itself, and the objects that were made of its report."""

import shutil
from pathlib import Path


def film_file(folder: Path, sop_uid: str) -> Path:
    return folder / "films" / f"{sop_uid}.dcm"


def objects_folder(folder: Path, sop_uid: str) -> Path:
    return folder / "objects" / sop_uid


def object_files(folder: Path, sop_uid: str) -> list[Path]:
    """The report first, then its Secondary Captures."""
    return sorted(objects_folder(folder, sop_uid).glob("*.dcm"))


def remove_objects(folder: Path, sop_uid: str) -> None:
    shutil.rmtree(objects_folder(folder, sop_uid), ignore_errors=True)


def owner(path: Path) -> str:
    """The SOP Instance UID of the film that a path in one of the two folders is of."""
    return path.name.removesuffix(".dcm")
