"""Films per second of the training loop against the model's own step with data already on the device.

    python benchmarks/training.py            # ViT-B/16 at 224 px
    python benchmarks/training.py --quick    # a small ViT, to try the script

The loop runs as it is and through torch.compile. All arms run in turn, several times, in one process; the ratios are of
their medians. Prints and writes benchmarks/results/training.json. Films are random pixels in a real cache file: the
loop reads, augments, normalises, steps and schedules exactly as training.train does.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from accelerate import Accelerator

from training.data.films import Films
from training.fit.config import DataConfig, ModelConfig, OptimConfig, SizesConfig, TrainConfig
from training.train import Training, prepare, train_epoch
from workflows.files.atomic import write_text

RESULTS = Path(__file__).parent / "results"
VIT_B_16 = SizesConfig(hidden=768, layers=12, heads=12, mlp=3072, patch=16)
SMALL = SizesConfig(hidden=192, layers=4, heads=3, mlp=768, patch=16)
PEAK_BF16 = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L4": 121e12, "T4": 65e12}
"""Dense bf16 (T4: fp16) operations per second, from the makers' data sheets."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON to write (results/training.json, quick: results/quick/)")
    parser.add_argument("--quick", action="store_true", help="a small ViT and few films")
    arguments = parser.parse_args()
    quick = arguments.quick
    out = arguments.out or out_of(quick)
    on_gpu = torch.cuda.is_available()
    batch, steps, rounds = (32, 10, 3) if quick else (256, 30, 5) if on_gpu else (8, 3, 3)
    config = TrainConfig(
        stage="disease",
        out="unused",
        precision="bf16",
        data=DataConfig(),
        model=ModelConfig(sizes=SMALL if quick else VIT_B_16, drop_path=0.0),
        # A bare step has no moving average and no clipping, so that the loop has none either.
        optim=OptimConfig(batch_size=batch, epochs=rounds + 1, films_per_epoch=batch * steps, ema=None, clip=None),
    )
    with tempfile.TemporaryDirectory() as folder:
        training = prepare_on_random_films(config, Path(folder) / "plain", batch * steps)
        compiled = prepare_on_random_films(replace(config, compile=True), Path(folder) / "compiled", batch * steps)
        arms = measure(training, compiled, rounds)
    document = report(config, training, arms)
    write_text(out, json.dumps(document, indent=2) + "\n")
    print(json.dumps(document, indent=2))


def out_of(quick: bool) -> Path:
    """Where the document goes: a quick run's into a folder that is not committed."""
    folder = RESULTS / "quick" if quick else RESULTS
    folder.mkdir(exist_ok=True)
    return folder / "training.json"


def prepare_on_random_films(config: TrainConfig, folder: Path, number: int) -> Training:
    """A run on random films whose cache lies on disk, as a real one's does."""
    import pandas as pd

    size, chance = config.model.image_size, np.random.default_rng(0)
    folder.mkdir()
    np.save(folder / "pixels.npy", chance.integers(0, 256, (number, size, size), np.uint8))
    split = np.where(np.arange(number) % 10, "train", "validation")
    diseases = chance.integers(0, 2, (number, 14)).astype(np.int8)
    films = Films(folder, pd.DataFrame({"split": split}), diseases, diseases.max(axis=1, keepdims=True))
    accelerator = Accelerator(mixed_precision=config.precision)
    return prepare(config, accelerator, films, np.load(folder / "pixels.npy", mmap_mode="r"))


def measure(training: Training, compiled: Training, rounds: int) -> dict[str, list[float]]:
    """Films per second of each arm, a number a round; the first round of each warms up and does not count."""
    arms: dict[str, list[float]] = {"step": [], "loop": [], "compiled_loop": []}
    films = len(training.batches) * training.config.optim.batch_size
    for number in range(rounds + 1):
        for name, arm in zip(arms, (bare_steps, train_epoch, train_epoch), strict=True):
            synchronise()
            start = time.perf_counter()
            arm(compiled if name == "compiled_loop" else training, number)
            synchronise()
            if number:
                arms[name].append(films / (time.perf_counter() - start))
    return arms


def bare_steps(training: Training, epoch: int) -> None:
    """As many steps as an epoch has, on one batch that stays on the device."""
    size, batch = training.config.model.image_size, training.config.optim.batch_size
    device = training.accelerator.device
    inputs = torch.rand(batch, 3, size, size, device=device)
    targets = torch.zeros(batch, 14, device=device)
    training.model.train()
    for _ in range(len(training.batches)):
        with training.accelerator.autocast():
            logits = training.model(inputs)
        training.accelerator.backward(training.loss(logits.float(), targets))
        training.optimizer.step()
        training.optimizer.zero_grad()


def report(config: TrainConfig, training: Training, arms: dict[str, list[float]]) -> dict[str, object]:
    medians = {name: statistics.median(rates) for name, rates in arms.items()}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
    document: dict[str, object] = {
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": config.precision,
        "batch_size": config.optim.batch_size,
        "model": asdict(config.model),
        "films_per_second": {name: round(rate, 2) for name, rate in medians.items()},
        "rounds": {name: [round(rate, 2) for rate in rates] for name, rates in arms.items()},
        "ratios": {
            "loop_over_step": round(medians["loop"] / medians["step"], 3),
            "compiled_over_loop": round(medians["compiled_loop"] / medians["loop"], 3),
        },
    }
    peak = next((rate for name, rate in PEAK_BF16.items() if name in device), None)
    if peak is not None:
        operations = (
            6 * matrix_products(config.model) * medians["loop"]
        )  # forward once, backward twice, 2 a multiply-add
        document["ratios"] |= {"loop_share_of_bf16_peak": round(operations / peak, 3)}  # type: ignore[operator]
    return document


def matrix_products(config: ModelConfig) -> float:
    """Multiply-adds of one film's forward pass."""
    sizes = config.sizes
    assert sizes is not None
    tokens = (config.image_size // sizes.patch) ** 2 + 1
    block = 4 * sizes.hidden**2 + 2 * sizes.hidden * sizes.mlp + 2 * tokens * sizes.hidden
    return tokens * sizes.layers * block + tokens * 3 * sizes.patch**2 * sizes.hidden


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
