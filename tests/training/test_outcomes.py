"""What the splits lack of both outcomes is said before anything is trained, and the rest is trained and scored."""

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from handlers.findings import FINDINGS
from handlers.metadata import Metadata
from tests.html_page import Page
from training.archive import archive
from training.data.films import read_films
from training.data.outcomes import describe_outcomes
from training.evaluate import evaluate
from training.evaluation.metrics import MIN_COUNT
from training.evaluation.model_card import model_card
from training.evaluation.thresholds import UNKNOWN
from training.recalibrate import recalibrate
from training.report.page import report
from training.train import train
from workflows.files.text_files import DataError

TABLE = "Data_Entry_2017.csv"


@pytest.fixture
def relabelled(sample: Path, tmp_path: Path) -> Callable[[Callable[[pd.DataFrame], "pd.Series[str]"]], Path]:
    """The drawn films with other labels: of the table with each film's ``split``, a label each."""

    def build(label: Callable[[pd.DataFrame], "pd.Series[str]"]) -> Path:
        folder = tmp_path / "data"
        shutil.copytree(sample, folder)
        films = read_films(sample, 0.2, 0).table.set_index("image")
        table = pd.read_csv(folder / TABLE, dtype=str, index_col=False)
        known = table.assign(split=table["Image Index"].map(films["split"]))
        table.assign(**{"Finding Labels": label(known)}).to_csv(folder / TABLE, index=False)
        return folder

    return build


@pytest.fixture
def trained(tiny_config, tmp_path: Path) -> Callable[[Path], Path]:
    """A run of one epoch a stage on a folder."""

    def build(folder: Path, stages: tuple[str, ...] = ("binary", "disease")) -> Path:
        for stage in stages:
            config = tiny_config(stage, tmp_path / "run" / stage, epochs=1)
            train(replace(config, data=replace(config.data, folder=str(folder), cache=str(tmp_path / "cache"))))
        return tmp_path / "run"

    return build


def without(known: pd.DataFrame, *splits: str) -> "pd.Series[str]":
    """The drawn labels, and no finding in these splits."""
    return known["Finding Labels"].where(~known["split"].isin(splits), "No Finding")


def of_one_patient(known: pd.DataFrame) -> "pd.Series[str]":
    """All findings are one training patient's."""
    patient = known.loc[known["split"] == "train", "Patient ID"].iloc[0]
    return pd.Series("No Finding", known.index).where(known["Patient ID"] != patient, "Mass|Effusion")


@pytest.mark.parametrize("stage", ["binary", "disease", "joint"])
@pytest.mark.parametrize(
    ("label", "said"),
    [
        (lambda known: without(known, "validation"), "validation: "),
        (lambda known: without(known, "train"), "train: "),
        (lambda known: without(known, "train", "validation", "test"), "train: "),
        (of_one_patient, "validation: "),
    ],
    ids=["none in validation", "none in train", "none at all", "all of one patient"],
)
def test_without_a_finding_to_learn_or_choose_by_nothing_is_trained(
    relabelled, trained, tmp_path: Path, stage: str, label, said: str
) -> None:
    folder = relabelled(label)
    with pytest.raises(DataError, match=r"is not trained, for the .* split has no fi") as refusal:
        trained(folder, (stage,))
    line = next(line for line in str(refusal.value).splitlines() if line.strip().startswith(said))
    assert "0 (0 patients) with a finding" in line
    assert "data.validation" in str(refusal.value)
    assert not (tmp_path / "run" / stage / "checkpoint").exists()
    assert not (tmp_path / "cache").exists()  # said before the films are decoded


def test_stage_1_needs_films_without_a_finding_and_stage_2_does_not(relabelled, trained) -> None:
    folder = relabelled(lambda known: known["Finding Labels"].where(known["Finding Labels"] != "No Finding", "Mass"))
    with pytest.raises(DataError, match="no film without a finding to learn from"):
        trained(folder, ("binary",))
    assert (trained(folder, ("disease",)) / "disease" / "checkpoint").exists()


def test_a_validation_split_of_one_patient_is_refused_before_training(sample: Path, trained, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sample, tmp_path / "data"))
    table = pd.read_csv(folder / TABLE, dtype=str, index_col=False)
    lists = {name: (folder / name).read_text().split() for name in ("train_val_list.txt", "test_list.txt")}
    train_films = table[table["Image Index"].isin(lists["train_val_list.txt"])]
    few = train_films["Patient ID"].unique()[:3]
    kept = train_films.loc[train_films["Patient ID"].isin(few), "Image Index"]
    (folder / "train_val_list.txt").write_text("\n".join(kept) + "\n")
    with pytest.raises(DataError, match="the validation split is of one patient"):
        trained(folder, ("disease",))


def test_what_cannot_be_scored_is_named_and_the_rest_goes_its_way(relabelled, trained, capsys, tmp_path: Path) -> None:
    """Hernia is on no film at all, Mass on none of validation, Effusion on all of validation, Edema on none of test."""

    def label(known: pd.DataFrame) -> "pd.Series[str]":
        names = [set(text.split("|")) - {"Hernia", "No Finding"} for text in known["Finding Labels"]]
        for row, split in enumerate(known["split"]):
            if split == "validation":
                names[row].discard("Mass")
                if names[row]:  # films without a finding stay: stage 1 needs them
                    names[row].add("Effusion")
            elif split == "test":
                names[row].discard("Edema")
        return pd.Series(["|".join(sorted(some)) or "No Finding" for some in names], known.index)

    folder = relabelled(label)
    run = trained(folder)
    said = capsys.readouterr().out
    for split, name in (("train", "Hernia"), ("validation", "Mass"), ("validation", "Hernia"), ("test", "Edema")):
        line = next(line for line in said.splitlines() if line.startswith(f"{split}: ") and "(0 of " in line)
        assert f"{name} (0 of " in line, split
    evaluation = evaluate(run)
    assert {"Mass", "Hernia"} <= set(evaluation["uncalibrated"])
    for name in ("Mass", "Hernia"):
        assert evaluation["thresholds"][name] == 0.5
        assert evaluation["calibration"][name] == {"slope": 1.0, "intercept": 0.0}
    assert {"Hernia", "Edema"} <= set(evaluation["test"]["left_out"])
    assert "Effusion" not in evaluation["uncalibrated"]
    scored = [name for name in FINDINGS if name not in evaluation["test"]["left_out"]]
    areas = [evaluation["test"]["diseases"][name]["ungated"] for name in scored]
    assert evaluation["test"]["mean_auc"]["ungated"] == pytest.approx(sum(areas) / len(areas))
    _follow(run, folder, tmp_path)
    assert set(evaluation["without_threshold"]) >= {"Mass", "Hernia"}
    for name in evaluation["without_threshold"]:
        assert evaluation["thresholds"][name] == 0.5
    text = " ".join((run / "evaluation.txt").read_text().split())
    assert f"With a threshold of {UNKNOWN:g}, which nothing chose, for fewer than {MIN_COUNT}" in text


@pytest.mark.parametrize("shown", ["No Finding", "Mass"])
def test_a_test_list_of_one_outcome_is_trained_beside_and_said_to_be_unscored(
    relabelled, trained, tmp_path: Path, shown: str
) -> None:
    folder = relabelled(lambda known: known["Finding Labels"].where(known["split"] != "test", shown))
    run = trained(folder)
    evaluation = evaluate(run)
    assert evaluation["test"]["binary"]["auc"] is None
    assert evaluation["test"]["mean_auc"]["ungated"] is None
    assert set(evaluation["test"]["left_out"]) == set(FINDINGS)
    _follow(run, folder, tmp_path)


def test_the_first_lines_of_a_training_count_films_and_patients(sample: Path) -> None:
    films = read_films(sample, 0.2, 0)
    train_line, *_ = describe_outcomes(films)
    rows = films.rows("train")
    ill = int(films.findings[rows].sum())
    patients = films.table["patient"].to_numpy()[rows]
    with_finding = len(set(patients[films.findings[rows, 0] == 1]))
    few = next(line for line in describe_outcomes(films) if line.startswith("validation: calibrated by the intercept"))
    assert f"its threshold is {UNKNOWN:g}: " in few
    positives = films.diseases[films.rows("validation")].sum(axis=0)
    for name, count in zip(FINDINGS, positives.tolist(), strict=True):
        assert (f"{name} ({count} of " in few) == (0 < count < MIN_COUNT)
    assert f"train: {len(rows)} films of {len(set(patients))} patients, {ill} ({with_finding} patients)" in train_line


def _follow(run: Path, folder: Path, tmp_path: Path) -> None:
    """Report, archives, model card and a recalibration on the same films: whatever has no figure is a dash."""
    page = Page(report(run).read_text(encoding="utf-8"))
    assert page
    store = tmp_path / "store"
    archive(run, store, "1.0.0")
    assert "Mass" in model_card(store)
    recalibrate(store, folder, tmp_path / "site")
    with zipfile.ZipFile(tmp_path / "site" / "disease.mar") as packed:
        packed.extractall(tmp_path / "unpacked")
    assert Metadata.read(tmp_path / "unpacked").recalibrated
    assert json.loads((run / "evaluation.json").read_text())
