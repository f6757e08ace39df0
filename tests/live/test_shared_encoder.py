"""Two heads on one frozen backbone, served: stage 1 sends features on, and the reports are those of the checkpoints."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from handlers.bfloat16_rule import Bfloat16Effect
from handlers.cascade import Cascade
from handlers.decoding.image import read_film, to_pixels
from handlers.findings import FINDINGS
from handlers.message import Screened, pack
from handlers.metadata import Metadata
from handlers.networks.explain import relevance
from handlers.networks.precision import is_native
from handlers.networks.vit import Vit
from handlers.reading import Naming, Screening
from handlers.report import Refusal, Report
from tests.backbones import SIDE, write_backbone
from tests.service import live_torchserve
from tests.unpacked import unpack_archives
from training.evaluate import evaluate
from training.fit.config import ModelConfig, ProbeConfig
from training.train import train
from workflows.register import predict

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def probed(tiny_config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two probes of one backbone with registers, whose gate lets half of the test films through."""
    backbone = write_backbone("DINOv2 with registers", tmp_path_factory.mktemp("backbone"))
    run = tmp_path_factory.mktemp("probed")
    for stage in ("binary", "disease"):
        config = replace(tiny_config(stage, run / stage), model=ModelConfig(backbone=str(backbone), image_size=SIDE))
        train(replace(config, probe=ProbeConfig(c=[0.001, 0.1])))
    evaluation = evaluate(run)
    evaluation["thresholds"]["Finding"] = float(np.float32(pd.read_csv(run / "predictions.csv")["Finding"].median()))
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    return run


@pytest.fixture(scope="module")
def stages(probed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Screening, Naming]:
    folders = unpack_archives(probed, tmp_path_factory.mktemp("store"))
    return Screening(folders["binary"], CPU), Naming(folders["disease"], CPU)


def expected_of(probed: Path, film: bytes, precision: str) -> tuple[float, list[float]]:
    """p(finding), and the 14 of stage 2 on every film, offline."""
    evaluation = json.loads((probed / "evaluation.json").read_text())
    cascade = Cascade.of_evaluation(evaluation)
    dtype = getattr(torch, precision)
    binary, disease = (Vit(probed / stage / "checkpoint", CPU, dtype) for stage in ("binary", "disease"))
    pixels = to_pixels(read_film(film), SIDE)[None]
    first = binary.logits(pixels)[:, 0]
    return float(cascade.finding(first)[0]), cascade.diseases(first, disease.logits(pixels))[0].tolist()


def log_of(folder: Path) -> str:
    return "".join(path.read_text() for path in (folder / "logs").glob("torchserve*.log"))


def check(report: Report | Refusal, probed: Path, film: bytes) -> bool:
    assert isinstance(report, Report)
    finding, diseases = expected_of(probed, film, report.models.precisions["binary"])
    assert report.finding.probability == pytest.approx(finding, abs=1e-3)
    expected = diseases if report.routed else [0.0] * 14
    assert [report.diseases[name].probability for name in FINDINGS] == pytest.approx(expected, abs=1e-3)
    return report.routed


def test_both_archives_name_the_encoder_that_they_share(
    stages: tuple[Screening, Naming], run: Path, tmp_path: Path
) -> None:
    names = {stage.metadata.shared_encoder for stage in stages}
    assert len(names) == 1
    assert len(names.pop() or "") == 64
    of_two = unpack_archives(run, tmp_path)
    assert {Metadata.read(folder).shared_encoder for folder in of_two.values()} == {None}


def test_a_routed_film_s_message_has_features_and_pixels_for_a_heatmap_alone(stages, films: list[bytes]) -> None:
    screening, _ = stages
    answers = screening.screen(films[:20], dict.fromkeys(range(10, 20), "Mass"))
    assert 0 < sum(one.routed for one in answers) < 20
    for at, one in enumerate(answers):
        assert isinstance(one, Screened)
        assert (one.features is not None) == one.routed
        assert (one.pixels is not None) == (one.routed and at >= 10)
        assert one.routed or len(pack(one)) < 1000


def test_stage_2_is_a_matrix_product_and_says_the_same(stages, probed: Path, films: list[bytes], monkeypatch) -> None:
    screening, naming = stages
    screened = screening.screen(films[:30])
    with monkeypatch.context() as patched:
        patched.setattr(naming.vit, "features", None)  # not called
        reports = naming.name(screened)
    assert 0 < sum(check(report, probed, film) for report, film in zip(reports, films[:30], strict=True)) < 30


def test_a_heatmap_is_that_of_the_disease_model(stages, probed: Path, films: list[bytes]) -> None:
    screening, naming = stages
    reports = naming.name(screening.screen(films[:20], dict.fromkeys(range(20), "Mass")))
    vit = Vit(probed / "disease" / "checkpoint", CPU)
    for report, film in zip(reports, films[:20], strict=True):
        maps = relevance(vit, to_pixels(read_film(film), SIDE)[None], FINDINGS.index("Mass"))
        assert set(report.heatmaps) == ({"Mass"} if report.routed else set())
        assert np.isfinite(maps).all()


def test_features_of_another_encoder_are_the_service_s_fault(stages, films: list[bytes]) -> None:
    screening, naming = stages
    routed = next(one for one in screening.screen(films[:20]) if one.routed)
    [answer] = naming.name([replace(routed, encoder="0" * 64)])
    assert isinstance(answer, Refusal)
    assert (answer.error.code, answer.error.type) == (500, "InternalError")


def test_served_reports_are_those_of_the_checkpoints_in_the_precision_that_auto_chose(
    probed: Path, films: list[bytes], tmp_path: Path
) -> None:
    nothing = {"films": 1000, "largest_change": 0.0, "finding_auc_change": 0.0, "mean_auc_change": 0.0}
    evaluation = json.loads((probed / "evaluation.json").read_text())
    effect = Bfloat16Effect(**nothing, flipped={}, films_flipped=0)
    (tmp_path / "run").mkdir()
    for stage in ("binary", "disease"):
        (tmp_path / "run" / stage).symlink_to(probed / stage)
    allowed = json.dumps(evaluation | {"bfloat16": effect.model_dump()})
    (tmp_path / "run" / "evaluation.json").write_text(allowed)
    with live_torchserve(tmp_path / "run", tmp_path, "auto") as server:
        reports = [predict(server, film) for film in films[:20]]
    routes = [check(report, probed, film) for report, film in zip(reports, films[:20], strict=True)]
    assert 0 < sum(routes) < 20
    if not is_native(CPU):
        assert {precision for report in reports for precision in report.models.precisions.values()} == {"float32"}
    said = re.findall(r"the (binary|disease) model computes in (float32|bfloat16): ", log_of(tmp_path))
    assert dict(said) == reports[0].models.precisions
