"""The message carries the route, and nothing it need not carry."""

import numpy as np
import pytest

from handlers.findings import FINDINGS
from handlers.message import Asked, Screened, pack, unpack
from handlers.report import FilmFacts, Refusal, Score

PIXELS = np.arange(224 * 224, dtype=np.uint32).reshape(224, 224).astype(np.uint8)


def test_a_routed_film_arrives_with_its_pixels() -> None:
    film = unpack(pack(Screened(Score.at(0.9, 0.3), 2.25, "1.2.3", PIXELS)))
    assert isinstance(film, Screened)
    assert film.routed
    assert (film.finding.probability, film.finding.threshold, film.version) == (0.9, 0.3, "1.2.3")
    assert film.logit == 2.25
    assert (film.pixels == PIXELS).all()


def test_an_unrouted_film_travels_without_pixels_in_under_a_kilobyte() -> None:
    message = pack(Screened(Score.at(0.123456789012345, 0.3), -1.9603, "1.2.3", None))
    film = unpack(message)
    assert isinstance(film, Screened)
    assert not film.routed
    assert film.finding.probability == 0.123456789012345
    assert len(message) < 1000


@pytest.mark.parametrize("findings", [(), FINDINGS])
def test_the_heatmaps_that_are_asked_for_travel_with_the_film_s_shape(findings: tuple[str, ...]) -> None:
    asked = Asked(findings, (2500, 2048))
    message = pack(Screened(Score.at(0.123456789012345, 0.3), -1.9603, "1.2.3", None, asked))
    assert unpack(message).heatmaps == asked
    assert len(message) < 1000


@pytest.mark.parametrize("pixels", [None, PIXELS])
def test_one_encoder_s_features_travel_instead_of_pixels_or_beside_them(pixels: np.ndarray | None) -> None:
    features = np.linspace(-2, 2, 768, dtype=np.float32)
    message = pack(Screened(Score.at(0.9, 0.3), 2.25, "1.2.3", pixels, None, features, "ab12"))
    film = unpack(message)
    assert isinstance(film, Screened)
    assert film.routed
    assert film.encoder == "ab12"
    np.testing.assert_array_equal(film.features, features)
    assert (film.pixels is None) == (pixels is None)
    assert len(message) < 4 * 768 + 1000 + (0 if pixels is None else pixels.size)


def test_a_routed_film_without_anything_to_read_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="a routed film comes without pixels and without features"):
        unpack(pack(Screened(Score.at(0.9, 0.3), 2.25, "1.2.3", None)))


def test_what_the_film_is_travels_with_it() -> None:
    image = FilmFacts(width=2048, height=2500, brightness=0.48, modality="DX")
    message = pack(Screened(Score.at(0.1, 0.3), -2.25, "1.2.3", None, image=image))
    assert unpack(message).image == image
    assert unpack(pack(Screened(Score.at(0.1, 0.3), -2.25, "1.2.3", None))).image is None


def test_a_film_without_options_takes_no_byte_for_them() -> None:
    message = pack(Screened(Score.at(0.9, 0.3), 2.25, "1.2.3", PIXELS))
    assert b"heatmaps" not in message
    assert unpack(message).heatmaps is None


def test_a_refusal_arrives_word_for_word() -> None:
    refusal = Refusal.because(400, "UnreadableImage", "not a PNG, JPEG or DICOM file")
    assert unpack(pack(refusal)) == refusal


@pytest.mark.parametrize(
    "message", [b"", b"garbage", b"\xff" * 100, pack(Screened(Score.at(0.9, 0.3), 2.25, "1", PIXELS))[:-9]]
)
def test_what_the_binary_node_did_not_write_is_a_value_error(message: bytes) -> None:
    with pytest.raises(ValueError, match="not a message of the binary node"):
        unpack(message)
