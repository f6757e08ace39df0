"""What an evaluation writes, and what its archives say."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from handlers.bfloat16_rule import Bfloat16Effect
from handlers.cascade import Cascade
from handlers.findings import FINDINGS
from handlers.metadata import Metadata
from training.archive import archive
from training.data.labels import parse_finding_labels
from training.evaluate import evaluate
from training.evaluation.bfloat16_effect import bfloat16_effect
from training.evaluation.fit_cascade import Labelled
from training.evaluation.metrics import MIN_COUNT
from training.train import train
from workflows.files.text_files import DataError

MEASURES = [(measure, way) for measure in ("ece", "brier") for way in ("before", "after")]


def test_the_written_predictions_give_the_written_aucs(run: Path, sample: Path) -> None:
    evaluation = json.loads((run / "evaluation.json").read_text())
    predictions = pd.read_csv(run / "predictions.csv").set_index("Image Index")
    assert set(predictions.index) == set((sample / "test_list.txt").read_text().split())
    labels = pd.read_csv(sample / "Data_Entry_2017.csv", index_col=False).set_index("Image Index")["Finding Labels"]
    truth = np.stack([parse_finding_labels(labels[image], image) for image in predictions.index])
    finding = roc_auc_score(truth.any(axis=1), predictions["Finding"])
    assert evaluation["test"]["binary"]["auc"] == pytest.approx(finding, abs=1e-6)
    for column, name in enumerate(FINDINGS):
        area = evaluation["test"]["diseases"][name]["ungated"]
        assert (area is None) == (truth[:, column].sum() == 0)
        if area is not None:
            assert area == pytest.approx(roc_auc_score(truth[:, column], predictions[name]), abs=1e-6)


def test_every_label_has_its_errors_before_and_after_calibration(run: Path) -> None:
    evaluation = json.loads((run / "evaluation.json").read_text())
    labels = ["Finding", *FINDINGS]
    assert list(evaluation["calibration"]) == labels
    for split in ("validation", "test"):
        errors = evaluation["calibration_error"][split]
        assert list(errors) == labels
        assert all(0 <= errors[label][measure][way] <= 1 for label in labels for measure, way in MEASURES)
    for label in evaluation["uncalibrated"]:
        assert evaluation["calibration"][label] == {"slope": 1.0, "intercept": 0.0}
    assert set(evaluation["without_threshold"]) == set(FINDINGS)  # validation has some twenty films
    text = " ".join((run / "evaluation.txt").read_text().split())
    assert f"With a threshold of 0.5, which nothing chose, for fewer than {MIN_COUNT} of those" in text
    assert "Stage 2 is calibrated, and its errors are measured, on the films that cross the gate" in text
    fitted = set(labels) - set(evaluation["uncalibrated"])
    assert fitted
    assert all(evaluation["calibration"][label] != {"slope": 1.0, "intercept": 0.0} for label in fitted)


def test_the_written_predictions_give_the_written_rates_and_errors(run: Path, sample: Path, tmp_path: Path) -> None:
    for stage in ("binary", "disease"):
        (tmp_path / stage).symlink_to(run / stage)
    evaluation = evaluate(tmp_path)
    predictions = pd.read_csv(tmp_path / "predictions.csv").set_index("Image Index")
    labels = pd.read_csv(sample / "Data_Entry_2017.csv", index_col=False).set_index("Image Index")["Finding Labels"]
    truth = np.stack([parse_finding_labels(labels[image], image) for image in predictions.index])
    thresholds = evaluation["thresholds"]
    routed = predictions["Finding"].to_numpy() >= thresholds["Finding"]
    errors = evaluation["calibration_error"]["test"]
    for column, name in enumerate(FINDINGS):
        scores, present = predictions[name].to_numpy(), truth[:, column] == 1
        called = np.where(routed, scores, 0.0) >= thresholds[name]  # what is served: zeros behind the gate
        rates = evaluation["test"]["served"][name]
        for rate, share in {
            "sensitivity": called[present],
            "specificity": ~called[~present],
            "ppv": present[called],
            "npv": ~present[~called],
        }.items():
            assert rates[rate] == (pytest.approx(share.mean()) if len(share) else None), (name, rate)
        brier = np.mean((scores[routed] - present[routed]) ** 2)  # of the films that the probabilities are shown of
        assert errors[name]["brier"]["after"] == pytest.approx(brier, abs=1e-6)
    served = evaluation["gate"]
    assert served["sensitivity"] == evaluation["sensitivity_wanted"]
    assert served["threshold"] == thresholds["Finding"]
    text = (tmp_path / "evaluation.txt").read_text()
    assert "Served, chosen on validation alone" in text
    assert max(len(line) for line in text.splitlines()) <= 120


def test_every_area_has_an_interval_over_the_test_patients(run: Path, sample: Path) -> None:
    evaluation = json.loads((run / "evaluation.json").read_text())
    table = pd.read_csv(sample / "Data_Entry_2017.csv", index_col=False)
    tested = table[table["Image Index"].isin((sample / "test_list.txt").read_text().split())]
    assert evaluation["intervals"]["binary"]["patients"] == tested["Patient ID"].nunique()
    stage_1 = evaluation["intervals"]["binary"]["labels"]["Finding"]["auc"]
    assert stage_1["value"] == pytest.approx(evaluation["test"]["binary"]["auc"])
    assert stage_1["low"] <= stage_1["value"] <= stage_1["high"]
    mean = evaluation["intervals"]["ungated"]["mean_auc"]
    assert mean["value"] == pytest.approx(evaluation["test"]["mean_auc"]["ungated"])
    assert mean["low"] < mean["value"] < mean["high"]
    assert f"{mean['value']:.3f} ({mean['low']:.3f}–{mean['high']:.3f})" in (run / "evaluation.txt").read_text()


def test_the_table_says_that_the_films_are_synthetic(run: Path) -> None:
    text = (run / "evaluation.txt").read_text()
    assert "Synthetic films" in text
    assert all(name in text for name in FINDINGS)


def test_stages_from_different_splits_are_refused(run: Path, tiny_config, tmp_path: Path) -> None:
    other = tiny_config("disease", tmp_path / "disease", epochs=1)
    other.data.split_seed = 5
    train(other)
    (tmp_path / "binary").symlink_to(run / "binary")
    with pytest.raises(DataError, match="different 'data' sections"):
        evaluate(tmp_path)


def test_an_archive_holds_all_it_needs_and_says_what_it_is(run: Path, tmp_path: Path) -> None:
    archives = archive(run, tmp_path, "2.1.0")
    packed_files = ["binary.mar", "disease.mar", "chest_xray.war", "MODEL_CARD.md", "MODEL_CARD.html"]
    assert [path.name for path in archives] == packed_files
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*packed_files, "sha256sums"])
    evaluation = json.loads((run / "evaluation.json").read_text())
    thresholds = evaluation["thresholds"]
    for stage, labels in (("binary", ["Finding"]), ("disease", list(FINDINGS))):
        with zipfile.ZipFile(tmp_path / f"{stage}.mar") as packed:
            names = set(packed.namelist())
            metadata = Metadata.model_validate_json(packed.read("metadata.json"))
            weights = packed.read("model.safetensors")
        assert {"handlers/decoding/image.py", "handlers/reading.py", f"{stage}_handler.py", "config.json"} <= names
        assert weights == (run / stage / "checkpoint" / "model.safetensors").read_bytes()
        assert (metadata.stage, metadata.version, metadata.labels) == (stage, "2.1.0+synthetic", labels)
        assert metadata.thresholds == {label: thresholds[label] for label in labels}
        assert {label: one.model_dump() for label, one in metadata.calibration.items()} == {
            label: evaluation["calibration"][label] for label in labels
        }
        assert metadata.image_size == 32
        assert metadata.training["optim"]["epochs"] == 3
        assert metadata.data["synthetic"] is True
        assert metadata.versions["torch"]
        assert metadata.metrics["test"]


def test_it_says_what_bfloat16_changes_on_validation(run: Path) -> None:
    evaluation = json.loads((run / "evaluation.json").read_text())
    effect = Bfloat16Effect.model_validate(evaluation["bfloat16"])
    assert effect.films == evaluation["validation"]["binary"]["films"]
    assert 0.0 < effect.largest_change < 0.02
    assert list(effect.flipped) == ["Finding", *FINDINGS]
    said = f"bfloat16 on {effect.films} validation films: a probability moves by {effect.largest_change:.4f} at most"
    assert said in " ".join((run / "evaluation.txt").read_text().split())


def test_what_bfloat16_changes_is_measured_through_the_served_cascade() -> None:
    """Four films; stage 1's logits order them otherwise, one goes over the gate, one over a finding's threshold."""
    targets = np.zeros((4, 15), np.int8)
    targets[2:, 0] = targets[3, 1] = 1
    exact = np.full((4, 15), -9.0, np.float32)
    exact[:, 0], exact[:, 1] = [-1.0, 0.5, 0.4, 2.0], [-3.0, -2.0, -1.0, 1.0]
    rounded = exact.copy()
    rounded[:, 0], rounded[3, 1] = [0.1, 0.5, 0.6, 2.0], -0.1
    cascade = Cascade(thresholds={"Finding": 0.5, **dict.fromkeys(FINDINGS, 0.5)})
    effect = bfloat16_effect(Labelled(targets, exact, np.array(list("abcd"))), rounded, cascade)
    assert effect.films == 4
    assert effect.largest_change == pytest.approx(expit(0.1) - expit(-1.0), abs=1e-6)
    assert effect.finding_auc_change == pytest.approx(0.25)  # 3 of 4 pairs in order before, all after
    assert effect.mean_auc_change == 0.0
    assert {name for name, films in effect.flipped.items() if films} == {"Finding", FINDINGS[0]}
    assert (effect.flipped["Finding"], effect.flipped[FINDINGS[0]], effect.films_flipped) == (1, 1, 2)
    assert effect.objection is not None
