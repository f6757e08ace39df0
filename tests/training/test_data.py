"""A data folder is read as NIH wrote it, split by patient, and refused where a model could not be trusted."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from handlers.decoding.image import read_film, to_pixels
from handlers.findings import FINDINGS
from training.data.films import check_no_leak, read_films
from training.data.labels import LabelError
from training.data.pixels import load_pixels
from workflows.files.text_files import DataError

NIH = Path(__file__).parents[3] / "shared" / "nih-128"


@pytest.fixture
def folder(sample: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(sample, tmp_path / "sample"))


def films_of(folder: Path, **options: bool):
    return read_films(folder, validation=0.2, seed=0, **options)


def patients(films, split: str) -> set[str]:
    return set(films.table["patient"].to_numpy()[films.rows(split)])


def test_official_lists_are_kept_and_validation_comes_out_of_train(folder: Path) -> None:
    films = films_of(folder)
    images = films.table["image"].to_numpy()
    assert set(images[films.rows("test")]) == set((folder / "test_list.txt").read_text().split())
    train = set(images[films.rows("train")]) | set(images[films.rows("validation")])
    assert train == set((folder / "train_val_list.txt").read_text().split())


@pytest.mark.parametrize("lists", [True, False], ids=["official lists", "no lists"])
def test_no_patient_is_in_two_splits(folder: Path, lists: bool) -> None:
    """The notebook split images, not patients."""
    if not lists:
        for name in ("train_val_list.txt", "test_list.txt"):
            (folder / name).unlink()
    films = films_of(folder)
    split = [patients(films, name) for name in ("train", "validation", "test")]
    assert all(split)
    assert sum(map(len, split)) == len(set().union(*split))
    again = films_of(folder)
    assert (again.table["split"] == films.table["split"]).all()


def test_lists_that_leak_a_patient_are_refused(folder: Path) -> None:
    train, test = folder / "train_val_list.txt", folder / "test_list.txt"
    table = pd.read_csv(folder / "Data_Entry_2017.csv", index_col=False)
    counts = table[table["Image Index"].isin(train.read_text().split())].groupby("Patient ID")["Image Index"]
    moved = next(images.iloc[0] for _, images in counts if len(images) > 1)
    train.write_text(train.read_text().replace(f"{moved}\n", ""))
    test.write_text(f"{test.read_text()}{moved}\n")
    with pytest.raises(DataError, match="1 patients are in more than one split"):
        films_of(folder)


def test_the_leak_check_sees_one_shared_patient() -> None:
    check_no_leak(pd.DataFrame({"patient": ["1", "1", "2"], "split": ["train", "train", "test"]}))
    with pytest.raises(DataError, match=r"first ten: \['1'\]"):
        check_no_leak(pd.DataFrame({"patient": ["1", "1", "2"], "split": ["train", "test", "test"]}))


def test_targets_follow_the_table(folder: Path) -> None:
    films = films_of(folder)
    raw = pd.read_csv(folder / "Data_Entry_2017.csv", index_col=False).set_index("Image Index")["Finding Labels"]
    for row, image in enumerate(films.table["image"]):
        names = [FINDINGS[column] for column in np.flatnonzero(films.diseases[row])]
        assert set(names or ["No Finding"]) == set(raw[image].split("|"))
        assert films.findings[row, 0] == int(raw[image] != "No Finding")


def test_the_2020_table_is_read_too(folder: Path) -> None:
    (folder / "Data_Entry_2017.csv").rename(folder / "Data_Entry_2017_v2020.csv")
    assert len(films_of(folder).table) == 120


def test_an_unknown_label_names_its_row(folder: Path) -> None:
    table = folder / "Data_Entry_2017.csv"
    lines = table.read_text().splitlines()
    image = lines[4].split(",")[0]
    lines[4] = lines[4].replace(lines[4].split(",")[1], "Scoliosis")
    table.write_text("\n".join(lines))
    with pytest.raises(LabelError, match=rf"Data_Entry_2017.csv row 5 \({image}\): .*'Scoliosis'"):
        films_of(folder)


def test_missing_films_are_counted_listed_and_refused(folder: Path) -> None:
    """The notebook made black images of them."""
    gone = sorted(folder.glob("images_*/images/*.png"))[:12]
    for path in gone:
        path.unlink()
    with pytest.raises(DataError, match="12 films are missing, the first 10:") as refused:
        films_of(folder)
    assert [path.name in str(refused.value) for path in gone] == [True] * 10 + [False] * 2
    assert len(films_of(folder, skip_unreadable=True).table) == 108


def test_truncated_films_are_counted_listed_and_refused(folder: Path, tmp_path: Path) -> None:
    """The notebook accepted them, half grey."""
    paths = sorted(folder.glob("images_*/images/*.png"))
    for path in paths[:2]:
        path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match="2 films cannot be read") as refused:
        load_pixels(films_of(folder), 32, tmp_path / "cache", skip_unreadable=False)
    assert paths[0].name in str(refused.value)
    films, pixels = load_pixels(films_of(folder), 32, tmp_path / "cache", skip_unreadable=True)
    assert len(films.table) == len(pixels) == 118
    assert paths[0].name not in set(films.table["image"])


def test_training_sees_the_pixels_that_serving_sees(folder: Path, tmp_path: Path) -> None:
    films, pixels = load_pixels(films_of(folder), 48, tmp_path / "cache", skip_unreadable=False)
    for row in (0, 50, 119):
        film = Path(films.table["path"][row]).read_bytes()
        assert (pixels[row] == to_pixels(read_film(film), 48)).all()


def test_only_changed_films_are_decoded_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []

    def counting(data: bytes) -> np.ndarray:
        decoded.append(data)
        return read_film(data)

    monkeypatch.setattr("training.data.pixels.read_film", counting)
    load_pixels(films_of(folder), 32, tmp_path / "cache", skip_unreadable=False)
    assert len(decoded) == 120
    load_pixels(films_of(folder), 32, tmp_path / "cache", skip_unreadable=False)
    assert len(decoded) == 120
    first, second = sorted(folder.glob("images_*/images/*.png"))[:2]
    first.write_bytes(second.read_bytes())
    films, pixels = load_pixels(films_of(folder), 32, tmp_path / "cache", skip_unreadable=False)
    assert len(decoded) == 121
    rows = [films.table.index[films.table["image"] == path.name][0] for path in (first, second)]
    assert (pixels[rows[0]] == pixels[rows[1]]).all()


def test_a_folder_without_a_table_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither Data_Entry_2017.csv nor Data_Entry_2017_v2020.csv"):
        films_of(tmp_path)


@pytest.mark.skipif(not NIH.exists(), reason="the NIH films of ../shared/nih-128 are not here")
def test_the_official_nih_split_is_kept() -> None:
    films = read_films(NIH, validation=0.1, seed=0)
    assert len(films.rows("test")) == 2458
    assert len(films.rows("train")) + len(films.rows("validation")) == 12537
    assert not films.synthetic
