"""Reads three films through the running gateway: a sample film with findings, one without, a real radiograph."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pydicom.data import get_testdata_file

from client.gateway import KEY_FILE, default_address
from client.read import main as read_films
from handlers.findings import NO_FINDING
from workflows import command_line
from workflows.files.text_files import read_list, read_table

SAMPLE = Path("data/sample")
REAL_FILM = "RG1_UNCR.dcm"
"""A chest film of the NEMA compression samples, as the package pydicom-data carries it: CR, MONOCHROME1."""


def demo_films() -> list[tuple[str, Path]]:
    """What each of the three films is, and where it lies."""
    test = set(read_list(SAMPLE / "test_list.txt"))
    films = [(image, labels) for image, labels, *_ in read_table(SAMPLE / "Data_Entry_2017.csv").rows if image in test]
    ill = next(film for film in films if "|" in film[1])
    normal = next(film for film in films if film[1] == NO_FINDING)
    drawn = [(f"synthetic film drawn with: {labels}", _path(image)) for image, labels in (ill, normal)]
    return [*drawn, ("real radiograph (DICOM, CR, MONOCHROME1)", Path(str(get_testdata_file(REAL_FILM))))]


def main(arguments: Sequence[str] | None = None, prog: str = "python -m client.demo") -> int:
    argparse.ArgumentParser(prog=prog, description=__doc__).parse_args(arguments)
    films = demo_films()
    for what, path in films:
        print(f"\n{what}")
        if failed := read_films([str(path)]):
            return failed
    print(f"The server stays up. Try next:\n\n  {curl_line(films[0][1])}\n")
    print("'make stop' ends it.")
    return 0


def curl_line(film: Path) -> str:
    """A shell line that reads a film."""
    key = f'"Authorization: Bearer $(cat {KEY_FILE})"'
    return f"curl -H {key} \\\n    -F data=@{film} {default_address()}/v1/reports"


def _path(image: str) -> Path:
    return next(SAMPLE.glob(f"images_*/images/{image}"))


if __name__ == "__main__":
    command_line.run(main)
