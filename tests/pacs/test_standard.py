"""The objects against programs that others wrote: ``dciodvfy`` (dicom3tools) and ``dsrdump`` (dcmtk)."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from handlers.findings import FINDING
from handlers.report import Report
from pacs import codes
from pacs.secondary_capture import secondary_captures
from pacs.segmentation import segmentation
from pacs.structured_report import NOT_ROUTED, structured_report
from tests.pacs.conftest import DCIODVFY, DSRDUMP
from tests.pacs.reports import FILMS, MADE, MODELS, real_film, report_of

needs_dciodvfy = pytest.mark.skipif(not shutil.which("dciodvfy"), reason=DCIODVFY)
needs_dsrdump = pytest.mark.skipif(not shutil.which("dsrdump"), reason=DSRDUMP)


def faults(path: Path) -> list[str]:
    """What ``dciodvfy`` calls an error."""
    shown = subprocess.run(["dciodvfy", path], capture_output=True, text=True, errors="replace", check=False)
    lines = (shown.stdout + shown.stderr).splitlines()
    assert any(line in ("ComprehensiveSR", "SCImage", "Segmentation") for line in lines), lines
    return [line for line in lines if line.startswith("Error")]


@needs_dciodvfy
@pytest.mark.parametrize("kind", FILMS)
def test_dciodvfy_finds_no_error_in_the_objects_of_a_film(kind: str, tmp_path: Path) -> None:
    film = FILMS[kind]()
    report = report_of(maps=("Mass", "Hernia"), shape=(film.Rows // 8, film.Columns // 8))
    regions = segmentation(film, report, MADE)
    assert regions is not None
    objects = {
        "sr": structured_report(film, report, MADE),
        "skipped": structured_report(film, report_of(routed=False), MADE),
        "seg": regions,
        **{f"sc {number}": one for number, one in enumerate(secondary_captures(film, report, MADE))},
    }
    for name, one in objects.items():
        one.save_as(tmp_path / name, enforce_file_format=True)
        assert faults(tmp_path / name) == [], name


@needs_dciodvfy
def test_dciodvfy_does_find_errors_where_there_are_some(tmp_path: Path) -> None:
    document = structured_report(real_film("RG1_UNCR.dcm"), report_of(), MADE)
    del document.CompletionFlag
    document.save_as(tmp_path / "sr", enforce_file_format=True)
    assert len(faults(tmp_path / "sr")) == 1


def dumped(report: Report, folder: Path) -> str:
    structured_report(real_film("RG1_UNCR.dcm"), report, MADE).save_as(folder / "sr", enforce_file_format=True)
    command = ["dsrdump", "--print-all-codes", "--print-long-values", str(folder / "sr")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@needs_dsrdump
def test_dsrdump_shows_what_the_report_says(tmp_path: Path) -> None:
    report = report_of()
    text = dumped(report, tmp_path)
    assert "CompressedSamples^RG1" in text
    groups = text.split('"Measurement Group"')[1:]
    expected = {FINDING: report.finding, **report.diseases}
    assert len(groups) == len(expected)
    for group, (name, score) in zip(groups, expected.items(), strict=True):
        code = codes.FINDING_CODES[name]
        assert f'(121071,DCM,"Finding")=({code.value},{code.scheme_designator},"{code.meaning}")' in group
        numbers = re.findall(r'NUM:\(([^,]+),[^"]*"[^"]*"\)="([^"]+)"', group)
        assert [value for value, _ in numbers] == [codes.PROBABILITY.value, codes.OPERATING_POINT.value]
        assert [float(number) for _, number in numbers] == pytest.approx(
            [score.probability, score.threshold], abs=1e-13
        )
        assert (codes.PRESENT.value in group, codes.ABSENT.value in group) == (score.present, not score.present)
        version = MODELS.binary if name == FINDING else MODELS.disease
        assert f'"Algorithm Version")="{version}"' in group
    assert "Research use only; not for diagnostic use." in text


@needs_dsrdump
def test_dsrdump_shows_that_a_film_was_skipped(tmp_path: Path) -> None:
    text = dumped(report_of(routed=False), tmp_path)
    assert text.count('"Measurement Group"') == 1
    assert NOT_ROUTED in text
