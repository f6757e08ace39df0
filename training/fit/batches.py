"""Which films go into which batch, and their way to the model's input."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from training.fit.config import ModelConfig

Batch = tuple[Tensor, Tensor]


class CachedFilms(Dataset[Batch]):
    """Rows of the pixel cache with their targets, a whole batch at a time.

    Args:
        pixels: [N, S, S] uint8.
        targets: [N, L] int8 in {-1, 0, 1}, -1 where a film is not labelled.
        rows: the rows of this split.
    """

    def __init__(self, pixels: NDArray[np.uint8], targets: NDArray[np.int8], rows: NDArray[np.int64]) -> None:
        self.pixels, self.targets, self.rows = pixels, targets, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, positions: list[int]) -> Batch:
        """[B, 1, S, S] uint8 and [B, L] float32."""
        rows = self.rows[positions]
        return torch.from_numpy(self.pixels[rows])[:, None], torch.from_numpy(self.targets[rows]).float()


class EpochSampler(Sampler[int]):
    """The same order for the same seed and epoch, whatever came before: a resumed run sees what it would have seen.

    Args:
        weights: [N] probability weight of each film.
        draws: films per epoch, drawn with replacement; None takes every film once, shuffled.
        seed: with the epoch, all that the order depends on.
    """

    def __init__(self, weights: NDArray[np.float64], draws: int | None, seed: int) -> None:
        self.weights, self.draws, self.seed, self.epoch = weights, draws, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.draws or len(self.weights)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        if self.draws is None:
            yield from generator.permutation(len(self.weights)).tolist()
        else:
            share = self.weights / self.weights.sum()
            yield from generator.choice(len(share), self.draws, p=share).tolist()


class Shares(Sampler[list[int]]):
    """One process's share of every batch: over all processes each film that is drawn comes once, in the drawn order.

    Shares of a batch differ by one film at most. A last batch of fewer films than processes joins the one before it.

    Args:
        sampler: draws the films of an epoch.
        batch_size: films of a batch, over all processes.
        processes: how many there are.
        process: which of them this is.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int, processes: int, process: int) -> None:
        self.sampler, self.batch_size, self.processes, self.process = sampler, batch_size, processes, process

    def set_epoch(self, epoch: int) -> None:
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        whole, left = divmod(len(self.sampler), self.batch_size)
        return max(1, whole + (left >= self.processes))

    def films(self, batch: int) -> int:
        """Of a batch, by its number from 0, over all processes."""
        return self.batch_size if batch < len(self) - 1 else len(self.sampler) - batch * self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        order = np.fromiter(self.sampler, np.int64)
        for batch in range(len(self)):
            start = batch * self.batch_size
            yield np.array_split(order[start : start + self.films(batch)], self.processes)[self.process].tolist()


def labelled_rows(targets: NDArray[np.int8], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the rows of ``targets``, [N, L], that have a label: the others would change no weight."""
    return rows[(targets[rows] >= 0).any(axis=1)]


def balancing_weights(targets: NDArray[np.int8]) -> NDArray[np.float64]:
    """[N, L] in {-1, 0, 1} -> [N]: a film weighs as its rarest label, a film without any as the films without any.

    For stage 1 this draws as many films with a finding as without.
    """
    present = targets == 1
    with_none = ~present.any(axis=1)
    rarity = 1.0 / np.maximum(present.sum(axis=0), 1)
    of_labels = (present * rarity).max(axis=1)
    return np.where(with_none, 1.0 / max(int(with_none.sum()), 1), of_labels)


def positive_weights(targets: NDArray[np.int8]) -> Tensor:
    """[N, L] in {-1, 0, 1} -> [L] float32, the class weights: negatives per positive; 1 where a label never occurs."""
    positives, negatives = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    weights = np.where(positives > 0, negatives / np.maximum(positives, 1), 1.0)
    return torch.tensor(weights, dtype=torch.float32)


def training_loader(films: CachedFilms, shares: Shares) -> DataLoader[Batch]:
    """Batches straight out of the cache."""
    return DataLoader(films, batch_sampler=shares, collate_fn=_as_is)


def validation_loader(films: CachedFilms, batch_size: int) -> DataLoader[Batch]:
    """The same, every film in order."""
    return DataLoader(films, batch_size=batch_size, collate_fn=_as_is)


def model_inputs(films: Tensor, config: ModelConfig) -> Tensor:
    """[B, 1, S, S] float32 in [0, 1] -> [B, 3, S, S] normalised by the configuration's mean and std, which it has."""
    mean = torch.tensor(config.mean, device=films.device).view(1, 3, 1, 1)
    std = torch.tensor(config.std, device=films.device).view(1, 3, 1, 1)
    return (films - mean) / std


def _as_is(batch: Any) -> Any:
    """``CachedFilms`` has collated the batch already."""
    return batch
