"""Before anything trains, a data folder is described, and refused where it cannot be trained on."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from handlers.findings import FINDINGS
from tests.training import data_folders
from training import check
from training.data.films import read_films
from workflows import command_line


def said_of(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int | None, str, str]:
    """The exit code, and what is printed on standard output and standard error."""
    code = command_line.ended(lambda: check.main([str(folder), *words]))
    said = capsys.readouterr()
    return code, said.out, said.err


def counts(out: str, name: str) -> list[str]:
    line = next(line for line in out.splitlines() if line.startswith(f"│ {name}"))
    return [cell.strip() for cell in line.strip("│").split("│")][1:]


@pytest.fixture
def folder(sample: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(sample, tmp_path / "sample"))


def test_nihs_films_are_described_by_split_and_finding(folder: Path, capsys) -> None:
    code, out, err = said_of(folder, capsys, "--validation", "0.2")
    assert (code, err) == (0, "")
    assert "layout nih, by Data_Entry_2017.csv" in out
    assert "120 films of 40 patients, synthetic" in out
    films = read_films(folder, 0.2, 0)
    for at, name in enumerate(FINDINGS):
        expected = [films.diseases[films.rows(split), at] for split in ("train", "validation", "test")]
        assert counts(out, name) == [f"{(of == 1).sum()} / {(of == 0).sum()} / 0" for of in expected]
    assert "Both stages can be trained on these films" in out


def test_what_is_wrong_with_people_files_and_labels_is_counted_and_named(folder: Path, capsys) -> None:
    table = pd.read_csv(folder / "Data_Entry_2017.csv", dtype=str, index_col=False)
    table.loc[0, "Patient Age"], table.loc[1, "Patient Gender"], table.loc[2, "Patient Age"] = "414", "Q", ""
    table.to_csv(folder / "Data_Entry_2017.csv", index=False)
    paths = sorted(folder.glob("images_*/images/*.png"))
    shutil.copy(paths[5], paths[60])  # the same picture under another patient's name
    (folder / "copies").mkdir()
    shutil.copy(paths[9], folder / "copies")
    shutil.copy(paths[9], folder / "copies" / "stranger.png")
    paths[-1].unlink()
    code, out, err = said_of(folder, capsys)
    first, second, gone = table["Image Index"][0], table["Image Index"][1], paths[-1].name
    assert code == 1
    assert f"1 films have an age that is no number of years up to 120, the first: {first}" in out
    assert "414" not in out + err
    assert f"1 films have a sex that is neither F nor M, the first: {second}" in out
    assert "1 films are without age: in no subgroup of it" in out
    assert f"1 films are missing, the first: {gone}" in out
    assert "1 films have another file of the same name in another folder, which is not read, the first: copies/" in out
    assert "1 other image files lie in the folder" in out
    assert f"2 films are 1 by their bytes, the first two that are one: {paths[5].name}, {paths[60].name}" in out
    assert err.startswith("error: ")
    assert f"1 films are missing, the first 1:\n  {gone}" in err
    assert "go on without them: --skip-unreadable" in err
    assert said_of(folder, capsys, "--skip-unreadable")[0] == 0


def test_one_picture_in_two_splits_is_said(folder: Path, capsys) -> None:
    films = read_films(folder, 0.1, 0)
    train, test = (films.table["path"][films.rows(split)[0]] for split in ("train", "test"))
    shutil.copy(train, test)
    assert "1 of these lie in two splits" in said_of(folder, capsys)[1]


def test_another_layout_says_what_it_left_out_and_what_is_not_labelled(tmp_path: Path, capsys) -> None:
    code, out, err = said_of(data_folders.chexpert(tmp_path), capsys)
    assert "layout chexpert, by train.csv, valid.csv" in out
    assert "- 1 of 5 films are left out: train.csv calls them lateral" in out
    assert "labels that are none of the 14: Fracture (1 films), Support Devices (1 films), " in out
    assert "1 other image files lie in the folder, and are in no table or left out" in out
    assert code == 1
    assert "stage binary is not trained, for" in err
    uncertain = counts(out, "Cardiomegaly")
    assert uncertain != counts(said_of(tmp_path, capsys, "--uncertain", "positive")[1], "Cardiomegaly")


def test_too_few_labels_for_stage_1_say_where_a_film_without_a_finding_comes_from(tmp_path: Path, capsys) -> None:
    rows = [{"path": f"{film}.png", "patient": f"p{film}", "Mass": film % 2} for film in range(40)]
    code, out, err = said_of(data_folders.plain(tmp_path, rows), capsys)
    assert code == 1
    assert (
        "the train split has no film without a finding to learn from (a film is without one where its table says" in err
    )
    assert any(line.startswith("│ any finding") for line in out.splitlines())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "nor another layout's table"),
        (lambda path: path.write_text("path,patient,Mass\na.png,1,many\n"), "row 2, column 'Mass': 'many' is no label"),
        (lambda path: path.write_text("path,patient,Mass\na.png,1,1\n"), "1 patient to draw the test split from"),
        (lambda path: path.write_text("path,patient,Mass\n"), "the table has no rows"),
    ],
)
def test_a_folder_that_cannot_be_read_ends_with_an_error(tmp_path: Path, capsys, spoil, said: str) -> None:
    path = data_folders.plain(tmp_path, [{"path": "a.png", "patient": "1", "Mass": "1"}]) / "films.csv"
    spoil(path)
    code, _, err = said_of(tmp_path, capsys)
    assert code == 1
    assert err.startswith("error: ")
    assert said in err
    assert "Traceback" not in err
