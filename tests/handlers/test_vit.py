"""A ViT says of a film the same alone and in a batch, and says so where it runs in less than float32."""

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit
from transformers import ViTForImageClassification

from handlers.networks.onednn import OneDnnLinear
from handlers.networks.vit import Vit
from handlers.processors import give_way
from handlers.reading import Screening
from training.archive import metadata_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 32, 32), np.uint8)


def test_a_batch_in_parts_has_the_logits_of_its_films_alone(run: Path, films: np.ndarray) -> None:
    vit = Vit(run / "disease" / "checkpoint", CPU)
    alone = np.concatenate([vit.logits(film[None]) for film in films])
    assert alone.shape == (7, 14)
    assert len({row.tobytes() for row in alone}) == 7
    assert vit.logits(films) == pytest.approx(alone, abs=1e-5)


def test_a_film_s_features_have_the_same_logits_whatever_films_are_beside_them(run: Path) -> None:
    vit = Vit(run / "disease" / "checkpoint", CPU)
    vit.model.head = torch.nn.Linear(768, 14).eval()
    features = np.random.default_rng(0).normal(size=(32, 768)).astype(np.float32)
    alone = np.concatenate([vit.logits_of(one[None]) for one in features])
    assert alone.shape == (32, 14)
    for together in (32, 8, 3):
        parts = [vit.logits_of(features[at : at + together]) for at in range(0, 32, together)]
        np.testing.assert_array_equal(np.concatenate(parts), alone)


def test_a_film_alone_gets_every_thread_again_after_a_batch(run: Path, films: np.ndarray) -> None:
    given = torch.get_num_threads()
    vit = Vit(run / "binary" / "checkpoint", CPU)
    vit.logits(films)
    vit.logits(films[:1])
    assert torch.get_num_threads() == given


def test_a_single_film_of_a_busy_service_is_read_alike(run: Path, films: np.ndarray) -> None:
    vit = Vit(run / "disease" / "checkpoint", CPU)
    assert vit.logits(films[:1], busy=True) == pytest.approx(vit.logits(films[:1]), abs=1e-5)


@pytest.mark.parametrize(
    ("archived", "precision", "version"),
    [
        ("1.0.0", "float32", "1.0.0+synthetic"),
        ("1.0.0", "bfloat16", "1.0.0+synthetic.bfloat16"),
    ],
)
def test_a_report_names_a_precision_below_float32(
    run: Path, film_paths: list[Path], tmp_path: Path, archived: str, precision, version: str
) -> None:
    evaluation = json.loads((run / "evaluation.json").read_text())
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).symlink_to(run / "binary" / "checkpoint" / name)
    metadata = metadata_of(run, "binary", evaluation, archived, precision)
    (tmp_path / "metadata.json").write_text(metadata.model_dump_json())
    screening = Screening(tmp_path, CPU)
    (film,) = screening.screen([film_paths[0].read_bytes()])
    assert film.version == version
    assert screening.vit.dtype == getattr(torch, precision)


def test_bfloat16_moves_a_probability_little(run: Path, films: np.ndarray) -> None:
    exact, fast = (Vit(run / "disease" / "checkpoint", CPU, dtype) for dtype in (torch.float32, torch.bfloat16))
    moved = np.abs(expit(fast.logits(films)) - expit(exact.logits(films)))
    assert 0 < moved.max() < 0.02
    assert fast.version("1.0.0") == "1.0.0+bfloat16"


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="torch has one library for products here")
@pytest.mark.parametrize(("vectors", "linear"), [("AVX512", OneDnnLinear), ("AVX2", torch.nn.Linear)])
def test_products_are_the_faster_library_s_equal_to_torch_s_own_and_leave_the_gradients(
    monkeypatch: pytest.MonkeyPatch, run: Path, films: np.ndarray, vectors: str, linear: type
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    vit = Vit(run / "disease" / "checkpoint", CPU)
    assert {type(one) for one in vit.model.modules() if isinstance(one, torch.nn.Linear)} == {linear}
    plain = ViTForImageClassification.from_pretrained(run / "disease" / "checkpoint").eval()
    inputs = vit.inputs(films)
    with torch.inference_mode():
        assert vit.logits(films) == pytest.approx(plain(pixel_values=inputs).logits.numpy(), abs=1e-5)
    vit.model(inputs).sum().backward()
    plain(pixel_values=inputs).logits.sum().backward()
    for name, theirs in plain.named_parameters():
        ours = vit.model.get_parameter(name.replace("vit.", "encoder.").replace("classifier.", "head."))
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no nice value of its own")
def test_threads_that_compute_give_way_and_the_process_does_not() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with ThreadPoolExecutor(1, initializer=give_way) as pool:
        niced = pool.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).result()
    assert niced == max(5, before)
    assert os.getpriority(os.PRIO_PROCESS, os.getpid()) == before


def test_logits_in_bfloat16_do_not_tie(run: Path) -> None:
    films = np.random.default_rng(0).integers(0, 256, (400, 32, 32), np.uint8)
    full, half = (
        Vit(run / "binary" / "checkpoint", CPU, dtype).logits(films) for dtype in (torch.float32, torch.bfloat16)
    )
    assert half.dtype == np.float32
    assert len(np.unique(half)) > 0.98 * len(np.unique(full))
    assert half == pytest.approx(full, abs=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stage", ["binary", "disease"])
def test_on_another_device_than_the_cpu_all_of_a_film_s_way_is_there(
    run: Path, films: np.ndarray, stage: str, dtype: torch.dtype
) -> None:
    """``meta`` has shapes and no values, and refuses a tensor of the CPU's beside its own, as a GPU does."""
    vit = Vit(run / stage / "checkpoint", torch.device("meta"), dtype)
    inputs = vit.inputs(films)
    features = vit.model.features(inputs)
    logits = vit.model(inputs)
    for tensor, shape in ((inputs, (7, 3, 32, 32)), (features, (7, vit.width)), (logits, (7, len(vit.model.labels)))):
        assert (tensor.device.type, tuple(tensor.shape), tensor.dtype) == ("meta", shape, torch.float32)
    assert {weight.device.type for weight in vit.model.parameters()} == {"meta"}
    products = [module for module in vit.model.encoder.modules() if isinstance(module, torch.nn.Linear)]
    assert {module.weight.dtype for module in products} == {dtype}
    assert vit.model.head.weight.dtype == torch.float32
