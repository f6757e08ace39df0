"""Where declared bits, ranges and tables disagree with the samples, a film is seen as a person sees it, or refused."""

import logging
from io import BytesIO

import numpy as np
import pydicom
import pytest

from handlers.decoding.image import read_film
from tests.handlers.dicom_files import (
    ANATOMY,
    AS_SEEN,
    LINE,
    NOISE,
    WHOLE,
    dataset_of,
    film,
    refused,
    table_of,
    with_table,
    written,
)

# Bits of a sample


def test_bits_stored_too_large_does_no_harm() -> None:
    assert (film(bits=16) == AS_SEEN).all()
    assert (film(bits=16, **WHOLE) == film(**WHOLE)).all()


@pytest.mark.parametrize("bits", [8, 10, 11])
@pytest.mark.parametrize("signed", [False, True])
def test_bits_stored_too_small_is_seen_by_the_film_that_it_tears_apart(
    bits: int, signed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stored, moved = (ANATOMY.astype(np.int16) - 2048, {"WindowCenter": 0}) if signed else (ANATOMY, {})
    assert (film(stored, bits) == AS_SEEN).all()
    assert (film(stored, bits, **{**WHOLE, **moved}) == film(**WHOLE)).all()
    assert "BitsStored" in caplog.text


def test_bits_above_bits_stored_that_may_be_anything_are_refused_by_the_element() -> None:
    fault = refused(written(dataset_of(NOISE, 10)))
    assert fault.type == "UnreadableImage"
    assert "BitsStored" in fault.message


def test_an_overlay_in_the_bits_that_it_claims_is_not_seen() -> None:
    """Until 2004 overlays could lie above the stored bits (PS3.3, C.9.2)."""
    stored = ANATOMY.copy()
    stored[50:90, 20:120:3] |= 0x4000
    assert "BitsStored" in refused(written(dataset_of(stored, 12))).message
    overlay = {"OverlayBitPosition": 14}
    dataset = dataset_of(stored, 12, **WHOLE)
    dataset.add_new(0x60000102, "US", overlay["OverlayBitPosition"])
    assert (read_film(written(dataset)) == film(**WHOLE)).all()


def test_a_sign_that_tears_the_film_apart_is_none(caplog: pytest.LogCaptureFixture) -> None:
    large = np.tile(ANATOMY, (2, 2))
    for stored, bits in ((large, 12), (large * np.uint16(16), 16)):
        assert (film(stored, bits, PixelRepresentation=1) == np.tile(AS_SEEN, (2, 2))).all()
    assert "PixelRepresentation" in caplog.text


def test_a_sign_that_is_missing_is_seen_by_the_bits_above_or_refused_by_its_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    signed = np.tile(ANATOMY, (2, 2)).astype(np.int16) - 2048
    assert (film(signed, 12, PixelRepresentation=0) == np.tile(AS_SEEN, (2, 2))).all()
    assert "PixelRepresentation" in caplog.text
    for stored, bits in ((signed, 16), (signed.view(np.uint16) & np.uint16(0xFFF), 12), (signed * np.int16(16), 16)):
        for window in ({}, {"WindowCenter": 0, "WindowWidth": 4096}):
            fault = refused(written(dataset_of(stored, bits, PixelRepresentation=0, **window)))
            assert fault.type == "UnreadableImage"
            assert "PixelRepresentation" in fault.message


def test_a_sign_is_believed_where_the_film_is_smooth_with_it(caplog: pytest.LogCaptureFixture) -> None:
    signed = ANATOMY.astype(np.int16) - 2048
    assert (film(signed, 12) == AS_SEEN).all()
    assert (film(signed.view(np.uint16) & np.uint16(0xFFF), 12, PixelRepresentation=1) == AS_SEEN).all()
    assert (film(signed * np.int16(16), 16) == AS_SEEN).all()
    assert not caplog.records


@pytest.mark.parametrize("high", [7, 15])
def test_a_high_bit_that_disagrees_is_refused_by_its_name(high: int) -> None:
    assert "HighBit" in refused(written(dataset_of(ANATOMY, 12, HighBit=high))).message


def test_what_a_file_says_of_its_smallest_and_largest_value_does_not_count() -> None:
    tags = {"SmallestImagePixelValue": 4000, "LargestImagePixelValue": 4001}
    assert (film(**tags) == AS_SEEN).all()


def test_pixel_data_that_hold_more_than_the_header_says_are_refused() -> None:
    """Another depth, other sides, or several frames that nothing counts."""
    for tags in ({"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}, {"Rows": 100}, {"Columns": 80}):
        fault = refused(written(dataset_of(ANATOMY, 12, **tags)))
        assert "NumberOfFrames" in fault.message
        assert "BitsAllocated" in fault.message
    dataset = dataset_of(ANATOMY, 12)
    dataset.PixelData += bytes(2000)
    assert (read_film(written(dataset)) == AS_SEEN).all()


# Windows


@pytest.mark.parametrize(
    "window",
    [{"WindowCenter": 100_000, "WindowWidth": 200}, {"WindowCenter": -5000, "WindowWidth": 4096}],
    ids=["above", "below"],
)
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_a_window_that_lies_off_the_film_is_refused_by_its_name(window: dict[str, int], function: str) -> None:
    for tags in ({}, {"PhotometricInterpretation": "MONOCHROME1"}, {"RescaleSlope": 2, "RescaleIntercept": -100}):
        fault = refused(written(dataset_of(ANATOMY, 12, VOILUTFunction=function, **window, **tags)))
        assert (fault.type, fault.code) == ("BlankImage", 422)
        assert "WindowCenter" in fault.message


@pytest.mark.parametrize(("bits", "levels"), [(12, 17), (14, 65)])
def test_a_window_of_another_scale_than_the_values_is_refused_by_its_name(bits: int, levels: int) -> None:
    stored = ANATOMY * np.uint16(2 ** (bits - 12))
    fault = refused(written(dataset_of(stored, bits, WindowCenter=32768, WindowWidth=65536)))
    assert fault.type == "BlankImage"
    assert f"{levels} of 256 greys" in fault.message
    assert "WindowCenter" in fault.message
    narrow = refused(written(dataset_of(ANATOMY, 12, WindowCenter=128, WindowWidth=256)))
    assert narrow.type == "BlankImage"
    assert "WindowCenter" in narrow.message


def test_a_window_that_shows_a_good_part_of_the_greys_is_used() -> None:
    seen = film(WindowCenter=4096, WindowWidth=8192)
    assert (seen.min(), seen.max()) == (0, 127)


@pytest.mark.parametrize("width", [0, -100, 0.5])
def test_a_window_without_width_is_left_out(width: float, caplog: pytest.LogCaptureFixture) -> None:
    """PS3.3 C.11.2.1.2.1: the width shall be 1 or more."""
    assert (film(WindowCenter=2048, WindowWidth=width) == AS_SEEN).all()
    assert "WindowWidth" in caplog.text


def test_a_width_below_one_is_a_width_where_the_function_is_exact() -> None:
    tags = {"RescaleSlope": "0.0001", "RescaleIntercept": "0", "WindowCenter": "0.20475", "WindowWidth": "0.4095"}
    assert (film(VOILUTFunction="LINEAR_EXACT", **tags) == AS_SEEN).all()


# Rescale


def test_a_rescale_slope_of_zero_is_refused_by_its_name() -> None:
    for window in ({}, WHOLE):
        fault = refused(written(dataset_of(ANATOMY, 12, RescaleSlope=0, RescaleIntercept=0, **window)))
        assert (fault.type, fault.code) == ("BlankImage", 422)
        assert "RescaleSlope" in fault.message


def test_a_rescale_that_makes_all_values_one_is_refused_by_its_name() -> None:
    fault = refused(written(dataset_of(ANATOMY, 12, RescaleSlope="1e-300", RescaleIntercept=1000)))
    assert fault.type == "BlankImage"
    assert "RescaleSlope" in fault.message


def test_half_a_rescale_is_one_with_the_other_half_as_it_is_by_default() -> None:
    assert (film(RescaleSlope=2, WindowCenter=4096, WindowWidth=8192) == film(**WHOLE)).mean() > 0.9
    assert (film(RescaleIntercept=-2048, WindowCenter=0, WindowWidth=4096) == film(**WHOLE)).all()


def test_a_negative_slope_turns_the_film_round() -> None:
    assert (film(RescaleSlope=-1, RescaleIntercept=4095) == 255 - AS_SEEN).all()


@pytest.mark.parametrize("slope", ["1e400", "NaN", "inf"])
def test_a_slope_that_is_no_number_is_refused_by_its_name(slope: str) -> None:
    dataset = dataset_of(ANATOMY, 12, RescaleSlope="1", RescaleIntercept="0")
    dataset["RescaleSlope"]._value = slope
    fault = refused(written(dataset))
    assert fault.type == "UnreadableImage"
    assert "RescaleSlope" in fault.message


# Films of one shade


@pytest.mark.parametrize("value", [0, 700, 4095])
def test_a_film_of_one_value_is_refused(value: int) -> None:
    for window in ({}, WHOLE):
        fault = refused(written(dataset_of(np.full((64, 64), value, np.uint16), 12, **window)))
        assert (fault.type, fault.code) == ("BlankImage", 422)
        assert "same value" in fault.message


def test_a_table_that_makes_every_pixel_the_same_is_refused_by_its_name() -> None:
    for name in ("VOILUTSequence", "ModalityLUTSequence"):
        fault = refused(with_table(table_of([4096, 0, 12], [4000] * 4096), name))
        assert fault.type == "BlankImage"
        assert name in fault.message
    off = refused(with_table(table_of([4096, 5000, 12], LINE.tolist())))
    assert off.type == "BlankImage"
    assert "VOILUTSequence" in off.message


def test_a_film_is_looked_at_pixel_by_pixel_before_it_is_called_blank() -> None:
    """Of a large film not every pixel is looked at first; here each one of those is black."""
    stored = np.tile(np.linspace(0, 4095, 1030).astype(np.uint16), (1030, 1))
    stored[::2, ::2] = 0
    assert read_film(written(dataset_of(stored, 12, **WHOLE))).max() == 255


def test_presentation_lut_shape_does_not_turn_a_film_round_once_more() -> None:
    """In a DX object it says again what Photometric Interpretation says."""
    for interpretation, shape in (("MONOCHROME1", "INVERSE"), ("MONOCHROME1", "IDENTITY")):
        seen = film(PhotometricInterpretation=interpretation, PresentationLUTShape=shape)
        assert (seen == 255 - AS_SEEN).all()
    assert (film(PresentationLUTShape="INVERSE") == AS_SEEN).all()


def test_a_function_of_no_known_name_is_linear(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for name in ("SOMETHING", "linear", ""):
        assert (film(VOILUTFunction=name, **WHOLE) == film(**WHOLE)).all()
    assert [record.message.count("VOILUTFunction") for record in caplog.records] == [1]


def test_a_float_window_and_a_rescale_in_another_value_representation_are_numbers_too() -> None:
    dataset = dataset_of(ANATOMY, 12)
    dataset.add_new("WindowCenter", "FD", 2048.0)
    dataset.add_new("WindowWidth", "US", 4096)
    assert (read_film(written(dataset)) == film(**WHOLE)).all()
    assert pydicom.dcmread(BytesIO(written(dataset)))["WindowCenter"].VR == "FD"
