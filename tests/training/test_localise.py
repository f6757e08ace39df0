"""Heatmaps against radiologists' boxes, and against guesses that see no film."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

from training.data.boxes import FindingBox, read_boxes
from training.data.films import read_films
from training.localise import centre_map, hits, localise, place_map, points_into
from workflows.files.text_files import DataError

HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"


def box(x: float, y: float, width: float, height: float) -> FindingBox:
    return FindingBox("film.png", "Mass", x, y, width, height)


@pytest.mark.parametrize(("side", "rows", "columns"), [(128, (64, 80), (32, 40)), (512, (256, 320), (128, 160))])
def test_a_box_is_the_same_place_on_every_copy_of_the_film(side: int, rows, columns) -> None:
    """The box of the 1024-px film: x 256 to 320, y 512 to 640."""
    expected = np.zeros((side, side), bool)
    expected[slice(*rows), slice(*columns)] = True
    np.testing.assert_array_equal(box(256, 512, 64, 128).mask(side), expected)


def test_a_box_of_the_full_film_is_in_its_own_pixels() -> None:
    mask = box(256, 512, 64, 128).mask(1024)
    assert np.argwhere(mask).min(axis=0).tolist() == [512, 256]
    assert np.argwhere(mask).max(axis=0).tolist() == [639, 319]


def test_nihs_box_file_is_read_with_and_without_trailing_commas(tmp_path: Path) -> None:
    rows = "a.png,Infiltrate,225.08,547.01,86.77,79.18,,,\nb.png,Mass,1,2,3,4\n"
    (tmp_path / "BBox_List_2017.csv").write_text(HEADER + rows)
    assert read_boxes(tmp_path) == [
        FindingBox("a.png", "Infiltration", 225.08, 547.01, 86.77, 79.18),
        FindingBox("b.png", "Mass", 1, 2, 3, 4),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.png,Tumour,1,2,3,4", "row 2: unknown finding 'Tumour'"),
        ("a.png,Mass,1,2,3,x", "row 2: x, y, w, h are .* not four numbers"),
        ("a.png,Mass,1000,2,30,4", "row 2: .* not within the film"),
        ("a.png,Mass,10,2,0,4", "row 2: .* not within the film"),
    ],
)
def test_a_box_that_makes_no_sense_is_refused_with_its_row(row: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "BBox_List_2017.csv").write_text(HEADER + row + "\n")
    with pytest.raises(DataError, match=message):
        read_boxes(tmp_path)


def test_the_pointing_game_asks_where_the_maximum_is() -> None:
    heatmap = np.zeros((4, 4), np.float32)
    heatmap[1, 2], heatmap[3, 3] = 1.0, 0.9
    assert points_into(heatmap, box(512, 256, 256, 256).mask(4))  # row 1, column 2
    assert not points_into(heatmap, box(256, 512, 256, 256).mask(4))  # row 2, column 1
    assert not points_into(heatmap, box(768, 768, 256, 256).mask(4))  # the second highest
    assert not points_into(np.zeros((4, 4), np.float32), box(0, 0, 1024, 1024).mask(4))


def test_a_hit_has_a_quarter_of_the_hot_region_in_the_box() -> None:
    heatmap = np.array([[1.0, 0.5, 0.4, 0.0], [0.5, 0.6, 0.0, 0.0], [0.0] * 4, [0.0] * 4], np.float32)
    assert hits(heatmap, box(0, 0, 256, 256).mask(4))  # 1 of the 4 hot pixels
    assert not hits(heatmap, box(512, 0, 512, 1024).mask(4))  # 0.4 is not hot
    heatmap[3, 3] = 0.5
    assert not hits(heatmap, box(0, 0, 256, 256).mask(4))  # 1 of 5
    assert hits(heatmap, box(0, 0, 512, 256).mask(4))  # 2 of 5
    assert not hits(np.zeros((4, 4), np.float32), box(0, 0, 1024, 1024).mask(4))


def test_the_centre_map_is_a_gaussian_of_a_quarter_of_the_film() -> None:
    """Pixel middles of a 4-px copy lie at 128, 384, 640, 896: 0.5 and 1.5 deviations of 256 from 512."""
    near, far = np.exp(-(0.5**2) / 2), np.exp(-(1.5**2) / 2)
    line = np.array([far, near, near, far])
    np.testing.assert_allclose(centre_map(4), np.outer(line, line), rtol=1e-6)


def test_the_place_map_lies_where_other_patients_boxes_lie() -> None:
    """One box of 256 by 512 around (384, 640): deviations of 128 across and 256 down."""
    across = np.exp(-(np.array([-2.0, 0.0, 2.0, 4.0]) ** 2) / 2)
    down = np.exp(-(np.array([-2.0, -1.0, 0.0, 1.0]) ** 2) / 2)
    one = box(256, 384, 256, 512)
    np.testing.assert_allclose(place_map([one], 4), np.outer(down, across), rtol=1e-6)
    np.testing.assert_allclose(place_map([one, one], 4), 2 * np.outer(down, across), rtol=1e-6)
    np.testing.assert_array_equal(place_map([], 4), centre_map(4))


@pytest.fixture
def copy_of(run: Path, tmp_path: Path) -> Path:
    """The trained run, to be written into."""
    shutil.copytree(run / "disease" / "checkpoint", tmp_path / "run" / "disease" / "checkpoint")
    return tmp_path / "run"


def test_boxes_of_training_films_are_left_out_and_the_shares_add_up(copy_of: Path, sample: Path) -> None:
    localise(copy_of)
    written = json.loads((copy_of / "localisation.json").read_text())
    films = read_films(sample, 0.2, 0).table.set_index("image")
    boxes = pd.DataFrame(read_boxes(sample))
    unseen = boxes[boxes["image"].map(films["split"]) != "train"]
    assert 0 < len(unseen) < len(boxes)
    scored = pd.DataFrame(written["per_box"])
    assert sorted(zip(scored["image"], scored["finding"], strict=True)) == sorted(
        zip(unseen["image"], unseen["finding"], strict=True)
    )
    assert written["left_out_training_boxes"] == len(boxes) - len(unseen)
    assert {name: found["boxes"] for name, found in written["findings"].items()} == dict(
        unseen["finding"].value_counts()
    )
    for guess in ("heatmap", "place", "centre"):
        for asked in ("pointing", "hit"):
            share = written["overall"][guess][asked]
            yes, n = sum(row[asked] for row in scored[guess]), len(scored)
            assert (share["yes"], share["share"]) == (yes, yes / n)
            assert share["low"] == pytest.approx(beta.ppf(0.025, yes, n - yes + 1) if yes else 0.0)
            assert share["high"] == pytest.approx(beta.ppf(0.975, yes + 1, n - yes) if yes < n else 1.0)


def test_a_patients_own_boxes_do_not_say_where_to_look(copy_of: Path, sample: Path) -> None:
    scored = localise(copy_of)["per_box"]
    patients = read_films(sample, 0.2, 0).table.set_index("image")["patient"]
    boxes = read_boxes(sample)
    for row in scored:
        mask = next(one for one in boxes if (one.image, one.finding) == (row["image"], row["finding"])).mask(32)
        others = [
            one for one in boxes if one.finding == row["finding"] and patients[one.image] != patients[row["image"]]
        ]
        guess = place_map(others, 32)
        assert row["place"] == {"pointing": bool(mask.flat[guess.argmax()]), "hit": hits(guess, mask)}


def test_every_box_of_another_folder_is_scored(copy_of: Path, sample: Path, tmp_path: Path) -> None:
    shutil.copytree(sample, tmp_path / "other")
    lines = (sample / "BBox_List_2017.csv").read_text().splitlines()[:31]
    (tmp_path / "other" / "BBox_List_2017.csv").write_text("\n".join(lines) + "\nelsewhere.png,Mass,1,2,3,4\n")
    localisation = localise(copy_of, tmp_path / "other")
    assert localisation["boxes"] == 30  # the folder has no elsewhere.png
    train = read_films(sample, 0.2, 0).table.set_index("image")["split"].eq("train")
    assert any(train[row["image"]] for row in localisation["per_box"])
    assert localisation["left_out_training_boxes"] == 0


def test_a_folder_without_boxes_is_refused(copy_of: Path, sample: Path, tmp_path: Path) -> None:
    shutil.copytree(sample, tmp_path / "other", ignore=shutil.ignore_patterns("BBox*"))
    with pytest.raises(DataError, match=r"BBox_List_2017\.csv is not there"):
        localise(copy_of, tmp_path / "other")
