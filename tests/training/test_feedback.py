"""What readers said of served films scores the models and refits a store, without the films."""

import csv
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from pydicom.data import get_testdata_file

from gateway.export_feedback import COLUMNS
from handlers.calibration import Platt
from handlers.cascade import Cascade
from handlers.decoding.image import read_film, to_pixels
from handlers.findings import FINDING, FINDINGS, LABELS
from handlers.histograms import BRIGHTNESS, MODALITY, SIZE, film_bins, histogram, number_of_bins
from handlers.metadata import Metadata
from handlers.report import FilmFacts
from training import evaluate as command
from training.archive import archive, metadata_of
from training.evaluate import both_logits, labelled
from training.evaluation.adjudicated import read_labels
from training.evaluation.metrics import Scored
from training.evaluation.reference import design_effect, recalibrated, reference_of
from training.predict import films_of
from training.recalibrate import main as recalibrate_command
from training.recalibrate import recalibrate
from workflows.active import WORKFLOW
from workflows.files.text_files import DataError
from workflows.store import archives_of, check_archives, pair_id


@pytest.fixture(scope="module")
def store(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    archive(run, folder, "1.0.0")
    return folder


@pytest.fixture(scope="module")
def read_films(run: Path):
    """The run's films as the store serves them, and their labels."""
    films, pixels = films_of(yaml.safe_load((run / "disease" / "checkpoint" / "training.yaml").read_text()))
    rows = np.arange(len(pixels))
    logits = both_logits({stage: run / stage / "checkpoint" for stage in ("binary", "disease")}, pixels, rows)
    evaluation = json.loads((run / "evaluation.json").read_text())
    cascade = Cascade.model_validate({name: evaluation[name] for name in ("kind", "calibration", "thresholds")})
    return labelled(films, rows, logits), cascade


def exported(path: Path, store: Path, read_films, **changed: Sequence[object]) -> Path:
    """As the gateway writes what readers say who see what the films were drawn with."""
    films, cascade = read_films
    finding = cascade.finding(films.logits[:, 0])
    routed = cascade.routed(finding)
    scores = np.concatenate([finding[:, None], cascade.diseases(films.logits[:, 0], films.logits[:, 1:])], axis=1)
    scores[~routed, 1:] = 0.0
    said = np.where(films.targets == 1, "YES", "NO")
    ids = [f"{at:032x}" for at in range(len(routed))]
    table = pd.DataFrame({"Image Index": ids, "Image ID": ids, "Reader ID": "ward", "given": "", "readable": "YES"})
    table = table.assign(pair=pair_id(check_archives(store)), models="", routed=routed)
    table = table.assign(**{f"prob_{name}": scores[:, at] for at, name in enumerate(LABELS)}, Abnormal=said[:, 0])
    table = table.assign(**{name: said[:, at] for at, name in enumerate(FINDINGS, 1)}, corrected="", remark="")
    assert tuple(table.columns) == COLUMNS
    table.assign(**changed).to_csv(path, index=False, quoting=csv.QUOTE_MINIMAL)
    return path


def metadata(folder: Path, stage: str, into: Path) -> Metadata:
    with zipfile.ZipFile(folder / f"{stage}.mar") as packed:
        packed.extract("metadata.json", into)
    return Metadata.read(into)


def test_the_archives_hold_the_validation_films_histograms(store: Path, run: Path, tmp_path: Path) -> None:
    binary, disease = (metadata(store, stage, tmp_path / stage).reference for stage in ("binary", "disease"))
    assert set(binary) == {FINDING, BRIGHTNESS, SIZE, MODALITY}
    assert list(disease) == list(FINDINGS)
    evaluation = json.loads((run / "evaluation.json").read_text())
    validation = evaluation["data"]["films"]["validation"]
    assert {sum(films) for films in binary.values()} == {validation}
    assert {sum(films) for films in disease.values()} == {evaluation["routed"]["validation"]}
    assert binary[MODALITY][0] == validation
    assert all(len(films) == number_of_bins(name) for name, films in (binary | disease).items())


def test_a_validation_film_is_measured_as_a_served_one(film_paths: list[Path]) -> None:
    radiograph = Path(str(get_testdata_file("RG1_UNCR.dcm")))
    pixels = np.stack([to_pixels(read_film(path.read_bytes()), 32) for path in (radiograph, film_paths[0])])
    nothing, routed = np.zeros((2, 14)), np.array([True, False])
    scored = Scored(nothing, np.array([0.9, 0.1]), routed, {"ungated": nothing}, nothing > 0, routed.astype(np.int8))
    reference = reference_of([radiograph, film_paths[0]], pixels, scored, np.array(["one", "two"])).histograms
    served = FilmFacts(width=1841, height=1955, brightness=float(pixels[0].mean()) / 255, modality="CR")
    for name, bin in film_bins(served).items():
        assert reference[name][bin] >= 1, name
    assert reference[MODALITY] == [1, 1, 0, 0]
    assert (sum(reference[SIZE]), sum(reference[FINDING]), sum(reference["Mass"])) == (2, 2, 1)


def test_an_evaluation_of_before_makes_archives_without_them(run: Path, tmp_path: Path) -> None:
    evaluation = json.loads((run / "evaluation.json").read_text())
    del evaluation["reference"], evaluation["design_effects"]
    made = metadata_of(run, "binary", evaluation, "1.0.0")
    assert (made.reference, made.design_effects) == ({}, {})


def test_a_table_of_feedback_is_scored_without_a_data_folder(
    store: Path, read_films, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = len(read_films[0].patients)
    hernia = ["" if at % 2 else "NO" for at in range(number)]
    path = exported(tmp_path / "feedback.csv", store, read_films, Hernia=hernia)
    command.main(["--predictions", str(path), "--labels", str(path), "--out", str(tmp_path / "scores.json")])
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["data"], scores["films"], scores["patients"]) == (None, number, number)
    assert scores["scores"]["finding"]["labels"]["Finding"]["positives"] == int(
        (read_films[0].targets[:, 0] == 1).sum()
    )
    assert "Ignored" not in capsys.readouterr().out
    with pytest.raises(DataError, match=r"--predictions needs --data, .*, or --labels"):
        command.main(["--predictions", str(path)])


def test_feedback_that_says_nothing_of_a_film_is_of_one_that_nobody_could_read(
    store: Path, read_films, tmp_path: Path
) -> None:
    number = len(read_films[0].patients)
    silent = {name: ["", *["NO"] * (number - 1)] for name in ("Abnormal", *FINDINGS)}
    path = exported(tmp_path / "feedback.csv", store, read_films, **silent)
    with pytest.raises(DataError, match=r"feedback.csv row 2 \(0{32}\): it is readable, and nothing is said of it"):
        read_labels(path)
    exported(path, store, read_films, **silent, readable=["NO", *["YES"] * (number - 1)])
    assert (read_labels(path).targets.to_numpy()[0] == -1).all()


def test_a_store_is_refitted_to_feedback_as_to_the_films_themselves(
    store: Path, sample: Path, read_films, tmp_path: Path
) -> None:
    """Stage 1 sees the same logits and labels either way, so it must come to the same."""
    path = exported(tmp_path / "feedback.csv", store, read_films)
    arguments = ["--store", store, "--feedback", path, "--out", tmp_path / "told"]
    recalibrate_command([str(one) for one in arguments])
    recalibrate(store, sample, tmp_path / "seen")
    told, seen, old = (
        metadata(folder, "binary", tmp_path / "unpacked" / folder.name)
        for folder in (tmp_path / "told", tmp_path / "seen", store)
    )
    assert told.recalibrated
    assert (told.recalibrated["folder"], told.recalibrated["films"]) == ("feedback.csv", len(read_films[0].patients))
    assert told.version == "1.0.0+synthetic.site.1"
    for part in ("slope", "intercept"):
        value = getattr(told.calibration[FINDING], part)
        assert value == pytest.approx(getattr(seen.calibration[FINDING], part), rel=1e-3, abs=1e-3)
    assert told.thresholds[FINDING] != old.thresholds[FINDING]
    # The films are as they were, their probabilities are not.
    assert {name: told.reference[name] for name in (BRIGHTNESS, SIZE)} == {
        name: old.reference[name] for name in (BRIGHTNESS, SIZE)
    }
    assert sum(told.reference[FINDING]) == sum(old.reference[FINDING])
    disease = metadata(tmp_path / "told", "disease", tmp_path / "unpacked" / "disease")
    assert disease.reference == {}  # the gate moved, and with it which films are routed


def test_feedback_on_other_models_or_too_little_of_it_is_refused(
    store: Path, read_films, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = len(read_films[0].patients)
    pairs = [pair_id(check_archives(store)) if at < 29 else "another" for at in range(number)]
    path = exported(tmp_path / "feedback.csv", store, read_films, pair=pairs)
    arguments = ["--store", str(store), "--feedback", str(path), "--out", str(tmp_path / "out")]
    with pytest.raises(DataError, match=r"feedback\.csv: of 29 films that the store's models read .* 30 at least"):
        recalibrate_command(arguments)
    assert f"{number - 29} films were read by other models" in capsys.readouterr().out
    exported(path, store, read_films, prob_Mass=["high"] * number)
    with pytest.raises(DataError, match="column 'prob_Mass': 'high' is not a probability"):
        recalibrate_command(arguments)
    with pytest.raises(SystemExit):
        recalibrate_command([*arguments, "--data", str(tmp_path)])


def test_a_pair_is_the_same_whatever_its_files_are_called(store: Path) -> None:
    sums = check_archives(store)
    rolled = {name.replace(".", "_1a2b.", 1): digest for name, digest in sums.items()}
    assert archives_of(f"{WORKFLOW}_1a2b")[0] in rolled
    assert pair_id(rolled, f"{WORKFLOW}_1a2b") == pair_id(sums)
    assert pair_id({}) == ""


def test_films_of_one_patient_count_for_less() -> None:
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(100).astype(str), 5)
    alone, alike = rng.normal(size=500), np.repeat(rng.normal(size=100), 5)
    assert design_effect(alone, patients) == pytest.approx(1.0, abs=0.3)
    assert design_effect(alike, patients) == pytest.approx(5.0)
    assert design_effect(alike, np.arange(500).astype(str)) == pytest.approx(1.0)
    assert design_effect(np.ones(500), patients) == 1.0
    assert design_effect(np.zeros(0), patients[:0]) == 1.0


def test_a_histogram_moves_with_its_calibration() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0.0, 2.0, 20_000)

    def of(calibration: Platt) -> list[int]:
        probabilities = 1 / (1 + np.exp(-(calibration.slope * logits + calibration.intercept)))
        return histogram(FINDING, probabilities.tolist())

    old, new = Platt(slope=1.2, intercept=-0.3), Platt(slope=0.7, intercept=0.5)
    moved = recalibrated(of(old), old, new)
    assert sum(moved) == len(logits)
    apart = np.abs(np.cumsum(moved) - np.cumsum(of(new))) / len(logits)
    assert apart.max() < 0.01
    assert recalibrated(of(old), old, old) == of(old)
