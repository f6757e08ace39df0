"""The two entry points on one batch, as TorchServe calls them: no input makes them raise."""

import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from pydicom.data import get_testdata_file

from handlers.binary_handler import BinaryHandler
from handlers.calibration import Platt
from handlers.cascade import Cascade
from handlers.decoding import batch
from handlers.decoding.image import read_film, to_pixels
from handlers.disease_handler import DiseaseHandler
from handlers.findings import FINDINGS
from handlers.message import pack, unpack
from handlers.metadata import Metadata
from handlers.networks.vit import Vit
from handlers.reading import Naming, Screening
from handlers.report import Refusal, Report, parse_answer
from training.archive import archive
from training.evaluate import evaluate
from training.train import train

CPU = torch.device("cpu")


class Counters:
    """TorchServe's metrics, as far as the handlers use them."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()

    def add_counter(self, name: str, value: int) -> None:
        self.totals[name] += value


def context_of(folder: Path) -> SimpleNamespace:
    return SimpleNamespace(system_properties={"model_dir": str(folder), "gpu_id": None}, metrics=Counters())


@pytest.fixture
def nodes(unpacked: dict[str, Path]):
    """Both handlers, initialised, each with a context of its own."""
    made = {"binary": BinaryHandler(), "disease": DiseaseHandler()}
    contexts = {stage: context_of(folder) for stage, folder in unpacked.items()}
    for stage, handler in made.items():
        handler.initialize(contexts[stage])
    return made, contexts


def through(nodes, requests: list[dict]) -> list[Report | Refusal]:
    made, contexts = nodes
    messages = made["binary"].handle(requests, contexts["binary"])
    bodies = [{"body": bytearray(message)} for message in messages]
    return [parse_answer(body) for body in made["disease"].handle(bodies, contexts["disease"])]


def test_a_report_says_what_the_film_is(nodes, film_paths: list[Path]) -> None:
    radiograph = Path(str(get_testdata_file("RG1_UNCR.dcm")))
    drawn, real = through(nodes, [{"body": bytearray(path.read_bytes())} for path in (film_paths[0], radiograph)])
    header = pydicom.dcmread(radiograph, stop_before_pixels=True)
    assert (real.image.width, real.image.height) == (header.Columns, header.Rows)
    assert (drawn.image.modality, real.image.modality) == (None, header.Modality)
    for report, path in ((drawn, film_paths[0]), (real, radiograph)):
        grey = read_film(path.read_bytes())
        assert (report.image.height, report.image.width) == grey.shape
        assert report.image.brightness == pytest.approx(grey.mean() / 255, abs=0.01)


def test_only_routed_films_reach_stage_2(nodes, film_paths: list[Path]) -> None:
    films = film_paths[:30]
    reports = through(nodes, [{"body": bytearray(film.read_bytes())} for film in films])
    routed = [report for report in reports if report.routed]
    skipped = [report for report in reports if not report.routed]
    assert routed
    assert skipped
    _, contexts = nodes
    assert contexts["binary"].metrics.totals["cxr_binary_films"] == len(films)
    assert contexts["binary"].metrics.totals["cxr_films_routed"] == len(routed)
    assert contexts["disease"].metrics.totals["cxr_disease_films"] == len(routed)
    for report in skipped:
        assert list(report.diseases) == list(FINDINGS)
        assert not report.finding.present
        assert {score.probability for score in report.diseases.values()} == {0.0}
    for report in routed:
        assert report.finding.present
        assert min(score.probability for score in report.diseases.values()) > 0.0


def test_a_bad_film_in_a_batch_leaves_the_others_as_they_were(nodes, film_paths: list[Path]) -> None:
    good = [film.read_bytes() for film in film_paths[:4]]
    alone = [through(nodes, [{"body": bytearray(film)}])[0] for film in good]
    bad = [b"text", good[0][:-500], b"", {"json": 1}]
    requests = [{"body": bytearray(film)} for film in good[:2]]
    requests += [{"body": film} for film in bad] + [{}, {"file": b"wrong field"}]
    requests += [{"data": bytearray(film)} for film in good[2:]]
    answers = through(nodes, requests)
    types = [answer.error.type for answer in answers[2:8]]
    assert types == [
        "UnreadableImage",
        "TruncatedImage",
        "EmptyRequest",
        "UnreadableImage",
        "EmptyRequest",
        "EmptyRequest",
    ]
    for expected, answer in zip(alone, answers[:2] + answers[8:], strict=True):
        assert answer.routed == expected.routed
        assert answer.finding.probability == pytest.approx(expected.finding.probability, abs=1e-5)
        for name in FINDINGS:
            assert answer.diseases[name].probability == pytest.approx(expected.diseases[name].probability, abs=1e-5)


def test_a_batch_of_bad_films_alone_is_answered(nodes) -> None:
    answers = through(nodes, [{"body": bytearray(b"text")}, {"body": bytearray(b"")}])
    assert [answer.error.type for answer in answers] == ["UnreadableImage", "EmptyRequest"]


def test_a_fault_in_the_model_is_an_answer_not_an_exception(nodes, film_paths, monkeypatch) -> None:
    made, _ = nodes

    def broken(features: np.ndarray) -> np.ndarray:
        raise RuntimeError("CUDA out of memory")

    film = [{"body": bytearray(film_paths[0].read_bytes())}]
    for stage in (made["binary"].screening, made["disease"].naming):
        with monkeypatch.context() as patched:
            patched.setattr(made["binary"].screening, "cascade", Cascade(thresholds={"Finding": 0.0}))
            patched.setattr(stage.vit, "logits_of", broken)
            patched.setattr(stage.vit, "end_if_broken", lambda: None)
            answer = through(nodes, film)[0]
        assert isinstance(answer, Refusal)
        assert (answer.error.code, answer.error.type) == (500, "InternalError")


@pytest.mark.parametrize("fault", [MemoryError(), RuntimeError("a bug"), RecursionError()])
def test_a_fault_in_one_film_s_decoding_answers_that_film_alone(nodes, film_paths, monkeypatch, fault) -> None:
    films = [path.read_bytes() for path in film_paths[:3]]

    def broken(film: bytes) -> np.ndarray:
        if film == films[1]:
            raise fault
        return read_film(film)

    alone = through(nodes, [{"body": film} for film in films])
    monkeypatch.setattr(batch, "read_film", broken)
    answers = through(nodes, [{"body": film} for film in films])
    assert isinstance(answers[1], Refusal)
    assert (answers[1].error.code, answers[1].error.type) == (500, "InternalError")
    for place in (0, 2):
        assert answers[place].finding.probability == pytest.approx(alone[place].finding.probability, abs=1e-5)


def test_the_disease_node_answers_what_is_no_message(nodes) -> None:
    made, contexts = nodes
    for request in ({"body": bytearray(b"noise")}, {}, {"body": {"json": True}}):
        answer = parse_answer(made["disease"].handle([request], contexts["disease"])[0])
        assert answer.error.type == "NotAMessage"


def test_each_label_is_served_through_its_own_calibration(unpacked, film_paths: list[Path], tmp_path: Path) -> None:
    """Against numpy: sigmoid(slope x logit + intercept), before the gate and before the report."""
    chance = np.random.default_rng(0)
    slopes, intercepts = chance.uniform(0.2, 3.0, 15), chance.normal(0.0, 1.0, 15)
    labels, folders = ["Finding", *FINDINGS], {}
    for stage, folder in unpacked.items():
        folders[stage] = Path(shutil.copytree(folder, tmp_path / stage))
        metadata = Metadata.read(folder)
        numbers = {label: labels.index(label) for label in metadata.labels}
        metadata.calibration = {label: Platt(slope=slopes[n], intercept=intercepts[n]) for label, n in numbers.items()}
        (folders[stage] / "metadata.json").write_text(metadata.model_dump_json())
    screening, naming = Screening(folders["binary"], CPU), Naming(folders["disease"], CPU)
    films = [path.read_bytes() for path in film_paths[:20]]
    pixels = np.stack([to_pixels(read_film(film), 32) for film in films])
    logits = np.concatenate([Vit(folders[stage], CPU).logits(pixels) for stage in ("binary", "disease")], axis=1)
    expected = 1.0 / (1.0 + np.exp(-(slopes * logits.astype(np.float64) + intercepts)))
    gate = float(np.median(expected[:, 0]))
    screening.cascade = screening.cascade.model_copy(update={"thresholds": {"Finding": gate}})
    reports = naming.name(screening.screen(films))
    for report, wanted in zip(reports, expected, strict=True):
        assert isinstance(report, Report)
        assert report.finding.probability == pytest.approx(wanted[0], abs=1e-6)
        assert report.routed == (wanted[0] >= gate)
        served = [report.diseases[name].probability for name in FINDINGS]
        assert served == pytest.approx(wanted[1:] if report.routed else np.zeros(14), abs=1e-6)
    assert 0 < sum(report.routed for report in reports) < 20


@pytest.fixture(scope="module")
def joint(tiny_config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "joint"
    train(tiny_config("joint", folder, epochs=2))
    evaluate(folder, sensitivity=0.5)  # a gate that lets some of the films through
    return folder


@pytest.mark.parametrize(("made", "kind"), [("run", "marginal"), ("joint", "conditional")])
def test_what_is_served_is_what_was_evaluated(
    made: str, kind: str, request: pytest.FixtureRequest, film_paths: list[Path], tmp_path: Path
) -> None:
    """Packed, unpacked and read in process: the report has the evaluation's numbers."""
    run: Path = request.getfixturevalue(made)
    evaluation = json.loads((run / "evaluation.json").read_text())
    archive(run, tmp_path / "store", "1.0.0", "float32")
    for stage in ("binary", "disease"):
        with zipfile.ZipFile(tmp_path / "store" / f"{stage}.mar") as packed:
            packed.extractall(tmp_path / stage)
    screening, naming = Screening(tmp_path / "binary", CPU), Naming(tmp_path / "disease", CPU)
    assert naming.cascade.kind == kind == evaluation["kind"]
    offline = pd.read_csv(run / "predictions.csv").set_index("Image Index")
    films = [path for path in film_paths if path.name in offline.index]
    reports = naming.name([unpack(pack(one)) for one in screening.screen([path.read_bytes() for path in films])])
    for path, report in zip(films, reports, strict=True):
        assert isinstance(report, Report)
        expected = offline.loc[path.name]
        assert report.finding.probability == pytest.approx(expected["Finding"], abs=1e-6)
        assert report.routed == (np.float32(expected["Finding"]) >= evaluation["thresholds"]["Finding"])
        served = [report.diseases[name].probability for name in FINDINGS]
        assert served == pytest.approx(expected[list(FINDINGS)].tolist() if report.routed else [0.0] * 14, abs=1e-6)
        for name, score in report.diseases.items():
            assert score.threshold == evaluation["thresholds"][name]
    assert 0 < sum(report.routed for report in reports) < len(reports)
    if made == "joint":  # the other run's gate was moved after its evaluation
        assert sum(report.routed for report in reports) == evaluation["test"]["routed"]


def test_an_archive_without_calibration_is_served_as_the_model_says(unpacked, film_paths, tmp_path: Path) -> None:
    """As those that were packed before there was one."""
    folder = Path(shutil.copytree(unpacked["binary"], tmp_path / "binary"))
    metadata = json.loads((folder / "metadata.json").read_text())
    del metadata["calibration"], metadata["recalibrated"], metadata["kind"]
    (folder / "metadata.json").write_text(json.dumps(metadata))
    film = film_paths[0].read_bytes()
    logit = float(Vit(folder, CPU).logits(to_pixels(read_film(film), 32)[None])[0, 0])
    screened = Screening(folder, CPU).screen([film])[0]
    assert screened.finding.probability == pytest.approx(1.0 / (1.0 + np.exp(-logit)), abs=1e-6)
