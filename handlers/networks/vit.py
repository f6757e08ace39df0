"""A trained ViT in evaluation mode: pixels in, features or logits out."""

import json
import logging
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from handlers.bfloat16_rule import Precision
from handlers.networks.network import load_network
from handlers.networks.onednn import compute_by_onednn, compute_in_bfloat16
from handlers.networks.precision import is_native
from handlers.processors import give_way

PREPROCESSOR_FILE = "preprocessor_config.json"
"""The transformers file that holds a checkpoint's image size, mean and std."""
THREADS = torch.get_num_threads()
"""Processor cores that torch was given: all of them, or OMP_NUM_THREADS."""
BROKEN = 70
"""Exit code of a worker that computes no more (EX_SOFTWARE, sysexits.h)."""
AT_ONCE = 2
"""Films that a core takes through the layers together: with more, their activations leave its cache."""

logger = logging.getLogger(__name__)


def serving_device(gpu: int | None = None) -> torch.device:
    """The given GPU, or the first one, or the CPU where there is none."""
    return torch.device("cuda", gpu or 0) if torch.cuda.is_available() else torch.device("cpu")


class Vit:
    """One stage's network, loaded from a checkpoint folder or an unpacked archive (the same three files).

    Args:
        folder: holds ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``.
        device: where it runs.
        dtype: of the encoder's matrix products, float32 or bfloat16 (``handlers.networks.precision``).
    """

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        disable_progress_bar()  # its lines would go to the server's log
        self.device, self.dtype = device, dtype
        self.model = load_network(folder).eval().to(device)
        self.model.skip_unseen_patches()
        if dtype == torch.bfloat16:
            # The head stays in float32: between -4 and 4 bfloat16 has some thousand values, logits would tie, and no
            # threshold could part them.
            between = torch.float32 if self.model.family.float32_between else torch.bfloat16
            compute_in_bfloat16(self.model.encoder, is_native(device), between)
        if device.type == "cpu":
            compute_by_onednn(self.model)
        preprocessor = json.loads((folder / PREPROCESSOR_FILE).read_text())
        self.image_size = int(preprocessor["size"]["height"])
        self._lanes = ThreadPoolExecutor(THREADS, "vit", give_way) if device.type == "cpu" and THREADS > 1 else None
        self._mean = torch.tensor(preprocessor["image_mean"], device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(preprocessor["image_std"], device=device).view(1, 3, 1, 1)

    def logits(self, pixels: NDArray[np.uint8], busy: bool = False) -> NDArray[np.float32]:
        """[B, S, S] uint8 -> [B, L] float32, one column per label, what ``handlers.cascade`` turns into a report."""
        return self.logits_of(self.features(pixels, busy))

    @torch.inference_mode()
    def logits_of(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """[B, W] float32 -> [B, L] float32: the head alone, on features of this very encoder."""
        films = torch.from_numpy(features).to(self.device)
        # A product over several films adds up in another order for each number of them. Of the head's few rows one at a
        # time is as fast on a CPU, and a film's probabilities then hardly depend on what is read beside it.
        parts = films.split(1) if self.device.type == "cpu" else [films]
        return torch.cat([self.model.head(part) for part in parts]).cpu().numpy()

    def features(self, pixels: NDArray[np.uint8], busy: bool = False) -> NDArray[np.float32]:
        """[B, S, S] uint8 -> [B, W] float32: what the head sees of each film.

        On a CPU a batch is cut into parts of some films, as many for each core, each with one thread: threads that
        share a matrix wait for each other at every layer, spinning, and the two stages' processes share the cores.

        Args:
            pixels: the films.
            busy: other films are under way, so that a single one had better take a single core, too.
        """
        if self.device.type != "cpu" or (len(pixels) == 1 and not busy):
            return self._forward(pixels, THREADS)
        rounds = math.ceil(len(pixels) / (AT_ONCE * THREADS))
        parts = np.array_split(pixels, min(rounds * THREADS, len(pixels)))
        in_turn = self._lanes.map if self._lanes else map
        return np.concatenate(list(in_turn(self._forward, parts, [1] * len(parts))))

    @torch.inference_mode()
    def _forward(self, pixels: NDArray[np.uint8], threads: int) -> NDArray[np.float32]:
        if self._lanes is not None:
            torch.set_num_threads(threads)
        return self.model.features(self.inputs(pixels)).float().cpu().numpy()

    def inputs(self, pixels: NDArray[np.uint8]) -> Tensor:
        """[B, S, S] uint8 -> [B, 3, S, S] normalised, on the device."""
        grey = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device)[:, None]  # [B, 1, S, S] uint8
        return (grey.float() / 255.0 - self._mean) / self._std

    def version(self, name: str) -> str:
        """The model's version, with the precision as build metadata (semver.org, item 10) where it is not float32."""
        if self.dtype == torch.float32:
            return name
        return f"{name}{'.' if '+' in name else '+'}{self.precision}"

    @property
    def precision(self) -> Precision:
        """The name of ``dtype``."""
        return "bfloat16" if self.dtype == torch.bfloat16 else "float32"

    @property
    def width(self) -> int:
        """Numbers in a film's features."""
        return int(self.model.head.in_features)

    def warm_up(self) -> None:
        """Runs one blank film, so that the first real one does not pay for lazy initialisation."""
        self.logits(np.zeros((1, self.image_size, self.image_size), np.uint8))

    def end_if_broken(self) -> None:
        """Ends this process where not even a blank film can be computed, as after the loss of its GPU.

        A CUDA error stays with its process for good; TorchServe starts another worker in the place of one that ends.
        """
        try:
            self.warm_up()
        except Exception:
            logger.critical("the model computes no more on %s: this worker ends", self.device, exc_info=True)
            logging.shutdown()
            os._exit(BROKEN)
