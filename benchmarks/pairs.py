"""Two checkpoints of random weights and a gate that lets a chosen share of the films through.

The weights are drawn, not trained: speed does not depend on them. Their heads are scaled, so that logits spread over
the films as a trained model's do, and the gate has something to tell apart.
"""

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from handlers.bfloat16_rule import Precision
from handlers.findings import FINDING, FINDINGS, STAGE_LABELS
from handlers.metadata import METADATA_FILE, Metadata
from handlers.networks.vit import PREPROCESSOR_FILE, Vit
from training.fit.config import ModelConfig, SizesConfig
from training.fit.model import build_model, save_checkpoint

SIZES = {
    "base": SizesConfig(hidden=768, layers=12, heads=12, mlp=3072, patch=16),
    "small": SizesConfig(hidden=384, layers=12, heads=6, mlp=1536, patch=16),
    "tiny": SizesConfig(hidden=192, layers=12, heads=3, mlp=768, patch=16),
}
"""ViT-B/16 (Dosovitskiy et al., ICLR 2021, table 1), and ViT-S/16 and ViT-Ti/16 (Touvron et al., "Training
data-efficient image transformers", ICML 2021, table 1). Small shows the overhead; tiny costs as much as decoding."""
IMAGE_SIZE = 224
SPREAD = 1.0
"""Standard deviation over the films of every label's logit."""


@dataclass(frozen=True)
class Pair:
    """Two checkpoints and what they say of the films that they were scaled on.

    Attributes:
        folder: holds ``binary/`` and ``disease/``.
        probabilities: [N, 15] float32: p(finding) and the 14, stage 2 run on every film, in float32.
        precision: of the archives. Random weights cannot say what bfloat16 changes of trained ones: their films lie
            closer together, and rounding moves a probability ten times as far.
    """

    name: str
    folder: Path
    probabilities: NDArray[np.float32]
    precision: Precision = "float32"

    def threshold(self, share: int) -> float:
        """The gate that lets ``share`` (0, 50 or 100) percent of the films through.

        For 50 it lies in the widest gap near the middle, so that no rounding sends a film the other way.
        """
        if share != 50:
            return 1.0 if share == 0 else 0.0
        ranked = np.sort(self.probabilities[:, 0].astype(np.float64))
        middle = len(ranked) // 2
        near = range(max(1, middle - len(ranked) // 20), middle + len(ranked) // 20 + 1)
        cut = max(near, key=lambda place: ranked[place] - ranked[place - 1])
        return float((ranked[cut - 1] + ranked[cut]) / 2)

    def alternating(self) -> list[int]:
        """The films' numbers, routed (at 50) and skipped in turn, so that every even prefix has the same share."""
        routed = self.probabilities[:, 0] >= self.threshold(50)
        ill, well = np.flatnonzero(routed).tolist(), np.flatnonzero(~routed).tolist()
        return [film for both in zip(ill, well, strict=False) for film in both]

    def at_share(self, share: int) -> Path:
        """A folder with ``binary/`` and ``disease/`` as unpacked archives, the weights linked, the threshold set."""
        folder = self.folder / f"share-{share}"
        thresholds = {FINDING: self.threshold(share), **dict.fromkeys(FINDINGS, 0.5)}
        for stage in STAGE_LABELS:
            if (folder / stage).exists():
                continue
            (folder / stage).mkdir(parents=True)
            for name in ("config.json", "model.safetensors", PREPROCESSOR_FILE):
                (folder / stage / name).symlink_to((self.folder / stage / name).resolve())
            text = metadata(self.folder, stage, thresholds, self.precision).model_dump_json(indent=2)
            (folder / stage / METADATA_FILE).write_text(text)
        return folder


def make_pair(name: str, folder: Path, pixels: NDArray[np.uint8], precision: Precision = "float32") -> Pair:
    """Draws the weights and scales the heads on ``pixels``, [N, 224, 224]."""
    torch.manual_seed(0)
    config = ModelConfig(sizes=SIZES[name], image_size=IMAGE_SIZE)
    columns = []
    for stage, labels in STAGE_LABELS.items():
        model = build_model(config, list(labels))
        with torch.no_grad():
            model.head.weight.normal_()  # apart from each other; the initial 14 rows lie close to zero
        save_checkpoint(model, config, folder / stage)
        vit = Vit(folder / stage, torch.device("cpu"), torch.float32)
        logits = np.concatenate([vit.logits(pixels[at : at + 16]) for at in range(0, len(pixels), 16)])
        mean, scale = logits.mean(axis=0), SPREAD / logits.std(axis=0)
        with torch.no_grad():
            head = model.head
            head.weight.mul_(torch.from_numpy(scale)[:, None])
            head.bias.copy_(torch.from_numpy((torch.zeros(1).numpy() - mean) * scale))
        save_checkpoint(model, config, folder / stage)
        columns.append(1.0 / (1.0 + np.exp(-(logits - mean) * scale)))
    return Pair(name, folder, np.concatenate(columns, axis=1).astype(np.float32), precision)


def metadata(pair: Path, stage: str, thresholds: dict[str, float], precision: Precision = "float32") -> Metadata:
    """What the archive of a drawn model says of itself."""
    preprocessor = json.loads((pair / stage / PREPROCESSOR_FILE).read_text())
    return Metadata.model_validate(
        {
            "stage": stage,
            "version": "0.0.0+random",
            "labels": list(STAGE_LABELS[stage]),
            "image_size": IMAGE_SIZE,
            "mean": preprocessor["image_mean"],
            "std": preprocessor["image_std"],
            "precision": precision,
            "thresholds": {label: thresholds[label] for label in STAGE_LABELS[stage]},
            "metrics": {},
            "data": {"folder": "random weights", "synthetic": True},
            "training": asdict(ModelConfig(sizes=SIZES[pair.name])) if pair.name in SIZES else {},
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
            "intended_use": "Benchmarks only: the weights are random.",
        }
    )
