"""A plain CSV with a column for each finding is read as a data set's table, or refused by row and column."""

from pathlib import Path

import pytest

from handlers.findings import FINDINGS
from tests.training import data_folders
from tests.training.data_folders import PLAIN_ROWS, column, labels
from training.data.films import read_films, read_table
from workflows.files.text_files import DataError


def test_a_plain_csv_is_read_and_blank_is_not_labelled(tmp_path: Path) -> None:
    films = read_films(data_folders.plain(tmp_path, PLAIN_ROWS), 0.1, 0)
    assert films.layout == "csv"
    assert films.table["image"].tolist() == ["a/1.png", "b/1.png", "2.png", "3.png"]
    assert films.table["split"].tolist() == ["train", "validation", "test", "test"]
    assert [labels(films, image) for image in films.table["image"]] == [
        (1, {"Effusion": 1, "Pleural_Thickening": 0}),
        (-1, {"Effusion": 0}),
        (1, {"Pleural_Thickening": 1}),
        (-1, {"Pleural_Thickening": 0}),
    ]
    assert films.remarks == ("columns that are none of the 14 findings, and not read: ward",)
    assert column(films, "path")["b/1.png"] == tmp_path / "b" / "1.png"
    assert films.unlabelled(films.rows("train")) == [
        name for name in FINDINGS if name not in ("Effusion", "Pleural_Thickening")
    ]


def test_a_film_is_free_of_findings_where_all_14_are_denied_or_the_table_says_no_finding(tmp_path: Path) -> None:
    all_14 = {"path": "1.png", "patient": "p1", **dict.fromkeys(FINDINGS, "0"), "No Finding": ""}
    rows = [
        all_14,
        {**all_14, "path": "2.png", "Hernia": ""},
        {**all_14, "path": "3.png", **dict.fromkeys(FINDINGS, ""), "No Finding": "1"},
        {**all_14, "path": "4.png", **dict.fromkeys(FINDINGS, ""), "No Finding": "0"},
    ]
    films = read_table(data_folders.plain(tmp_path, rows))
    assert films.findings[:, 0].tolist() == [0, -1, 0, -1]
    assert films.diseases[2].tolist() == [0] * 14
    assert films.diseases[3].tolist() == [-1] * 14
    data_folders.plain(tmp_path, [*rows, {**all_14, "path": "5.png", "Mass": "1", "No Finding": "1"}])
    with pytest.raises(DataError, match=r"films.csv row 6: 'No Finding' is 1, and so is a finding"):
        read_table(tmp_path)


def spoilt(**cells: str) -> list[dict[str, object]]:
    return [*PLAIN_ROWS[:2], {**PLAIN_ROWS[2], **cells}, PLAIN_ROWS[3]]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (spoilt(Effusion="yes"), r"films.csv row 4, column 'Effusion': 'yes' is no label: 1 \(present\), 0 \(absent\)"),
        (spoilt(Effusion="0.5"), r"row 4, column 'Effusion': '0.5' is no label"),
        (spoilt(Effusion="9"), r"row 4, column 'Effusion': '9' is no label"),
        (spoilt(Effusion="nan"), r"row 4, column 'Effusion'"),
        (spoilt(Effusion="inf"), r"row 4, column 'Effusion'"),
        (spoilt(split="tset"), r"row 4, column 'split': neither train, validation nor test"),
        (spoilt(split=""), r"row 4, column 'split'"),
        (spoilt(patient=""), r"row 4: it has nothing under 'patient'"),
        (spoilt(path=""), r"row 4: it has nothing under 'path'"),
        (spoilt(path="a/1.png"), r"1 films are listed twice, the first in row 4: \['a/1.png'\]"),
        ([{"path": "a.png", "patient": "1", "Fracture": "1"}], "no column is one of the findings, Atelectasis"),
        ([{**PLAIN_ROWS[0], "Path": "2.png"}], r"row 1: the columns \['path'\] stand there twice, in other letters"),
        (spoilt(patient="p1"), "1 patients are in more than one split"),
        ([PLAIN_ROWS[2]], "no film is left in the train split"),
    ],
)
def test_a_plain_csv_that_cannot_be_meant_is_refused_by_row_and_column(tmp_path: Path, rows, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_films(data_folders.plain(tmp_path, rows), 0.1, 0)


def test_a_csv_that_says_the_view_gives_its_frontal_films(tmp_path: Path) -> None:
    rows = [{**row, "view": view} for row, view in zip(PLAIN_ROWS, ("PA", "ap", "Lateral", ""), strict=True)]
    films = read_table(data_folders.plain(tmp_path, rows))
    assert films.table["image"].tolist() == ["a/1.png", "b/1.png"]
    assert "2 of 4 films are left out: their view position is Lateral (1), none given (1)" in films.remarks
