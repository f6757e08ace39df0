"""DICOM radiographs of every encoding are read right."""

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
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.sequence import Sequence

from handlers.decoding import dicom
from handlers.decoding.image import read_film, to_pixels
from tests.handlers.dicom_files import (
    NOISE,
    WEDGE,
    WHOLE,
    as_radiograph,
    compressed,
    dataset_of,
    film_of,
    refused,
    written,
)


def shades(data: bytes, number: int) -> list[int]:
    """The film's first greys."""
    return read_film(data)[0, :number].tolist()


def by_gdcm(data: bytes, kind: int, folder: Path) -> bytes:
    """The file compressed anew."""
    source, target = folder / "plain.dcm", folder / "compressed.dcm"
    source.write_bytes(data)
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(source))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(kind))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return target.read_bytes()


# How stored values become grey


def test_dicom_window_maps_to_the_full_range() -> None:
    """PS3.3 C.11.2.1.2.1: below c - 0.5 - (w-1)/2 is black, above c - 0.5 + (w-1)/2 is white."""
    stored = np.array([[0, 100, 150, 200, 300]], np.uint16)
    assert shades(film_of(stored, 12, WindowCenter=150.5, WindowWidth=101), 5) == [0, 0, 128, 255, 255]


def test_exact_and_sigmoid_windows() -> None:
    """PS3.3 C.11.2.1.3: LINEAR_EXACT has no half steps; SIGMOID is 1 / (1 + exp(-4 (x - c) / w))."""
    stored = np.array([[0, 50, 100, 200]], np.uint16)
    tags = {"WindowCenter": 100, "WindowWidth": 200}
    assert shades(film_of(stored, 12, VOILUTFunction="LINEAR_EXACT", **tags), 4) == [0, 64, 128, 255]
    expected = [round(255 / (1 + np.exp(-4 * (value - 100) / 200))) for value in (0, 50, 100, 200)]
    assert shades(film_of(stored, 12, VOILUTFunction="SIGMOID", **tags), 4) == expected


def test_the_first_of_several_windows_counts() -> None:
    stored = np.array([[0, 128, 255]], np.uint8)
    tags = {"WindowCenter": [128, 10], "WindowWidth": [256, 2]}
    assert shades(film_of(stored, 8, **tags), 3) == [0, 128, 255]


def test_dicom_rescale_comes_before_the_window() -> None:
    stored = np.array([[0, 50, 100]], np.int16)
    tags = {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 0.5, "WindowWidth": 201}
    assert shades(film_of(stored, 16, **tags), 3) == [0, 128, 255]


def test_dicom_without_window_uses_its_own_range() -> None:
    for tags in ({}, {"WindowCenter": None, "WindowWidth": None}):
        assert shades(film_of(np.array([[10, 20, 30]], np.uint16), 12, **tags), 3) == [0, 128, 255]


def test_monochrome1_is_inverted() -> None:
    stored = np.array([[0, 255]], np.uint8)
    tags = {"WindowCenter": 128, "WindowWidth": 256}
    assert shades(film_of(stored, 8, **tags), 2) == [0, 255]
    assert shades(film_of(stored, 8, PhotometricInterpretation="MONOCHROME1", **tags), 2) == [255, 0]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_every_depth_signed_and_not(bits: int, signed: bool) -> None:
    lowest = -(2 ** (bits - 1)) if signed else 0
    kind = ("i" if signed else "u") + ("1" if bits == 8 else "2")
    stored = np.array([[lowest, lowest + 2 ** (bits - 1), lowest + 2**bits - 1]]).astype(kind)
    tags = {"WindowCenter": lowest + 2 ** (bits - 1), "WindowWidth": 2**bits}
    assert shades(film_of(stored, bits, **tags), 3) == [0, 128, 255]


def test_an_overlay_above_the_stored_bits_is_not_seen() -> None:
    stored = NOISE | np.uint16(0xF000)
    assert (
        read_film(written(dataset_of(stored, 12, **WHOLE))) == read_film(written(dataset_of(NOISE, 12, **WHOLE)))
    ).all()


def test_lookup_tables_of_the_file_are_applied() -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 0, 8], [0, 10, 200, 255]
    table.ModalityLUTType = "US"
    stored = np.array([[0, 1, 2, 3, 9]], np.uint8)
    film = dataset_of(np.tile(stored, (32, 7)), 8, VOILUTSequence=Sequence([table]))
    for element in ("LUTDescriptor", "LUTData"):
        table[element].VR = "US"
    assert shades(written(film), 5) == [0, 10, 200, 255, 255]
    del film.VOILUTSequence
    film.ModalityLUTSequence, film.WindowCenter, film.WindowWidth = Sequence([table]), 128, 256
    assert shades(written(film), 5) == [0, 10, 200, 255, 255]


def test_a_real_voi_table_is_applied() -> None:
    """Against the table, looked up by hand."""
    data = as_radiograph("vlut_04.dcm")
    dataset = pydicom.dcmread(BytesIO(data))
    table = dataset.VOILUTSequence[0]
    entries, first, bits = table.LUTDescriptor
    values = np.asarray(table.LUTData if not isinstance(table.LUTData, bytes) else np.frombuffer(table.LUTData, "<u2"))
    looked_up = values[np.clip(dataset.pixel_array.astype(int) - first, 0, entries - 1)]
    assert (read_film(data) == np.rint(looked_up / (2**bits - 1) * 255)).all()


def test_real_monochrome1_chest_film_has_dark_lungs_and_a_bright_spine() -> None:
    film = read_film(Path(str(get_testdata_file("RG1_UNCR.dcm"))).read_bytes())
    assert film.shape == (1955, 1841)
    pixels = to_pixels(film, 100).astype(float)
    lungs = np.concatenate([pixels[35:55, 22:35], pixels[35:55, 65:78]])
    assert pixels[60:75, 46:54].mean() > lungs.mean() + 30


# Every transfer syntax


@pytest.mark.parametrize(
    ("one", "twin"),
    [
        ("MR_small_implicit.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("RG1_J2KR.dcm", "RG1_UNCR.dcm"),
        ("RG3_J2KR.dcm", "RG3_UNCR.dcm"),
        ("MR2_J2KR.dcm", "MR2_UNCR.dcm"),
    ],
)
def test_a_real_lossless_file_is_its_uncompressed_twin(one: str, twin: str) -> None:
    assert (read_film(as_radiograph(one)) == read_film(as_radiograph(twin))).all()


@pytest.mark.parametrize(("one", "twin"), [("RG1_J2KI.dcm", "RG1_UNCI.dcm"), ("RG3_J2KI.dcm", "RG3_UNCI.dcm")])
def test_a_real_lossy_jpeg_2000_is_near_its_uncompressed_twin(one: str, twin: str) -> None:
    lossy, plain = (read_film(as_radiograph(name)).astype(int) for name in (one, twin))
    assert np.abs(lossy - plain).mean() < 1


def test_a_real_lossless_jpeg_is_what_another_decoder_makes_of_it() -> None:
    """libjpeg-turbo against GDCM."""
    data = as_radiograph("JPGLosslessP14SV1_1s_1f_8b.dcm", WindowCenter=128, WindowWidth=256)
    frame = get_frame(pydicom.dcmread(BytesIO(data)).PixelData, 0, number_of_frames=1)
    film = read_film(data)
    assert (film == np.asarray(Image.open(BytesIO(frame)))).all()
    assert film[300, 512:520].tolist() == [26, 26, 25, 22, 19, 16, 14, 15]


@pytest.mark.parametrize(
    "stored", [NOISE, NOISE.astype(np.int16) - 2048, (NOISE >> 4).astype(np.uint8)], ids=["12 bit", "signed", "8 bit"]
)
@pytest.mark.parametrize("kind", ["JPEGLosslessProcess14", "JPEGLosslessProcess14_1", "JPEGLSLossless", "RLELossless"])
def test_a_film_that_gdcm_compressed_is_the_film(stored: NDArray[np.integer], kind: str, tmp_path: Path) -> None:
    plain = written(dataset_of(stored, 8 if stored.dtype == np.uint8 else 12))
    again = by_gdcm(plain, getattr(gdcm.TransferSyntax, kind), tmp_path)
    assert pydicom.dcmread(BytesIO(again)).file_meta.TransferSyntaxUID in dicom.COMPRESSED
    assert (read_film(again) == read_film(plain)).all()


@pytest.mark.parametrize(
    "stored", [NOISE, NOISE.astype(np.int16) - 2048, (NOISE >> 4).astype(np.uint8)], ids=["12 bit", "signed", "8 bit"]
)
def test_a_film_in_lossless_jpeg_2000_is_the_film(stored: NDArray[np.integer]) -> None:
    bits = 8 if stored.dtype == np.uint8 else 12
    frame = encode_array(stored, bits_stored=bits, photometric_interpretation=2)
    data = compressed(stored, bits, uid.JPEG2000Lossless, frame)
    assert (read_film(data) == read_film(written(dataset_of(stored, bits)))).all()


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit])
def test_an_8_bit_jpeg_frame_is_the_jpeg_picture(syntax: uid.UID) -> None:
    buffer = BytesIO()
    Image.fromarray(WEDGE).save(buffer, "JPEG", quality=90)
    data = compressed(WEDGE, 8, syntax, buffer.getvalue(), WindowCenter=128, WindowWidth=256)
    assert (read_film(data) == np.asarray(Image.open(buffer))).all()


@pytest.mark.parametrize("stored", [NOISE, (NOISE >> 4).astype(np.uint8)], ids=["12 bit", "8 bit"])
def test_run_lengths_of_pydicom_are_the_film(stored: NDArray[np.integer]) -> None:
    dataset = dataset_of(stored // 32 * 32, 12 if stored is NOISE else 8)
    plain = read_film(written(dataset))
    dataset.compress(uid.RLELossless)
    assert (read_film(written(dataset)) == plain).all()


def test_a_deflated_film_is_the_film() -> None:
    plain = dataset_of(NOISE, 12, **WHOLE)
    deflated = dataset_of(NOISE, 12, uid.DeflatedExplicitVRLittleEndian, **WHOLE)
    assert (read_film(written(deflated)) == read_film(written(plain))).all()
    assert read_film(as_radiograph("image_dfl.dcm")).shape == (512, 512)


def test_big_endian_bytes_in_words_are_turned_round() -> None:
    dataset = dataset_of(WEDGE, 8, uid.ExplicitVRBigEndian, WindowCenter=128, WindowWidth=256)
    dataset.PixelData = np.frombuffer(WEDGE.tobytes(), "<u2").astype(">u2").tobytes()
    dataset["PixelData"].VR = "OW"
    assert (read_film(written(dataset)) == WEDGE).all()
    dataset.PixelData = WEDGE.tobytes()
    dataset["PixelData"].VR = "OB"
    assert (read_film(written(dataset)) == WEDGE).all()


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        (uid.HTJ2KLossless, "High-Throughput JPEG 2000"),
        (uid.MPEG4HP41, "MPEG-4 AVC/H.264 High Profile / Level 4.1"),
        (uid.UID("1.2.840.113619.5.2"), "1.2.840.113619.5.2"),
        (uid.UID("1.2.3.4"), "1.2.3.4"),
    ],
)
def test_another_transfer_syntax_is_refused_by_its_name(syntax: uid.UID, name: str) -> None:
    dataset, buffer = dataset_of(NOISE, 12, syntax), BytesIO()
    dataset.PixelData = encapsulate([b"frame"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=True)
    fault = refused(buffer.getvalue())
    assert (fault.type, fault.code) == ("UnsupportedTransferSyntax", 415)
    assert name in fault.message


def test_lossy_jpeg_of_12_bit_is_refused_by_its_name() -> None:
    fault = refused(as_radiograph("JPEG-lossy.dcm"))
    assert fault.type == "UnsupportedTransferSyntax"
    assert "JPEG Extended (Process 2 and 4) of 12 bit" in fault.message
