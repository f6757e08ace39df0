"""Each layout's tables become the same product: films, patients, splits; labels that are present, absent or unknown."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from handlers.findings import FINDINGS
from tests.training import data_folders
from tests.training.data_folders import column, labels
from training.data.films import read_films, read_table
from training.data.label_map import MAP, SOME_OF_THE_14, any_present, is_known
from training.data.layouts.recognise import LAYOUTS
from training.data.layouts.source import Uncertain
from workflows.files.text_files import DataError

# The table of labels


def test_the_table_maps_to_the_14_alone_and_each_finding_has_its_own_name() -> None:
    assert {finding for findings in MAP.values() for finding in findings} == set(FINDINGS)
    assert [MAP[name.replace("_", " ").lower()] for name in FINDINGS] == [(name,) for name in FINDINGS]
    assert MAP["hydropneumothorax"] == ("Effusion", "Pneumothorax")
    for other in ("subcutaneous emphysema", "mediastinal mass", "Fracture", "Support Devices", "COPD", ""):
        assert not is_known(other), other
    assert not set(SOME_OF_THE_14) & set(MAP)


def test_any_of_several_labels_is_present_absent_or_unknown() -> None:
    several = np.array([[1, -1], [0, -1], [0, 0], [-1, -1], [0, 1]], np.int8)
    assert any_present(several).tolist() == [1, -1, 0, -1, 1]
    assert any_present(several[:, :0]).tolist() == [-1] * 5


# CheXpert


ABSENT = dict.fromkeys(
    ("Atelectasis", "Cardiomegaly", "Effusion", "Pneumonia", "Pneumothorax", "Consolidation", "Edema"), 0
)


def test_chexpert_is_read_with_its_uncertain_and_blank_labels_left_open(tmp_path: Path) -> None:
    films = read_table(data_folders.chexpert(tmp_path))
    assert films.layout == "chexpert"
    first, second, third, fourth, read = films.table["image"]
    assert first == "train/patient00001/study1/view1_frontal.jpg"
    assert films.table["patient"].tolist() == [
        f"patient{number}" for number in ("00001", "00002", "00002", "00003", "64541")
    ]
    assert labels(films, first) == (0, ABSENT)  # 'No Finding' denies what the data set labels, and no more
    assert labels(films, second) == (1, {"Edema": 1})
    assert labels(films, third) == (1, {})  # a lesion is a mass or a nodule; atelectasis is uncertain
    assert labels(films, fourth) == (-1, {"Effusion": 0, "Cardiomegaly": 0})
    assert labels(films, read) == (1, {**ABSENT, "Cardiomegaly": 1})
    assert films.table["split"].tolist() == ["train"] * 4 + ["test"]
    assert films.remarks == ("1 of 5 films are left out: train.csv calls them lateral",)
    assert films.unmapped["Fracture"] == 1
    assert films.unmapped["Support Devices"] == 1
    assert set(films.unmapped) == {"Enlarged Cardiomediastinum", "Pleural Other", "Fracture", "Support Devices"}
    assert column(films, "age")[first] == "68"


@pytest.mark.parametrize(("uncertain", "edema"), [("ignore", None), ("positive", 1), ("negative", 0)])
def test_what_is_uncertain_is_taken_for_what_the_policy_says(
    tmp_path: Path, uncertain: Uncertain, edema: int | None
) -> None:
    films = read_table(data_folders.chexpert(tmp_path), uncertain=uncertain)
    image = "train/patient00002/study2/view1_frontal.jpg"
    assert labels(films, image)[1].get("Cardiomegaly") == edema
    assert labels(films, image)[1]["Edema"] == 1


def test_chexperts_films_are_found_under_whatever_folder_its_paths_begin_with(tmp_path: Path) -> None:
    folder = data_folders.chexpert(tmp_path / "here")
    films = read_films(folder, 0.4, 0)
    assert column(films, "path")["train/patient00003/study1/view1_frontal.jpg"] == (
        folder / "train" / "patient00003" / "study1" / "view1_frontal.jpg"
    )
    (folder / "CheXpert-v1.0-small").mkdir()
    for name in ("train", "valid"):
        (folder / name).rename(folder / "CheXpert-v1.0-small" / name)
    assert set(read_films(folder, 0.4, 0).table["split"]) == {"train", "validation", "test"}
    for path in sorted(folder.rglob("*.jpg")):
        path.rename(path.with_suffix(".PNG"))
    assert {path.suffix for path in read_films(folder, 0.4, 0).table["path"]} == {".PNG"}


def test_chexpert_without_the_films_that_radiologists_read_is_split_by_patient(tmp_path: Path) -> None:
    folder = data_folders.chexpert(tmp_path)
    (folder / "valid.csv").unlink()
    films = read_films(folder, 0.5, 0)
    assert films.table.groupby("patient")["split"].nunique().max() == 1
    assert set(films.table["split"]) == {"train", "validation", "test"}


# MIMIC-CXR-JPG


@pytest.mark.parametrize(("kind", "packed"), [("chexpert", ""), ("negbio", ".gz")])
def test_mimic_is_read_from_its_three_tables(tmp_path: Path, kind: str, packed: str) -> None:
    films = read_films(data_folders.mimic(tmp_path, kind, packed), 0.1, 0)
    assert films.layout == "mimic"
    assert films.table["image"].tolist() == ["aaa1", "bbb1", "ddd1"]
    assert films.table["split"].tolist() == ["train", "validation", "test"]
    assert films.table["patient"].tolist() == ["10000032", "10000764", "11000022"]
    assert column(films, "path")["bbb1"] == tmp_path / "files" / "p10" / "p10000764" / "s502" / "bbb1.jpg"
    assert labels(films, "aaa1") == (0, {"Pneumonia": 0, "Pneumothorax": 0})  # of the labels that any film here has
    assert labels(films, "bbb1") == (1, {"Pneumonia": 1, "Pneumothorax": 0})
    assert labels(films, "ddd1") == (-1, {})
    assert f"labels are those of mimic-cxr-2.0.0-{kind}.csv{packed}" in films.remarks
    assert any("1 films are of studies without a row" in remark for remark in films.remarks)
    assert "2 of 5 films are left out: their view position is LATERAL (1), none given (1)" in films.remarks


def test_mimic_without_labels_and_with_a_wrong_split_is_refused(tmp_path: Path) -> None:
    folder = data_folders.mimic(tmp_path)
    split = folder / "mimic-cxr-2.0.0-split.csv"
    split.write_text(split.read_text().replace("validate", "dev"))
    with pytest.raises(
        DataError, match=r"mimic-cxr-2.0.0-split.csv row 4, column 'split': none of train, validate, test"
    ):
        read_table(folder)
    (folder / "mimic-cxr-2.0.0-chexpert.csv").unlink()
    with pytest.raises(DataError, match=r"neither mimic-cxr-…-chexpert.csv nor"):
        read_table(folder)


# VinDr-CXR


def test_vindrs_readers_vote_and_its_patients_are_unknown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    films = read_films(data_folders.vindr(tmp_path), 0.34, 0)
    assert films.layout == "vindr"
    lacking = {"Hernia", "Mass", "Nodule"}
    any_finding, known = labels(films, "f1")
    assert (any_finding, {name for name, value in known.items() if value}) == (1, {"Effusion"})
    assert set(FINDINGS) - set(known) == lacking
    assert labels(films, "f2") == (0, dict.fromkeys((name for name in FINDINGS if name not in lacking), 0))
    assert labels(films, "f3")[0] == -1  # three readers, three opinions
    assert not any(labels(films, "f3")[1].values())
    assert labels(films, "t1")[1]["Pleural_Thickening"] == 1
    assert column(films, "split")["t1"] == "test"
    assert films.table["patient"].tolist() == films.table["image"].tolist()
    assert column(films, "path")["f1"] == tmp_path / "train" / "f1.dicom"
    assert any("names no patients: each film is taken for a patient of its own" in said for said in caplog.messages)
    assert films.unmapped["Rib fracture"] == 0
    assert films.unmapped["Other diseases"] == 1


@pytest.mark.parametrize("kaggle", [False, True])
def test_vindrs_boxes_are_read_where_its_labels_of_films_are_not_there(tmp_path: Path, kaggle: bool) -> None:
    folder = data_folders.vindr(tmp_path)
    (folder / "annotations" / "image_labels_train.csv").unlink()
    if kaggle:
        (folder / "annotations" / "image_labels_test.csv").unlink()
        (folder / "annotations" / "annotations_train.csv").rename(folder / "train.csv")
    films = read_table(folder)
    assert films.layout == "vindr"
    assert labels(films, "f1")[1] == {"Effusion": 1, "Cardiomegaly": 0, "Edema": 0, "Fibrosis": 0}
    assert [labels(films, film)[0] for film in ("f1", "f2", "f3")] == [1, 0, -1]
    assert column(films, "split")["f1"] == ("" if kaggle else "train")


def test_films_that_were_converted_are_found_and_two_of_a_name_are_refused(tmp_path: Path) -> None:
    folder = data_folders.vindr(tmp_path)
    (folder / "train" / "f1.dicom").rename(folder / "train" / "f1.png")
    assert column(read_films(folder, 0.34, 0), "path")["f1"] == folder / "train" / "f1.png"
    data_folders.touch(folder, "train/f1.jpg")
    with pytest.raises(DataError, match=r"train: 1 films have a namesake in other formats, the first: \['f1.png'\]"):
        read_films(folder, 0.34, 0)


# PadChest


def test_padchests_lists_of_labels_are_read_and_what_they_do_not_name_is_absent(tmp_path: Path) -> None:
    films = read_films(data_folders.padchest(tmp_path), 0.3, 0)
    assert films.layout == "padchest"

    def shown(film: str) -> tuple[int, set[str], int]:
        any_finding, known = labels(films, f"2168{film}.png")
        return any_finding, {name for name, value in known.items() if value}, len(known)

    assert shown("a") == (1, {"Effusion", "Atelectasis"}, 14)
    assert shown("c") == (0, set(), 14)
    assert shown("d") == (0, set(), 14)  # scoliosis is none of the 14, and emphysema under the skin is not in the lung
    assert shown("e") == (1, {"Cardiomegaly"}, 1)  # 'unchanged' does not repeat what an earlier film showed
    assert shown("f") == (-1, set(), 0)
    assert shown("h") == (1, {"Effusion", "Pneumothorax", "Infiltration", "Consolidation", "Hernia"}, 14)
    assert films.remarks == (
        "1 of 8 films are left out: labelled 'exclude'",
        "1 of 7 films are left out: their view position is L (1)",
    )
    assert column(films, "age")["2168a.png"] == "62"
    assert column(films, "path")["2168a.png"] == tmp_path / "12" / "2168a.png"
    assert films.unmapped == {"pacemaker": 1, "scoliosis": 1, "subcutaneous emphysema": 1}


@pytest.mark.parametrize("text", ["['pleural effusion'", "pleural effusion", "7", "[7]", "__import__('os').getcwd()"])
def test_padchest_labels_that_are_no_list_are_refused_by_their_row(tmp_path: Path, text: str) -> None:
    folder = data_folders.padchest(tmp_path)
    [path] = folder.glob("*.csv")
    path.write_text(path.read_text().replace("['normal']", f'"{text}"'))
    with pytest.raises(DataError, match=r"row 6, column 'Labels': not a list of labels"):  # reports go over two lines
        read_table(folder)


# A plain CSV


def test_splits_that_a_table_does_not_give_are_drawn_by_patient(tmp_path: Path) -> None:
    rows = [{"path": f"{film}.png", "patient": f"p{film // 2}", "Mass": film % 2} for film in range(40)]
    films = read_films(data_folders.plain(tmp_path, rows), 0.2, 0)
    assert films.table["split"].value_counts().to_dict() == {"train": 24, "test": 8, "validation": 8}
    assert films.table.groupby("patient")["split"].nunique().max() == 1
    (tmp_path / "train_val_list.txt").write_text("".join(f"{film}.png\n" for film in range(30)))
    (tmp_path / "test_list.txt").write_text("".join(f"{film}.png\n" for film in range(30, 40)))
    listed = read_films(tmp_path, 0.2, 0)
    assert column(listed, "split")["35.png"] == "test"


# Recognition


def test_two_layouts_in_a_folder_are_named_and_one_can_be_chosen(tmp_path: Path) -> None:
    folder = data_folders.plain(data_folders.padchest(tmp_path), data_folders.PLAIN_ROWS)
    with pytest.raises(DataError, match=r"fits 2 layouts, padchest \(PADCHEST.*csv\) and csv \(films.csv\): name one"):
        read_table(folder)
    assert read_table(folder, "csv").layout == "csv"
    assert read_table(folder, "padchest").layout == "padchest"
    with pytest.raises(DataError, match=r"no table of the layout 'mimic' is there: mimic-cxr-…-metadata.csv"):
        read_table(folder, "mimic")
    data_folders.plain(folder, data_folders.PLAIN_ROWS, "more.csv")
    with pytest.raises(DataError, match=r"2 tables of films, films.csv and more.csv: leave one of them there"):
        read_table(folder, "csv")


def test_a_folder_of_no_layout_says_what_each_would_have(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    (tmp_path / "noise.csv").write_bytes(b"\x00\xff\xfepath,patient")
    with pytest.raises(DataError, match=r"neither Data_Entry_2017.csv nor Data_Entry_2017_v2020.csv") as refused:
        read_table(tmp_path)
    assert all(reader.wanted in str(refused.value) for name, reader in LAYOUTS.items() if name != "nih")


# NIH


@pytest.mark.parametrize("nested", [".", "images", "archive/images_001/images", "a/b"])
def test_nihs_films_are_found_flat_and_nested_with_capitals_in_their_names(
    sample: Path, tmp_path: Path, nested: str
) -> None:
    folder = tmp_path / "nih"
    shutil.copytree(sample, folder)
    drawn = read_films(folder, 0.2, 0)
    (folder / nested).mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("images_*/images/*.png")):
        path.rename(folder / nested / path.with_suffix(".PNG").name)
    films = read_films(folder, 0.2, 0)
    pd.testing.assert_frame_equal(films.table.drop(columns="path"), drawn.table.drop(columns="path"))
    assert {path.parent for path in films.table["path"]} == {folder / nested}


def test_a_packed_table_that_is_cut_off_is_refused_by_its_name(tmp_path: Path) -> None:
    folder = data_folders.mimic(tmp_path, packed=".gz")
    path = folder / "mimic-cxr-2.0.0-metadata.csv.gz"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"metadata.csv.gz: not a whole gzip file"):
        read_table(folder)
