"""Where declared bits, ranges and tables disagree with the samples, a film is seen as a person sees it, or refused."""

import logging
from io import BytesIO

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from handlers.image import read_film
from tests.handlers.dicom_files import ANATOMY, AS_SEEN, NOISE, WHOLE, dataset_of, refused, table_of, written

LINE = np.arange(4096)


def film(stored: NDArray[np.integer] = ANATOMY, bits: int = 12, **tags: object) -> NDArray[np.uint8]:
    return read_film(written(dataset_of(stored, bits, **tags)))


def with_table(
    item: Dataset, name: str = "VOILUTSequence", stored: NDArray[np.integer] = ANATOMY, **tags: object
) -> bytes:
    bits = tags.pop("bits", 12)
    return written(dataset_of(stored, bits, **{name: Sequence([item])}, **tags))


# Lookup tables


@pytest.mark.parametrize("bits", [13, 14, 15, 16, 0, 255])
def test_a_table_whose_declared_bits_are_more_than_it_spans_is_read_at_full_brightness(bits: int) -> None:
    """Agfa's CR declares 16 bits of entries up to 4095, a sixteenth of white (dicom-rs, pull request 825)."""
    assert (read_film(with_table(table_of([4096, 0, bits], LINE.tolist()))) == AS_SEEN).all()


@pytest.mark.parametrize("bits", [8, 10])
def test_a_table_whose_entries_exceed_its_declared_bits_is_read_at_full_brightness(bits: int) -> None:
    assert (read_film(with_table(table_of([4096, 0, bits], LINE.tolist()))) == AS_SEEN).all()


@pytest.mark.parametrize("largest", [32768, 40000, 60000, 65535])
def test_a_table_that_uses_the_upper_half_of_its_declared_range_keeps_that(largest: int) -> None:
    entries = np.rint(LINE / 4095 * largest)
    expected = np.rint(entries[ANATOMY] / 65535 * 255)
    assert (read_film(with_table(table_of([4096, 0, 16], entries.astype(int).tolist()))) == expected).all()


def test_a_table_as_words_is_the_table_as_numbers() -> None:
    words = LINE.astype("<u2").tobytes()
    assert (read_film(with_table(table_of([4096, 0, 12], words, "OW"))) == AS_SEEN).all()
    big = dataset_of(
        ANATOMY, 12, uid.ExplicitVRBigEndian, VOILUTSequence=Sequence([table_of([4096, 0, 12], LINE.tolist())])
    )
    big.PixelData = ANATOMY.astype(">u2").tobytes()
    assert (read_film(written(big)) == AS_SEEN).all()


def test_entries_of_8_bit_are_read_two_to_a_word_and_one_to_a_word() -> None:
    entries = (LINE >> 4).astype(np.uint8)
    expected = entries[ANATOMY]
    assert (read_film(with_table(table_of([4096, 0, 8], entries.tobytes(), "OW"))) == expected).all()
    assert (read_film(with_table(table_of([4096, 0, 8], entries.tolist()))) == expected).all()


def test_a_table_of_65536_entries_says_so_with_zero() -> None:
    stored, entries = ANATOMY * np.uint16(16), np.arange(2**16, dtype="<u2")
    data = with_table(table_of([0, 0, 16], entries.tobytes(), "OW"), stored=stored, bits=16)
    assert (read_film(data) == np.rint(stored / 65535 * 255)).all()


@pytest.mark.parametrize("kind", ["SS", "US"])
def test_the_first_mapped_value_of_signed_samples_is_signed_however_it_is_stored(kind: str) -> None:
    """PS3.3 C.11.2.1.1: SS where values may be negative; files say US of the same bits."""
    first = -2048 if kind == "SS" else 2**16 - 2048
    stored = ANATOMY.astype(np.int16) - 2048
    assert (
        read_film(with_table(table_of([4096, first, 12], LINE.tolist(), kind=kind), stored=stored)) == AS_SEEN
    ).all()
    rescaled = {"RescaleSlope": 1, "RescaleIntercept": -2048}
    assert (read_film(with_table(table_of([4096, first, 12], LINE.tolist(), kind=kind), **rescaled)) == AS_SEEN).all()


def test_the_first_mapped_value_of_unsigned_samples_is_unsigned() -> None:
    stored = ANATOMY + np.uint16(40000)
    data = with_table(table_of([4096, 40000, 12], LINE.tolist()), stored=stored, bits=16)
    assert (read_film(data) == AS_SEEN).all()


BROKEN = [
    (table_of([4096, 0, 12], LINE[:2000].tolist()), "LUTData"),
    (table_of([256, 0, 12], LINE.tolist()), "LUTData"),
    (table_of([4096, 0, 12], []), "LUTData"),
    (table_of([4096, 0, 16], bytes(4096), "OW"), "LUTData"),
    (table_of([4096, 0], LINE.tolist()), "LUTDescriptor"),
    (table_of([], LINE.tolist()), "LUTDescriptor"),
    (Dataset(), "LUTDescriptor"),
]


@pytest.mark.parametrize(("item", "element"), BROKEN, ids=range(len(BROKEN)))
@pytest.mark.parametrize("name", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_broken_table_is_refused_by_its_name(item: Dataset, element: str, name: str) -> None:
    fault = refused(with_table(item, name))
    assert fault.type == "UnreadableImage"
    assert element in fault.message
    assert name in fault.message


@pytest.mark.parametrize(("item", "element"), BROKEN, ids=range(len(BROKEN)))
def test_the_window_beside_a_broken_table_is_used(
    item: Dataset, element: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert (read_film(with_table(item, **WHOLE)) == film(**WHOLE)).all()
    assert element in caplog.text


@pytest.mark.parametrize(
    "item", [table_of([4096, 0, 12], [0] * 4096), table_of([4096, 5000, 12], LINE.tolist())], ids=["zeros", "off"]
)
def test_the_window_beside_a_table_that_shows_nothing_is_used(item: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    assert (read_film(with_table(item, **WHOLE)) == film(**WHOLE)).all()
    assert "VOILUTSequence" in caplog.text


def test_a_table_is_used_before_a_window() -> None:
    dark = {"WindowCenter": 8000, "WindowWidth": 16000}
    assert (read_film(with_table(table_of([4096, 0, 12], LINE.tolist()), **dark)) == AS_SEEN).all()


def test_an_empty_sequence_is_no_table() -> None:
    assert (film(VOILUTSequence=Sequence(), ModalityLUTSequence=Sequence(), **WHOLE) == film(**WHOLE)).all()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_entries_of_a_modality_table_are_what_they_are_whatever_bits_it_declares(bits: int) -> None:
    inverted = table_of([4096, 0, bits], LINE[::-1].tolist())
    assert (read_film(with_table(inverted, "ModalityLUTSequence", **WHOLE)) == film(4095 - ANATOMY, **WHOLE)).all()
    assert (read_film(with_table(inverted, "ModalityLUTSequence")) == 255 - AS_SEEN).all()


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


# Padding


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
