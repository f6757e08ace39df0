"""The official lists find their films however either side is written, and what finds no partner is said."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from training.data.boxes import read_boxes
from training.data.films import Films, read_films
from training.localise import localise
from workflows.files.text_files import DataError

TABLE, TRAIN, TEST = "Data_Entry_2017.csv", "train_val_list.txt", "test_list.txt"


@pytest.fixture
def folder(sample: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(sample, tmp_path / "sample"))


@pytest.fixture(scope="module")
def drawn(sample: Path) -> Films:
    return read_films(sample, 0.2, 0)


def rewrite(path: Path, change) -> None:
    path.write_bytes(change(path.read_text()))


def every_film(change):
    """Changes each file name of a list, or of a table's first column."""
    return lambda text: "\n".join(
        line
        if line.startswith("Image Index") or not line
        else ",".join([change(line.split(",")[0]), *line.split(",")[1:]])
        for line in text.split("\n")
    ).encode()


SPELLINGS = {
    "a byte order mark": lambda text: text.encode("utf-8-sig"),
    "utf-16": lambda text: text.encode("utf-16"),
    "dos lines": lambda text: text.replace("\n", "\r\n").encode(),
    "blanks around the names": every_film(lambda name: f"  {name} \u00a0"),
    "capitals": every_film(lambda name: name.replace(".png", ".PNG")),
    "folders": every_film(lambda name: f"images_001/images/{name}"),
    "windows' folders": every_film(lambda name: f"D:\\nih\\images\\{name}"),
    "quotes": every_film(lambda name: f'"{name}"'),
}


@pytest.mark.parametrize("change", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("names", [(TRAIN, TEST), (TABLE,)], ids=["in the lists", "in the table"])
def test_no_film_is_lost_by_how_its_name_is_written(
    folder: Path, drawn: Films, caplog: pytest.LogCaptureFixture, names: tuple[str, ...], change
) -> None:
    for name in names:
        rewrite(folder / name, change)
    films = read_films(folder, 0.2, 0)
    pd.testing.assert_frame_equal(films.table.drop(columns="path"), drawn.table.drop(columns="path"))
    np.testing.assert_array_equal(films.diseases, drawn.diseases)
    assert not caplog.records


def test_films_on_the_disk_may_end_in_capitals(folder: Path, drawn: Films) -> None:
    for path in folder.glob("images_*/images/*.png"):
        path.rename(path.with_suffix(".PNG"))
    films = read_films(folder, 0.2, 0)
    assert films.table["image"].tolist() == drawn.table["image"].tolist()
    assert {path.suffix for path in films.table["path"]} == {".PNG"}
    first = films.table["path"][0]
    shutil.copy(first, first.with_suffix(".png"))
    with pytest.raises(DataError, match=f"1 films have a namesake in other letters, the first: .*{first.stem}"):
        read_films(folder, 0.2, 0)


def test_columns_may_have_blanks_and_labels_too(folder: Path, drawn: Films) -> None:
    rewrite(folder / TABLE, lambda text: text.replace(",", " , ").replace("|", " | ").encode())
    np.testing.assert_array_equal(read_films(folder, 0.2, 0).diseases, drawn.diseases)


def test_kaggle_s_224_px_copy_is_read_under_its_own_names(
    folder: Path, drawn: Films, run: Path, tmp_path: Path
) -> None:
    (folder / "images-224" / "images-224").mkdir(parents=True)
    for path in folder.glob("images_*/images/*.png"):
        path.rename(folder / "images-224" / "images-224" / path.name)
    for name in (TRAIN, TEST):
        (folder / name).rename(folder / name.replace(".txt", "_NIH.txt"))
    (folder / "BBox_List_2017.csv").rename(folder / "BBox_List_2017_Official_NIH.csv")
    films = read_films(folder, 0.2, 0)
    assert films.table["split"].tolist() == drawn.table["split"].tolist()
    assert {path.parent.name for path in films.table["path"]} == {"images-224"}
    shutil.copytree(run, tmp_path / "run")
    assert localise(tmp_path / "run", folder)["boxes"] == len(read_boxes(folder))


def test_the_whole_of_nih_s_lists_beside_some_of_its_films_is_only_said(
    folder: Path, drawn: Films, caplog: pytest.LogCaptureFixture
) -> None:
    """Kaggle's sample of 5,606 films, with the lists of all 112,120."""
    with (folder / TRAIN).open("a") as lines:
        lines.writelines(f"9{number:07d}_000.png\n" for number in range(2000))
    listed = len((folder / TRAIN).read_text().split())
    assert read_films(folder, 0.2, 0).table["split"].tolist() == drawn.table["split"].tolist()
    assert f"{TRAIN}: 2000 of {listed} films are not in the table, the first: ['90000000_000.png'" in caplog.text
    assert "90000009_000.png'" in caplog.text
    assert "90000010_000.png'" not in caplog.text
    assert "in neither list" not in caplog.text


def test_lists_of_some_films_beside_a_whole_table_are_only_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    listed = (folder / TRAIN).read_text().split()
    kept, left = listed[:-20], listed[-20:]
    (folder / TRAIN).write_text("\n".join(kept))
    assert len(read_films(folder, 0.2, 0).table) == 100
    assert "20 of 120 films of the table are in neither list and take no part" in caplog.text
    assert all(image in caplog.text for image in sorted(left)[:10])
    assert "are not in the table" not in caplog.text


@pytest.mark.parametrize(("number", "refused"), [(1, False), (12, False), (13, True), (50, True)])
def test_names_without_a_partner_on_both_sides_are_refused_above_a_tenth(
    folder: Path, caplog: pytest.LogCaptureFixture, number: int, refused: bool
) -> None:
    rewrite(folder / TRAIN, lambda text: text.replace(".png", "-x.png", number).encode())
    wrong = [line for line in (folder / TRAIN).read_text().split() if "-x" in line]
    listed = len((folder / TRAIN).read_text().split())
    if refused:
        with pytest.raises(
            DataError,
            match=rf"{number} of 120 films of the table are in neither list and take no part, .* while {number} of the "
            r"120 films of the lists are not in the table\. More than 10%",
        ):
            read_films(folder, 0.2, 0)
    else:
        assert len(read_films(folder, 0.2, 0).table) == 120 - number
        assert f"{number} of 120 films of the table are in neither list" in caplog.text
    assert f"{number} of {listed} films are not in the table, the first: {wrong[:10]}" in caplog.text


def test_a_list_that_names_nothing_of_the_table_is_refused(folder: Path) -> None:
    listed = len((folder / TEST).read_text().split())
    rewrite(folder / TEST, lambda text: text.replace(".png", ".jpg").encode())
    with pytest.raises(
        DataError, match=rf"test_list\.txt: none of its {listed} films is in the table, the first: .*\.jpg"
    ):
        read_films(folder, 0.2, 0)


def test_a_film_in_both_lists_is_a_leak_however_it_is_spelt(folder: Path) -> None:
    image = (folder / TRAIN).read_text().split()[0]
    with (folder / TEST).open("a") as lines:
        lines.write(f"images_001\\{image.upper().replace('.PNG', '.Png')}\n")
    with pytest.raises(DataError, match=rf"1 films are in both lists, the first: \['{image}'\]"):
        read_films(folder, 0.2, 0)


def test_films_that_a_list_repeats_are_taken_once_and_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = (folder / TRAIN).read_text().split()[0]
    with (folder / TRAIN).open("a") as lines:
        lines.write(f"\n# a remark\n{image}\n")
    with caplog.at_level(logging.WARNING):
        assert len(read_films(folder, 0.2, 0).table) == 120
    assert f"films are listed again, the first: ['{image}']" in caplog.text
    assert "1 of" in caplog.text
    assert "films are not in the table, the first: ['# a remark']" in caplog.text


def test_a_list_without_its_counterpart_or_that_leads_nowhere_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / TEST).unlink()
    with pytest.raises(DataError, match=r"train_val_list\.txt is there, but not its counterpart"):
        read_films(folder, 0.2, 0)
    (folder / TEST).symlink_to(tmp_path / "unmounted" / TEST)
    with pytest.raises(FileNotFoundError, match=r"test_list\.txt is not there"):
        read_films(folder, 0.2, 0)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan"), float("inf"), 0.99])
def test_a_share_that_leaves_a_split_empty_is_refused(folder: Path, share: float) -> None:
    with pytest.raises(DataError, match=r"data\.validation is|leaves none for training"):
        read_films(folder, share, 0)


@pytest.mark.parametrize("lists", [True, False], ids=["official lists", "no lists"])
def test_one_patient_cannot_be_split(folder: Path, lists: bool) -> None:
    table = pd.read_csv(folder / TABLE, dtype=str, index_col=False)
    if lists:
        trained = table["Image Index"].isin((folder / TRAIN).read_text().split())
        table.loc[trained, "Patient ID"] = "1"
    else:
        table["Patient ID"] = "1"
        for name in (TRAIN, TEST):
            (folder / name).unlink()
    table.to_csv(folder / TABLE, index=False)
    with pytest.raises(DataError, match=r"sample: 1 patient to draw the \w+ split from, where two at least are needed"):
        read_films(folder, 0.2, 0)
