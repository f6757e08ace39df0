"""What a DICOM film carries beside its pixels is passed over; what cannot be read is left out or named."""

import logging
import re
import struct
import time
from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from handlers.decoding.dicom_header import GREYS, KIND, PIXELS
from handlers.decoding.image import read_film
from handlers.refusals import RefusedFilm
from tests.handlers.dicom_files import ANATOMY, AS_SEEN, WHOLE, dataset_of, refused, table_of, written

SYNTAXES = [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian]


def plain() -> np.ndarray:
    return read_film(written(dataset_of(ANATOMY, 12, **WHOLE)))


def with_bytes(data: bytes, more: bytes, before: bytes = b"\x28\x00\x02\x00US") -> bytes:
    """A file with elements before its Samples per Pixel."""
    place = data.index(before)
    return data[:place] + more + data[place:]


def element(group: int, number: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An element of explicit value representation, little endian."""
    length = len(value) if length is None else length
    long = vr in (b"OB", b"OW", b"SQ", b"UN", b"UT")
    size = b"\0\0" + struct.pack("<I", length) if long else struct.pack("<H", length)
    return struct.pack("<HH", group, number) + vr + size + value


# Beside the pixels


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_overlay_planes_and_private_megabytes_before_the_pixels_are_passed_over(syntax: uid.UID) -> None:
    dataset = dataset_of(ANATOMY, 12, syntax, **WHOLE)
    for plane in range(4):  # of a film of 3520 x 4280 px each
        dataset.add_new(0x60000010 + 0x20000 * plane, "US", 3520)
        dataset.add_new(0x60000011 + 0x20000 * plane, "US", 4280)
        dataset.add_new(0x60000100 + 0x20000 * plane, "US", 1)
        dataset.add_new(0x60000102 + 0x20000 * plane, "US", 0)
        dataset.add_new(0x60003000 + 0x20000 * plane, "OW", bytes(3520 * 4280 // 8))
    dataset.add_new(0x00090010, "LO", "VENDOR")
    dataset.add_new(0x00091001, "OB", np.random.default_rng(0).bytes(20 * 2**20))
    dataset.add_new(0x00091002, "UN", b"\xfe\xff\xdd\xe0\0\0\0\0\xe0\x7f\x10\x00OW\0\0" * 100_000)
    assert (read_film(written(dataset)) == plain()).all()


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("endless", [False, True], ids=["defined length", "undefined length"])
def test_sequences_with_pictures_of_their_own_before_the_pixels_are_passed_over(syntax: uid.UID, endless: bool) -> None:
    dataset = dataset_of(ANATOMY, 12, syntax, **WHOLE)
    icon = Dataset()
    icon.Rows, icon.Columns, icon.BitsAllocated, icon.PhotometricInterpretation = 64, 64, 8, "PALETTE COLOR"
    icon.PixelRepresentation = 0
    icon.add_new("PixelData", "OW", bytes(64 * 64))
    inner = Dataset()
    inner.IconImageSequence = Sequence([icon])
    inner.WindowCenter, inner.WindowWidth, inner.RescaleSlope = "1", "1", "0"
    dataset.IconImageSequence = Sequence([icon])
    dataset.add_new(0x00090010, "LO", "VENDOR")
    dataset.add_new(0x00091001, "SQ", Sequence([inner] * 300))
    for sequence in (dataset["IconImageSequence"], dataset[0x00091001]):
        sequence.value.is_undefined_length = sequence.is_undefined_length = endless
        for item in sequence.value:
            item.is_undefined_length_sequence_item = endless
    data = written(dataset)
    assert (read_film(data) == plain()).all()


def test_an_icon_in_fragments_before_the_pixels_is_passed_over() -> None:
    fragments = b"\xfe\xff\x00\xe0\0\0\0\0" + b"\xfe\xff\x00\xe0" + struct.pack("<I", 5000) + bytes(5000)
    pixels = element(0x7FE0, 0x0010, b"OB", fragments + b"\xfe\xff\xdd\xe0\0\0\0\0", 0xFFFFFFFF)
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + pixels + b"\xfe\xff\x0d\xe0\0\0\0\0"
    icons = element(0x0009, 0x1001, b"SQ", item + b"\xfe\xff\xdd\xe0\0\0\0\0", 0xFFFFFFFF)
    assert (read_film(with_bytes(written(dataset_of(ANATOMY, 12, **WHOLE)), icons)) == plain()).all()


@pytest.mark.parametrize("vr", [b"UN", b"OB", b"SQ"])
def test_private_values_without_length_are_searched_for_their_end(vr: bytes) -> None:
    inside = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + struct.pack("<HHI", 0x0009, 0x1002, 4) + b"abcd"
    inside += b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    private = element(0x0009, 0x1001, vr, inside, 0xFFFFFFFF)
    if vr == b"OB":
        private = element(0x0009, 0x1001, vr, bytes(3 * 2**20) + b"\xfe\xff\xdd\xe0\0\0\0\0", 0xFFFFFFFF)
    assert (read_film(with_bytes(written(dataset_of(ANATOMY, 12, **WHOLE)), private)) == plain()).all()


def test_elements_after_the_pixels_are_not_read() -> None:
    data = written(dataset_of(ANATOMY, 12, **WHOLE)) + element(0xFFFC, 0xFFFC, b"OB", bytes(3000)) + b"\xff" * 999
    assert (read_film(data) == plain()).all()


def test_a_flood_of_tiny_elements_is_refused_in_time_wherever_it_is() -> None:
    flood = element(0x0009, 0x1001, b"LO", b"") * (40 * 2**20 // 8)
    data = written(dataset_of(ANATOMY, 12, **WHOLE))
    item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(flood)) + flood
    table = element(0x0028, 0x3010, b"SQ", item)
    nested = element(0x0009, 0x1001, b"SQ", b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + flood, 0xFFFFFFFF)
    window = element(0x0028, 0x1050, b"UT", b"1\\" * (10 * 2**20))
    begun = time.thread_time()
    for spoilt in (
        with_bytes(data, flood),
        with_bytes(data, nested),
        with_bytes(written(dataset_of(ANATOMY, 12)), table),
    ):
        assert "more elements" in refused(spoilt).message
    assert read_film(with_bytes(written(dataset_of(ANATOMY, 12)), window)).shape == ANATOMY.shape
    assert time.thread_time() - begun < 10


def test_a_file_without_pixel_data_says_so() -> None:
    dataset = dataset_of(ANATOMY, 12)
    del dataset.PixelData
    assert refused(written(dataset)).message == "no pixel data (7FE0,0010) in the DICOM file"
    dataset.add_new(0x7FE00008, "OF", np.zeros(10, "<f4").tobytes())
    assert "floating point" in refused(written(dataset)).message


def test_an_element_that_goes_beyond_the_end_is_named() -> None:
    data = with_bytes(written(dataset_of(ANATOMY, 12)), element(0x0009, 0x1001, b"OB", b"", 0x7FFFFFFE))
    assert "(0009,1001)" in refused(data).message


@pytest.mark.parametrize("text", [b"NO SUCH SET ", b"\\ISO 2022 IR 87 ", b"ISO_IR 192", b"\xff\xfe", b"", b"\\" * 400])
def test_the_character_set_does_not_matter(text: bytes) -> None:
    charset = element(0x0008, 0x0005, b"CS", text)
    data = with_bytes(written(dataset_of(ANATOMY, 12, **WHOLE)), charset, before=b"\x08\x00\x16\x00UI")
    assert (read_film(data) == plain()).all()


def test_sequences_nested_without_end_are_named() -> None:
    nested = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000
    assert "nested" in refused(with_bytes(written(dataset_of(ANATOMY, 12)), nested)).message


# Numbers in text


def with_text(name: str, text: bytes, **tags: object) -> bytes:
    """A file in which one element has these bytes, as a Decimal String."""
    dataset = dataset_of(ANATOMY, 12, **tags)
    if name in dataset:
        del dataset[name]
    tag = pydicom.datadict.tag_for_keyword(name)
    assert tag is not None
    more = element(tag >> 16, tag & 0xFFFF, b"DS", text + b" " * (len(text) % 2))
    return with_bytes(written(dataset), more, before=b"\xe0\x7f\x10\x00OW")


UNREADABLE = [
    b"2048,0",
    b"2048;4096",
    b"2.048,5",
    b"N/A",
    b"nan",
    b"inf",
    b"1e999",
    b"2 048",
    b"0x800",
    b"--5",
    b"1_000",
]


@pytest.mark.parametrize("text", UNREADABLE)
@pytest.mark.parametrize("name", ["WindowCenter", "WindowWidth"])
def test_a_window_that_cannot_be_read_is_left_out_with_a_warning(
    text: bytes, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = {"WindowCenter": {"WindowWidth": 4096}, "WindowWidth": {"WindowCenter": 2048}}[name]
    assert (read_film(with_text(name, text, **other)) == AS_SEEN).all()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert name in caplog.text
    assert text.decode() not in caplog.text


@pytest.mark.parametrize("name", ["WindowCenter", "WindowWidth"])
def test_half_a_window_is_none(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert (read_film(written(dataset_of(ANATOMY, 12, **{name: 2048}))) == AS_SEEN).all()
    assert "Window" in caplog.text


@pytest.mark.parametrize("text", UNREADABLE)
@pytest.mark.parametrize("name", ["RescaleSlope", "RescaleIntercept", "NumberOfFrames", "PixelPaddingValue"])
def test_what_changes_the_picture_and_cannot_be_read_is_refused_by_its_name(name: str, text: bytes) -> None:
    fault = refused(with_text(name, text))
    assert fault.type == "UnreadableImage"
    assert name in fault.message
    assert text.decode() not in fault.message


@pytest.mark.parametrize(
    "text",
    [b"2048", b" 2048 ", b"+2.048E+3", b"2048.0\0", b"2048\0\0\0", b"2048.000000000000000000000", b"2048.", b"002048"],
)
def test_a_number_in_any_form_of_the_standard_and_some_more_is_read(text: bytes) -> None:
    assert (read_film(with_text("WindowCenter", text, WindowWidth=4096)) == plain()).all()


def test_the_first_window_that_can_be_read_is_used() -> None:
    data = with_text("WindowCenter", b"N/A\\2048\\0", WindowWidth=[10, 4096, 10])
    assert (read_film(data) == plain()).all()
    data = with_text("WindowCenter", b"\\2048", WindowWidth=[10, 4096])
    assert (read_film(data) == plain()).all()


@pytest.mark.parametrize("text", [b"1", b"1.0", b" 1\0", b"0", b"", b"  "])
def test_one_frame_may_be_said_in_many_ways(text: bytes) -> None:
    assert (read_film(with_text("NumberOfFrames", text, **WHOLE)) == plain()).all()


# Every element that is read

FAULTS = [
    ("empty", b""),
    ("blanks", b"    "),
    ("zeros", b"\0\0\0\0"),
    ("text", b"GARBAGE!"),
    ("several", b"7\\9\\x\\"),
    ("one byte", b"\1"),
    ("high bytes", b"\xff" * 12),
    ("long", b"9" * 4000),
]


NEAR = {
    "SOPClassUID": "DX image",
    "Modality": "modality",
    "NumberOfFrames": "frames",
    "Rows": "px",
    "Columns": "px",
    "PixelPaddingRangeLimit": "PixelPaddingValue",
}
"""Of an element whose value can be read and is refused: what the message says of it."""


def refusal(data: bytes) -> str:
    """Why a file is refused; "" where it is read."""
    try:
        assert read_film(data).shape[0] >= 32
    except RefusedFilm as fault:
        return fault.message
    return ""


@pytest.mark.parametrize("name", [*KIND, *PIXELS, *GREYS])
@pytest.mark.parametrize("vr", [b"DS", b"US", b"SS", b"FD", b"CS", b"UN", b"SQ", b"OW", b"AT", b"ZZ"])
def test_each_element_with_a_fault_is_left_out_or_named(name: str, vr: bytes) -> None:
    dataset = dataset_of(ANATOMY, 12, VOILUTFunction="LINEAR", **WHOLE)
    if name in dataset:
        del dataset[name]
    tag = pydicom.datadict.tag_for_keyword(name)
    assert tag is not None
    for said, value in FAULTS:
        data = with_bytes(written(dataset), element(tag >> 16, tag & 0xFFFF, vr, value), before=b"\xe0\x7f\x10\x00OW")
        message = refusal(data)
        near = NEAR.get(name, "") + "|" + name
        assert not message or re.search(near.strip("|"), message), (said, message)
        assert not re.search("Error|decoder|GARBAGE|999", message), (said, message)


@pytest.mark.parametrize("name", [*KIND, *PIXELS, *GREYS])
def test_each_element_that_is_a_sequence_instead_is_left_out_or_named(name: str) -> None:
    dataset = dataset_of(ANATOMY, 12, **WHOLE)
    if name in dataset:
        del dataset[name]
    tag = pydicom.datadict.tag_for_keyword(name)
    assert tag is not None
    empty = b"\xfe\xff\x00\xe0\xff\xff\xff\xff\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    data = with_bytes(
        written(dataset), element(tag >> 16, tag & 0xFFFF, b"SQ", empty, 0xFFFFFFFF), before=b"\xe0\x7f\x10\x00OW"
    )
    message = refusal(data)
    assert not message or name in message
    assert not re.search("Error|decoder", message)


def test_a_damaged_table_inside_a_sequence_is_named() -> None:
    item = table_of([4096, 0, 12], list(range(4096)))
    data = written(dataset_of(ANATOMY, 12, VOILUTSequence=Sequence([item])))
    place = data.index(b"\x28\x00\x06\x30US") + 6
    assert "VOILUTSequence" in refused(data[:place] + b"\x07\0" + data[place + 2 :]).message


def test_no_spoilt_header_is_refused_without_a_cause(caplog: pytest.LogCaptureFixture) -> None:
    """Bytes turned at random, between preamble and pixels."""
    data = written(dataset_of(ANATOMY, 12, RescaleSlope=1, RescaleIntercept=0, **WHOLE))
    chance, end = np.random.default_rng(0), data.index(b"\xe0\x7f\x10\x00OW")
    for _ in range(1500):
        spoilt = bytearray(data)
        for place in chance.integers(132, end, chance.choice((1, 2, 8))):
            spoilt[place] = chance.integers(0, 256)
        assert "decoder" not in refusal(bytes(spoilt))
    assert "broke its decoder" not in caplog.text


def test_what_pydicom_reads_is_what_is_read() -> None:
    """The header of a file, by this reader and by pydicom's own."""
    data = written(dataset_of(ANATOMY, 12, **WHOLE))
    stored = pydicom.dcmread(BytesIO(data)).pixel_array
    assert (stored == ANATOMY).all()
