"""Every family of image encoders goes the whole way: trained, saved, opened by transformers, archived, read."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn
from torchvision.ops import StochasticDepth

from handlers.decoding.image import read_film, to_pixels
from handlers.findings import FINDINGS
from handlers.networks.explain import relevance
from handlers.networks.families import FAMILIES, family_of
from handlers.networks.network import LOADING_FILE, WEIGHTS_FILE, load_network
from handlers.networks.vit import Vit
from handlers.reading import Naming, Screening
from handlers.report import Report
from tests.backbones import BACKBONES, SIDE, write_backbone
from tests.unpacked import unpack_archives
from training.evaluate import evaluate
from training.fit.config import ModelConfig, OptimConfig
from training.fit.model import build_model, save_checkpoint
from training.fit.optimise import make_optimizer
from training.train import train
from workflows.files.text_files import DataError

CPU = torch.device("cpu")
ALL = pytest.mark.parametrize("name", BACKBONES)


@pytest.fixture
def backbone(name: str, tmp_path: Path) -> str:
    return str(write_backbone(name, tmp_path / "backbone"))


def test_the_list_of_backbones_has_every_family(tmp_path: Path) -> None:
    types = set()
    for name in BACKBONES:
        config = json.loads((write_backbone(name, tmp_path / name) / "config.json").read_text())
        types.add(family_of(config["model_type"]))
    assert types == set(FAMILIES)


@pytest.mark.slow
@ALL
def test_a_family_is_trained_archived_read_and_explained(
    backbone: str, tiny_config, film_paths: list[Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for stage in ("binary", "disease"):
        config = tiny_config(stage, run / stage, epochs=1)
        [line] = train(replace(config, model=ModelConfig(backbone=backbone, image_size=SIDE, drop_path=0.2)))
        assert np.isfinite(line["loss"])
    evaluate(run)
    folders = unpack_archives(run, tmp_path / "store")
    screening, naming = Screening(folders["binary"], CPU), Naming(folders["disease"], CPU)
    screening.cascade = screening.cascade.model_copy(update={"thresholds": {"Finding": 0.0}})
    film = film_paths[0].read_bytes()
    [report] = naming.name(screening.screen([film], {0: "Mass"}))
    assert isinstance(report, Report)
    binary, disease = (Vit(run / stage / "checkpoint", CPU) for stage in ("binary", "disease"))
    pixels = to_pixels(read_film(film), SIDE)[None]
    first = binary.logits(pixels)[:, 0]
    assert report.finding.probability == pytest.approx(float(screening.cascade.finding(first)[0]), abs=1e-6)
    expected = naming.cascade.diseases(first, disease.logits(pixels))[0].tolist()
    assert [report.diseases[name].probability for name in FINDINGS] == pytest.approx(expected, abs=1e-6)
    assert set(report.heatmaps or {}) == {"Mass"}
    maps = np.stack([relevance(disease, pixels, label)[0] for label in range(len(FINDINGS))])
    assert maps.min() >= 0.0
    # Of weights that were hardly trained, many labels are raised by no patch at all.
    assert np.isin(maps.max(axis=(1, 2)), (0.0, 1.0)).all()
    assert (maps.max(axis=(1, 2)) == 1.0).any()


@ALL
@pytest.mark.parametrize("pool", ["cls", "mean", "both"])
@pytest.mark.parametrize("side", [SIDE, 48])
def test_a_checkpoint_opens_in_plain_transformers_or_says_how(
    backbone: str, pool: str, side: int, tmp_path: Path
) -> None:
    config = ModelConfig(backbone=backbone, image_size=side, pool=pool)
    model, folder = build_model(config, list(FINDINGS)).eval(), tmp_path / "checkpoint"
    nn.init.normal_(model.head.bias)
    save_checkpoint(model, config, folder)
    films = torch.rand(2, 3, side, side)
    with torch.no_grad():
        logits = model(films)
        torch.testing.assert_close(load_network(folder).eval()(films), logits, rtol=0, atol=0)
        if (folder / LOADING_FILE).exists():
            kind = getattr(transformers, model.family.encoder)
            assert f"transformers.{model.family.encoder}" in (folder / LOADING_FILE).read_text()
            encoder = kind.from_pretrained(folder).eval()
            features = replace_encoder(model, encoder)(films)
            torch.testing.assert_close(features, logits, rtol=0, atol=1e-6)
        elif model.family.name != "SigLIP2":  # whose class takes patches
            whole = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
            options = {"interpolate_pos_encoding": True} if model.family.name == "BEiT" else {}
            torch.testing.assert_close(whole(films, **options).logits, logits, rtol=0, atol=1e-6)
            assert [whole.config.id2label[number] for number in range(14)] == list(FINDINGS)
            whole.save_pretrained(tmp_path / "theirs")
            assert set(load_file(tmp_path / "theirs" / "model.safetensors")) == set(load_file(folder / WEIGHTS_FILE))


@ALL
@pytest.mark.parametrize("pool", ["cls", "mean", "both"])
def test_what_no_head_sees_of_the_last_block_is_left_out_and_changes_nothing(backbone: str, pool: str) -> None:
    config = ModelConfig(backbone=backbone, image_size=SIDE, pool=pool, blocks=[1, 3])
    model, films = build_model(config, list(FINDINGS)).eval(), torch.rand(2, 3, SIDE, SIDE)
    lengths: list[int] = []
    for name in model.family.after_mixing:
        note = lambda _, tokens, __: lengths.append(tokens[0].shape[1])  # noqa: E731
        model.blocks[-1].get_submodule(name).register_forward_hook(note)
    with torch.no_grad():
        whole = model.features(films)
        model.skip_unseen_patches()
        torch.testing.assert_close(model.features(films), whole, rtol=1e-5, atol=1e-6)
    named = len(model.family.after_mixing)
    assert named == (2 if model.family.name.startswith(("ViT", "DeiT", "DINOv2")) else 0)
    assert lengths[named:] == ([1] * named if pool == "cls" else lengths[:named])
    assert min(lengths[:named], default=16) >= 16


@ALL
def test_a_backbone_is_cut_after_its_first_blocks(backbone: str, tmp_path: Path) -> None:
    whole, cut = (
        build_model(ModelConfig(backbone=backbone, image_size=SIDE, blocks=blocks, pool="mean"), ["x"]).eval()
        for blocks in (None, [2])
    )
    assert (len(whole.blocks), len(cut.blocks)) == (3, 2)
    seen = []
    whole.blocks[2].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    cut.blocks[1].register_forward_hook(lambda _, __, output: seen.append(output))
    films = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        whole(films)
        logits = cut(films)
        torch.testing.assert_close(*seen, rtol=0, atol=0)
        save_checkpoint(cut, ModelConfig(backbone=backbone, image_size=SIDE), tmp_path / "cut")
        torch.testing.assert_close(load_network(tmp_path / "cut").eval()(films), logits, rtol=0, atol=0)
    with pytest.raises(DataError, match=r"model\.blocks is \[1, 4\], .* has 3"):
        build_model(ModelConfig(backbone=backbone, image_size=SIDE, blocks=[1, 4]), ["x"])


@ALL
def test_the_head_sees_the_tokens_of_several_blocks(backbone: str, tmp_path: Path) -> None:
    """Those of an encoder that is cut there, side by side; in threads that read at once, too."""
    seen = []
    for blocks in ([1], [2], [1, 2]):
        torch.manual_seed(0)
        model = build_model(ModelConfig(backbone=backbone, image_size=SIDE, blocks=blocks, pool="mean"), ["x"]).eval()
        seen.append(model)
    first, second, both = seen
    films = torch.rand(8, 3, SIDE, SIDE)
    with torch.inference_mode():
        expected = torch.cat([first.features(films), second.features(films)], dim=1)
        torch.testing.assert_close(both.features(films), expected, rtol=0, atol=1e-6)
        save_checkpoint(both, ModelConfig(backbone=backbone, image_size=SIDE), tmp_path / "both")
        again = load_network(tmp_path / "both").eval()
        torch.testing.assert_close(again.features(films), expected, rtol=0, atol=1e-6)
    assert "of blocks 1 and the last" in (tmp_path / "both" / LOADING_FILE).read_text()
    vit = Vit(tmp_path / "both", CPU)
    pixels = np.random.default_rng(0).integers(0, 256, (40, SIDE, SIDE)).astype(np.uint8)
    alone = np.concatenate([vit.features(pixel[None]) for pixel in pixels])
    np.testing.assert_allclose(vit.features(pixels, busy=True), alone, atol=1e-5)
    assert relevance(vit, pixels[:2], 0).shape == (2, SIDE, SIDE)


def replace_encoder(model, encoder):
    model.encoder = encoder
    return model


@ALL
def test_layers_decay_from_the_head_down_and_stochastic_depth_rises(backbone: str) -> None:
    model = build_model(ModelConfig(backbone=backbone, image_size=SIDE, drop_path=0.4), ["Finding"])
    optimizer = make_optimizer(model, OptimConfig(lr=1.0, layer_decay=0.5, weight_decay=0.05))
    rates, decay = {}, {}
    for group in optimizer.param_groups:
        rates |= {id(parameter): group["lr"] for parameter in group["params"]}
        decay |= {id(parameter): group["weight_decay"] for parameter in group["params"]}
    of_blocks = [{rates[id(one)] for one in block.parameters() if one.requires_grad} for block in model.blocks]
    assert of_blocks == [{1 / 8}, {1 / 4}, {1 / 2}]
    assert rates[id(model.head.weight)] == 1.0
    assert min(rates.values()) == 1 / 16  # the patches' projection
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert set(rates) == {id(parameter) for parameter in trained.values()}
    matrices = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.requires_grad
    }
    assert {name for name, parameter in trained.items() if decay[id(parameter)]} - matrices <= ATTENTION_POOLING
    assert matrices <= {name for name, parameter in trained.items() if decay[id(parameter)]}
    drops = [[one.p for one in block.modules() if isinstance(one, StochasticDepth)] for block in model.blocks]
    assert [set(one) for one in drops] == [{0.0}, {0.2}, {0.4}]


ATTENTION_POOLING = {"encoder.head.attention.in_proj_weight"}
"""A matrix that is no module of its own."""


@ALL
def test_stochastic_depth_acts_in_training_alone(backbone: str) -> None:
    torch.manual_seed(0)
    dropped = build_model(ModelConfig(backbone=backbone, image_size=SIDE, dropout=0.0, drop_path=0.5), ["Finding"])
    plain = build_model(ModelConfig(backbone=backbone, image_size=SIDE, dropout=0.0, drop_path=0.0), ["Finding"])
    plain.load_state_dict(dropped.state_dict())
    films = torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        assert torch.equal(dropped.eval()(films), plain.eval()(films))
        dropped.train()
        assert len({dropped(films).item() for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("ViT", 17), ("DeiT", 18), ("DINOv2 with registers", 21), ("DINOv3", 21), ("SigLIP", 16), ("timm", 17)],
)
def test_the_patches_are_the_last_16_tokens(name: str, tokens: int, tmp_path: Path) -> None:
    model = build_model(ModelConfig(backbone=str(write_backbone(name, tmp_path)), image_size=SIDE), ["x"]).eval()
    with torch.no_grad():
        found = model.family.tokens(model.encoder, torch.rand(1, 3, SIDE, SIDE))
    assert found.shape[1] == tokens
    assert tokens - model.family.before_patches(model.encoder) == (SIDE // 8) ** 2


def test_another_family_is_refused_by_name_with_those_that_work(tmp_path: Path) -> None:
    transformers.SwinModel(transformers.SwinConfig(embed_dim=8, depths=[1], num_heads=[1])).save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"'swin' cannot be read as a ViT; those that can are ViT \(vit, vit_mae\)"):
        build_model(ModelConfig(backbone=str(tmp_path)), ["x"])


def test_a_network_of_timm_that_is_no_vit_is_refused(tmp_path: Path) -> None:
    config = transformers.TimmWrapperConfig(architecture="test_resnet", num_labels=2)
    transformers.TimmWrapperForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(DataError, match="no list of transformer blocks, it is no ViT"):
        build_model(ModelConfig(backbone=str(tmp_path)), ["x"])


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    (write_backbone("DINOv2", tmp_path) / "model.safetensors").unlink()
    with pytest.raises(DataError, match=f"{tmp_path} is a folder, but no checkpoint of transformers"):
        build_model(ModelConfig(backbone=str(tmp_path)), ["x"])


def test_a_name_that_the_hub_does_not_give_says_that_a_folder_works() -> None:
    with pytest.raises(DataError, match=r"no-such/model-at-all cannot be had: .* A local folder .* works, too"):
        build_model(ModelConfig(backbone="no-such/model-at-all"), ["x"])


def test_an_image_size_that_the_patch_does_not_divide_is_refused(tmp_path: Path) -> None:
    backbone = str(write_backbone("DINOv2", tmp_path))
    with pytest.raises(DataError, match=r"model\.image_size is 100, no multiple of the patch of .*, 8"):
        build_model(ModelConfig(backbone=backbone, image_size=100), ["x"])
