"""What is no radiograph, damaged or hostile is refused by name, and spoils no other film."""

import contextlib
import logging
import time
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.data import get_testdata_file

from handlers.decoding import frames
from handlers.decoding.image import read_film
from handlers.decoding.process_pool import ProcessPool
from handlers.refusals import RefusedFilm
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

# What is no radiograph


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small.dcm", "examples_overlay.dcm", "liver_1frame.dcm", "rtdose_1frame.dcm"]
)
def test_another_modality_is_no_radiograph(name: str) -> None:
    data = Path(str(get_testdata_file(name, download=False))).read_bytes()
    modality = pydicom.dcmread(BytesIO(data)).Modality
    fault = refused(data)
    assert (fault.type, fault.code) == ("NotARadiograph", 422)
    assert modality in fault.message


@pytest.mark.parametrize(
    "tags",
    [
        {"Modality": "MG"},
        {"Modality": "CR", "SOPClassUID": uid.CTImageStorage},
        {"Modality": "DX", "SOPClassUID": uid.DigitalXRayImageStorageForProcessing},
        {"Modality": "", "SOPClassUID": uid.SecondaryCaptureImageStorage},
        {"NumberOfFrames": 2},
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3},
    ],
    ids=lambda tags: ",".join(tags),
)
def test_what_is_no_radiograph_is_refused(tags: dict[str, object]) -> None:
    assert refused(written(dataset_of(NOISE, 12, **tags))).type == "NotARadiograph"


@pytest.mark.parametrize(
    ("modality", "kind"),
    [
        ("CR", uid.ComputedRadiographyImageStorage),
        ("DX", uid.DigitalXRayImageStorageForPresentation),
        ("", uid.DigitalXRayImageStorageForPresentation),
        ("CR", uid.SecondaryCaptureImageStorage),
        ("RG", uid.SecondaryCaptureImageStorage),
    ],
)
def test_radiographs_and_their_secondary_captures_are_read(modality: str, kind: uid.UID) -> None:
    dataset = dataset_of(NOISE, 12, Modality=modality, SOPClassUID=kind)
    assert read_film(written(dataset)).shape == NOISE.shape


# What is damaged, too large, or hostile


@pytest.mark.parametrize(
    ("data", "type"),
    [
        (b"\0" * 128 + b"DICM", "UnreadableImage"),
        (b"\0" * 128 + b"DICM" + b"\xff" * 50, "UnreadableImage"),
        (film_of(WEDGE, 8)[128:], "UnreadableImage"),
        (film_of(WEDGE, 8)[:-5000], "TruncatedImage"),
        (film_of(WEDGE, 8)[:500], "UnreadableImage"),
        (as_radiograph("MR_small_jp2klossless.dcm")[:-3000], "TruncatedImage"),
        (as_radiograph("MR_small_RLE.dcm")[:-3000], "TruncatedImage"),
        (as_radiograph("image_dfl.dcm")[:-1000], "TruncatedImage"),
        (written(dataset_of(WEDGE, 8, Rows=31)), "UnreadableImage"),
        (written(dataset_of(WEDGE, 8, Rows=20000)), "ImageTooLarge"),
        (written(dataset_of(WEDGE, 8, Rows=9000, Columns=9000)), "ImageTooLarge"),
        (written(dataset_of(WEDGE, 8, BitsAllocated=32, BitsStored=32, HighBit=31)), "UnreadableImage"),
        (written(dataset_of(NOISE, 12, HighBit=15)), "UnreadableImage"),
        (written(dataset_of(NOISE, 12, RescaleSlope="1e308", RescaleIntercept="1e308")), "UnreadableImage"),
    ],
    ids=[
        *("magic alone", "magic and noise", "no preamble", "cut", "cut header", "cut JPEG 2000", "cut RLE"),
        *("cut deflated", "31 rows", "20000 rows", "81 million pixels", "32 bit", "high bits", "endless rescale"),
    ],
)
def test_what_is_no_film_is_refused_by_name(data: bytes, type: str) -> None:
    assert refused(data).type == type


def test_a_deflate_bomb_is_refused_before_it_is_inflated() -> None:
    """200 MB of zeros in 200 kB, where the data set should be."""
    data = written(dataset_of(NOISE, 12, uid.DeflatedExplicitVRLittleEndian))
    meta = 132 + 12 + int.from_bytes(data[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = data[:meta] + packer.compress(bytes(200 * 2**20)) + packer.flush()
    assert refused(bomb).type == "ImageTooLarge"


def test_a_header_without_end_is_refused_in_time() -> None:
    """Eight bytes an element: 60 MB would take the parser minutes."""
    data = film_of(WEDGE, 8)
    place = data.index(b"\x28\x00\x02\x00US")  # SamplesPerPixel
    endless = data[:place] + b"\x09\x00\x10\x00LO\0\0" * (60 * 2**20 // 8) + data[place:]
    begun = time.thread_time()
    assert refused(endless).type == "UnreadableImage"
    assert time.thread_time() - begun < 5


def test_fragments_without_end_are_refused_in_time() -> None:
    data = compressed(WEDGE, 8, uid.RLELossless, b"frame")
    place = data.rindex(b"\xfe\xff\x00\xe0")
    begun = time.thread_time()
    endless = data[:place] + b"\xfe\xff\x00\xe0\0\0\0\0" * (60 * 2**20 // 8) + data[place:]
    assert refused(endless).type == "TruncatedImage"
    assert time.thread_time() - begun < 5


def test_sequences_without_end_are_refused() -> None:
    data = film_of(WEDGE, 8)
    place = data.index(b"\x28\x00\x02\x00US")
    nested = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 20000
    assert refused(data[:place] + nested + data[place:]).type == "UnreadableImage"


@pytest.mark.parametrize(
    ("name", "at", "replaced"),
    [
        ("MR_small_jp2klossless.dcm", b"\xff\x4f\xff\x51", (8, b"\x00\x00\xff\xff\x00\x00\xff\xff")),
        ("MR_small_jpeg_ls_lossless.dcm", b"\xff\xf7", (5, b"\xff\xff\xff\xff")),
        ("JPEG-LL.dcm", b"\xff\xc3", (5, b"\xff\xff\xff\xff")),
    ],
    ids=["JPEG 2000", "JPEG-LS", "lossless JPEG"],
)
def test_a_frame_larger_than_its_header_says_is_refused(name: str, at: bytes, replaced: tuple[int, bytes]) -> None:
    """A decoder allocates what the frame says: 65535 x 65535 px here."""
    data, (offset, size) = bytearray(as_radiograph(name)), replaced
    place = data.index(at) + offset
    data[place : place + len(size)] = size
    fault = refused(bytes(data))
    assert fault.type in ("UnreadableImage", "ImageTooLarge")
    assert "65535 x 65535" in fault.message or "tiles" in fault.message


def test_no_patient_s_data_reach_a_message_or_the_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "SECRET"
    tags = {"PatientName": secret, "PatientID": secret, "StudyDescription": secret}
    plain = dataset_of(NOISE, 12, **tags)
    whole = written(plain)
    spoilt = [whole[:-9000], whole[:420], whole.replace(b"MONOCHROME2", b"SECRET NAME")]
    for name in ("Modality", "PhotometricInterpretation"):
        spoilt.append(written(dataset_of(NOISE, 12, **{**tags, name: secret + " 1"})))
    left_out = []
    for element, files in (("RescaleSlope", spoilt), ("WindowCenter", left_out), ("VOILUTFunction", left_out)):
        dataset = dataset_of(NOISE, 12, **tags, **WHOLE, RescaleSlope="1", VOILUTFunction="LINEAR")
        dataset[element]._value = secret
        files.append(written(dataset))
    for data in spoilt:
        assert secret not in refused(data).message
    for data in (whole, *left_out):
        assert read_film(data).shape == NOISE.shape
    assert "WindowCenter" in caplog.text
    assert "VOILUTFunction" in caplog.text
    out, err = capfd.readouterr()
    assert secret not in caplog.text + out + err + "".join(str(one.message) for one in recwarn)


# The decoders that run in a process of their own


def test_a_frame_that_takes_too_long_is_refused_and_the_next_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, quick = as_radiograph("RG1_J2KR.dcm"), as_radiograph("MR_small_jp2klossless.dcm")
    with monkeypatch.context() as patched:
        patched.setattr(frames, "_codecs", ProcessPool("handlers.decoding.frame_codecs:decode", 0.05))
        fault = refused(slow)
    assert (fault.type, fault.code) == ("DecodeTimeout", 422)
    assert read_film(quick).shape == (64, 64)


def test_damaged_frames_are_refused_and_never_end_the_process() -> None:
    """Bytes turned at random in the frames of each decoder."""
    chance = np.random.default_rng(0)
    for name in ("MR_small_jpeg_ls_lossless.dcm", "JPEG-LL.dcm", "MR_small_jp2klossless.dcm", "MR_small_RLE.dcm"):
        data = np.frombuffer(as_radiograph(name), np.uint8)
        for _ in range(40):
            spoilt = data.copy()
            places = chance.integers(len(data) // 3, len(data), chance.choice((1, 5, 50)))
            spoilt[places] = chance.integers(0, 256, len(places))
            with contextlib.suppress(RefusedFilm):
                assert read_film(spoilt.tobytes()).dtype == np.uint8
