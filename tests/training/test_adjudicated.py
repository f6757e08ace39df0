"""Radiologists' labels in the place of NIH's, and each radiologist beside the model. The figures are worked by hand."""

import json
from argparse import ArgumentParser
from pathlib import Path

import pandas as pd
import pytest

from handlers.findings import FINDINGS
from training.evaluation.adjudicated import read_labels, read_readers
from training.evaluation.readers import read_thresholds
from training.evaluation.score import add_arguments, main
from workflows.files.text_files import DataError

IMAGES = [f"0000000{film}_000.png" for film in range(6)]
VOTER, BYSTANDER = "4343882785", "4343882583"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """NIH says Hernia of every film, so that nothing below can come from NIH's labels."""
    table = pd.DataFrame({"Image Index": IMAGES, "Finding Labels": "Hernia", "Patient ID": range(6)})
    table.to_csv(tmp_path / "Data_Entry_2017.csv", index=False)
    return tmp_path


@pytest.fixture
def model(data: Path) -> Path:
    table = pd.DataFrame({"Image Index": IMAGES, "Finding": [0.9, 0.8, 0.7, 0.6, 0.2, 0.1]})
    table = table.assign(**dict.fromkeys(FINDINGS, 0.5))
    table["Effusion"] = [0.9, 0.4, 0.5, 0.3, 0.2, 0.1]
    table.to_csv(data / "model.csv", index=False)
    return data / "model.csv"


@pytest.fixture
def labels(data: Path) -> Path:
    """Three abnormal films, two of them with an effusion; one film that nobody predicted."""
    table = pd.DataFrame(
        {
            "Image ID": [*reversed(IMAGES), "00000009_000.png"],
            "Patient ID": [5, 4, 3, 2, 1, 0, 9],
            "Abnormal": ["NO", "NO", "YES", "NO", "YES", "YES", "NO"],
            "Effusion": ["NO", "NO", "NO", "NO", "YES", "YES", "NO"],
            "Pleural Thickening": ["NO", "YES", "NO", "NO", "NO", "NO", "NO"],
            "Other": "NO",
        }
    )
    table.to_csv(data / "labels.csv", index=False)
    return data / "labels.csv"


@pytest.fixture
def readers(data: Path) -> Path:
    """One who voted read all six films; one who did not read four; one is not of Google's. ``Abnormal`` is 1 or 0."""
    rows = [
        *((VOTER, image, int(yes)) for image, yes in zip(IMAGES, [1, 0, 0, 0, 0, 1], strict=True)),
        *((BYSTANDER, image, int(yes)) for image, yes in zip(IMAGES[:4], [1, 1, 0, 0], strict=True)),
        *(("ours", image, int(yes)) for image, yes in zip(IMAGES[2:4], [1, 0], strict=True)),
    ]
    table = pd.DataFrame(rows, columns=["Reader ID", "Image ID", "Abnormal"])
    table["Effusion"] = table["Abnormal"].map({1: "YES", 0: "NO"})
    table.to_csv(data / "readers.csv", index=False)
    return data / "readers.csv"


def run(*words: object) -> None:
    parser = ArgumentParser()
    add_arguments(parser)
    main(parser.parse_args([str(word) for word in words]))


def compared(data: Path, *words: object) -> dict[tuple[str, str], dict]:
    """By finding and reader."""
    files = ("--labels", data / "labels.csv", "--readers", data / "readers.csv")
    run("--predictions", data / "model.csv", "--data", data, *files, *words, "--out", data / "scores.json")
    rows = json.loads((data / "scores.json").read_text())["readers"]
    return {(row["name"], row["reader"]): row for row in rows}


def rates(row: dict, who: str) -> tuple[float | None, float | None]:
    return row[who]["sensitivity"], row[who]["specificity"]


def test_the_labels_of_the_file_take_the_place_of_nihs(
    data: Path, model: Path, labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("--predictions", model, "--data", data, "--labels", labels, "--out", data / "scores.json")
    written = json.loads((data / "scores.json").read_text())
    abnormal = written["scores"]["finding"]["labels"]["Finding"]
    assert abnormal["positives"] == 3
    assert abnormal["auc"]["value"] == pytest.approx(8 / 9)  # of 9 pairs, film 3 loses to film 2
    found = written["scores"]["diseases"]["labels"]
    assert list(found) == ["Effusion", "Pleural_Thickening"]
    assert found["Effusion"]["auc"]["value"] == pytest.approx(7 / 8)  # of 8 pairs, film 1 loses to film 2
    assert found["Effusion"]["auprc"]["value"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["Pleural_Thickening"]["auc"]["value"] == 0.5
    assert written["labels"]["films_without_prediction"] == 1
    assert written["labels"]["ignored"] == ["Other"]
    assert written["labels"]["lacking"] == [n for n in FINDINGS if n not in ("Effusion", "Pleural_Thickening")]
    shown = capsys.readouterr().out
    assert "0.8889 (" in shown
    assert "0.8750 (" in shown
    assert "Left out, no such column there: Atelectasis, Cardiomegaly, Infiltration" in shown
    assert "none of our findings: Other" in shown


def test_readers_beside_the_model_at_its_thresholds(
    data: Path, model: Path, labels: Path, readers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thresholds = {"Finding": 0.65, "Effusion": 0.35, "Pleural_Thickening": 0.5}
    (data / "thresholds.json").write_text(json.dumps(thresholds))
    found = compared(data, "--thresholds", data / "thresholds.json")
    effusion = found["Effusion", VOTER]
    assert (effusion["films"], effusion["positives"], effusion["threshold"]) == (6, 2, 0.35)
    assert rates(effusion, "by_reader") == pytest.approx((1 / 2, 3 / 4))  # found film 0, missed 1, called 5
    assert rates(effusion, "by_model") == pytest.approx((1, 3 / 4))  # calls 0, 1 and 2
    four = found["Effusion", BYSTANDER]
    assert (four["films"], four["positives"]) == (4, 2)
    assert rates(four, "by_reader") == (1, 1)
    assert rates(four, "by_model") == pytest.approx((1, 1 / 2))  # film 2 is one of two negatives
    abnormal = found["Finding", VOTER]
    assert rates(abnormal, "by_reader") == pytest.approx((1 / 3, 2 / 3))
    assert rates(abnormal, "by_model") == pytest.approx((2 / 3, 2 / 3))  # calls 0, 1 and 2; abnormal are 0, 1 and 3
    nobody = found["Effusion", "ours"]
    assert rates(nobody, "by_reader") == (None, 1 / 2)  # no effusion among its films
    assert ("Pleural_Thickening", VOTER) not in found  # the readers' file has no such column
    shown = capsys.readouterr().out
    assert "the model at its own threshold" in shown
    assert all(reader in shown for reader in (f"{VOTER}*", f"{BYSTANDER} ", "ours?"))
    assert "favours the reader" in shown


def test_readers_without_thresholds_meet_the_model_at_their_specificity(
    data: Path, model: Path, labels: Path, readers: Path
) -> None:
    found = compared(data)
    effusion = found["Effusion", VOTER]
    assert effusion["threshold"] is None
    assert rates(effusion, "by_model") == pytest.approx((1, 3 / 4))  # one false call allowed: 0, 1 and 2
    assert rates(found["Effusion", BYSTANDER], "by_model") == pytest.approx((1 / 2, 1))  # none allowed: 0 alone
    assert rates(found["Finding", VOTER], "by_model") == pytest.approx((1, 2 / 3))  # 0, 1, 2 and 3
    assert [found["Effusion", reader]["voted"] for reader in (VOTER, BYSTANDER, "ours")] == [True, False, None]


def test_tables_that_cannot_be_read_say_where(labels: Path, readers: Path, data: Path, model: Path) -> None:
    def spoilt(path: Path, **cells: object) -> Path:
        table = pd.read_csv(path, dtype=str)
        table.assign(**cells).to_csv(data / "spoilt.csv", index=False)
        return data / "spoilt.csv"

    with pytest.raises(DataError, match=r"spoilt\.csv row 2 \(00000005_000\.png\), column 'Effusion': 'MAYBE'"):
        read_labels(spoilt(labels, Effusion="MAYBE"))
    with pytest.raises(DataError, match="6 films are listed twice"):
        read_labels(spoilt(labels, **{"Image ID": IMAGES[0]}))
    with pytest.raises(DataError, match=rf"reader {BYSTANDER}: 3 films are listed twice"):
        read_readers(spoilt(readers, **{"Image ID": IMAGES[0]}))
    with pytest.raises(DataError, match="'Reader ID'"):
        read_readers(labels)
    pd.DataFrame({"Image ID": IMAGES, "Fracture": "NO"}).to_csv(data / "other.csv", index=False)
    with pytest.raises(DataError, match="neither 'Abnormal' nor any of the 14"):
        read_labels(data / "other.csv")
    elsewhere = spoilt(labels, **{"Image ID": [f"elsewhere_{row}.png" for row in range(7)]})
    with pytest.raises(DataError, match="no film in common"):
        run("--predictions", model, "--data", data, "--labels", elsewhere)


@pytest.mark.parametrize("text", ["{", "[0.3]", '{"Finding": 0.3}', '{"Finding": 0.3, "Mass": "x"}', '{"Mass": 1.5}'])
def test_thresholds_must_be_probabilities_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "thresholds.json").write_text(text)
    with pytest.raises(DataError, match=r"thresholds\.json"):
        read_thresholds(tmp_path / "thresholds.json", ["Finding", "Mass"])
