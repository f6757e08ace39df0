"""Both stages trained together, on p(finding) x p(disease | finding)."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import ViTForImageClassification

from handlers.findings import FINDINGS
from training.evaluate import evaluate
from training.fit.config import ModelConfig, SizesConfig
from training.fit.joint import JointVit, product_logits
from training.predict import predict
from training.train import train

SIZES = SizesConfig(hidden=32, layers=2, heads=2, mlp=64, patch=8)


def test_the_product_is_the_product_of_the_probabilities() -> None:
    first, second = torch.linspace(-6, 6, 13)[:, None].double(), torch.linspace(-6, 6, 13)[None].double()
    assert torch.allclose(torch.sigmoid(product_logits(first, second)), torch.sigmoid(first) * torch.sigmoid(second))


@pytest.mark.parametrize(("first", "second"), [(100.0, 100.0), (-100.0, 100.0), (100.0, -100.0), (-100.0, -100.0)])
def test_loss_and_gradient_stay_finite_at_the_ends(first: float, second: float) -> None:
    logits = torch.tensor([[first], [second]], requires_grad=True)
    for target in (0.0, 1.0):
        loss = binary_cross_entropy_with_logits(product_logits(logits[0], logits[1]), torch.tensor([target]))
        (gradient,) = torch.autograd.grad(loss, logits)
        assert math.isfinite(loss.item())
        assert torch.isfinite(gradient).all()


def test_an_absent_disease_with_a_confident_stage_1_is_learnt_by_stage_2() -> None:
    """d loss / d logit of a negative is p of the product, shared by how unsure each factor is."""
    logits = torch.tensor([4.0, 0.0], requires_grad=True)
    binary_cross_entropy_with_logits(product_logits(logits[0], logits[1])[None], torch.zeros(1)).backward()
    p, q = torch.sigmoid(logits.detach()).tolist()
    expected = [p * q * (1 - p) / (1 - p * q), p * q * (1 - q) / (1 - p * q)]
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx(expected, rel=1e-5)


def test_a_joint_run_exports_two_checkpoints_that_are_evaluated_like_any_other(tiny_config, tmp_path: Path) -> None:
    train(tiny_config("joint", tmp_path, epochs=2))
    for stage, labels in (("binary", 1), ("disease", 14)):
        checkpoint = tmp_path / stage / "checkpoint"
        assert ViTForImageClassification.from_pretrained(checkpoint).config.num_labels == labels
        assert yaml.safe_load((checkpoint / "training.yaml").read_text())["stage"] == "joint"
    lines = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    evaluation = evaluate(tmp_path)
    assert evaluation["test"]["binary"]["auc"] is not None
    assert evaluation["kind"] == "conditional"
    # A table of the disease branch holds p(finding) x p(disease | finding), which orders films as the evaluation does.
    table, scores = predict(tmp_path / "disease" / "checkpoint"), pd.read_csv(tmp_path / "predictions.csv")
    finding = predict(tmp_path / "binary" / "checkpoint")["Finding"]
    assert table["Image Index"].tolist() == scores["Image Index"].tolist()
    for name in FINDINGS:
        assert (table[name] < finding).all()
        assert (table[name].rank() == scores[name].rank()).mean() > 0.9  # but for ties in the last digit


def test_it_goes_on_from_two_single_stage_runs(run: Path, tiny_config, tmp_path: Path) -> None:
    config = tiny_config("joint", tmp_path, epochs=1)
    joint = JointVit(config.model, str(run)).eval()
    films = torch.rand(2, 3, 32, 32)
    binary, disease = (
        ViTForImageClassification.from_pretrained(run / stage / "checkpoint").eval()(films).logits
        for stage in ("binary", "disease")
    )
    expected = torch.sigmoid(binary) * torch.sigmoid(disease)
    logits = joint(films)
    assert torch.allclose(logits[:, :1], binary, atol=1e-5)
    assert torch.allclose(torch.sigmoid(logits[:, 1:]), expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"was trained with model\.image_size 32, not with 64"):
        JointVit(ModelConfig(sizes=SIZES, image_size=64), str(run))


def test_the_single_model_is_predicted_into_a_table(tiny_config, sample: Path, tmp_path: Path) -> None:
    train(tiny_config("single", tmp_path, epochs=1))
    table = predict(tmp_path / "checkpoint")
    assert set(table["Image Index"]) == set((sample / "test_list.txt").read_text().split())
    assert table.shape[1] == 15
    scores = table.drop(columns="Image Index").to_numpy()
    assert ((scores > 0) & (scores < 1)).all()
    assert len(np.unique(scores.round(6))) > 100
