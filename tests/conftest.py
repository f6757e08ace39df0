"""A small cascade, made as a user would make it: drawn films, two trained stages, an evaluation."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.arms.reserved_ports import free_ports
from training.evaluate import evaluate
from training.fit.config import AugmentConfig, DataConfig, ModelConfig, OptimConfig, SizesConfig, Stage, TrainConfig
from training.sample_data import make_sample_data
from training.train import train

pytest_plugins = ["tests.service", "tests.small_disk", "tests.postgresql"]

TINY = SizesConfig(hidden=32, layers=2, heads=2, mlp=64, patch=8)


@pytest.fixture(name="free_ports")
def ports_of_the_run() -> Callable[[int], list[int]]:
    return free_ports


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 drawn films of 40 patients."""
    folder = tmp_path_factory.mktemp("data") / "sample"
    make_sample_data(folder, films=120, patients=40, seed=1)
    return folder


@pytest.fixture(scope="session")
def tiny_config(sample: Path, tmp_path_factory: pytest.TempPathFactory):
    """Configurations of short runs on the drawn films."""
    cache = tmp_path_factory.mktemp("cache")

    def build(stage: Stage, out: Path, epochs: int = 3, **optim: float) -> TrainConfig:
        return TrainConfig(
            stage=stage,
            out=str(out),
            data=DataConfig(folder=str(sample), validation=0.2, cache=str(cache)),
            model=ModelConfig(sizes=TINY, image_size=32, drop_path=0.0),
            augment=AugmentConfig(crop=1.0),
            optim=OptimConfig(
                **{"lr": 2e-3, "batch_size": 16, "epochs": epochs, "warmup": 0.0, "layer_decay": 1.0}
                | {"ema": None, "clip": None}
                | optim
            ),
        )

    return build


@pytest.fixture(scope="session")
def run(tiny_config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained and evaluated run whose gate lets half of the test films through."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    for stage in ("binary", "disease"):
        train(tiny_config(stage, folder / stage))
    evaluation = evaluate(folder)
    middle = pd.read_csv(folder / "predictions.csv")["Finding"].median()
    evaluation["thresholds"]["Finding"] = float(np.float32(middle))
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    return folder


@pytest.fixture(scope="session")
def film_paths(sample: Path) -> list[Path]:
    return sorted(sample.glob("images_*/images/*.png"))
