"""The benchmark of a GPU, on whatever is here: both handlers over the bare networks, JPEG and PNG apart."""

from pathlib import Path

import pytest

from benchmarks import gpu, pairs
from benchmarks.films import as_jpeg, decoded
from training.fit.config import ModelConfig, SizesConfig

LEAST = SizesConfig(hidden=32, layers=2, heads=2, mlp=64, patch=16)


def test_the_handlers_are_measured_over_the_bare_networks(film_paths: list[Path], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(pairs.SIZES, "least", LEAST)
    films = [path.read_bytes() for path in film_paths[:6]]
    pixels = decoded(films, pairs.IMAGE_SIZE)
    pair = pairs.make_pair("least", tmp_path / "least", pixels)
    forms = {"png": films, "jpeg": [as_jpeg(film) for film in films]}
    found = gpu.measure(pair, forms, pixels, 0.0, quick=True)
    rates = found["films_per_second"]
    ours = {f"ours, {form}, batch {batch}" for form in forms for batch in gpu.QUICK_BATCHES}
    assert set(rates) == ours | {f"limit, batch {batch}" for batch in gpu.QUICK_BATCHES}
    assert all(rate > 0.0 for rate in rates.values())
    for form in forms:
        expected = rates[f"ours, {form}, batch 4"] / rates["limit, batch 4"]
        assert found["ratios"][f"ours_over_limit, {form}, batch 4"] == pytest.approx(expected, rel=0.05, abs=2e-3)
        assert found["decode_ms_per_film_on_one_core"][form] > 0.0
    assert set(found["cores_for_decoding"]) == {"png", "jpeg"}


def test_the_share_of_a_gpu_s_peak_counts_both_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu.torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    products = gpu.matrix_products(ModelConfig(sizes=pairs.SIZES["base"], image_size=224))
    assert 17.0e9 < products < 18.0e9  # multiply-adds of a ViT-B/16 at 224 px: 17.6 G (Touvron et al., 2021, table 5)
    share = gpu.share_of_peak("base", 10_000.0)["limit_share_of_bf16_peak"]
    assert share == pytest.approx(1.5 * 2 * products * 10_000.0 / 989e12, abs=1e-3)
