"""The checks of a film: fitted on films that were laid wrongly here, and kept small in the archive."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from handlers.metadata import Metadata
from handlers.quality import QUALITY_FILE, WAYS, QualityReader
from handlers.reading import Screening
from handlers.report import Quality
from training.archive import archive
from training.evaluate import evaluate
from training.evaluation.model_card import model_card
from training.quality import fit, measure
from training.quality.changes import laid
from training.quality.fit import FALSE_ALARMS, fit_components, fit_head, fit_quality
from training.recalibrate import recalibrate

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checked(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, evaluated as one whose validation films suffice for checks."""
    folder = tmp_path_factory.mktemp("checked")
    for stage in ("binary", "disease"):
        (folder / stage).symlink_to(run / stage)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "FEWEST", 10)
        evaluate(folder)
    return folder


@pytest.fixture(scope="module")
def record(checked: Path) -> dict:
    return json.loads((checked / "evaluation.json").read_text())["quality"]


def test_a_film_that_lies_wrongly_is_told_from_one_that_does_not(record: dict) -> None:
    """By features of a network of 32 numbers a film, which has seen a hundred; chance would be 0.5."""
    found = record["test"]["found"]
    assert list(found) == ["turned by 90", "turned by 180", "turned by 270", "mirrored", "inverted"]
    assert found["inverted"]["area"] > 0.8
    assert np.mean([found[f"turned by {angle}"]["area"] for angle in (90, 180, 270)]) > 0.6
    assert record["films"]["validation"] < 50
    assert set(record["levels"]) == {"unlike", "turned", "mirrored", "inverted"}


def test_the_archive_holds_the_checks_and_its_reports_say_them(
    checked: Path, record: dict, film_paths: list[Path], tmp_path: Path
) -> None:
    archive(checked, tmp_path / "store", "1.0.0")
    with zipfile.ZipFile(tmp_path / "store" / "binary.mar") as packed:
        packed.extractall(tmp_path / "binary")
    assert (tmp_path / "binary" / QUALITY_FILE).read_bytes() == (checked / QUALITY_FILE).read_bytes()
    with zipfile.ZipFile(tmp_path / "store" / "disease.mar") as packed:
        assert QUALITY_FILE not in packed.namelist()
    [screened] = Screening(tmp_path / "binary", CPU).screen([film_paths[0].read_bytes()])
    assert isinstance(screened.quality, Quality)
    assert 0 < screened.quality.in_distribution <= 1
    known = Metadata.read(tmp_path / "binary").reference["in_distribution"]  # what served films are compared with
    assert sum(known) == record["films"]["validation"]
    apart = np.cumsum(known) / sum(known) - np.arange(1, 51) / 50
    assert np.abs(apart).max() < 2 / sum(known)  # p-values are uniform, in steps of a film
    card = model_card(tmp_path / "store")
    share = record["test"]["found"]["inverted"]
    assert f"| inverted | {share['films']} | {100 * share['share']:.1f}% | {share['area']:.3f} |" in card
    assert "inverted" in (checked / "evaluation.txt").read_text()


def test_a_site_s_recalibration_keeps_them(checked: Path, sample: Path, tmp_path: Path) -> None:
    archive(checked, tmp_path / "store", "1.0.0")
    recalibrate(tmp_path / "store", sample, tmp_path / "site")
    with zipfile.ZipFile(tmp_path / "site" / "binary.mar") as packed:
        assert packed.read(QUALITY_FILE) == (checked / QUALITY_FILE).read_bytes()


def test_too_few_films_make_no_checks_and_no_old_ones_are_packed(run: Path, tmp_path: Path) -> None:
    assert json.loads((run / "evaluation.json").read_text())["quality"] is None
    assert "No checks of a film: too few films" in (run / "evaluation.txt").read_text()
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / QUALITY_FILE).write_bytes(b"of an evaluation before")
    archive(tmp_path / "run", tmp_path / "store", "1.0.0")
    with zipfile.ZipFile(tmp_path / "store" / "binary.mar") as packed:
        assert QUALITY_FILE not in packed.namelist()


def test_a_film_is_mirrored_then_turned_then_inverted() -> None:
    film = np.array([[1, 2], [3, 4]], np.uint8)
    assert laid(film, ("upright", True, False)).tolist() == [[2, 1], [4, 3]]
    assert laid(film, ("90", False, False)).tolist() == [[3, 1], [4, 2]]
    assert laid(film, ("90", True, True)).tolist() == [[251, 253], [252, 254]]


class Drawn:
    """Films that are their own features: drawn from one normal distribution, and what is made of them from another."""

    def __init__(self, films: int, width: int) -> None:
        chance = np.random.default_rng(0)
        self.basis = chance.normal(size=(8, width))
        self.features = (chance.normal(size=(films, 8)) @ self.basis + chance.normal(size=(films, width))).astype("f4")
        self.ways = chance.normal(size=(len(WAYS), width)).astype("f4")
        self.ways[0] = 0

    def plain(self, rows: np.ndarray) -> np.ndarray:
        return self.features[rows]

    def laid(self, rows: np.ndarray, ways: list[int]) -> np.ndarray:
        return self.features[rows] + 3 * self.ways[list(ways)]


@pytest.fixture(scope="module")
def drawn() -> tuple[QualityReader, bytes, Drawn]:
    films = Drawn(2000, 600)
    fitted = fit_quality(films, np.arange(1400), np.arange(1400, 2000))
    assert fitted
    return *fitted[:2], films


def test_levels_warn_of_as_many_upright_validation_films_as_was_chosen(drawn) -> None:
    reader, _, films = drawn
    seen = reader.judge(films.plain(np.arange(1400, 2000)))
    for kind, share in FALSE_ALARMS.items():
        warned = np.mean([measure.flagged(of, kind) for of in seen])
        assert warned <= share + 1.5 / 600
        assert kind != "unlike" or warned == pytest.approx(share, abs=1.5 / 600)
    assert sum(FALSE_ALARMS.values()) == pytest.approx(0.05)
    within = np.sort([of.in_distribution for of in seen])
    assert within == pytest.approx(np.arange(1, 601) / 601, abs=3 / 600)  # evenly, as a p-value


def test_the_file_is_small_whatever_the_features_width(drawn) -> None:
    _, file, _ = drawn
    assert len(file) < 300_000
    wide = np.random.default_rng(0).normal(size=(300, 8192)).astype(np.float32)
    assert fit_components(wide)["axes"].astype(np.float16).nbytes <= 1_000_000


def test_a_level_below_even_odds_is_not_used(drawn) -> None:
    """A head that is sure of every upright film would else call a film mirrored at one in a million."""
    reader, _, films = drawn
    scores = reader.scores(films.plain(np.arange(1400, 2000)))
    for kind in ("turned", "mirrored", "inverted"):
        chosen = float(np.quantile(scores.of(kind), 1 - FALSE_ALARMS[kind], method="higher"))
        assert getattr(reader.levels, kind) == pytest.approx(max(0.5, chosen), abs=1e-6)


def test_the_ways_are_told_apart(drawn) -> None:
    reader, _, films = drawn
    rows = np.arange(1400, 1500)
    for way in (("90", False, False), ("upright", True, False), ("upright", False, True), ("270", True, True)):
        seen = reader.judge(films.laid(rows, [WAYS.index(way)] * len(rows)))
        lies = [(of.orientation.value, of.mirrored.value, of.inverted.value) for of in seen]
        assert lies.count(way) >= 95


def test_the_components_are_those_of_the_films() -> None:
    """Against the eigenvalues of their covariance: the leading ones, and the mean of the others."""
    films = np.random.default_rng(2).normal(size=(900, 200)) * np.linspace(3, 0.5, 200)
    films -= films.mean(axis=0)
    found = fit_components(films.astype(np.float32))
    values = np.sort(np.linalg.eigvalsh(films.T @ films / len(films)))[::-1]
    assert found["axes"].shape == (200, 128)
    assert found["spread"] == pytest.approx(np.sqrt(values[:128]), rel=1e-3)
    assert found["noise"] == pytest.approx(np.sqrt(values[128:].mean()), rel=1e-3)
    assert found["axes"].T @ found["axes"] == pytest.approx(np.eye(128), abs=1e-4)


def test_a_way_that_no_film_was_laid_in_is_never_said() -> None:
    chance = np.random.default_rng(3)
    head = fit_head(chance.normal(size=(60, 5)).astype(np.float32), np.arange(60) % 3 * 5)
    logits = chance.normal(size=(100, 5)) @ head["weights"].T + head["bias"]
    assert set(logits.argmax(axis=1)) <= {0, 5, 10}
