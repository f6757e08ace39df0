"""The recipe's parts do what their papers say."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.fit.augment import augment
from training.fit.config import AugmentConfig, ModelConfig, OptimConfig, SizesConfig
from training.fit.model import build_model
from training.fit.optimise import asymmetric_loss, make_loss, make_optimizer
from training.train import train

SIZES = SizesConfig(hidden=32, layers=4, heads=2, mlp=64, patch=8)


def network(drop_path: float = 0.0):
    return build_model(ModelConfig(sizes=SIZES, image_size=32, dropout=0.0, drop_path=drop_path), ["Finding"])


def rate_of(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> float:
    return next(group["lr"] for group in optimizer.param_groups if any(one is parameter for one in group["params"]))


def test_the_learning_rate_decays_from_the_head_down_to_the_patches() -> None:
    model = network()
    optimizer = make_optimizer(model, OptimConfig(lr=1.0, layer_decay=0.5))
    assert rate_of(optimizer, model.head.weight) == 1.0
    assert rate_of(optimizer, model.encoder.layernorm.weight) == 1.0
    assert [rate_of(optimizer, layer.mlp.fc1.weight) for layer in model.encoder.layers] == [1 / 16, 1 / 8, 1 / 4, 1 / 2]
    assert rate_of(optimizer, model.encoder.embeddings.cls_token) == 1 / 32
    held = [id(one) for group in optimizer.param_groups for one in group["params"]]
    assert sorted(held) == sorted(id(one) for one in model.parameters())


def test_weight_decay_is_for_the_weights_of_tokens_and_pixels_alone() -> None:
    model = network()
    optimizer = make_optimizer(model, OptimConfig(weight_decay=0.05, layer_decay=0.5))
    decay = {
        name: next(of["weight_decay"] for of in optimizer.param_groups if any(one is parameter for one in of["params"]))
        for name, parameter in model.named_parameters()
    }
    embeddings, layer = "encoder.embeddings.", "encoder.layers.0."
    exempt = ["cls_token", "position_embeddings", "patch_embeddings.projection.bias"]
    assert {decay[embeddings + name] for name in exempt} == {0.0}
    assert decay["head.bias"] == decay["encoder.layernorm.weight"] == decay[f"{layer}mlp.fc1.bias"] == 0.0
    decayed = [
        f"{embeddings}patch_embeddings.projection.weight",
        f"{layer}attention.q_proj.weight",
        "head.weight",
    ]
    assert {decay[name] for name in decayed} == {0.05}
    assert all(value == (0.05 if name in _matrices(model) else 0.0) for name, value in decay.items())


def _matrices(model: torch.nn.Module) -> set[str]:
    """Names of the weights of linear layers and convolutions."""
    kinds = torch.nn.Linear, torch.nn.Conv2d
    return {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, kinds)}


def test_class_weights_multiply_the_positives_alone() -> None:
    logits, targets = torch.tensor([[0.3], [-1.2]]), torch.tensor([[1.0], [0.0]])
    positive, negative = math.log1p(math.exp(-0.3)), math.log1p(math.exp(-1.2))
    weighted = make_loss(OptimConfig(class_weights=True), torch.tensor([5.0]))(logits, targets)
    plain = make_loss(OptimConfig(class_weights=False), torch.tensor([5.0]))(logits, targets)
    assert weighted.item() == pytest.approx((5 * positive + negative) / 2)
    assert plain.item() == pytest.approx((positive + negative) / 2)


def test_the_asymmetric_loss_forgives_easy_negatives() -> None:
    p = 0.3
    logit = torch.tensor([[math.log(p / (1 - p))]])
    shifted = p - 0.05
    assert asymmetric_loss(logit, torch.ones(1, 1)).item() == pytest.approx(-math.log(p))
    assert asymmetric_loss(logit, torch.zeros(1, 1)).item() == pytest.approx(-(shifted**4) * math.log(1 - shifted))
    assert asymmetric_loss(torch.tensor([[-5.0]]), torch.zeros(1, 1)).item() == 0.0
    extreme = torch.tensor([[80.0], [-80.0]], requires_grad=True)
    asymmetric_loss(extreme, torch.tensor([[0.0], [1.0]])).backward()
    assert extreme.grad is not None
    assert torch.isfinite(extreme.grad).all()


def test_stochastic_depth_acts_in_training_and_more_in_later_blocks() -> None:
    model = network(drop_path=0.6)
    assert [layer.dropout.p for layer in model.encoder.layers] == pytest.approx([0.0, 0.2, 0.4, 0.6])
    films = torch.rand(1, 3, 32, 32)
    assert torch.equal(model.eval()(films), network_like(model)(films))
    model.train()
    assert len({model(films).item() for _ in range(20)}) > 1


def network_like(model: torch.nn.Module) -> torch.nn.Module:
    """The same weights without stochastic depth."""
    plain = network()
    plain.load_state_dict(model.state_dict())
    return plain.eval()


def test_a_crop_shows_a_part_of_the_film_enlarged() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 64).view(1, 1, 1, 64).expand(200, 1, 64, 64)
    crops = augment(ramp, AugmentConfig(crop=0.25, rotation=0.0, brightness=0.0, contrast=0.0))
    widths = crops[:, 0, 32, -1] - crops[:, 0, 32, 0]  # how much of the ramp is left
    assert 0.48 < widths.min() < 0.6
    assert widths.max() <= 1.0
    assert crops[:, 0, 32, 0].max() > 0.3
    assert crops[:, 0, 32, 0].min() < 0.05


def test_the_moving_average_is_what_is_saved_and_survives_a_resume(tiny_config, tmp_path: Path) -> None:
    recipe = {"ema": 0.9, "clip": 1.0, "layer_decay": 0.8}
    train(tiny_config("binary", tmp_path / "raw", epochs=2, clip=1.0, layer_decay=0.8))
    train(tiny_config("binary", tmp_path / "whole", epochs=2, **recipe))
    saved = {name: load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("raw", "whole")}
    name = "classifier.weight"
    assert set(saved["raw"]) == set(saved["whole"])
    assert not torch.allclose(saved["raw"][name], saved["whole"][name], atol=1e-4)

    class Killed(Exception):
        pass

    config = tiny_config("binary", tmp_path / "killed", epochs=2, **recipe)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("training.train._validate", _fails_on_call(2, Killed))
        with pytest.raises(Killed):
            train(config)
    train(config, resume=True)
    killed = load_file(tmp_path / "killed" / "checkpoint" / "model.safetensors")
    assert all(torch.equal(killed[name], saved["whole"][name]) for name in killed)


def _fails_on_call(number: int, fault: type[Exception]):
    """The real validation, stopped at its n-th call."""
    from training.train import _validate

    calls = []

    def validate(training):
        calls.append(1)
        if len(calls) == number:
            raise fault
        return _validate(training)

    return validate
