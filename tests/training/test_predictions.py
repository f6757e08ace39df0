"""Any model's table is scored beside the metadata table alone, and refused by row and column."""

import json
import re
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from handlers.findings import FINDINGS
from training.data.tables import read_film_list
from training.evaluation.predictions import read_predictions
from training.evaluation.score import add_arguments, main
from workflows.files.text_files import DataError

FILMS = 90


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """NIH's table for 90 films of 30 patients, and not one film."""
    rng = np.random.default_rng(11)
    labels = ["|".join(np.array(FINDINGS)[rng.random(14) < 0.2]) or "No Finding" for _ in range(FILMS)]
    # Hernia is on no film.
    labels = [re.sub(r"\|?Hernia", "", text) or "No Finding" for text in labels]
    folder = tmp_path / "nih"
    folder.mkdir()
    images = [f"{film // 3:08d}_{film % 3:03d}.png" for film in range(FILMS)]
    table = pd.DataFrame({"Image Index": images, "Finding Labels": labels, "Patient ID": np.arange(FILMS) // 3})
    table.to_csv(folder / "Data_Entry_2017.csv", index=False)
    (folder / "test_list.txt").write_text("\n".join(images[30:]) + "\n")
    return folder


@pytest.fixture
def table(data: Path) -> pd.DataFrame:
    """Probabilities of a model that is right more often than not, its rows in another order than NIH's."""
    rng = np.random.default_rng(12)
    known = pd.read_csv(data / "Data_Entry_2017.csv")
    made = pd.DataFrame({"Image Index": known["Image Index"], "Finding": rng.random(FILMS).round(2)})
    for name in FINDINGS:
        truth = known["Finding Labels"].str.contains(name).to_numpy()
        made[name] = (0.7 * rng.random(FILMS) + 0.2 * truth).round(2)
    return made.sample(frac=1, random_state=0)


def saved(table: pd.DataFrame, folder: Path, name: str = "model.csv") -> Path:
    path = folder / name
    table.to_csv(path, index=False)
    return path


def run(*words: object) -> None:
    parser = ArgumentParser()
    add_arguments(parser)
    main(parser.parse_args([str(word) for word in words]))


def truth_of(data: Path, images: pd.Series, name: str) -> np.ndarray:
    labels = pd.read_csv(data / "Data_Entry_2017.csv").set_index("Image Index")["Finding Labels"][images]
    return (labels.ne("No Finding") if name == "Finding" else labels.str.contains(name)).to_numpy()


def test_a_line_per_finding_has_scikit_learns_auc_to_four_places(
    data: Path, table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(table, tmp_path)
    run("--predictions", path, "--data", data, "--out", tmp_path / "new" / "scores.json")
    lines = capsys.readouterr().out.splitlines()
    written = json.loads((tmp_path / "new" / "scores.json").read_text())
    areas = []
    for name in FINDINGS:
        line = next(line for line in lines if name in line)
        truth = truth_of(data, table["Image Index"], name)
        if name == "Hernia":
            assert "–" in line
            continue
        areas.append(roc_auc_score(truth, table[name]))
        precision = average_precision_score(truth, table[name])
        shown = re.findall(r"(\d\.\d{4}) \((\d\.\d{4})–(\d\.\d{4})\)", line)
        assert [area for area, _, _ in shown] == [f"{areas[-1]:.4f}", f"{precision:.4f}"]
        assert f" {truth.sum()} " in line
        figures = written["scores"]["diseases"]["labels"][name]
        assert figures["auc"]["low"] < figures["auc"]["value"] < figures["auc"]["high"]
        assert (figures["auc"]["value"], figures["auprc"]["value"]) == pytest.approx((areas[-1], precision))
    assert f"{np.mean(areas):.4f}" in next(line for line in lines if "mean of the findings" in line)
    any_finding = roc_auc_score(truth_of(data, table["Image Index"], "Finding"), table["Finding"])
    assert f"{any_finding:.4f}" in next(line for line in lines if "any finding" in line)
    assert any("one outcome only in these films: Hernia" in line for line in lines)
    assert (written["films"], written["patients"]) == (FILMS, 30)


def test_plain_and_prob_names_blanks_and_other_columns_give_the_same(
    data: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    plain = read_predictions(saved(table, tmp_path), data)
    other = table.rename(columns={name: f"prob_{name}" for name in ("Finding", *FINDINGS)})
    other = other.rename(columns={"prob_Pleural_Thickening": "prob_Pleural Thickening"})
    # A peer's table with its labels beside the probabilities, and a note.
    other = other.assign(Effusion=truth_of(data, other["Image Index"], "Effusion").astype(int), note="x")
    found = read_predictions(saved(other, tmp_path, "other.csv"), data)
    assert found.names == plain.names == ("Finding", *FINDINGS)
    assert (found.images == plain.images).all()
    np.testing.assert_array_equal(found.scores, plain.scores)
    blank = saved(table.rename(columns={"Pleural_Thickening": "Pleural Thickening"}), tmp_path, "blank.csv")
    np.testing.assert_array_equal(read_predictions(blank, data).scores, plain.scores)


def test_targets_and_patients_are_those_of_each_rows_film(data: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    found = read_predictions(saved(table, tmp_path), data)
    for column, name in enumerate(found.names):
        np.testing.assert_array_equal(found.targets[:, column], truth_of(data, table["Image Index"], name))
    assert [int(patient) for patient in found.patients] == [int(image[:8]) for image in table["Image Index"]]


def test_without_a_finding_column_stage_1_is_not_scored(
    data: Path, table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = saved(table.drop(columns="Finding"), tmp_path), tmp_path / "scores.json"
    run("--predictions", path, "--data", data, "--out", out)
    assert "Stage 1 is not scored" in capsys.readouterr().out
    assert json.loads(out.read_text())["scores"]["finding"] is None


def test_a_list_scores_its_films_only(data: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    listed = read_film_list(data / "test_list.txt")
    stranger = table.iloc[:1].assign(**{"Image Index": "not_nih.png", "Mass": "broken"})
    path = saved(pd.concat([table, stranger]), tmp_path)
    assert sorted(read_predictions(path, data, listed).images) == sorted(listed)
    lacking = saved(table[~table["Image Index"].isin(listed[:12])], tmp_path)
    with pytest.raises(DataError, match=r"model\.csv: 12 of the films to score have no row") as refusal:
        read_predictions(lacking, data, listed)
    assert all(image in str(refusal.value) for image in listed[:10])
    assert listed[10] not in str(refusal.value)


@pytest.mark.parametrize("wrong", ["", "high", "1.2", "-0.1", "nan", "inf"])
def test_a_value_that_is_no_probability_is_named_by_row_and_column(
    data: Path, table: pd.DataFrame, tmp_path: Path, wrong: str
) -> None:
    spoilt = table.astype({"Mass": object}).reset_index(drop=True)
    spoilt.loc[4, "Mass"] = wrong
    image = spoilt.loc[4, "Image Index"]
    with pytest.raises(DataError, match=rf"row 6 \({image}\), column 'Mass': '{wrong}' is not a probability"):
        read_predictions(saved(spoilt, tmp_path), data)


def test_refused_films_are_left_out_and_named(
    data: Path, table: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = table.assign(routed=True, error="").astype(object)
    served.loc[served.index[:2], ["Finding", *FINDINGS, "routed"]] = ""
    served.loc[served.index[:2], "error"] = ["TruncatedImage", "NotARadiograph"]
    path = saved(served, tmp_path)
    found = read_predictions(path, data)
    assert found.images.tolist() == table["Image Index"].tolist()[2:]
    assert f"2 films were refused and are left out, the first: ['{table['Image Index'].iloc[0]} (Trunc" in caplog.text
    with pytest.raises(DataError, match=r"1 of the films to score were refused.*\(NotARadiograph\)"):
        read_predictions(path, data, table["Image Index"].tolist()[1:])
    assert len(read_predictions(path, data, table["Image Index"].tolist()[2:]).images) == FILMS - 2
    # Another model's column of that name, beside probabilities, is none of ours.
    assert len(read_predictions(saved(table.assign(error=0.1), tmp_path, "other.csv"), data).images) == FILMS


def test_missing_columns_are_named(data: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="for Mass, Hernia"):
        read_predictions(saved(table.drop(columns=["Mass", "Hernia"]), tmp_path), data)
    with pytest.raises(DataError, match="'Image Index' is missing"):
        read_predictions(saved(table.drop(columns="Image Index"), tmp_path), data)


def test_unknown_and_repeated_films_are_counted_and_the_first_ten_named(
    data: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    strangers = table.iloc[:11].assign(**{"Image Index": [f"stranger_{number:02d}.png" for number in range(11)]})
    with pytest.raises(DataError, match=r"11 films are not in .*stranger_00.*stranger_09\.png'\]"):
        read_predictions(saved(pd.concat([table, strangers]), tmp_path), data)
    with pytest.raises(DataError, match="11 films are listed twice") as refusal:
        read_predictions(saved(pd.concat([table, table.iloc[:11]]), tmp_path), data)
    assert table["Image Index"].iloc[9] in str(refusal.value)
    assert table["Image Index"].iloc[10] not in str(refusal.value)


def test_files_that_hold_no_table_are_refused(data: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "model.csv"
    path.write_bytes(b"")
    with pytest.raises(DataError, match="not a CSV table"):
        read_predictions(path, data)
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    with pytest.raises(DataError, match=r"model\.csv row 2: no text"):
        read_predictions(path, data)
    with pytest.raises(DataError, match="the table has no rows"):
        read_predictions(saved(table.iloc[:0], tmp_path), data)
    path.write_text("\n")
    with pytest.raises(DataError, match="names no film"):
        read_film_list(path)


def test_two_tables_give_the_paired_difference_per_finding_and_for_the_mean(
    data: Path, table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(13)
    noise = table.assign(Effusion=rng.random(FILMS)).sample(frac=1, random_state=1)
    first, second, out = saved(table, tmp_path), saved(noise, tmp_path, "noise.csv"), tmp_path / "scores.json"
    run("--predictions", first, "--data", data, "--against", second, "--out", out)
    written = json.loads(out.read_text())["difference"]
    truth, images = truth_of(data, table["Image Index"], "Effusion"), table["Image Index"]
    other = noise.set_index("Image Index")["Effusion"][images]
    expected = roc_auc_score(truth, table["Effusion"]) - roc_auc_score(truth, other)
    effusion = written["diseases"]["labels"]["Effusion"]["auc"]
    assert effusion["value"] == pytest.approx(expected)
    assert effusion["low"] < expected < effusion["high"]
    assert written["diseases"]["labels"]["Mass"]["auc"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert written["diseases"]["mean_auc"]["value"] == pytest.approx(expected / 13)
    assert f"{expected:+.4f} (" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"noise\.csv: 1 of the films to score have no row"):
        run("--predictions", first, "--data", data, "--against", saved(noise.iloc[1:], tmp_path, "noise.csv"))


def test_arguments_that_need_others_say_which(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="are for --predictions"):
        run("--labels", "labels.csv")
    with pytest.raises(DataError, match="needs --data"):
        run("--predictions", "model.csv")
    with pytest.raises(DataError, match="needs --labels"):
        run("--predictions", "model.csv", "--data", tmp_path, "--readers", "readers.csv")
    with pytest.raises(DataError, match="for --readers"):
        run("--predictions", "model.csv", "--data", tmp_path, "--thresholds", "thresholds.json")
