"""Whether the models can read a film: what is said of it, and what is put right before it is read."""

from base64 import b64decode
from io import BytesIO
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from benchmarks.pictures import as_png
from handlers.binary_handler import BinaryHandler
from handlers.cascade import Cascade
from handlers.decoding.image import read_film
from handlers.message import Screened, pack, unpack
from handlers.quality import KEY, QUALITY_FILE, TURNS, WAYS, Levels, QualityReader, put_right, turn
from handlers.reading import Naming, Screening
from handlers.report import Correction, Orientation, Quality, Report, Score, Sign, Turned
from training.quality.changes import laid

CPU = torch.device("cpu")
LEVELS = Levels(unlike=0.05, turned=0.5, mirrored=0.5, inverted=0.5)
FILM = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)


def reader_of(**tensors: np.ndarray) -> QualityReader:
    """Of four features, each with a spread of its own; the head says the first way of every film unless told otherwise.
    Validation films lie at 0.00, 0.01 … 0.98."""
    known = {
        "mean": np.zeros(4),
        "scale": np.ones(4),
        "weights": np.zeros((16, 4)),
        "bias": np.where(np.arange(16) == 0, 50.0, 0.0),
        "axes": np.eye(4)[:, :2],
        "spread": np.array([2.0, 1.0]),
        "noise": np.array([0.5]),
        "distances": np.linspace(0.0, 0.98, 99),
    }
    return QualityReader(LEVELS, known | tensors)


NEAR, FAR = np.array([[0.2, 0.1, 0.0, 0.1]]), np.array([[0.0, 0.0, 0.0, 1.0]])


def test_a_film_is_in_the_distribution_as_far_as_validation_films_lie_as_far() -> None:
    """At 0.98 one of 99 validation films lies as far, at 0.5 forty-nine do."""
    reader = reader_of()
    assert reader.in_distribution(np.array([0.0, 0.5, 0.98, 5.0], np.float32)) == pytest.approx([1.0, 0.5, 0.02, 0.01])


def test_the_distance_is_mahalanobis_s_under_the_covariance_of_the_components() -> None:
    """Against its definition with the whole matrix: along the axes their variance, along the others the noise's."""
    chance = np.random.default_rng(0)
    axes, _ = np.linalg.qr(chance.normal(size=(4, 4)))
    spread, noise = np.array([2.0, 1.5]), 0.25
    covariance = axes[:, :2] @ np.diag(spread**2) @ axes[:, :2].T + axes[:, 2:] @ axes[:, 2:].T * noise**2
    films = chance.normal(size=(9, 4)).astype(np.float32)
    expected = np.einsum("ni,ij,nj->n", films, np.linalg.inv(covariance), films)
    found = reader_of(axes=axes[:, :2], spread=spread, noise=np.array([noise])).scores(films).distance
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_the_way_a_film_lies_is_said_with_its_score_and_in_words(way: tuple[Turned, bool, bool]) -> None:
    turned, mirrored, inverted = way
    [film] = reader_of(bias=np.where(np.arange(16) == WAYS.index(way), 50.0, 0.0)).judge(NEAR)
    assert (film.orientation.value, film.mirrored.value, film.inverted.value) == way
    assert film.orientation.score == pytest.approx(1.0)
    assert (film.mirrored.score, film.inverted.score) == pytest.approx((float(mirrored), float(inverted)), abs=1e-6)
    assert film.readable == (turned == "upright" and not inverted)
    said = " / ".join(film.warnings)
    assert (f"turned by {turned} degrees, clockwise" in said) == (turned != "upright")
    assert ("mirrored" in said, "inverted" in said, "unlike" in said) == (mirrored, inverted, False)


def test_scores_are_summed_over_the_ways_and_held_against_their_levels() -> None:
    """A film that lies on one side or the other is turned, though neither is likelier than upright."""
    logits = np.full(16, -50.0)
    for way, share in ((("upright", False, False), 0.4), (("90", False, True), 0.25), (("270", True, True), 0.35)):
        logits[WAYS.index(way)] = np.log(share)
    [film] = reader_of(bias=logits).judge(NEAR)
    assert (film.orientation.value, film.mirrored.value, film.inverted.value) == ("270", False, True)
    assert film.orientation.score == pytest.approx(0.35)
    assert (film.mirrored.score, film.inverted.score) == pytest.approx((0.35, 0.6))


def test_a_film_unlike_the_training_films_is_warned_of_with_its_share() -> None:
    near, unlike = reader_of().judge(np.concatenate([NEAR, FAR]))
    assert (near.in_distribution, near.unlike, near.readable, near.warnings) == (0.93, False, True, [])
    assert (unlike.unlike, unlike.readable) == (True, False)
    assert unlike.warnings[0].endswith("1.0% of validation films lie as far from them")


@pytest.mark.parametrize(("turned", "inverted"), product(TURNS, (False, True)))
def test_a_film_that_is_put_right_lies_as_before_it_was_turned(turned: Turned, inverted: bool) -> None:
    lying = laid(FILM, (turned, False, inverted))
    np.testing.assert_array_equal(put_right(lying, Correction(turned=turned, inverted=inverted)), FILM)
    assert (turned == "upright" and not inverted) == np.array_equal(lying, FILM)
    if turned == "90":
        assert turn(FILM, "90")[0, -1] == FILM[0, 0]  # clockwise: what is top left comes to the top right


def quality_of(way: tuple[Turned, bool, bool]) -> Quality:
    turned, mirrored, inverted = way
    return Quality(
        in_distribution=0.5,
        orientation=Orientation(value=turned, score=0.75),
        mirrored=Sign(value=mirrored, score=0.5),
        inverted=Sign(value=inverted, score=0.5),
        unlike=False,
        readable=turned == "upright" and not inverted,
        warnings=[],
    )


class Told:
    """Judges films by how they lie: it has been told of every one, and knows it again by stage 1's features."""

    def __init__(self, screening: Screening, films: list[np.ndarray]) -> None:
        side = screening.vit.image_size
        small = [np.asarray(Image.fromarray(film).resize((side, side))) for film in films]
        self.known = {way: screening.vit.features(np.stack([laid(film, way) for film in small])) for way in WAYS}

    def judge(self, features: np.ndarray) -> list[Quality]:
        return [quality_of(min(WAYS, key=lambda way: self._far(way, row))) for row in features]

    def _far(self, way: tuple[Turned, bool, bool], row: np.ndarray) -> float:
        return float(np.abs(self.known[way] - row).max(axis=1).min())


@pytest.fixture(scope="module")
def stages(unpacked: dict[str, Path], film_paths: list[Path]) -> tuple[Screening, Naming, list[np.ndarray]]:
    """Both stages, every film routed, and three films of 64 px whose ways to lie stage 1 has been told."""
    screening, naming = Screening(unpacked["binary"], CPU), Naming(unpacked["disease"], CPU)
    screening.cascade = Cascade(thresholds={"Finding": 0.0})
    films = [np.asarray(Image.fromarray(read_film(path.read_bytes())).resize((64, 64))) for path in film_paths[:3]]
    screening.quality = Told(screening, films)
    return screening, naming, films


def read(stages: tuple[Screening, Naming, list[np.ndarray]], films: list[np.ndarray], **options) -> list[Report]:
    screening, naming, _ = stages
    return naming.name([unpack(pack(one)) for one in screening.screen([as_png(film) for film in films], **options)])


def test_a_report_says_how_its_film_lies_and_changes_nothing_unless_told(stages) -> None:
    _, _, films = stages
    plain, turned = read(stages, [films[0], laid(films[0], ("90", False, True))])
    assert plain.quality == quality_of(("upright", False, False))
    assert turned.quality == quality_of(("90", False, True))
    assert turned.finding.probability != plain.finding.probability


@pytest.mark.parametrize("way", [("90", False, False), ("180", False, True), ("270", True, False)])
def test_a_film_that_is_put_right_is_read_as_if_it_had_come_so(stages, way: tuple[Turned, bool, bool]) -> None:
    _, _, films = stages
    right, wrong = [laid(film, ("upright", way[1], False)) for film in films], [laid(film, way) for film in films]
    expected = read(stages, right)
    corrected = read(stages, [wrong[0], wrong[1], right[2]], corrected=[0, 1, 2])
    for report, wanted in zip(corrected, expected, strict=True):
        # A turned film is resized from its other end, which moves a grey by one here and there.
        assert report.finding.probability == pytest.approx(wanted.finding.probability, abs=1e-3)
        assert report.diseases["Mass"].probability == pytest.approx(wanted.diseases["Mass"].probability, abs=1e-3)
        assert report.quality
        assert (report.quality.orientation.value, report.quality.inverted.value) == ("upright", False)
    for report in corrected[:2]:
        assert report.quality
        assert report.quality.corrected == Correction(turned=way[0], inverted=way[2])
        assert report.quality.mirrored.value == way[1]  # which may be the heart's own side
    assert corrected[2].quality
    assert corrected[2].quality.corrected is None


def test_only_those_films_are_put_right_whose_sender_asks(stages) -> None:
    _, _, films = stages
    wrong = [laid(film, ("180", False, False)) for film in films]
    first, second, _ = read(stages, wrong, corrected=[1])
    assert first.quality
    assert second.quality
    assert (first.quality.corrected, first.quality.orientation.value) == (None, "180")
    assert (second.quality.corrected, second.quality.orientation.value) == (
        Correction(turned="180", inverted=False),
        "upright",
    )


def test_a_film_that_cannot_be_read_even_then_stays_as_it_came(stages, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hand that is taken for a film on its side is not read as a hand that stands."""
    screening, _, films = stages
    hand = quality_of(("90", False, False))
    monkeypatch.setattr(screening, "quality", SimpleNamespace(judge=lambda features: [hand] * len(features)))
    [plain], [asked] = read(stages, films[:1]), read(stages, films[:1], corrected=[0])
    assert asked.quality == hand
    assert asked.finding == plain.finding


def test_a_heatmap_lies_on_the_film_as_it_was_sent(stages) -> None:
    _, _, films = stages
    [upright] = read(stages, films[:1], heatmaps={0: "Mass"})
    [lying] = read(stages, [laid(films[0], ("90", False, False))], heatmaps={0: "Mass"}, corrected=[0])
    assert upright.heatmaps
    assert lying.heatmaps
    maps = [np.asarray(Image.open(BytesIO(b64decode(one.heatmaps["Mass"]))), float) for one in (upright, lying)]
    assert maps[0].max() == 255
    assert np.abs(turn(maps[0], "90") - maps[1]).mean() < 2


def test_the_handler_puts_right_what_came_with_the_field(
    unpacked: dict[str, Path], film_paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, asked = BinaryHandler(), []
    counters = SimpleNamespace(add_counter=lambda name, value: None)
    context = SimpleNamespace(system_properties={"model_dir": str(unpacked["binary"])}, metrics=counters)
    handler.initialize(context)
    screen = handler.screening.screen
    monkeypatch.setattr(
        handler.screening, "screen", lambda films, heatmaps, corrected: asked.append(corrected) or screen(films)
    )
    film = bytearray(film_paths[0].read_bytes())
    handler.handle([{"body": film}, {"data": film, "quality": bytearray(b"correct")}, {"data": film}], context)
    assert asked == [[1]]


def test_the_message_carries_it(stages) -> None:
    wanted = quality_of(("90", True, False)).model_copy(update={"corrected": Correction(turned="180", inverted=True)})
    for quality in (None, wanted):
        screened = Screened(Score.at(0.25, 0.5), -1.0, "1.0.0", None, quality=quality)
        assert unpack(pack(screened)).quality == quality


def test_an_archive_s_file_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    assert QualityReader.of_archive(tmp_path) is None
    one = reader_of()
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in one._tensors.items()}
    save_file(tensors, tmp_path / QUALITY_FILE, metadata={KEY: LEVELS.model_dump_json()})
    again = QualityReader.of_archive(tmp_path)
    assert again
    assert again.levels == LEVELS
    assert again.judge(np.eye(4)) == one.judge(np.eye(4))
