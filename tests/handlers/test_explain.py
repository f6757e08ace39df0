"""A heatmap shows where a label's evidence lies, and reading goes on as if none had been asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate
from transformers import Dinov2Config, Dinov2ForImageClassification, ViTConfig, ViTForImageClassification

from handlers.networks.explain import _patch_shares, _tokens_of_layers, _twin, relevance, relevances
from handlers.networks.vit import Vit

GRID = 6
BRIGHT, DARK = 0, 1
"""The two labels of the network below."""


def see_marks(model: torch.nn.Module) -> torch.nn.Module:
    """Sets the weights by hand: bright patches raise label 0 through head 0, dark ones label 1 through head 1; where
    the head sees the patches' mean, through that as well.

    A token's 16 numbers: 0 how bright the patch is, 2 and 3 a constant of patches, 4 and 5 one of the class token
    (so that layer normalisation keeps brightness), 6 and 7 what each head has gathered.
    """
    weights = dict(model.named_parameters())
    for name, weight in weights.items():
        keep = name.endswith("lambda1") or ("norm" in name and name.endswith("weight"))
        torch.nn.init.constant_(weight, float(keep))

    def named(end: str) -> torch.Tensor:
        return next(weight for name, weight in weights.items() if name.endswith(end))

    with torch.no_grad():
        patch = named("projection.weight")  # [16, 3, P, P]
        patch[0, 0] = 1.0 / patch[0, 0].numel()
        places = named("position_embeddings")
        places[0, 1:, 2], places[0, 1:, 3] = 1.0, -1.0
        places[0, 0, 4], places[0, 0, 5] = 1.0, -1.0
        for head, sign in ((BRIGHT, 1.0), (DARK, -1.0)):
            first = 8 * head
            named("q_proj.weight")[first, 4] = 3.0
            named("k_proj.weight")[first, 0] = sign
            named("v_proj.weight")[first, 0] = sign
            named("o_proj.weight")[6 + head, first] = 1.0
            of_labels = named("classifier.weight")
            of_labels[head, 6 + head] = 1.0
            of_labels[head, 16:17] = sign  # of a head that sees the patches' mean, too
    return model.eval()


def load(kind: str, folder: Path) -> Vit:
    """A one-block network with 6 by 6 patches: of 8 px (ViT) or of 14 px (DINOv2)."""
    patch = 8 if kind == "vit" else 14
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_labels": 2}
    sizes |= {"patch_size": patch, "image_size": GRID * patch}
    if kind == "vit":
        model = ViTForImageClassification(ViTConfig(intermediate_size=16, **sizes))
    else:
        model = Dinov2ForImageClassification(Dinov2Config(mlp_ratio=1, **sizes))
    see_marks(model).save_pretrained(folder)
    side = {"height": GRID * patch, "width": GRID * patch}
    preprocessor = {"size": side, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return Vit(folder, torch.device("cpu"))


def marked_films(count: int, patch: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Grey noise with one bright and one dark square each: films [N, S, S], and [N, 2] the squares' patches."""
    rng = np.random.default_rng(0)
    films = rng.integers(100, 156, (count, GRID * patch, GRID * patch)).astype(np.uint8)
    squares = np.array([rng.choice(GRID * GRID, 2, replace=False) for _ in range(count)])
    for film, marks in zip(films, squares, strict=True):
        for place, grey in zip(marks, (220, 30), strict=True):
            row, column = divmod(int(place), GRID)
            film[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = grey
    return films, squares


@pytest.mark.parametrize("kind", ["vit", "dinov2"])
def test_each_labels_heatmap_is_highest_on_that_labels_mark(kind: str, tmp_path: Path) -> None:
    vit = load(kind, tmp_path)
    patch = vit.image_size // GRID
    films, squares = marked_films(40, patch)
    for label in (BRIGHT, DARK):
        maps = relevance(vit, films, label)
        assert maps.shape == films.shape
        assert maps.dtype == np.float32
        rows, columns = np.unravel_index(maps.reshape(len(maps), -1).argmax(axis=1), maps.shape[1:])
        found = rows // patch * GRID + columns // patch
        assert (found == squares[:, label]).mean() >= 0.9
        np.testing.assert_array_equal(maps.max(axis=(1, 2)), 1.0)
        assert maps.min() >= 0.0


def test_a_film_has_the_same_heatmap_alone_as_in_a_batch(tmp_path: Path) -> None:
    vit = load("vit", tmp_path)
    films, _ = marked_films(3, 8)
    together = relevance(vit, films, DARK)
    for film, heatmap in zip(films, together, strict=True):
        np.testing.assert_allclose(relevance(vit, film[None], DARK)[0], heatmap, atol=1e-5)


def one_by_one(vit: Vit, pixels: NDArray[np.uint8], label: int) -> NDArray[np.float32]:
    """The reference: a pass and a gradient of its own for each label, through the network's own Linears."""
    inputs = vit.inputs(pixels).requires_grad_()
    logits, layers = _tokens_of_layers(_twin(vit.model), inputs)
    gradients = torch.autograd.grad(logits[:, label].sum(), layers)
    before = vit.model.family.before_patches(vit.model.encoder)
    shares = _patch_shares([one.detach()[:, before:] for one in layers], [one[:, before:] for one in gradients])
    maps = interpolate(shares.view(len(pixels), 1, GRID, GRID), size=pixels.shape[1:], mode="bilinear")[:, 0]
    return (maps / maps.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)).numpy()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["vit", "dinov2"])
def test_maps_of_one_pass_are_those_of_a_pass_for_each_label(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    load(kind, tmp_path)
    vit = Vit(tmp_path, torch.device("cpu"), dtype)
    films, _ = marked_films(3, vit.image_size // GRID)
    together = relevances(vit, films, [DARK, BRIGHT])
    assert together.shape == (2, *films.shape)
    for label, maps in zip((DARK, BRIGHT), together, strict=True):
        np.testing.assert_allclose(maps, one_by_one(vit, films, label), atol=1e-4)
        assert maps.std() > 0.01


@pytest.mark.parametrize("frozen", [False, True])
def test_a_heatmap_leaves_the_network_as_it_was(frozen: bool, tmp_path: Path) -> None:
    vit = load("vit", tmp_path)
    vit.model.requires_grad_(not frozen)
    films, _ = marked_films(4, 8)
    before = vit.logits(films)
    with torch.inference_mode():
        relevance(vit, films, BRIGHT)
    np.testing.assert_array_equal(vit.logits(films), before)
    assert all(weight.grad is None and weight.requires_grad != frozen for weight in vit.model.parameters())
    assert all(not module._forward_hooks for module in vit.model.modules())
    assert not vit.model.training


def test_a_patch_counts_what_it_adds_to_the_logit_in_each_block() -> None:
    """Two blocks, two patches, tokens of two numbers; token times gradient, worked by hand.

    Block 1: patch 1 adds 0.5 * 2 + 1 * -0.5 = 0.5, patch 2 takes 1 away, which does not count.
    Block 2: patch 1 adds 0.25, patch 2 adds 0.5.
    """
    tokens = torch.tensor([[[[0.5, 1.0], [1.0, 0.0]]], [[[1.0, 0.0], [0.0, 1.0]]]])
    gradients = torch.tensor([[[[2.0, -0.5], [-1.0, 9.0]]], [[[0.25, 9.0], [9.0, 0.5]]]])
    np.testing.assert_allclose(_patch_shares(list(tokens), list(gradients)).numpy(), [[0.75, 0.5]], atol=1e-6)


def test_a_film_without_evidence_has_an_empty_heatmap(tmp_path: Path) -> None:
    vit = load("vit", tmp_path)
    torch.nn.init.zeros_(vit.model.head.weight)
    films, _ = marked_films(2, 8)
    np.testing.assert_array_equal(relevance(vit, films, BRIGHT), np.zeros_like(films, np.float32))


def test_films_of_another_size_and_unknown_labels_are_refused(tmp_path: Path) -> None:
    vit = load("vit", tmp_path)
    with pytest.raises(ValueError, match=r"\(1, 40, 40\), the model reads \[B, 48, 48\]"):
        relevance(vit, np.zeros((1, 40, 40), np.uint8), 0)
    for label in (-1, 2):
        with pytest.raises(ValueError, match="the model has 0 to 1"):
            relevance(vit, np.zeros((1, 48, 48), np.uint8), label)
