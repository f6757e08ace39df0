"""A site's own films change calibration and thresholds of two archives, and nothing else."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from handlers.findings import FINDINGS
from handlers.message import Screened
from handlers.metadata import Metadata
from handlers.reading import Naming, Screening
from training.archive import archive
from training.evaluate import evaluate
from training.recalibrate import recalibrate, site_version
from training.train import train
from workflows.files.text_files import DataError
from workflows.sums import check_sums

TABLE = "Data_Entry_2017.csv"
STEPS = ((Screening, "binary"), (Naming, "disease"))


@pytest.fixture(scope="module")
def store(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    archive(run, folder, "1.0.0", "float32")
    return folder


@pytest.fixture(scope="module")
def site(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn films without a finding, and one in four of the others: a screening's prevalence."""
    folder = tmp_path_factory.mktemp("data") / "site"
    (folder / "images").mkdir(parents=True)
    table = pd.read_csv(sample / TABLE, index_col=False, dtype=str)
    normal = table["Finding Labels"] == "No Finding"
    table = pd.concat([table[normal], table[~normal].iloc[::4]])
    table.to_csv(folder / TABLE, index=False)
    for path in sample.glob("images_*/images/*.png"):
        (folder / "images" / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def recalibrated(store: Path, site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("recalibrated")
    recalibrate(store, site, out)
    return out


def listed(site: Path) -> set[str]:
    return set(pd.read_csv(site / TABLE, dtype=str)["Image Index"])


def unpack(folder: Path, stage: str, into: Path) -> Metadata:
    with zipfile.ZipFile(folder / f"{stage}.mar") as packed:
        packed.extractall(into)
    return Metadata.read(into)


def test_three_whole_archives_and_nothing_else_are_left(store: Path, recalibrated: Path) -> None:
    archives = ["binary.mar", "chest_xray.war", "disease.mar"]
    cards = ["MODEL_CARD.html", "MODEL_CARD.md"]
    assert sorted(path.name for path in recalibrated.iterdir()) == sorted([*archives, *cards, "sha256sums"])
    assert sorted(check_sums(recalibrated, tuple(archives))) == archives
    assert (recalibrated / "chest_xray.war").read_bytes() == (store / "chest_xray.war").read_bytes()


@pytest.mark.parametrize("stage", ["binary", "disease"])
def test_only_the_metadata_changes(store: Path, recalibrated: Path, tmp_path: Path, stage: str) -> None:
    old, new = unpack(store, stage, tmp_path / "old"), unpack(recalibrated, stage, tmp_path / "new")
    files = {path.relative_to(tmp_path / "old") for path in (tmp_path / "old").rglob("*") if path.is_file()}
    assert files == {path.relative_to(tmp_path / "new") for path in (tmp_path / "new").rglob("*") if path.is_file()}
    for name in files - {Path("metadata.json"), Path("MAR-INF/MANIFEST.json")}:
        assert (tmp_path / "old" / name).read_bytes() == (tmp_path / "new" / name).read_bytes(), name
    changed = {name for name in Metadata.model_fields if getattr(old, name) != getattr(new, name)}
    # Of none of the 14 do ten of the site's films show it: they keep what they had, but for how sure they are.
    moved = {"calibration", "thresholds"} if stage == "binary" else set()
    assert changed == {"version", "recalibrated", "certainty", "reference", "design_effects", "bfloat16"} | moved
    assert new.bfloat16.films == new.recalibrated["films"]  # measured anew, at the thresholds that are served
    assert (old.version, new.version) == ("1.0.0+synthetic", "1.0.0+synthetic.site.1")


def test_the_archives_say_whose_films_and_what_changed(recalibrated: Path, site: Path, tmp_path: Path) -> None:
    table = pd.read_csv(site / TABLE, dtype=str)
    record = unpack(recalibrated, "disease", tmp_path).recalibrated
    assert record
    assert (record["folder"], record["films"]) == ("site", len(table))
    assert record["patients"] == table["Patient ID"].nunique()
    assert record["prevalence"]["Finding"] == pytest.approx((table["Finding Labels"] != "No Finding").mean())
    assert record["prevalence"]["Mass"] == pytest.approx(table["Finding Labels"].str.contains("Mass").mean())
    assert list(record["calibration_error"]) == ["Finding", *FINDINGS]


def test_calls_and_percentiles_are_of_the_sites_films_alone(
    store: Path, site: Path, recalibrated: Path, tmp_path: Path
) -> None:
    """A call that held on other patients is not kept: with too few of the site's own, a label is always uncertain."""
    new = unpack(recalibrated, "binary", tmp_path / "new")
    assert new.certainty
    assert new.certainty.error == 0.1
    assert new.certainty.bounds == {}  # 34 of its patients have no finding, but fewer than 30 have one
    screening = Screening(tmp_path / "new", torch.device("cpu"))
    films = [(site / "images" / image).read_bytes() for image in pd.read_csv(site / TABLE, dtype=str)["Image Index"]]
    scores = [one.finding for one in screening.screen(films) if isinstance(one, Screened)]
    assert {score.call for score in scores} == {"uncertain"}
    without = sorted(score.percentiles.without_finding for score in scores if score.percentiles)
    assert len(without) == len(films)
    assert (without[0], without[-1]) == (0.0, 100.0)


def test_a_store_without_calls_is_recalibrated_without_them(store: Path, site: Path, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(store, older)
    for stage in ("binary", "disease"):
        with zipfile.ZipFile(store / f"{stage}.mar") as old, zipfile.ZipFile(older / f"{stage}.mar", "w") as new:
            for name in old.namelist():
                metadata = json.loads(old.read(name)) if name == "metadata.json" else {}
                metadata.pop("certainty", None)
                new.writestr(name, json.dumps(metadata) if metadata else old.read(name))
    recalibrate(older, site, tmp_path / "out")
    assert unpack(tmp_path / "out", "binary", tmp_path / "new").certainty is None
    assert "How sure the calls are" not in (tmp_path / "out" / "MODEL_CARD.md").read_text()


def test_stage_1_is_better_calibrated_on_patients_that_no_fit_has_seen(recalibrated: Path, tmp_path: Path) -> None:
    record = unpack(recalibrated, "binary", tmp_path).recalibrated
    assert record
    errors = record["calibration_error"]["Finding"]
    assert errors["ece"]["after"] < errors["ece"]["before"]
    assert errors["brier"]["after"] < errors["brier"]["before"]


def test_the_new_archive_serves_its_sensitivity_on_the_sites_films(recalibrated, site: Path, tmp_path: Path) -> None:
    metadata = unpack(recalibrated, "binary", tmp_path)
    screening = Screening(tmp_path, torch.device("cpu"))
    table = pd.read_csv(site / TABLE, dtype=str)
    ill = table[table["Finding Labels"] != "No Finding"]
    answers = screening.screen([(site / "images" / image).read_bytes() for image in ill["Image Index"]])
    routed = np.mean([isinstance(answer, Screened) and answer.routed for answer in answers])
    assert metadata.recalibrated
    assert metadata.recalibrated["gate"]["sensitivity"] >= 0.95
    assert routed >= metadata.recalibrated["gate"]["sensitivity"] - 1.5 / len(ill)  # batches differ in the last bit


def test_a_label_that_the_films_lack_keeps_what_it_had_and_is_named(
    store: Path, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(site, tmp_path / "site", symlinks=True)
    table = pd.read_csv(site / TABLE, dtype=str)
    table[~table["Finding Labels"].str.contains("Effusion")].to_csv(tmp_path / "site" / TABLE, index=False)
    recalibrate(store, tmp_path / "site", tmp_path / "out")
    old, new = unpack(store, "disease", tmp_path / "old"), unpack(tmp_path / "out", "disease", tmp_path / "new")
    assert new.recalibrated
    assert "Effusion" in new.recalibrated["kept"]
    assert (new.calibration["Effusion"], new.thresholds["Effusion"]) == (
        old.calibration["Effusion"],
        old.thresholds["Effusion"],
    )
    errors = new.recalibrated["calibration_error"]["Effusion"]
    assert errors["ece"]["before"] == errors["ece"]["after"]
    assert "As they were" in capsys.readouterr().out


def test_a_store_can_be_recalibrated_again(recalibrated: Path, site: Path, tmp_path: Path) -> None:
    recalibrate(recalibrated, site, tmp_path / "out", sensitivity=0.9)
    metadata = unpack(tmp_path / "out", "binary", tmp_path / "new")
    assert metadata.version == "1.0.0+synthetic.site.2"
    assert metadata.recalibrated
    assert metadata.recalibrated["gate"]["sensitivity"] == 0.9


def test_the_version_says_that_a_site_has_changed_it() -> None:
    assert site_version("1.0.0") == "1.0.0+site.1"
    assert site_version("1.0.0+site.1") == "1.0.0+site.2"
    assert site_version("1.0.0+synthetic") == "1.0.0+synthetic.site.1"
    assert site_version("1.0.0+synthetic.site.9") == "1.0.0+synthetic.site.10"


def test_a_joint_pair_stays_conditional_and_is_recalibrated_as_it_is_served(
    tiny_config, site: Path, tmp_path: Path
) -> None:
    train(tiny_config("joint", tmp_path / "run", epochs=1))
    evaluate(tmp_path / "run", sensitivity=0.5)
    archive(tmp_path / "run", tmp_path / "store", "1.0.0", "float32")
    recalibrate(tmp_path / "store", site, tmp_path / "out", sensitivity=0.9)
    folders = {stage: tmp_path / "unpacked" / stage for stage in ("binary", "disease")}
    metadata = {stage: unpack(tmp_path / "out", stage, folder) for stage, folder in folders.items()}
    assert metadata["disease"].kind == "conditional"
    screening, naming = (step(folders[stage], torch.device("cpu")) for step, stage in STEPS)
    films = [path.read_bytes() for path in sorted((site / "images").iterdir()) if path.name in listed(site)]
    reports = naming.name(screening.screen(films))
    record = metadata["disease"].recalibrated
    assert record
    assert abs(sum(report.routed for report in reports) - record["routed"]) <= 1  # batches differ in the last bit
    assert 0 < record["routed"] < record["films"]


def test_archives_in_each_others_place_are_refused(store: Path, site: Path, tmp_path: Path) -> None:
    mixed = Path(shutil.copytree(store, tmp_path / "mixed"))
    shutil.copy(store / "disease.mar", mixed / "binary.mar")
    with pytest.raises(DataError, match=r"binary.mar holds the disease model"):
        recalibrate(mixed, site, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_archives_of_two_image_sizes_are_refused(store: Path, site: Path, tmp_path: Path) -> None:
    mixed = Path(shutil.copytree(store, tmp_path / "mixed"))
    with zipfile.ZipFile(store / "disease.mar") as packed, zipfile.ZipFile(mixed / "disease.mar", "w") as other:
        for name in packed.namelist():
            data = packed.read(name)
            other.writestr(name, data.replace(b'"image_size": 32', b'"image_size": 64') if "metadata" in name else data)
    with pytest.raises(DataError, match=r"32 px \(binary\) and 64 px \(disease\)"):
        recalibrate(mixed, site, tmp_path / "out")


def test_a_recalibrated_pair_is_not_replaced_untold(store: Path, site: Path, recalibrated: Path) -> None:
    before = {path.name: path.read_bytes() for path in recalibrated.iterdir()}
    with pytest.raises(DataError, match=r"holds binary\.mar, .* already: name another folder"):
        recalibrate(store, site, recalibrated)
    assert {path.name: path.read_bytes() for path in recalibrated.iterdir()} == before


def test_what_is_no_archive_is_refused(store: Path, site: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name another folder"):
        recalibrate(store, site, store)
    broken = Path(shutil.copytree(store, tmp_path / "broken"))
    (broken / "binary.mar").write_bytes(b"no zip")
    with pytest.raises(DataError, match="no archive of this project"):
        recalibrate(broken, site, tmp_path / "out")
    (broken / "binary.mar").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks binary.mar"):
        recalibrate(broken, site, tmp_path / "out")


def test_too_few_films_are_refused(store: Path, site: Path, tmp_path: Path) -> None:
    shutil.copytree(site, tmp_path / "site", symlinks=True)
    pd.read_csv(site / TABLE, dtype=str).head(49).to_csv(tmp_path / "site" / TABLE, index=False)
    with pytest.raises(DataError, match=r"49 films of .* needs 50 films of 10 patients"):
        recalibrate(store, tmp_path / "site", tmp_path / "out")


def test_unreadable_films_are_named_or_left_out(store: Path, site: Path, tmp_path: Path) -> None:
    shutil.copytree(site, tmp_path / "site", symlinks=True)
    table = pd.read_csv(site / TABLE, dtype=str)
    (tmp_path / "site" / "images" / table["Image Index"][0]).unlink()
    with pytest.raises(DataError, match=table["Image Index"][0]):
        recalibrate(store, tmp_path / "site", tmp_path / "out")
    recalibrate(store, tmp_path / "site", tmp_path / "out", skip_unreadable=True)
    record = unpack(tmp_path / "out", "binary", tmp_path / "new").recalibrated
    assert record
    assert record["films"] == len(table) - 1


def test_one_outcome_of_stage_1_leaves_the_gate_as_it_was(store: Path, site: Path, tmp_path: Path) -> None:
    shutil.copytree(site, tmp_path / "site", symlinks=True)
    table = pd.read_csv(site / TABLE, dtype=str)
    table[table["Finding Labels"] == "No Finding"].to_csv(tmp_path / "site" / TABLE, index=False)
    recalibrate(store, tmp_path / "site", tmp_path / "out")
    old, new = unpack(store, "binary", tmp_path / "old"), unpack(tmp_path / "out", "binary", tmp_path / "new")
    assert (new.thresholds, new.calibration) == (old.thresholds, old.calibration)
    with pytest.raises(DataError, match="too few to calibrate stage 1"):
        recalibrate(store, tmp_path / "site", tmp_path / "again", sensitivity=0.98)
