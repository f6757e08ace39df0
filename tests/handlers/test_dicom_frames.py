"""Compressed and coloured DICOM films are read in every way that writers lay them out, and never half."""

import struct
from io import BytesIO
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from openjpeg.utils import encode_array
from PIL import Image
from pydicom import uid
from pydicom.encaps import get_frame

from handlers.decoding.image import read_film
from tests.handlers.dicom_files import ANATOMY, AS_SEEN, WHOLE, compressed, dataset_of, refused, written
from tests.handlers.test_dicom import by_gdcm

GREY = AS_SEEN
EIGHT = {"WindowCenter": 128, "WindowWidth": 256}
"""The window that shows all of 8 bits as they are."""


def jpeg(picture: NDArray[np.uint8] = GREY, **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


def jpeg_2000(stored: NDArray[np.integer] = ANATOMY, bits: int = 12) -> bytes:
    return encode_array(stored, bits_stored=bits, photometric_interpretation=2 if stored.ndim == 2 else 1)


def lossless(kind: str, folder: Path) -> tuple[bytes, uid.UID]:
    """A frame of lossless JPEG or JPEG-LS, and its transfer syntax."""
    dataset = pydicom.dcmread(
        BytesIO(by_gdcm(written(dataset_of(ANATOMY, 12)), getattr(gdcm.TransferSyntax, kind), folder))
    )
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    return frame.rstrip(b"\0"), dataset.file_meta.TransferSyntaxUID


def run_lengths(stored: NDArray[np.integer] = ANATOMY) -> bytes:
    dataset = dataset_of(stored, 12)
    dataset.compress(uid.RLELossless)
    return get_frame(dataset.PixelData, 0, number_of_frames=1)


@pytest.fixture(params=["JPEG", "JPEG 2000", "RLE", "JPEG-LS", "lossless JPEG"])
def coded(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[bytes, uid.UID, NDArray[np.uint8]]:
    """A frame, its transfer syntax, and the film."""
    if request.param == "JPEG":
        return jpeg(), uid.JPEGBaseline8Bit, np.asarray(Image.open(BytesIO(jpeg())))
    if request.param == "JPEG 2000":
        return jpeg_2000(), uid.JPEG2000Lossless, AS_SEEN
    if request.param == "RLE":
        return run_lengths(), uid.RLELossless, AS_SEEN
    kind = {"JPEG-LS": "JPEGLSLossless", "lossless JPEG": "JPEGLosslessProcess14_1"}[request.param]
    return *lossless(kind, tmp_path), AS_SEEN


ITEM, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"


def items(*fragments: bytes) -> bytes:
    even = [fragment + b"\0" * (len(fragment) % 2) for fragment in fragments]
    return b"".join(ITEM + struct.pack("<I", len(fragment)) + fragment for fragment in even)


def laid_out(pixels: bytes, syntax: uid.UID, endless: bool = True) -> bytes:
    """A file with these bytes as the value of its pixel data, in undefined length or defined."""
    if syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit):
        data = compressed(GREY, 8, syntax, b"frame", **EIGHT)
    else:
        data = compressed(ANATOMY, 12, syntax, b"frame")
    place = data.rindex(b"\xe0\x7f\x10\x00OB")
    return data[: place + 8] + (b"\xff" * 4 if endless else struct.pack("<I", len(pixels))) + pixels


def test_the_usual_layout_is_read(coded: tuple[bytes, uid.UID, NDArray[np.uint8]]) -> None:
    frame, syntax, film = coded
    assert (read_film(laid_out(items(b"", frame) + DELIMITER, syntax)) == film).all()
    assert (read_film(laid_out(items(b"\0\0\0\0", frame) + DELIMITER, syntax)) == film).all()


def test_fragments_in_defined_length_are_read(coded: tuple[bytes, uid.UID, NDArray[np.uint8]]) -> None:
    frame, syntax, film = coded
    assert (read_film(laid_out(items(b"", frame), syntax, endless=False)) == film).all()
    assert (read_film(laid_out(items(b"", frame) + DELIMITER, syntax, endless=False)) == film).all()


def test_a_whole_frame_needs_no_delimiter_after_it(coded: tuple[bytes, uid.UID, NDArray[np.uint8]]) -> None:
    frame, syntax, film = coded
    data = laid_out(items(b"", frame), syntax)
    for end in (b"", DELIMITER[:4], DELIMITER[:7]):
        assert (read_film(data + end) == film).all()


def test_a_frame_in_many_fragments_is_read_whole_or_refused(coded: tuple[bytes, uid.UID, NDArray[np.uint8]]) -> None:
    frame, syntax, film = coded
    parts = [frame[place : place + 1000] for place in range(0, len(frame), 1000)]
    assert len(parts) > 2
    assert (read_film(laid_out(items(b"", *parts) + DELIMITER, syntax)) == film).all()
    assert (read_film(laid_out(items(b"", *parts), syntax)) == film).all()
    for end in (b"", DELIMITER):
        fault = refused(laid_out(items(b"", *parts[:-1]) + end, syntax))
        assert fault.type in ("TruncatedImage", "UnreadableImage")
        assert "cut short" in fault.message


def test_a_frame_without_its_offset_table_is_read(coded: tuple[bytes, uid.UID, NDArray[np.uint8]]) -> None:
    frame, syntax, film = coded
    assert (read_film(laid_out(items(frame) + DELIMITER, syntax)) == film).all()


def test_a_frame_in_no_fragments_is_read(coded: tuple[bytes, uid.UID, NDArray[np.uint8]]) -> None:
    frame, syntax, film = coded
    for endless in (True, False):
        assert (read_film(laid_out(frame, syntax, endless)) == film).all()


def test_several_frames_that_nothing_counts_are_no_radiograph(coded: tuple[bytes, uid.UID, NDArray[np.uint8]]) -> None:
    frame, syntax, _ = coded
    assert refused(laid_out(items(b"", frame, frame, frame) + DELIMITER, syntax)).type == "NotARadiograph"


def test_no_frame_at_all_is_refused(coded: tuple[bytes, uid.UID, NDArray[np.uint8]]) -> None:
    _, syntax, _ = coded
    for pixels in (b"", items(b"") + DELIMITER, items(b"", b"") + DELIMITER, DELIMITER):
        assert refused(laid_out(pixels, syntax)).type in ("TruncatedImage", "UnreadableImage")


def test_samples_that_the_transfer_syntax_says_are_compressed_are_refused() -> None:
    for syntax in (uid.JPEG2000, uid.JPEGLossless, uid.JPEGLSLossless, uid.RLELossless):
        assert refused(laid_out(ANATOMY.tobytes(), syntax, endless=False)).type == "UnreadableImage"


def test_fragments_that_the_transfer_syntax_says_are_samples_are_refused_by_its_name() -> None:
    data = compressed(ANATOMY, 12, uid.JPEG2000Lossless, jpeg_2000())
    place, name = data.index(b"\2\0\x10\0UI"), uid.ExplicitVRLittleEndian.encode() + b"\0"
    length = int.from_bytes(data[place + 6 : place + 8], "little")
    said = data[: place + 6] + len(name).to_bytes(2, "little") + name + data[place + 8 + length :]
    assert "TransferSyntaxUID" in refused(said).message
    assert "TransferSyntaxUID" in refused(data[:place] + data[place + 8 + length :]).message


# The end of a frame


def test_a_jpeg_frame_without_end_marker_is_read_where_all_of_it_is_there() -> None:
    frame = jpeg()
    assert frame.endswith(b"\xff\xd9")
    film = np.asarray(Image.open(BytesIO(frame)))
    assert (read_film(laid_out(items(b"", frame[:-2]) + DELIMITER, uid.JPEGBaseline8Bit)) == film).all()
    for cut in (10, 100, 1000):
        for end in (b"", b"\xff\xd9"):
            data = laid_out(items(b"", frame[:-cut] + end) + DELIMITER, uid.JPEGBaseline8Bit)
            assert refused(data).type == "TruncatedImage"


def test_a_jpeg_2000_frame_without_end_marker_is_read_where_all_of_it_is_there() -> None:
    frame = jpeg_2000()
    frame = frame if len(frame) % 2 == 0 else frame.rstrip(b"\0")
    assert frame.endswith(b"\xff\xd9")
    assert (read_film(laid_out(frame[:-2], uid.JPEG2000Lossless, endless=False)) == AS_SEEN).all()
    for cut in (10, 1000):
        for end in (b"", b"\xff\xd9"):
            fault = refused(laid_out(items(b"", frame[:-cut] + end) + DELIMITER, uid.JPEG2000Lossless))
            assert "cut short" in fault.message


def test_a_jpeg_ls_frame_without_end_marker_is_read_where_all_of_it_is_there(tmp_path: Path) -> None:
    frame, syntax = lossless("JPEGLSLossless", tmp_path)
    assert (read_film(laid_out(items(b"", frame[:-2]) + DELIMITER, syntax)) == AS_SEEN).all()
    assert "cut short" in refused(laid_out(items(b"", frame[:-100]) + DELIMITER, syntax)).message


def test_a_lossless_jpeg_frame_without_end_marker_is_refused(tmp_path: Path) -> None:
    """Its decoder makes up what is missing and says nothing."""
    frame, syntax = lossless("JPEGLosslessProcess14_1", tmp_path)
    fault = refused(laid_out(items(b"", frame[:-2]) + DELIMITER, syntax))
    assert fault.type == "TruncatedImage"
    assert "end marker" in fault.message


# JPEG 2000 in boxes


def box(name: bytes, content: bytes, extended: bool = False) -> bytes:
    if extended:
        return struct.pack(">I", 1) + name + struct.pack(">Q", len(content) + 16) + content
    return struct.pack(">I", len(content) + 8) + name + content


@pytest.mark.parametrize("extended", [False, True])
def test_a_codestream_in_the_boxes_of_a_jp2_file_is_read(extended: bool) -> None:
    head = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ") + box(b"jp2h", box(b"ihdr", bytes(14)))
    frame = head + box(b"uuid", bytes(5000)) + box(b"jp2c", jpeg_2000(), extended) + box(b"xml ", b"<a/>")
    assert (read_film(laid_out(items(b"", frame) + DELIMITER, uid.JPEG2000Lossless)) == AS_SEEN).all()
    last = head + struct.pack(">I", 0) + b"jp2c" + jpeg_2000()  # to the file's end
    assert (read_film(laid_out(items(b"", last) + DELIMITER, uid.JPEG2000Lossless)) == AS_SEEN).all()


def test_boxes_without_a_codestream_or_without_end_are_refused() -> None:
    head = box(b"jP  ", b"\r\n\x87\n")
    for frame in (head, head + box(b"uuid", b"") * 100_000, head + b"\0\0\0\2jp2c", head + b"\xff" * 50):
        assert refused(laid_out(items(b"", frame) + DELIMITER, uid.JPEG2000)).type == "UnreadableImage"


# Grey pictures in colour


def captured(pixels: bytes, interpretation: str = "RGB", syntax: uid.UID = uid.ExplicitVRLittleEndian, **tags: object):
    tags = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "Modality": "CR", **tags}
    tags["SOPClassUID"] = uid.SecondaryCaptureImageStorage
    dataset = dataset_of(GREY, 8, syntax, PhotometricInterpretation=interpretation, **tags)
    dataset.PixelData = pixels
    dataset["PixelData"].VR = "OB"
    return dataset


RGB = np.stack([GREY] * 3, axis=-1)
YBR = np.stack([GREY, np.full_like(GREY, 128), np.full_like(GREY, 128)], axis=-1)


def test_a_grey_picture_in_three_samples_is_read() -> None:
    assert (read_film(written(captured(RGB.tobytes()))) == GREY).all()
    planes = np.moveaxis(RGB, -1, 0).tobytes()
    assert (read_film(written(captured(planes, PlanarConfiguration=1))) == GREY).all()
    assert (read_film(written(captured(YBR.tobytes(), "YBR_FULL"))) == GREY).all()
    planes = np.moveaxis(YBR, -1, 0).tobytes()
    assert (read_film(written(captured(planes, "YBR_FULL", PlanarConfiguration=1))) == GREY).all()


def test_a_grey_picture_in_nearly_the_same_three_samples_is_read() -> None:
    tinted = np.clip(RGB + np.array((0, 3, -4)), 0, 255).astype(np.uint8)
    assert np.abs(read_film(written(captured(tinted.tobytes()))).astype(int) - GREY).max() <= 3


def test_a_big_endian_picture_in_three_samples_is_read() -> None:
    words = np.frombuffer(RGB.tobytes(), "<u2").astype(">u2").tobytes()
    dataset = captured(words, syntax=uid.ExplicitVRBigEndian)
    dataset["PixelData"].VR = "OW"
    assert (read_film(written(dataset)) == GREY).all()


def test_a_grey_picture_in_three_compressed_samples_is_read() -> None:
    for pixels, interpretation in ((RGB, "RGB"), (YBR, "YBR_FULL")):
        dataset = captured(pixels.tobytes(), interpretation)
        dataset.compress(uid.RLELossless)
        assert (read_film(written(dataset)) == GREY).all()
    frame = jpeg(RGB)
    film = np.asarray(Image.open(BytesIO(frame)).convert("L"))
    for interpretation in ("YBR_FULL_422", "YBR_FULL", "RGB"):
        dataset = captured(b"", interpretation, uid.JPEGBaseline8Bit)
        dataset.PixelData = items(b"", frame) + DELIMITER
        dataset["PixelData"].is_undefined_length = True
        assert (read_film(written(dataset)) == film).all()
    for interpretation in ("YBR_RCT", "RGB"):
        dataset = captured(b"", interpretation, uid.JPEG2000Lossless)
        dataset.PixelData = items(b"", jpeg_2000(RGB, 8)) + DELIMITER
        dataset["PixelData"].is_undefined_length = True
        assert (read_film(written(dataset)) == GREY).all()


def test_a_coloured_picture_is_no_radiograph() -> None:
    coloured = RGB.copy()
    coloured[:, :, 1] //= 2
    assert refused(written(captured(coloured.tobytes()))).type == "NotARadiograph"
    coloured = YBR.copy()
    coloured[:, :, 2] = 220
    assert refused(written(captured(coloured.tobytes(), "YBR_FULL"))).type == "NotARadiograph"


@pytest.mark.parametrize("interpretation", ["PALETTE COLOR", "ARGB", "YBR_PARTIAL_420"])
def test_other_kinds_of_colour_are_refused_by_their_name(interpretation: str) -> None:
    fault = refused(written(captured(RGB.tobytes(), interpretation)))
    assert fault.type == "NotARadiograph"
    assert interpretation in fault.message


def test_samples_per_pixel_that_disagree_are_refused_by_the_element() -> None:
    assert "SamplesPerPixel" in refused(written(captured(RGB.tobytes(), SamplesPerPixel=1))).message
    assert "SamplesPerPixel" in refused(written(dataset_of(ANATOMY, 12, SamplesPerPixel=3))).message
    assert "PlanarConfiguration" in refused(written(captured(RGB.tobytes(), PlanarConfiguration=5))).message
    assert "cut short" in refused(written(captured(GREY.tobytes()))).message


def test_a_grey_window_does_not_touch_a_picture_in_three_samples() -> None:
    assert (read_film(written(captured(RGB.tobytes(), WindowCenter=1000, WindowWidth=10))) == GREY).all()


def test_signed_samples_of_8_bit_jpeg_2000_in_16_are_signed() -> None:
    stored = (GREY.astype(np.int16) - 128).astype(np.int8)
    data = compressed(
        ANATOMY.astype(np.int16), 12, uid.JPEG2000Lossless, encode_array(stored, photometric_interpretation=2)
    )
    assert (read_film(data) == GREY).all()


def test_a_frame_of_more_bits_than_bits_stored_is_read_with_all_of_them() -> None:
    data = compressed(ANATOMY, 10, uid.JPEG2000Lossless, jpeg_2000(), **WHOLE)
    assert (read_film(data) == read_film(written(dataset_of(ANATOMY, 12, **WHOLE)))).all()
