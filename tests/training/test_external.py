"""A model is trained on a plain CSV that lacks findings and labels; a run is scored on another data set."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from handlers.findings import FINDINGS
from tests.handlers.dicom_files import ANATOMY, dataset_of, written
from tests.html_page import Page
from tests.training.data_folders import vindr
from training import evaluate as command
from training.archive import archive
from training.data.films import read_films
from training.evaluate import evaluate, evaluate_elsewhere
from training.evaluation.model_card import model_card
from training.recalibrate import recalibrate
from training.report.page import report
from training.sample_data import make_sample_data
from training.train import train
from workflows import command_line
from workflows.files.text_files import DataError

LACKING = ["Fibrosis", "Hernia"]


def as_plain_csv(sample: Path, folder: Path, blank: float = 0.2) -> Path:
    """A folder of drawn films with a plain CSV: no column for two findings, and blank cells; no split is given."""
    films = read_films(sample, 0.2, 0)
    folder.mkdir()
    chance = np.random.default_rng(0)
    table = pd.DataFrame({"path": [f"films/{path.name}" for path in films.table["path"]]})
    table["patient"] = films.table["patient"]
    for at, name in enumerate(FINDINGS):
        if name not in LACKING:
            labels = pd.Series(films.diseases[:, at], dtype="Int64")
            table[name.replace("_", " ")] = labels.mask(chance.random(len(labels)) < blank)
    table["No Finding"] = pd.Series(1 - films.findings[:, 0], dtype="Int64")
    table["sex"], table["age"] = films.table["sex"], films.table["age"]
    table.to_csv(folder / "films.csv", index=False)
    (folder / "films").mkdir()
    for path in films.table["path"]:
        (folder / "films" / path.name).symlink_to(path)
    shutil.copy(sample / "SYNTHETIC.txt", folder)
    return folder


@pytest.fixture(scope="module")
def plain(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_plain_csv(sample, tmp_path_factory.mktemp("plain") / "site")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other films than those of the run."""
    drawn = tmp_path_factory.mktemp("other")
    make_sample_data(drawn / "sample", films=80, patients=30, seed=7)
    return as_plain_csv(drawn / "sample", drawn / "other")


@pytest.fixture(scope="module")
def trained(plain: Path, tiny_config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs on the plain CSV, evaluated."""
    run = tmp_path_factory.mktemp("plain-run") / "run"
    for stage in ("binary", "disease"):
        config = tiny_config(stage, run / stage, epochs=2)
        train(replace(config, data=replace(config.data, folder=str(plain))))
    evaluate(run)
    return run


def test_a_run_on_a_plain_csv_leaves_out_what_it_lacks_and_scores_the_rest(trained: Path, plain: Path) -> None:
    evaluation = json.loads((trained / "evaluation.json").read_text())
    films = read_films(plain, 0.2, 0)
    assert evaluation["data"]["layout"] == "csv"
    assert evaluation["data"]["unlabelled"]["train"] == LACKING
    assert set(evaluation["test"]["unlabelled"]) >= set(LACKING)
    for name in LACKING:
        assert evaluation["test"]["diseases"][name]["ungated"] is None
        assert evaluation["thresholds"][name] == 1.0
        assert evaluation["calibration"][name] == {"slope": 1.0, "intercept": 0.0}
        assert evaluation["test"]["served"][name]["sensitivity"] is None
        assert name not in (*evaluation["uncalibrated"], *evaluation["without_threshold"])
    predictions = pd.read_csv(trained / "predictions.csv").set_index("Image Index")
    rows = films.rows("test")
    assert predictions.index.tolist() == films.table["image"][rows].tolist()
    areas = []
    for at, name in enumerate(FINDINGS):
        truth, known = films.diseases[rows, at], films.diseases[rows, at] >= 0
        if len(np.unique(truth[known])) == 2:
            areas.append(roc_auc_score(truth[known], predictions[name].to_numpy()[known]))
            assert evaluation["test"]["diseases"][name]["ungated"] == pytest.approx(areas[-1], abs=1e-6)
            assert evaluation["test"]["diseases"][name]["positives"] == (truth == 1).sum()
    assert evaluation["test"]["mean_auc"]["ungated"] == pytest.approx(np.mean(areas), abs=1e-6)
    text = " ".join((trained / "evaluation.txt").read_text().split())
    assert (
        "Not learned, for no training film is labelled: never called present, and in no figure: Fibrosis, Hernia"
        in text
    )


def test_report_archives_and_card_say_what_was_not_learned(trained: Path, plain: Path, tmp_path: Path) -> None:
    page = Page(report(trained).read_text(encoding="utf-8"))
    assert "Not learned, for no training film is labelled: Fibrosis, Hernia." in page.text
    assert page.row("Hernia")[:3] == ["Hernia", "0", "–"]
    archive(trained, tmp_path / "store", "1.0.0")
    card = " ".join(model_card(tmp_path / "store").split())
    assert "Fibrosis, Hernia: no training film is labelled for it." in card
    assert "NIH's were mined" not in card
    recalibrate(tmp_path / "store", plain, tmp_path / "site")
    assert "Fibrosis, Hernia: no training film is labelled for it." in " ".join(model_card(tmp_path / "site").split())


def test_an_older_checkpoint_without_the_new_keys_evaluates_and_goes_on_as_it_did(
    run: Path, tiny_config, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("tensorboard"))
    for path in (tmp_path / "run").rglob("training.yaml"):
        config = yaml.safe_load(path.read_text())
        for key in ("layout", "uncertain"):
            del config["data"][key]
        path.write_text(yaml.safe_dump(config))
    finished = tmp_path / "run" / "binary" / "finished"
    origin = json.loads(finished.read_text())
    for key in ("layout", "uncertain"):
        del origin["config"]["data"][key]
    finished.write_text(json.dumps(origin))
    evaluate(tmp_path / "run")
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "run" / "predictions.csv"), pd.read_csv(run / "predictions.csv")
    )
    assert len(train(tiny_config("binary", tmp_path / "run" / "binary"), resume=True)) == 3


@pytest.fixture
def copy_of_run(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("state", "tensorboard")))


def test_external_validation_keeps_the_run_as_it_is(copy_of_run: Path, other: Path, capsys) -> None:
    before = {path: path.read_bytes() for path in copy_of_run.iterdir() if path.is_file()}
    assert command_line.ended(lambda: command.main(["--run", str(copy_of_run), "--data", str(other)])) == 0
    assert {path: path.read_bytes() for path in copy_of_run.iterdir() if path.is_file()} == before
    out = copy_of_run / "external" / "other"
    assert sorted(path.name for path in out.iterdir()) == ["evaluation.json", "evaluation.txt", "predictions.csv"]
    own = json.loads((copy_of_run / "evaluation.json").read_text())
    found = json.loads((out / "evaluation.json").read_text())
    for kept in ("kind", "calibration", "thresholds"):
        assert found[kept] == own[kept]
    films = read_films(other, 0.2, 0)  # no split is given: all films are scored
    predictions = pd.read_csv(out / "predictions.csv").set_index("Image Index").loc[films.table["image"]]
    assert found["data"]["films"] == {"test": len(films.table)} == {"test": 80}
    known = films.findings[:, 0] >= 0
    finding = roc_auc_score(films.findings[known, 0], predictions["Finding"][known])
    assert found["test"]["binary"]["auc"] == pytest.approx(finding, abs=1e-6)
    for at, name in enumerate(FINDINGS):
        truth = films.diseases[:, at]
        area = found["test"]["diseases"][name]["ungated"]
        if name in LACKING:
            assert area is None
        elif len(np.unique(truth[truth >= 0])) == 2:
            assert area == pytest.approx(roc_auc_score(truth[truth >= 0], predictions[name][truth >= 0]), abs=1e-6)
    assert found["test"]["unlabelled"] == LACKING
    text = " ".join((out / "evaluation.txt").read_text().split())
    assert "External validation on other (csv): 80 films" in text
    assert (
        "Left out, for no test film is labelled (or, elsewhere, the run has not learned it): Fibrosis, Hernia" in text
    )
    assert str(out) in capsys.readouterr().out


def test_the_scores_of_other_films_are_not_replaced(copy_of_run: Path, other: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere" / "other"
    shutil.copytree(other, folder)
    out = evaluate_elsewhere(copy_of_run, folder)
    first = (out / "evaluation.json").read_text()
    assert evaluate_elsewhere(copy_of_run, folder) == out
    assert (out / "evaluation.json").read_text() == first
    table = pd.read_csv(folder / "films.csv", dtype=str).iloc[:-5]
    table.to_csv(folder / "films.csv", index=False)
    with pytest.raises(DataError, match=r"external/other holds the scores of other films"):
        evaluate_elsewhere(copy_of_run, folder)
    assert (out / "evaluation.json").read_text() == first


def test_a_test_split_that_is_given_is_what_is_scored(copy_of_run: Path, other: Path, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    shutil.copytree(other, folder)
    table = pd.read_csv(folder / "films.csv", dtype=str)
    patients = table["patient"].unique()[:10]
    table["split"] = np.where(table["patient"].isin(patients), "test", "train")
    table.to_csv(folder / "films.csv", index=False)
    out = evaluate_elsewhere(copy_of_run, folder)
    assert len(pd.read_csv(out / "predictions.csv")) == (table["split"] == "test").sum()


def test_what_the_run_has_not_learned_is_not_scored_elsewhere(trained: Path, sample: Path, tmp_path: Path) -> None:
    """NIH's films are labelled for all 14, the run's for 12."""
    out = evaluate_elsewhere(trained, sample)
    found = json.loads((out / "evaluation.json").read_text())
    assert found["data"]["layout"] == "nih"
    assert found["test"]["unlabelled"] == LACKING
    assert found["test"]["diseases"]["Fibrosis"]["ungated"] is None
    assert len(pd.read_csv(out / "predictions.csv")) == len((sample / "test_list.txt").read_text().split())


def test_dicom_films_of_another_layout_are_scored(copy_of_run: Path, tmp_path: Path) -> None:
    folder = vindr(tmp_path / "vindr")
    for number, path in enumerate(sorted(folder.rglob("*.dicom"))):
        path.write_bytes(written(dataset_of(np.roll(ANATOMY, 9 * number, axis=1), 12)))
    out = evaluate_elsewhere(copy_of_run, folder)
    found = json.loads((out / "evaluation.json").read_text())
    assert found["data"]["films"] == {"test": 1}
    assert pd.read_csv(out / "predictions.csv")["Image Index"].tolist() == ["t1"]
    assert "names no patients" in " ".join((out / "evaluation.txt").read_text().split())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("", 2, "give --run, --run and --data, or --predictions and --data"),
        ("--run {run} --predictions {run}/predictions.csv --data {other}", 2, "give one of them"),
        ("--run {run} --data {other} --sensitivity 0.9", 2, "with --data the run's own is kept"),
        ("--run {run} --data {sample}", 1, "is the run's own data: python -m training.evaluate --run"),
        ("--run {run} --data {other} --layout mimic", 1, "no table of the layout 'mimic' is there"),
        ("--data {other}", 1, "are for --predictions"),
    ],
)
def test_words_that_do_not_go_together_say_so(
    copy_of_run: Path, other: Path, sample: Path, capsys, words: str, code: int, said: str
) -> None:
    arguments = words.format(run=copy_of_run, other=other, sample=sample).split()
    try:
        ended = command_line.ended(lambda: command.main(arguments))
    except SystemExit as refused:  # argparse's own
        ended = refused.code
    assert ended == code
    assert said in capsys.readouterr().err
    assert not (copy_of_run / "external").exists()


def test_a_run_without_an_evaluation_or_with_an_old_one_says_what_to_do(copy_of_run: Path, other: Path) -> None:
    path = copy_of_run / "evaluation.json"
    old = json.loads(path.read_text())
    del old["given_finding"]
    path.write_text(json.dumps(old))
    with pytest.raises(
        DataError, match=r"is of an older form, without given_finding: python -m training.evaluate --run"
    ):
        evaluate_elsewhere(copy_of_run, other)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"python -m training.evaluate --run"):
        evaluate_elsewhere(copy_of_run, other)


def test_a_table_of_predictions_is_scored_by_another_layouts_labels(
    copy_of_run: Path, other: Path, tmp_path: Path
) -> None:
    out = evaluate_elsewhere(copy_of_run, other)
    words = f"--predictions {out}/predictions.csv --data {other} --out {tmp_path}/scores.json"
    assert command_line.ended(lambda: command.main(words.split())) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
    own = json.loads((out / "evaluation.json").read_text())
    assert scores["diseases"]["labels"]["Hernia"]["auc"]["value"] is None
    assert scores["diseases"]["mean_auc"]["value"] == pytest.approx(own["test"]["mean_auc"]["ungated"], abs=1e-4)
