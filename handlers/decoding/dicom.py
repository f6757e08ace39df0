"""DICOM radiographs: bytes to grey."""

import re
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid

from handlers.decoding.colour import grey_of
from handlers.decoding.dicom_greys import grey_film
from handlers.decoding.dicom_header import SLICES, UNDEFINED, DicomFile, Header, PixelData, open_file
from handlers.decoding.dicom_layout import Layout, Samples, layout_of
from handlers.decoding.frames import COMPRESSED, decode_frame, frame_of
from handlers.modalities import Modality
from handlers.refusals import RefusedFilm, check_frames

UNCOMPRESSED = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
MODALITIES: tuple[Modality, ...] = get_args(Modality)
RADIOGRAPHS = (uid.ComputedRadiographyImageStorage, uid.DigitalXRayImageStorageForPresentation)
FOR_PROCESSING = uid.DigitalXRayImageStorageForProcessing
SECONDARY_CAPTURES = (
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
)


def read_dicom(data: bytes) -> NDArray[np.uint8]:
    """[H, W] uint8; dense structures bright.

    Read are the modalities CR, DX and RG, as CR or DX (for presentation) objects or as secondary captures of them. A DX
    object for processing is refused: its raw detector values are no picture until the vendor's processing.

    Raises:
        RefusedFilm: what cannot be read, and which element is why. A decoder may raise anything else on hostile bytes.
    """
    file, pixels, layout = _opened(data)
    if file.syntax in COMPRESSED:
        samples = decode_frame(frame_of(file.body, pixels), file.syntax, layout)
    else:
        samples = _samples(file.body, pixels, file.syntax != uid.ExplicitVRBigEndian, layout)
    if layout.channels == 3:
        return _grey_of_colour(samples, layout, file.syntax)
    return grey_film(samples, layout, file.header)


def check_dicom(data: bytes) -> None:
    """What ``read_dicom`` finds wrong before it decodes: an object of another kind, or one that is cut short.

    Pixel data that say to be longer than the file are cut short here, whether or not a picture is in what there is.

    Raises:
        RefusedFilm: why. Hostile bytes may raise anything else.
    """
    file, pixels, layout = _opened(data)
    if pixels.length != UNDEFINED and pixels.start + pixels.length > len(file.body):
        raise RefusedFilm("TruncatedImage", "the DICOM pixel data are cut short")
    if file.syntax in COMPRESSED:
        frame_of(file.body, pixels)
    else:
        _samples(file.body, pixels, file.syntax != uid.ExplicitVRBigEndian, layout)


def _opened(data: bytes) -> tuple[DicomFile, PixelData, Layout]:
    file = open_file(data)
    _check_syntax(file)
    _check_radiograph(file.header, file.storage_class)
    if file.pixels is None:
        raise RefusedFilm("UnreadableImage", "no pixel data (7FE0,0010) in the DICOM file")
    if file.syntax is None and file.pixels.length == UNDEFINED:
        raise RefusedFilm(
            "UnreadableImage", "TransferSyntaxUID is missing: how the DICOM pixels are compressed is unknown"
        )
    return file, file.pixels, layout_of(file.header)


def modality_of(data: bytes) -> Modality | None:
    """What a file that ``read_dicom`` takes says that made it; None where it does not say."""
    return cast(Modality, open_file(data).header.text("Modality").upper()) or None


def size_of(data: bytes) -> tuple[int, int]:
    """Rows and columns of such a file, without its pixels."""
    layout = layout_of(open_file(data).header)
    return layout.rows, layout.columns


def _check_syntax(file: DicomFile) -> None:
    if file.syntax is None or file.syntax in (*UNCOMPRESSED, *COMPRESSED):
        return
    name = file.syntax.name if file.syntax.is_valid else "an invalid name"
    raise RefusedFilm("UnsupportedTransferSyntax", f"DICOM transfer syntax {name} is not read")


def _check_radiograph(header: Header, storage_class: str) -> None:
    """By modality and by SOP class: the data set's or, where de-identification took it from there, that of the file
    meta information (PS3.10, 7.1). Where nothing says what the file is, by what it holds: one projection."""
    modality, said = header.text("Modality").upper(), header.text("SOPClassUID")
    kind = said or storage_class
    if FOR_PROCESSING in (said, storage_class):
        raise RefusedFilm("NotARadiograph", "a DX image for processing: send the one for presentation")
    if modality and modality not in MODALITIES:
        name = modality if re.fullmatch("[A-Z]{2,8}", modality) else "of no known name"
        raise RefusedFilm("NotARadiograph", f"DICOM modality {name}: only {', '.join(MODALITIES)} are read")
    if kind and kind not in RADIOGRAPHS and not (modality and kind in SECONDARY_CAPTURES):
        element = "SOPClassUID" if said else "MediaStorageSOPClassUID"
        wanted = "CR, DX or, of a Modality that says so, their secondary capture"
        raise RefusedFilm("NotARadiograph", f"the DICOM object is of another kind ({element}) than {wanted}")
    if not modality and not kind and (slices := header.present(SLICES)):
        raise RefusedFilm("NotARadiograph", f"a slice ({slices[0]}), by a DICOM file that names no Modality")
    check_frames(header.integer("NumberOfFrames") or 1)


def _samples(body: bytes, pixels: PixelData, little_endian: bool, layout: Layout) -> Samples:
    """[H, W] or [H, W, 3] of uncompressed pixel data."""
    number, width = layout.rows * layout.columns * layout.channels, layout.allocated // 8
    if pixels.length == UNDEFINED:
        raise RefusedFilm(
            "UnreadableImage", "TransferSyntaxUID says uncompressed, but the DICOM pixels are in fragments"
        )
    if layout.interpretation == "YBR_FULL_422":
        raise RefusedFilm("UnreadableImage", "PhotometricInterpretation YBR_FULL_422, uncompressed, is not read")
    held = min(pixels.length, len(body) - pixels.start)
    said = f"the DICOM pixel data hold {held} bytes, of which Rows, Columns and BitsAllocated make {number * width}"
    if held < number * width:
        raise RefusedFilm("TruncatedImage", f"{said}: they are cut short")
    left = body[pixels.start + number * width : pixels.start + held]
    if len(left) >= layout.columns * width * layout.channels and left.strip(b"\0"):
        raise RefusedFilm("UnreadableImage", f"{said}: one of them is wrong, or NumberOfFrames is missing")
    if little_endian:
        stored = np.frombuffer(body, f"<u{width}", number, pixels.start)
    elif width == 2:
        stored = np.frombuffer(body, ">u2", number, pixels.start).astype("<u2")
    elif pixels.vr == "OB":
        stored = np.frombuffer(body, np.uint8, number, pixels.start)
    else:  # bytes in 16-bit words, which big endian turns round (PS3.5, 8.1.2 and A.3)
        words = np.frombuffer(body, ">u2", -(-number // 2), pixels.start)
        stored = words.astype("<u2").view(np.uint8)[:number]
    if layout.channels == 1:
        return stored.reshape(layout.rows, layout.columns)
    if layout.planar:
        return np.moveaxis(stored.reshape(3, layout.rows, layout.columns), 0, -1)
    return stored.reshape(layout.rows, layout.columns, 3)


def _grey_of_colour(samples: Samples, layout: Layout, syntax: uid.UID | None) -> NDArray[np.uint8]:
    """A grey picture that was captured in colour; windows and tables are for grey samples alone (PS3.3, C.11.2)."""
    decoded_to_rgb = syntax in COMPRESSED and syntax != uid.RLELossless
    mode = "RGB" if decoded_to_rgb or not layout.interpretation.startswith("YBR") else "YCbCr"
    picture = Image.frombytes(mode, (layout.columns, layout.rows), np.ascontiguousarray(samples).tobytes())
    return grey_of(picture)
