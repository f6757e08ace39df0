"""Reads three films through the running server: a sample film with findings, one without, a real radiograph."""

from pathlib import Path

from pydicom.data import get_testdata_file

from client.read import main as read_films
from handlers.findings import NO_FINDING
from workflows import command_line
from workflows.active import WORKFLOW
from workflows.files.text_files import read_list, read_table
from workflows.server import KEY_FILE, Server

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


def main() -> int:
    films = demo_films()
    for what, path in films:
        print(f"\n{what}")
        if failed := read_films([str(path)]):
            return failed
    print(f"The server stays up. Try next:\n\n  {curl_line(Server.of_folder(Path()), films[0][1])}\n")
    print("'make stop' ends it.")
    return 0


def curl_line(server: Server, film: Path) -> str:
    """A shell line that reads a film. As a form: curl marks a bare body as URL-encoded text, and TorchServe fails."""
    key = f"""$(python3 -c 'import json; print(json.load(open("{KEY_FILE}"))["inference"]["key"])')"""
    return f'curl -H "Authorization: Bearer {key}" \\\n    -F data=@{film} {server.inference}/wfpredict/{WORKFLOW}'


def _path(image: str) -> Path:
    return next(SAMPLE.glob(f"images_*/images/{image}"))


if __name__ == "__main__":
    command_line.run(main)
