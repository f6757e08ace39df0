"""``auto``: bfloat16 where the machine is faster in it and it was measured to change nothing that counts."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from handlers.bfloat16_rule import Bfloat16Effect
from handlers.cascade import Cascade
from handlers.decoding.image import read_film, to_pixels
from handlers.findings import FINDINGS, LABELS
from handlers.message import pack, unpack
from handlers.networks import precision
from handlers.networks.onednn import (
    Bfloat16Linear,
    PackedLinear,
    RoundedLinear,
    compute_by_onednn,
    compute_in_bfloat16,
)
from handlers.networks.precision import choose, is_native, speed_gain
from handlers.networks.vit import Vit
from handlers.reading import Naming, Screening
from handlers.report import Report, parse_answer
from tests.unpacked import unpack_archives
from training.archive import metadata_of

CPU = torch.device("cpu")
NOTHING = {
    "films": 1000,
    "largest_change": 0.002,
    "finding_auc_change": -0.0002,
    "mean_auc_change": None,
    "flipped": {"Finding": 5, "Mass": 1},
    "films_flipped": 6,
}
"""Measured, and small enough."""

Machine = Callable[[bool, float], None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Whether the processor says that it has bfloat16, and what the run finds."""

    def has(native: bool, gain: float) -> None:
        monkeypatch.setattr(precision, "is_native", lambda device: native)
        monkeypatch.setattr(precision, "speed_gain", lambda device: gain)

    return has


@pytest.mark.parametrize(
    ("native", "gain", "chosen", "why"),
    [
        (True, 1.8, "bfloat16", "1.8 times as fast"),
        (True, 1.05, "float32", "1.05 times as fast"),
        (False, 1.8, "float32", "no bfloat16 of its own"),
    ],
)
def test_auto_is_what_is_faster_here(machine: Machine, native: bool, gain: float, chosen: str, why: str) -> None:
    machine(native, gain)
    choice = choose("auto", Bfloat16Effect.model_validate(NOTHING), CPU)
    assert (choice.precision, choice.dtype) == (chosen, getattr(torch, chosen))
    assert why in choice.why


@pytest.mark.parametrize(
    ("measured", "why"),
    [
        ({"largest_change": 0.0051}, "moves a probability by 0.0051"),
        ({"finding_auc_change": -0.0011}, "moves an AUC by 0.0011"),
        ({"mean_auc_change": 0.0012}, "moves an AUC by 0.0012"),
        ({"flipped": {"Finding": 1, "Mass": 6}}, "turns the call of Mass on 6 of 1000 films"),
        ({"flipped": {"Finding": 6}}, "turns the call of Finding on 6 of 1000 films"),
    ],
)
def test_auto_is_float32_where_bfloat16_changes_what_is_said(machine: Machine, measured: dict, why: str) -> None:
    machine(True, 9.0)
    choice = choose("auto", Bfloat16Effect.model_validate(NOTHING | measured), CPU)
    assert choice.precision == "float32"
    assert why in choice.why


def test_auto_is_float32_where_nobody_has_measured(machine: Machine) -> None:
    machine(True, 9.0)
    assert choose("auto", None, CPU).precision == "float32"


@pytest.mark.parametrize("forced", ["float32", "bfloat16"])
def test_a_precision_that_was_told_is_kept_on_any_machine(machine: Machine, forced: str) -> None:
    machine(forced == "float32", 0.5)
    harmful = Bfloat16Effect.model_validate(NOTHING | {"largest_change": 1.0})
    assert choose(forced, harmful, CPU).precision == forced


def test_the_machine_is_asked_and_tried() -> None:
    assert is_native(CPU) in (True, False)
    assert 0.0 < speed_gain(CPU) < 1000.0


def test_packed_weights_give_the_same_values_and_leave_gradients_to_the_plain_ones() -> None:
    torch.manual_seed(0)
    plain, packed = nn.Sequential(nn.Linear(64, 32)), nn.Sequential(nn.Linear(64, 32))
    packed.load_state_dict(plain.state_dict())
    for model in (plain, packed):
        compute_in_bfloat16(model, True, torch.float32)
    compute_by_onednn(packed)
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert type(packed[0]) is PackedLinear
    assert packed.state_dict().keys() == plain.state_dict().keys()
    rows = torch.randn(3, 50, 64)
    with torch.inference_mode():
        torch.testing.assert_close(packed(rows), plain(rows), rtol=2**-7, atol=1e-3)
    gradients = []
    for model in (plain, packed):
        asked = rows.clone().requires_grad_()
        model(asked).square().sum().backward()
        gradients.append(asked.grad)
    torch.testing.assert_close(*gradients)


def test_a_processor_without_bfloat16_computes_the_same_values() -> None:
    torch.manual_seed(0)
    native, emulated = nn.Sequential(nn.Linear(64, 32)), nn.Sequential(nn.Linear(64, 32))
    emulated.load_state_dict(native.state_dict())
    compute_in_bfloat16(native, True, torch.float32)
    compute_in_bfloat16(emulated, False, torch.float32)
    assert (type(native[0]), type(emulated[0])) == (Bfloat16Linear, RoundedLinear)
    rows = torch.randn(50, 64)
    one, other = native(rows), emulated(rows)
    assert one.dtype == other.dtype == torch.float32
    assert (one == other).float().mean() > 0.95  # else a sum lay between two bfloat16 numbers
    assert torch.allclose(one, other, rtol=2**-7, atol=1e-3)


@pytest.fixture
def archives(run: Path, tmp_path: Path) -> dict[str, Path]:
    """Packed as the product packs them, on a machine that is fast in bfloat16, by an evaluation that allows it."""
    folders = unpack_archives(run, tmp_path, "auto")
    for folder in folders.values():
        metadata = json.loads((folder / "metadata.json").read_text())
        assert metadata["precision"] == "auto"
        assert set(metadata["bfloat16"]["flipped"]) == set(LABELS)
        (folder / "metadata.json").write_text(json.dumps(metadata | {"bfloat16": NOTHING}))
    return folders


@pytest.mark.parametrize(("gain", "chosen"), [(2.0, "bfloat16"), (1.0, "float32")])
def test_what_is_served_is_what_the_chosen_precision_says_offline(
    gain: float, chosen: str, machine: Machine, archives: dict[str, Path], run: Path, film_paths: list[Path]
) -> None:
    machine(True, gain)
    cascade = Cascade.of_evaluation(json.loads((run / "evaluation.json").read_text()))
    screening, naming = Screening(archives["binary"], CPU), Naming(archives["disease"], CPU)
    films = [path.read_bytes() for path in film_paths[:24]]
    pixels = np.stack([to_pixels(read_film(film), 32) for film in films])
    binary, disease = (Vit(run / stage / "checkpoint", CPU, getattr(torch, chosen)) for stage in archives)
    first, second = binary.logits(pixels)[:, 0], disease.logits(pixels)
    expected, named = cascade.finding(first), cascade.diseases(first, second)
    served = naming.name([unpack(pack(one)) for one in screening.screen(films)])
    for report, finding, diseases in zip(served, expected, named, strict=True):
        report = parse_answer(report.model_dump_json())
        assert isinstance(report, Report)
        assert report.models.precisions == {"binary": chosen, "disease": chosen}
        assert report.finding.probability == pytest.approx(finding, abs=1e-3 if chosen == "bfloat16" else 1e-6)
        assert report.routed == report.finding.present
        wanted = diseases if report.routed else np.zeros(14)
        scores = [report.diseases[name].probability for name in FINDINGS]
        assert scores == pytest.approx(wanted, abs=1e-3 if chosen == "bfloat16" else 1e-6)
    assert 0 < sum(report.routed for report in served) < 24


def test_an_evaluation_that_has_not_measured_it_is_packed_and_served_in_float32(
    machine: Machine, run: Path, archives: dict[str, Path]
) -> None:
    machine(True, 9.0)
    evaluation = json.loads((run / "evaluation.json").read_text())
    del evaluation["bfloat16"]
    metadata = metadata_of(run, "binary", evaluation, "1.0.0")
    assert (metadata.precision, metadata.bfloat16) == ("auto", None)
    (archives["binary"] / "metadata.json").write_text(metadata.model_dump_json())
    assert Screening(archives["binary"], CPU).vit.dtype == torch.float32
