"""The benchmark's checkpoints and films: what the gate lets through, and that the forms are the same films."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import pairs
from benchmarks.films import as_dicom, as_jpeg, decoded, film_paths
from benchmarks.pairs import Pair, make_pair
from handlers.decoding.image import read_film
from handlers.reading import Naming, Screening
from handlers.report import Report
from tests.conftest import TINY


@pytest.fixture(scope="module")
def films(film_paths: list[Path]) -> list[bytes]:
    return [path.read_bytes() for path in film_paths[:12]]


@pytest.fixture(scope="module")
def pair(films: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Pair:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pairs.SIZES, "tiny", TINY)
        return make_pair("tiny", tmp_path_factory.mktemp("pairs") / "tiny", decoded(films, pairs.IMAGE_SIZE))


@pytest.mark.parametrize(("share", "routed"), [(0, 0), (50, 6), (100, 12)])
def test_the_threshold_lets_its_share_of_the_films_through(pair, films, share: int, routed: int) -> None:
    folder = pair.at_share(share)
    screened = Screening(folder / "binary", torch.device("cpu")).screen(films)
    assert sum(one.routed for one in screened) == routed
    reports = Naming(folder / "disease", torch.device("cpu")).name(screened)
    for report, expected in zip(reports, pair.probabilities, strict=True):
        assert isinstance(report, Report)
        assert report.finding.probability == pytest.approx(expected[0], abs=1e-4)
        named = [score.probability for score in report.diseases.values()]
        assert named == pytest.approx(expected[1:].tolist() if report.routed else [0.0] * 14, abs=1e-4)


def test_every_even_prefix_of_the_order_has_half_of_its_films_routed(pair: Pair) -> None:
    order = pair.alternating()
    assert sorted(order) == list(range(12))
    routed = pair.probabilities[order, 0] >= pair.threshold(50)
    assert [routed[:end].mean() for end in range(2, 13, 2)] == [0.5] * 6


def test_logits_spread_over_the_films_as_the_gate_needs_it(pair: Pair) -> None:
    logits = np.log(pair.probabilities / (1 - pair.probabilities))
    assert logits.std(axis=0) == pytest.approx([pairs.SPREAD] * 15, rel=1e-2)


def test_jpeg_and_dicom_are_the_same_film(films: list[bytes]) -> None:
    film = read_film(films[0])
    assert np.abs(read_film(as_jpeg(films[0])).astype(int) - film).mean() < 3
    large = read_film(as_dicom(films[0]))
    assert large.shape == (2000, 2000)
    same_size = Image.fromarray(large).resize(film.shape[::-1], Image.Resampling.BOX)
    assert np.abs(np.asarray(same_size).astype(int) - film).mean() < 3


def test_a_folder_without_films_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no PNG film under"):
        film_paths(tmp_path, 3)
