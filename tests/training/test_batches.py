"""Which films an epoch draws, how they are weighed, and what augmentation may do to them."""

import numpy as np
import pytest
import torch

from training.fit.augment import augment
from training.fit.batches import EpochSampler, Shares, balancing_weights, positive_weights
from training.fit.config import AugmentConfig


def test_stage_1_draws_as_many_films_with_a_finding_as_without() -> None:
    targets = (np.arange(1000) < 100).astype(np.int8)[:, None]
    drawn = np.array(list(EpochSampler(balancing_weights(targets), 10_000, seed=0)))
    assert abs(targets[drawn].mean() - 0.5) < 0.02


def test_stage_2_draws_rare_findings_more_often() -> None:
    targets = np.zeros((1000, 2), np.int8)
    targets[:300, 0] = 1
    targets[300:310, 1] = 1
    drawn = np.array(list(EpochSampler(balancing_weights(targets), 9000, seed=0)))
    shares = np.array([targets[drawn, 0].mean(), targets[drawn, 1].mean()])
    assert np.abs(shares - 1 / 3).max() < 0.02


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int, draws: int | None = None) -> list[int]:
        sampler = EpochSampler(np.ones(50), draws, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)
    assert sorted(order(0, 3)) == list(range(50))
    assert len(order(0, 3, draws=7)) == 7


@pytest.mark.parametrize("films", [64, 61, 66, 49, 16, 10])
@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_processes_share_out_an_epoch_s_films_so_that_each_comes_once(films: int, processes: int) -> None:
    sampler = EpochSampler(np.ones(films), None, seed=0)
    shares = [Shares(sampler, 16, processes, process) for process in range(processes)]
    parts = list(zip(*shares, strict=True))  # of a batch, one a process
    assert [film for batch in parts for part in batch for film in part] == list(sampler)
    for number, batch in enumerate(parts):
        sizes = [len(part) for part in batch]
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
        assert {each.films(number) for each in shares} == {sum(sizes)}
    assert {len(each) for each in shares} == {len(parts)}


def test_class_weights_are_negatives_per_positive() -> None:
    targets = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 0], [0, 0, 1]], np.int8)
    assert torch.allclose(positive_weights(targets), torch.tensor([3.0, 1.0, 1 / 3]))


def test_augmentation_keeps_range_and_shape_and_differs_between_films() -> None:
    torch.manual_seed(0)
    films = torch.rand(1, 1, 32, 32).repeat(8, 1, 1, 1)
    changed = augment(films, AugmentConfig(crop=1.0, flip=0.5))
    assert changed.shape == films.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert len({tuple(film.flatten().tolist()) for film in changed}) == 8


def test_augmentation_turned_off_changes_nothing_and_flip_mirrors() -> None:
    films = torch.rand(4, 1, 32, 32)
    off = AugmentConfig(crop=1.0, flip=0.0, rotation=0.0, brightness=0.0, contrast=0.0)
    assert torch.allclose(augment(films, off), films, atol=1e-5)
    off.flip = 1.0
    assert torch.allclose(augment(films, off), films.flip(3), atol=1e-5)


def test_rotation_stays_within_its_angle() -> None:
    torch.manual_seed(0)
    side = 101
    line = torch.zeros(64, 1, side, side)
    line[:, :, 10, side // 2] = 1.0  # 40 pixels above the centre
    turned = augment(line, AugmentConfig(crop=1.0, flip=0.0, rotation=10.0, brightness=0.0, contrast=0.0))
    columns = (turned.sum(dim=2)[:, 0] * torch.arange(side)).sum(1) / turned.sum(dim=(1, 2, 3))
    shift = (columns - side // 2).abs()
    assert shift.max() <= 40 * np.sin(np.radians(10)) + 0.5
    assert shift.max() > 4
