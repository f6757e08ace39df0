"""Reads DICOM films through the gateway, and writes their reports as DICOM objects.

    python -m pacs.report film.dcm --out reports
    python -m pacs.report film.dcm other.dcm --out reports --heatmaps all-present --segmentation --fhir

For FILM.dcm there will be FILM.sr.dcm, a Structured Report; with --heatmaps a Secondary Capture for each, as
FILM.sc-Effusion.dcm; with --segmentation their regions as FILM.seg.dcm; with --fhir FILM.fhir.json. A film below the
gate has a Structured Report that says so; one that is refused has none. Files that are there already stay, and are an
error.

Exit code: 0 every film has its report; 1 a file is missing or there already, a film got no report, or what answers is
not the gateway; 2 the service is not up; 3 it refuses the key; 4 a film was refused.
"""

import argparse
import errno
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from client.gateway import NO_REPORT, Gateway, add_arguments
from client.read import FILM_REFUSED, PATIENCE
from handlers.findings import FINDINGS
from handlers.refusals import RefusedFilm
from handlers.report import Report
from pacs.film_attributes import NotReportable
from pacs.forms import FHIR, SC, SEG, SR, files_of, read_data_set
from workflows import command_line
from workflows.files.atomic import written
from workflows.server import ServerError


class NoObject(command_line.Fault):
    """A film was read, and no DICOM object can be made of its report."""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m pacs.report") -> int:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("films", nargs="+", type=Path, metavar="FILM.dcm")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="made where it is missing")
    parser.add_argument("--heatmaps", default="", metavar="NAMES", help="findings with commas between, or all-present")
    parser.add_argument("--segmentation", action="store_true", help="the heatmaps' regions too")
    parser.add_argument("--fhir", action="store_true", help="FHIR R4 too")
    add_arguments(parser)
    chosen = parser.parse_args(arguments)
    if chosen.segmentation and not chosen.heatmaps:
        parser.error("--segmentation shows heatmaps: say which with --heatmaps")
    forms = [SR, *([SC] if chosen.heatmaps else []), *([SEG] if chosen.segmentation else []), *([FHIR] * chosen.fhir)]
    gateway = Gateway.chosen(chosen, 1, PATIENCE)
    gateway.require_up()
    code = 0
    for film in chosen.films:
        data = film.read_bytes()
        _require_reportable(film, data)
        _require_absent([chosen.out / f"{film.stem}.sr.dcm"])
        answer = gateway.read(data, chosen.heatmaps)
        if isinstance(answer, Report):
            _write(film, data, answer, forms, chosen.out)
            continue
        if answer.error.type in NO_REPORT:
            raise ServerError(f"{film}: no report, {answer.error.type}: {answer.error.message}")
        print(f"{film}: refused, {answer.error.type}: {answer.error.message}", file=sys.stderr)
        code = FILM_REFUSED
    return code


def _require_reportable(film: Path, data: bytes) -> None:
    """Raises NoObject before the models read a film that no object can be made of."""
    try:
        read_data_set(data)
    except NotReportable as fault:
        raise NoObject(f"{film}: {fault}") from fault


def _require_absent(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.exists():
            raise FileExistsError(errno.EEXIST, "is there already, and stays; name another folder", str(path))


def _write(film: Path, data: bytes, report: Report, forms: Sequence[str], folder: Path) -> None:
    try:
        files = {folder / f"{film.stem}.{end}": file for form in forms for end, file in _files(form, data, report)}
    except (NotReportable, RefusedFilm) as fault:
        raise NoObject(f"{film}: {fault}") from fault
    _require_absent(list(files))
    for path, file in files.items():
        with written(path, len(file)) as new:
            new.write_bytes(file)
        print(path)


def _files(form: str, data: bytes, report: Report) -> Iterator[tuple[str, bytes]]:
    """How each file's name ends, and its bytes."""
    files = files_of(form, data, report)
    if form == SC:
        yield from zip((f"sc-{name}.dcm" for name in FINDINGS if name in (report.heatmaps or {})), files, strict=True)
    elif files:
        yield {SR: "sr.dcm", SEG: "seg.dcm", FHIR: "fhir.json"}[form], files[0]


if __name__ == "__main__":
    command_line.run(main)
