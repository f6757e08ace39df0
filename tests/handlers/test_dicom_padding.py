"""Pixel padding takes no part in a DICOM film: not in its range, and not in what is seen of it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from handlers.decoding.image import read_film
from tests.handlers.dicom_files import (
    ANATOMY,
    AS_SEEN,
    LINE,
    WHOLE,
    dataset_of,
    film,
    refused,
    table_of,
    with_table,
    written,
)


def bordered(stored: NDArray[np.integer], value: int, side: int = 40) -> NDArray[np.integer]:
    framed = stored.copy()
    framed[:side], framed[-side:], framed[:, :10] = value, value, value
    return framed


INSIDE = (slice(40, -40), slice(10, None))


@pytest.mark.parametrize(
    ("stored", "value", "bits", "tags"),
    [
        (ANATOMY, 65535, 16, {"PixelPaddingValue": 65535}),
        (ANATOMY, 65535, 12, {"PixelPaddingValue": 65535}),
        (ANATOMY, 5000, 16, {"PixelPaddingValue": 4900, "PixelPaddingRangeLimit": 65535}),
        (ANATOMY, 5000, 16, {"PixelPaddingValue": 65535, "PixelPaddingRangeLimit": 4900}),
        (ANATOMY + np.uint16(3000), 0, 16, {"PixelPaddingValue": 0}),
        (ANATOMY.astype(np.int16) - 2048, -32768, 16, {"PixelPaddingValue": -32768}),
        (ANATOMY.astype(np.int16) - 2048, -32768, 12, {"PixelPaddingValue": -32768}),
        (ANATOMY.astype(np.int16) - 1000, -2000, 13, {"PixelPaddingValue": -2000}),
        (ANATOMY.astype(np.int16), -20000, 16, {"PixelPaddingValue": -30000, "PixelPaddingRangeLimit": -10000}),
        ((ANATOMY >> 4).astype(np.uint8), 255, 8, {"PixelPaddingValue": 255}),
    ],
)
@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_takes_no_part_in_the_range_and_ends_black(
    stored: NDArray[np.integer], value: int, bits: int, tags: dict[str, int], interpretation: str
) -> None:
    """PS3.3 C.7.5.1.1.2."""
    framed = bordered(stored, value)
    seen = film(framed, bits, PhotometricInterpretation=interpretation, **tags)
    alone = stored[INSIDE].astype(float)
    alone = alone[alone != value] if bits == 8 else alone
    expected = (stored[INSIDE] - alone.min()) / np.ptp(alone)
    expected = 1 - expected if interpretation == "MONOCHROME1" else expected
    real = framed[INSIDE] != value
    assert (seen[INSIDE][real] == np.rint(expected * 255)[real]).all()
    assert not seen[:40].any()
    assert not seen[-40:].any()
    assert not seen[:, :10].any()


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_with_a_window_and_with_a_table(interpretation: str) -> None:
    tags = {"PixelPaddingValue": 65535, "PhotometricInterpretation": interpretation}
    framed = bordered(ANATOMY, 65535)
    alone = film(PhotometricInterpretation=interpretation, **WHOLE)
    table = table_of([4096, 0, 12], LINE.tolist())
    for seen in (film(framed, 16, **WHOLE, **tags), read_film(with_table(table, stored=framed, bits=16, **tags))):
        assert (np.abs(seen[INSIDE].astype(int) - alone[INSIDE]) <= 1).all()
        assert not seen[:40].any()


def test_signed_padding_is_found_under_either_value_representation() -> None:
    stored = bordered(ANATOMY.astype(np.int16) - 1000, -2000)
    for vr, value in (("SS", -2000), ("US", 2**16 - 2000)):
        dataset = dataset_of(stored, 16)
        dataset.add_new("PixelPaddingValue", vr, value)
        assert not read_film(written(dataset))[:40].any()
        assert read_film(written(dataset))[INSIDE].max() == 255


def test_signed_padding_is_found_where_samples_have_no_sign_bits_above_bits_stored() -> None:
    stored = bordered(ANATOMY.astype(np.int16) // 2, -2000).view(np.uint16) & np.uint16(0xFFF)
    seen = film(stored, 12, PixelRepresentation=1, PixelPaddingValue=-2000)
    assert not seen[:40].any()
    assert seen[INSIDE].max() == 255


def test_padding_is_of_stored_values_before_the_rescale() -> None:
    tags = {"PixelPaddingValue": 65535, "RescaleSlope": 2, "RescaleIntercept": -1000}
    assert not film(bordered(ANATOMY, 65535), 16, **tags)[:40].any()


def test_padding_that_does_not_occur_changes_nothing() -> None:
    assert (film(bits=16, PixelPaddingValue=65535) == AS_SEEN).all()
    assert (film(bits=16, PixelPaddingValue=65535, **WHOLE) == film(**WHOLE)).all()
    assert (film(PixelPaddingRangeLimit=4000) == AS_SEEN).all()


def test_a_film_of_nothing_but_padding_is_refused_by_its_name() -> None:
    for window in ({}, WHOLE):
        stored = np.full((64, 64), 2000, np.uint16)
        fault = refused(written(dataset_of(stored, 12, PixelPaddingValue=2000, **window)))
        assert fault.type == "BlankImage"
        assert "PixelPaddingValue" in fault.message


@pytest.mark.parametrize("value", [65535, 60000])
def test_a_border_far_off_all_other_values_does_not_darken_the_film_though_none_declares_it(value: int) -> None:
    seen = film(bordered(ANATOMY, value), 16)
    expected = film(bordered(ANATOMY, 65535), 16, PixelPaddingValue=65535)
    assert (seen[INSIDE] == expected[INSIDE]).all()


def test_hot_pixels_do_not_darken_the_film() -> None:
    hot = ANATOMY.copy()
    hot.flat[::4999] = np.arange(60000, 60007)
    real = hot < 60000
    assert np.abs(film(hot, 16)[real].astype(int) - AS_SEEN[real]).max() <= 6  # 0.1% at each end are white or black
