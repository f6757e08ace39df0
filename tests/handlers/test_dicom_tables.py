"""DICOM lookup tables: read by their own range where the declared one cannot be meant, or refused by name."""

import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

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
