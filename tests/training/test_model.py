"""The network is the notebook's, its checkpoints are transformers' own."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from handlers.findings import FINDINGS
from training.fit.config import ModelConfig, SizesConfig
from training.fit.model import build_model, save_checkpoint

VIT_B_16 = SizesConfig(hidden=768, layers=12, heads=12, mlp=3072, patch=16)
SMALL = SizesConfig(hidden=32, layers=2, heads=2, mlp=64, patch=8)


@pytest.mark.parametrize(("labels", "parameters"), [(["Finding"], 85_799_425), (list(FINDINGS), 85_809_422)])
def test_the_default_has_the_notebook_s_parameters(labels: list[str], parameters: int) -> None:
    default = ViTConfig.from_dict({})
    assert (default.hidden_size, default.num_hidden_layers, default.patch_size) == (768, 12, 16)
    with torch.device("meta"):
        model = build_model(ModelConfig(sizes=VIT_B_16), labels)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_a_checkpoint_loads_with_transformers_alone(tmp_path: Path) -> None:
    config = ModelConfig(sizes=SMALL, image_size=32, dropout=0.5)
    model = build_model(config, list(FINDINGS)).eval()
    save_checkpoint(model, config, tmp_path)
    loaded = ViTForImageClassification.from_pretrained(tmp_path).eval()
    films = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded(films).logits, model(films))
    assert [loaded.config.id2label[number] for number in range(14)] == list(FINDINGS)
    processor = ViTImageProcessor.from_pretrained(tmp_path)
    assert dict(processor.size) == {"height": 32, "width": 32}


def test_dropout_acts_in_training_only() -> None:
    model = build_model(ModelConfig(sizes=SMALL, image_size=32, dropout=0.5), ["Finding"])
    films = torch.rand(1, 3, 32, 32)
    assert model.eval()(films) == model(films)
    model.train()
    assert len({model(films).item() for _ in range(8)}) > 1


def test_a_local_folder_is_a_backbone(tmp_path: Path) -> None:
    backbone = ViTForImageClassification(
        ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=32,
            patch_size=8,
        )
    )
    backbone.save_pretrained(tmp_path)
    model = build_model(ModelConfig(backbone=str(tmp_path), image_size=32), ["Finding"])
    assert torch.equal(model.encoder.layers[1].mlp.fc2.weight, backbone.vit.layers[1].mlp.fc2.weight)
    larger = build_model(ModelConfig(backbone=str(tmp_path), image_size=64), list(FINDINGS))
    assert larger.encoder.embeddings.position_embeddings.shape == (1, 65, 32)
    assert larger.eval()(torch.rand(2, 3, 64, 64)).shape == (2, 14)
    save_checkpoint(larger, ModelConfig(image_size=64), tmp_path / "larger")
    again = ViTForImageClassification.from_pretrained(tmp_path / "larger").eval()
    films = torch.rand(2, 3, 64, 64)
    assert torch.equal(again(films).logits, larger(films))


def test_a_backbone_that_is_no_vit_is_refused(tmp_path: Path) -> None:
    save_checkpoint(build_model(ModelConfig(sizes=SMALL, image_size=32), ["x"]), ModelConfig(image_size=32), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in weights.items() if "embeddings" not in name}, tmp_path / "model.safetensors"
    )
    with pytest.raises(ValueError, match=r"is no ViT checkpoint: [0-9]+ weights missing"):
        build_model(ModelConfig(backbone=str(tmp_path), image_size=32), ["Finding"])


def test_the_head_computes_in_float32_under_mixed_precision_in_evaluation() -> None:
    model = build_model(ModelConfig(sizes=SMALL, image_size=32), ["Finding"])
    films = torch.rand(64, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        trained, evaluated = model.train()(films), model.eval()(films)
    assert (trained.dtype, evaluated.dtype) == (torch.bfloat16, torch.float32)
    assert len(evaluated.unique()) == 64
