"""A frozen backbone: features are computed once, heads are scikit-learn's, the checkpoint is like any other."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from transformers import AutoModelForImageClassification

from handlers.findings import FINDINGS
from handlers.networks.vit import Vit
from tests.backbones import SIDE, write_backbone
from training.fit.config import ConfigError, ModelConfig, ProbeConfig, SizesConfig, TrainConfig
from training.fit.features import INDEX, ORIGIN, ROWS, load_features
from training.fit.model import build_model, save_checkpoint
from training.fit.probe import fit_heads
from training.predict import films_of
from training.train import train
from workflows.files.text_files import DataError

CPU = torch.device("cpu")
ALL = np.arange(100)
"""Of the films of ``films``."""


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone("DINOv2", tmp_path_factory.mktemp("backbone"))


@pytest.fixture
def probe_config(backbone: Path, tiny_config) -> Callable[..., TrainConfig]:
    """Configurations of probes on the drawn films."""

    def build(stage: str, out: Path, **probe: object) -> TrainConfig:
        model = ModelConfig(backbone=str(backbone), image_size=SIDE)
        return replace(tiny_config(stage, out), model=model, probe=ProbeConfig(**probe))

    return build


@pytest.fixture
def checkpoint(backbone: Path, tmp_path: Path) -> Path:
    config = ModelConfig(backbone=str(backbone), image_size=SIDE)
    save_checkpoint(build_model(config, ["Finding"]), config, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.fixture
def films() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (100, SIDE, SIDE)).astype(np.uint8)


def test_a_probe_is_logistic_regression_on_what_is_served(probe_config, tmp_path: Path) -> None:
    config = probe_config("disease", tmp_path, c=[0.003])
    [line] = train(config)
    checkpoint = tmp_path / "checkpoint"
    films, pixels = films_of(config.resolved())
    vit, rows = Vit(checkpoint, CPU), films.rows("train")
    features, validation = vit.features(pixels[rows]), vit.features(pixels[films.rows("validation")])
    mean, scale = features.mean(axis=0), features.std(axis=0)
    areas = []
    for at, name in enumerate(FINDINGS):
        truth = films.diseases[rows, at]
        expected = LogisticRegression(C=0.003, max_iter=2000, tol=1e-8).fit((features - mean) / scale, truth)
        ours = vit.logits(pixels[films.rows("validation")])[:, at]
        assert ours == pytest.approx(expected.decision_function((validation - mean) / scale), abs=2e-3), name
        answers = films.diseases[films.rows("validation"), at]
        if 0 < answers.sum() < len(answers):
            areas.append(roc_auc_score(answers, ours))
    assert line["validation_auc"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert line["c"] == dict.fromkeys(FINDINGS, 0.003)


def test_its_checkpoint_opens_in_plain_transformers(probe_config, tmp_path: Path, films: np.ndarray) -> None:
    train(probe_config("binary", tmp_path))
    whole, vit = (
        AutoModelForImageClassification.from_pretrained(tmp_path / "checkpoint"),
        Vit(tmp_path / "checkpoint", CPU),
    )
    with torch.inference_mode():
        logits = whole.eval()(vit.inputs(films)).logits
    assert vit.logits(films) == pytest.approx(logits.numpy(), abs=1e-4)
    assert np.std(vit.logits(films)) > 0


def test_a_finished_probe_stays_and_the_same_command_says_so(probe_config, tmp_path: Path, capsys) -> None:
    config = probe_config("binary", tmp_path)
    history = train(config)
    weights = (tmp_path / "checkpoint" / "model.safetensors").read_bytes()
    with pytest.raises(DataError, match="holds a run that is finished"):
        train(config)
    assert train(config, resume=True) == history
    assert "finished already" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"of another configuration \(probe.flip was False, is True\)"):
        train(probe_config("binary", tmp_path, flip=True), resume=True)
    assert (tmp_path / "checkpoint" / "model.safetensors").read_bytes() == weights
    assert len(train(probe_config("binary", tmp_path, flip=True), force=True)) == 1


def test_each_label_takes_the_penalty_that_unseen_patients_prefer() -> None:
    draw = np.random.default_rng(0)
    learned, judged = draw.normal(size=(300, 40)), draw.normal(size=(4000, 40))
    plain = learned[:, 0] > 0, judged[:, 0] > 0
    noisy = [draw.random(len(x)) < 1 / (1 + np.exp(-0.5 * x[:, 1])) for x in (learned, judged)]
    truth, answers = (np.stack([a, b], axis=1).astype(np.int8) for a, b in zip(plain, noisy, strict=True))
    easy, hard = fit_heads(learned, truth, judged, answers, [1e-4, 1e-2, 1.0, 100.0])
    assert easy.c > hard.c
    for head, column in ((easy, 0), (hard, 1)):
        areas = {
            c: roc_auc_score(
                answers[:, column],
                LogisticRegression(C=c, max_iter=2000).fit(learned, truth[:, column]).decision_function(judged),
            )
            for c in (1e-4, 1e-2, 1.0, 100.0)
        }
        assert areas[head.c] >= max(areas.values()) - 1e-3


def test_a_label_of_one_outcome_gets_its_prevalence_and_no_weights() -> None:
    draw = np.random.default_rng(0)
    learned, judged = draw.normal(size=(99, 5)), draw.normal(size=(20, 5))
    truth = np.stack([learned[:, 0] > 0, np.zeros(99)], axis=1).astype(np.int8)
    answers = np.stack([np.ones(20), judged[:, 0] > 0], axis=1).astype(np.int8)
    first, never = fit_heads(learned, truth, judged, answers, [0.1, 10.0])
    assert first.c == 0.1  # validation cannot say: the others' usual one
    np.testing.assert_array_equal(never.weights, np.zeros(5))
    assert never.bias == pytest.approx(np.log(0.005 / 0.995))


def test_a_film_that_is_not_labelled_for_a_finding_counts_for_the_others_alone() -> None:
    draw = np.random.default_rng(0)
    learned, judged = draw.normal(size=(300, 5)), draw.normal(size=(60, 5))
    truth, answers = ((x[:, :2] > 0).astype(np.int8) for x in (learned, judged))
    hidden, unseen = truth.copy(), answers.copy()
    hidden[:100, 0], unseen[:20, 0] = -1, -1
    first, second = fit_heads(learned, hidden, judged, unseen, [0.1])
    [alone] = fit_heads(learned[100:], truth[100:, :1], judged[20:], answers[20:, :1], [0.1])
    [whole] = fit_heads(learned, truth[:, 1:], judged, answers[:, 1:], [0.1])
    np.testing.assert_allclose(first.weights, alone.weights, atol=1e-4)
    np.testing.assert_allclose(second.weights, whole.weights, atol=1e-4)
    assert not np.allclose(first.weights, fit_heads(learned, truth, judged, answers, [0.1])[0].weights, atol=1e-3)


def test_features_are_computed_once_and_anew_for_what_changed(
    checkpoint: Path, films: np.ndarray, tmp_path: Path, monkeypatch
) -> None:
    vit, cache = Vit(checkpoint, CPU), tmp_path / "cache"
    expected, computed = vit.features(films), []
    original = Vit.features
    monkeypatch.setattr(
        Vit, "features", lambda self, of, busy=False: computed.append(len(of)) or original(self, of, busy)
    )
    np.testing.assert_allclose(load_features(checkpoint, vit, films, ALL, cache), expected, atol=1e-5)
    assert sum(computed) == 100
    np.testing.assert_allclose(load_features(checkpoint, vit, films, ALL[::-1], cache), expected[::-1], atol=1e-5)
    assert sum(computed) == 100
    mirrored = load_features(checkpoint, vit, films, ALL[:9], cache, mirrored=True)
    np.testing.assert_allclose(mirrored, original(vit, films[:9, :, ::-1]), atol=1e-5)
    assert sum(computed) == 109
    changed = films.copy()
    changed[7] = 255 - changed[7]
    found = load_features(checkpoint, vit, changed, ALL, cache)
    assert sum(computed) == 110
    np.testing.assert_allclose(found[7], original(vit, changed[7:8])[0], atol=1e-5)
    np.testing.assert_allclose(np.delete(found, 7, 0), np.delete(expected, 7, 0), atol=1e-5)


@pytest.mark.parametrize(("rows", "lines"), [(1, 0), (0, 30), (700, 0), (0, 650), (3, 3)])
def test_a_kill_between_two_writes_costs_the_rows_that_were_not_finished(
    checkpoint: Path, films: np.ndarray, tmp_path: Path, rows: int, lines: int
) -> None:
    """Whatever was cut off either file, in bytes."""
    vit, cache = Vit(checkpoint, CPU), tmp_path / "cache"
    expected = load_features(checkpoint, vit, films, ALL, cache)
    (folder,) = cache.iterdir()
    for name, lost in ((ROWS, rows), (INDEX, lines)):
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size - lost])
    np.testing.assert_allclose(load_features(checkpoint, vit, films, ALL, cache), expected, atol=1e-5)
    assert (folder / ROWS).stat().st_size == expected.nbytes
    assert len((folder / INDEX).read_text().split()) == len(films)


def test_another_encoder_s_features_are_never_taken(checkpoint: Path, films: np.ndarray, tmp_path: Path) -> None:
    vit, cache = Vit(checkpoint, CPU), tmp_path / "cache"
    load_features(checkpoint, vit, films, ALL[:4], cache)
    other = tmp_path / "other"
    config = ModelConfig(backbone=str(checkpoint), image_size=SIDE, pool="cls")
    save_checkpoint(build_model(config, ["Finding"]), config, other)
    assert load_features(other, Vit(other, CPU), films, ALL[:4], cache).shape == (4, 32)
    assert len(list(cache.iterdir())) == 2
    half = Vit(checkpoint, CPU, torch.bfloat16)
    load_features(checkpoint, half, films, ALL[:4], cache)
    assert len(list(cache.iterdir())) == 3
    (origin,) = (path for path in cache.glob(f"*/{ORIGIN}") if "bfloat16" in path.read_text())
    origin.write_text(json.dumps({"encoder": "0" * 64, "precision": "bfloat16"}))
    with pytest.raises(DataError, match=rf"{origin}: these features are of .*0000.* Delete the folder: it is a cache"):
        load_features(checkpoint, half, films, ALL[:4], cache)


def test_fine_tuning_starts_from_a_probe(probe_config, tiny_config, tmp_path: Path) -> None:
    probe = probe_config("disease", tmp_path / "probe" / "disease")
    [line] = train(probe)
    tuned = replace(probe, out=str(tmp_path / "tuned"), probe=None, start=str(tmp_path / "probe"))
    tuned = replace(tuned, optim=replace(tuned.optim, lr=1e-9, epochs=1))
    [first] = train(tuned)
    assert first["validation_auc"] == pytest.approx(line["validation_auc"], abs=2e-3)
    with pytest.raises(DataError, match="has a head of 14 labels, 1 are to be trained"):
        train(replace(tuned, stage="binary", out=str(tmp_path / "b"), start=str(tmp_path / "probe" / "disease")))
    with pytest.raises(DataError, match="holds neither checkpoint nor disease/checkpoint"):
        train(replace(tuned, out=str(tmp_path / "c"), start=str(tmp_path)))


def test_what_cannot_be_meant_of_a_probe_is_refused(tiny_config, tmp_path: Path) -> None:
    sizes = SizesConfig(hidden=32, layers=2, heads=2, mlp=64, patch=8)
    for model, stage, message in (
        (ModelConfig(sizes=sizes, image_size=32), "binary", "name model.backbone"),
        (ModelConfig(), "joint", "no stage 'joint'"),
    ):
        with pytest.raises(ConfigError, match=message):
            TrainConfig(stage=stage, out=str(tmp_path), model=model, probe=ProbeConfig())
    with pytest.raises(ConfigError, match=r"probe\.c is \[0\.0\]"):
        ProbeConfig(c=[0.0])
