"""The sample data: NIH's layout, the same bytes for a seed, and findings that can be seen."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handlers.findings import FINDINGS, NO_FINDING
from training.sample_data import FLOOR, SYNTHETIC_MARK, main, make_sample_data, plan_films
from training.synthetic.anatomy import Scene, make_anatomy
from training.synthetic.films import draw_film
from training.synthetic.findings import add_sign, deform

FILMS, PATIENTS = 18, 8


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("films") / "sample"
    make_sample_data(out, FILMS, PATIENTS, seed=3)
    return out


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _lines(path: Path) -> list[str]:
    text = path.read_bytes().decode()
    assert "\r" not in text
    assert text == "" or text.endswith("\n")
    return text.splitlines()


def test_layout_is_that_of_nih(sample: Path) -> None:
    assert {entry.name for entry in sample.iterdir()} == {
        "Data_Entry_2017.csv",
        "BBox_List_2017.csv",
        "train_val_list.txt",
        "test_list.txt",
        "images_001",
        SYNTHETIC_MARK,
    }
    assert [entry.name for entry in sample.parent.iterdir()] == ["sample"]
    assert len(list((sample / "images_001" / "images").glob("*.png"))) == FILMS


def test_table_has_nihs_header_and_a_row_for_each_film(sample: Path) -> None:
    header, *rows = _lines(sample / "Data_Entry_2017.csv")
    assert header == (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
    )
    assert len(rows) == FILMS
    for row in rows:
        name, labels, visit, patient, age, sex, view, width, height, across, down = row.split(",")
        assert name == f"{int(patient):08d}_{int(visit):03d}.png"
        assert (sample / "images_001" / "images" / name).is_file()
        assert labels == NO_FINDING or set(labels.split("|")) <= set(FINDINGS)
        assert 18 <= int(age) <= 95
        assert sex in "MF"
        assert view in ("PA", "AP")
        assert int(width) > 2000
        assert int(height) > 2000
        assert 0.1 < float(across) == float(down) < 0.2


def test_lists_part_the_films_by_patient(sample: Path) -> None:
    train, test = _lines(sample / "train_val_list.txt"), _lines(sample / "test_list.txt")
    assert sorted(train + test) == sorted(p.name for p in sample.rglob("*.png"))
    assert train
    assert test
    assert not {name[:8] for name in train} & {name[:8] for name in test}


def test_boxes_are_of_the_rows_film_and_within_1024_pixels(sample: Path) -> None:
    labels = {row.split(",")[0]: row.split(",")[1] for row in _lines(sample / "Data_Entry_2017.csv")}
    header, *rows = _lines(sample / "BBox_List_2017.csv")
    assert header == "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    assert rows
    for row in rows:
        name, finding, *box = row.split(",")
        assert box[4:] == ["", "", ""]
        x, y, width, height = map(float, box[:4])
        assert finding.replace("Infiltrate", "Infiltration") in labels[name].split("|")
        assert finding in (*FINDINGS[:3], "Infiltrate", *FINDINGS[4:8])
        assert min(x, y) >= 0
        assert min(width, height) > 0
        assert x + width <= 1024
        assert y + height <= 1024


def test_films_are_grey_and_say_that_they_are_synthetic(sample: Path) -> None:
    for path in sample.rglob("*.png"):
        with Image.open(path) as film:
            assert (film.mode, film.size) == ("L", (512, 512))
            said = film.info["Description"].lower()
        assert "synthetic" in said
        assert "no patient" in said
    mark = (sample / SYNTHETIC_MARK).read_text()
    assert "no patient" in mark
    assert "nothing medically" in mark


def test_same_seed_gives_the_same_bytes_with_any_number_of_processes(sample: Path, tmp_path: Path) -> None:
    make_sample_data(tmp_path / "again", FILMS, PATIENTS, seed=3, workers=2)
    assert _contents(tmp_path / "again") == _contents(sample)
    assert plan_films(FILMS, PATIENTS, 3) != plan_films(FILMS, PATIENTS, 4)


@pytest.mark.parametrize("seed", range(5))
def test_default_plan_shows_every_finding_in_both_lists(seed: int) -> None:
    plans = plan_films(600, 200, seed)
    assert len({plan.name for plan in plans}) == 600
    assert len({plan.patient for plan in plans}) == 200
    healthy = sum(not plan.findings for plan in plans)
    assert 0.38 < healthy / 600 < 0.6
    test = {plan.patient for plan in plans if plan.split == "test"}
    assert not test & {plan.patient for plan in plans if plan.split == "train"}
    assert 0.15 < sum(plan.patient in test for plan in plans) / 600 < 0.25
    for split, (least_patients, least_films) in FLOOR.items():
        films = [plan for plan in plans if plan.split == split]
        for finding in FINDINGS:
            shown = [plan.patient for plan in films if finding in plan.findings]
            assert least_films <= len(shown) < len(films) / 2
            assert len(set(shown)) >= least_patients


@pytest.mark.parametrize(("films", "patients"), [(1, 1), (2, 2), (7, 2), (30, 12)])
def test_small_plans_work(films: int, patients: int) -> None:
    plans = plan_films(films, patients, 0)
    assert len(plans) == films
    assert {plan.patient for plan in plans} == set(range(1, patients + 1))


def test_more_patients_than_films_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one film"):
        plan_films(3, 4, 0)


@pytest.mark.parametrize("finding", FINDINGS)
@pytest.mark.parametrize("seed", [0, 1])
def test_sign_shows_inside_its_box(finding: str, seed: int) -> None:
    patient = make_anatomy(np.random.default_rng(seed), "MF"[seed])
    healthy, none = draw_film(patient, [], np.random.default_rng(9), size=256)
    film, boxes = draw_film(patient, [finding], np.random.default_rng(9), size=256)
    assert none == {}
    assert list(boxes) == [finding]
    x, y, width, height = (round(edge * 256 / 1024) for edge in boxes[finding])
    assert 0 <= x < x + width <= 256
    assert 0 <= y < y + height <= 256
    change = np.abs(film.astype(int) - healthy)
    assert change[y : y + height, x : x + width].mean() > 4
    assert change[y : y + height, x : x + width].mean() > change.mean()


def test_box_does_not_depend_on_the_size_drawn_at() -> None:
    patient = make_anatomy(np.random.default_rng(5), "F")
    small = draw_film(patient, ["Mass"], np.random.default_rng(0), size=256)[1]["Mass"]
    large = draw_film(patient, ["Mass"], np.random.default_rng(0), size=512)[1]["Mass"]
    assert np.allclose(small, large, atol=8)


@pytest.mark.parametrize("seed", range(4))
def test_wide_heart_is_over_and_normal_heart_under_half_the_chest(seed: int) -> None:
    patient = make_anatomy(np.random.default_rng(seed), "M")
    for findings, low, high in (([], 0.35, 0.5), (["Cardiomegaly"], 0.55, 0.72)):
        anatomy = deform(patient, findings)
        scene = Scene(anatomy, 256)
        box = add_sign(scene, patient, "Cardiomegaly")
        assert low < box[2] * anatomy.zoom / 1024 / (2 * anatomy.thorax_half) < high


def test_all_findings_at_once_can_be_drawn() -> None:
    patient = make_anatomy(np.random.default_rng(2), "F")
    film, boxes = draw_film(patient, FINDINGS, np.random.default_rng(0), size=256, view="AP")
    assert film.dtype == np.uint8
    assert set(boxes) == set(FINDINGS)


def test_foreign_folder_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Data_Entry_2017.csv").write_text("precious")
    with pytest.raises(FileExistsError, match=SYNTHETIC_MARK):
        make_sample_data(tmp_path, 2, 1)
    monkeypatch.setattr("sys.argv", ["sample_data", "--out", str(tmp_path), "--films", "2", "--patients", "1"])
    with pytest.raises(SystemExit):
        main()
    assert _contents(tmp_path) == {"Data_Entry_2017.csv": b"precious"}


def test_older_set_is_replaced_only_by_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "sample"
    make_sample_data(out, 2, 1, seed=0)
    first = _contents(out)
    with monkeypatch.context() as broken:
        broken.setattr("training.sample_data._write_tables", _disk_full)
        with pytest.raises(OSError, match="disk full"):
            make_sample_data(out, 2, 1, seed=1)
    assert _contents(out) == first
    make_sample_data(out, 3, 1, seed=1)
    assert len(list(out.rglob("*.png"))) == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["sample"]


def _disk_full(*_: object) -> None:
    raise OSError("disk full")
