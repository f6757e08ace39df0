"""Bodies that were made by hand to hang, crash or swell a decoder; each by a name that says what it is."""

import gzip
import struct
import warnings
import zipfile
import zlib
from io import BytesIO

import numpy as np
import pydicom
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate

from handlers.decoding.containers import PNG
from tests.live.mutants import as_radiograph, saved

MB = 2**20


def hostile_bodies(film: Image.Image) -> dict[str, bytes]:
    """Name -> body; ``film`` is a grey picture of at least 256 px a side."""
    small = film.resize((256, 256))
    png, jpeg, dicom = saved(small, "PNG"), saved(small, "JPEG", progressive=True), radiograph(np.asarray(small))
    bodies = cut_everywhere(png=png, jpeg=jpeg, dicom=dicom)
    bodies |= {f"JPEG 2000 {name}": body for name, body in cut_everywhere(dicom=as_radiograph("693_J2KR.dcm")).items()}
    return bodies | spoilt_pngs(png) | spoilt_jpegs(jpeg) | spoilt_dicoms(small) | other_files(small, png, jpeg, dicom)


def cut_everywhere(**files: bytes) -> dict[str, bytes]:
    """Each file cut at 16 places, half of them in its first kilobyte."""
    places = (1, 4, 8, 16, 64, 132, 140, 500)
    return {
        f"{name} cut at {at}": body[:at]
        for name, body in files.items()
        for at in (*places, *(len(body) * part // 9 for part in range(1, 9)))
    }


# PNG


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(columns: int, rows: int, pixels: bytes, depth: int = 8, colour: int = 0, interlace: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", columns, rows, depth, colour, 0, 0, interlace)
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def spoilt_pngs(png: bytes) -> dict[str, bytes]:
    zeros = zlib.compress(bytes(64 * MB), 9)
    rows = zlib.compress(bytes(257 * 256))
    data = png.index(b"IDAT")
    text = chunk(b"zTXt", b"Comment\0\0" + zeros)
    many = b"".join(chunk(b"IDAT", bytes([byte])) for byte in rows)
    bodies = {
        "bomb of 10000 x 4000": png_of(10_000, 4_000, zeros),
        "bomb of 50000 x 50000": png_of(50_000, 50_000, zeros),
        "bomb of 2^31 x 2^31": png_of(2**31 - 1, 2**31 - 1, zeros),
        "interlaced bomb": png_of(6_000, 6_000, zeros, interlace=1),
        "16-bit RGBA bomb": png_of(6_000, 6_000, zeros, depth=16, colour=6),
        "more pixels than it says": png_of(256, 256, zeros),
        "no side": png_of(0, 0, rows),
        "one column": png_of(1, 40_000, rows),
        "depth 3": png_of(256, 256, rows, depth=3),
        "colour type 5": png_of(256, 256, rows, colour=5),
        "palette without palette": png_of(256, 256, rows, colour=3),
        "no pixels": PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", 256, 256, 8, 0, 0, 0, 0)) + chunk(b"IEND", b""),
        "no header": PNG + chunk(b"IDAT", rows) + chunk(b"IEND", b""),
        "text bomb": png[: data - 4] + text + png[data - 4 :],
        "profile bomb": png[: data - 4] + chunk(b"iCCP", b"icc\0\0" + zeros) + png[data - 4 :],
        "pixels in chunks of a byte": png_of(256, 256, b"").replace(chunk(b"IDAT", b""), many),
        "200000 empty chunks": png[: data - 4] + chunk(b"tEXt", b"") * 200_000 + png[data - 4 :],
        "animated": png[: data - 4] + chunk(b"acTL", struct.pack(">II", 10_000, 0)) + png[data - 4 :],
        "end without end": png[:-12] + struct.pack(">I", 2**31 - 1) + b"IEND",
    }
    for name, length in (("0", 0), ("one short", -1), ("2^31", 2**31 - 1), ("2^32", 2**32 - 1)):
        right = int.from_bytes(png[data - 4 : data], "big")
        wrong = right + length if length < 0 else length
        bodies[f"pixels' length {name}"] = png[: data - 4] + struct.pack(">I", wrong) + png[data:]
    for name in (b"IHDR", b"IDAT", b"IEND"):
        at = png.index(name)
        end = at + 4 + int.from_bytes(png[at - 4 : at], "big")
        bodies[f"checksum of {name.decode()}"] = png[:end] + b"\0\0\0\0" + png[end + 4 :]
        bodies[f"without {name.decode()}"] = png[: at - 4] + png[end + 4 :]
        bodies[f"twice {name.decode()}"] = png[: end + 4] + png[at - 4 :]
    return {f"PNG: {name}": body for name, body in bodies.items()}


# JPEG


def spoilt_jpegs(jpeg: bytes) -> dict[str, bytes]:
    frame, scan = jpeg.index(b"\xff\xc2"), jpeg.index(b"\xff\xda")
    end = jpeg.index(b"\xff", scan + 2)
    bodies = {
        "65500 x 65500": jpeg[: frame + 5] + struct.pack(">HH", 65_500, 65_500) + jpeg[frame + 9 :],
        "9000 x 4000 of a small scan": jpeg[: frame + 5] + struct.pack(">HH", 9_000, 4_000) + jpeg[frame + 9 :],
        "no rows": jpeg[: frame + 5] + b"\0\0" + jpeg[frame + 7 :],
        "12 bit": jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :],
        "200 components": jpeg[: frame + 9] + b"\xc8" + jpeg[frame + 10 :],
        "arithmetic coding": jpeg[: frame + 1] + b"\xca" + jpeg[frame + 2 :],
        "lossless": jpeg[: frame + 1] + b"\xc3" + jpeg[frame + 2 :],
        "5000 scans": jpeg[:scan] + jpeg[scan:end] * 5_000 + jpeg[end:],
        "segments without end": jpeg[:2] + b"\xff\xfe\x00\x02" * 200_000 + jpeg[2:],
        "fill bytes without end": jpeg[:2] + b"\xff" * (4 * MB) + jpeg[2:],
        "comments of 40 MB": jpeg[:2] + (b"\xff\xfe\xff\xff" + bytes(65_533)) * 640 + jpeg[2:],
        "endless EXIF": jpeg[:2] + exif(b"MM\0*\0\0\0\x08\xff\xff" + bytes(12) * 5_000) + jpeg[2:],
        "EXIF that points at itself": jpeg[:2] + exif(b"MM\0*\0\0\0\x08\0\0\0\0\0\x08") + jpeg[2:],
        "no tables": jpeg[:2] + jpeg[frame:],
        "no end": jpeg[:-2],
        "header alone": b"\xff\xd8\xff\xe0",
        "scan before frame": jpeg[:2] + jpeg[scan:],
        "two files in one": jpeg + jpeg,
    }
    return {f"JPEG: {name}": body for name, body in bodies.items()}


def exif(content: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(content) + 8) + b"Exif\0\0" + content


# DICOM


def radiograph(stored: np.ndarray, syntax: uid.UID = uid.ExplicitVRLittleEndian, **tags: object) -> bytes:
    """A CR film; ``tags`` replace its elements."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = uid.ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid.generate_uid(entropy_srcs=["film"])
    dataset.Modality, dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "CR", "MONOCHROME2", 1
    dataset.Rows, dataset.Columns = stored.shape
    bits = stored.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits, bits - 1, 0
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OB" if syntax.is_compressed else "OW"
    with warnings.catch_warnings(action="ignore"):  # pydicom's, of values that are wrong on purpose
        for name, value in tags.items():
            setattr(dataset, name, value)
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def framed(stored: np.ndarray, syntax: uid.UID, *frames: bytes, **tags: object) -> bytes:
    return radiograph(stored, syntax, PixelData=encapsulate(list(frames)), **tags)


def spoilt_dicoms(film: Image.Image) -> dict[str, bytes]:
    grey = np.asarray(film)
    whole = radiograph(grey)
    place = whole.index(b"\x28\x00\x02\x00US")  # SamplesPerPixel
    j2k = as_radiograph("693_J2KR.dcm")
    bodies = {
        f"{name} {value}": radiograph(grey, **{name: value})
        for name, values in {
            "Rows": (0, 1, 255, 257, 10_000, 65_535),
            "Columns": (0, 1, 255, 257, 10_000, 65_535),
            "BitsAllocated": (0, 1, 7, 12, 16, 32, 64, 65_535),
            "BitsStored": (0, 1, 7, 9, 16, 65_535),
            "HighBit": (0, 15, 65_535),
            "PixelRepresentation": (1, 2, 65_535),
            "SamplesPerPixel": (0, 3, 65_535),
            "NumberOfFrames": (0, -1, 2, 2**31 - 1, 10**11),
            "RescaleSlope": (0, -1, "1e308", "nan", "-inf"),
            "WindowWidth": (0, -1, "1e308", "nan"),
            "PhotometricInterpretation": ("RGB", "PALETTE COLOR", "YBR_FULL_422", "", "MONOCHROME1"),
            "Modality": ("CT", "MR", "", "x" * 16),
        }.items()
        for value in values
    }
    nested = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    private = b"\x09\x00\x10\x00LO\0\0"
    bodies |= {
        "sequences 20000 deep": whole[:place] + nested * 20_000 + whole[place:],
        "1000 private elements": whole[:place] + private * 1_000 + whole[place:],
        "private elements without end": whole[:place] + private * (16 * MB // 8) + whole[place:],
        "an element of 4 GB": whole[:place] + b"\x09\x00\x10\x00OB\0\0\xff\xff\xff\xfe" + whole[place:],
        "pixels of undefined length": whole.replace(b"\x10\x00OW\0\0", b"\x10\x00OW\0\0\xff\xff\xff\xff", 1),
        "magic alone": bytes(128) + b"DICM",
        "magic and noise": bytes(128) + b"DICM" + np.random.default_rng(0).bytes(100_000),
        "deflated bomb": deflated_bomb(grey),
        "deflated noise": meta_of(radiograph(grey, uid.DeflatedExplicitVRLittleEndian)) + b"\xff" * 1_000,
        "fragments without end": endless_fragments(grey),
        "RLE of wrong offsets": framed(grey, uid.RLELossless, struct.pack("<16I", 1, *[2**32 - 1] * 15) + bytes(200)),
        "RLE of 15 segments": framed(grey, uid.RLELossless, struct.pack("<16I", 15, *[64] * 15) + bytes(200)),
        "RLE bomb": framed(grey, uid.RLELossless, struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * 2_000_000),
        "JPEG 2000 of 65535 x 65535": larger(j2k, b"\xff\x4f\xff\x51", 8, b"\0\0\xff\xff\0\0\xff\xff"),
        "JPEG 2000 of tiles of 1 x 1": larger(j2k, b"\xff\x4f\xff\x51", 24, b"\0\0\0\1\0\0\0\1"),
        "JPEG-LS of 65535 x 65535": larger(as_radiograph("MR_small_jpeg_ls_lossless.dcm"), b"\xff\xf7", 5, b"\xff" * 4),
        "two frames in one": framed(grey, uid.JPEGBaseline8Bit, *[saved(film, "JPEG")] * 2),
        "a PNG as its frame": framed(grey, uid.JPEG2000Lossless, saved(film, "PNG")),
        "no frame": framed(grey, uid.JPEGLSLossless, b"\0\0"),
        "MPEG": framed(grey, uid.MPEG2MPML, bytes(1_000)),
        "a transfer syntax of nobody": whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0"),
    }
    return {f"DICOM: {name}": body for name, body in bodies.items()}


def larger(body: bytes, marker: bytes, offset: int, size: bytes) -> bytes:
    place = body.index(marker) + offset
    return body[:place] + size + body[place + len(size) :]


def meta_of(body: bytes) -> bytes:
    """The file up to its data set (PS3.10, section 7.1)."""
    return body[: 144 + int.from_bytes(body[140:144], "little")]


def deflated_bomb(grey: np.ndarray) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = packer.compress(bytes(200 * MB)) + packer.flush()
    return meta_of(radiograph(grey, uid.DeflatedExplicitVRLittleEndian)) + zeros


def endless_fragments(grey: np.ndarray) -> bytes:
    body = framed(grey, uid.RLELossless, b"frame")
    place = body.rindex(b"\xfe\xff\x00\xe0")
    return body[:place] + b"\xfe\xff\x00\xe0\0\0\0\0" * (16 * MB // 8) + body[place:]


# Everything else


def other_files(film: Image.Image, png: bytes, jpeg: bytes, dicom: bytes) -> dict[str, bytes]:
    noise = np.random.default_rng(1)
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("film.png", png)
    bodies: dict[str, bytes] = {kind: saved(film, kind) for kind in ("GIF", "TIFF", "BMP", "WEBP", "PPM", "ICO", "PDF")}
    bodies |= {
        "ZIP": archive.getvalue(),
        "gzip": gzip.compress(png, mtime=0),
        "SVG": b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "aaaa">]><svg xmlns="http://www.w3.org/2000/svg">&a;</svg>',
        "XML bomb": b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>',
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "JSON": b'{"data": "film", "instances": [{"b64": "aaaa"}]}',
        "pickle": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.",
        "HTML": b"<html><script>1</script></html>",
        "script": b"#!/bin/sh\nid\n",
        "path": b"file:///etc/passwd",
        "one byte": b"\0",
        "spaces": b" " * 1_000,
        "zeros": bytes(MB),
        "noise": noise.bytes(MB),
        "noise of 30 MB": noise.bytes(30 * MB),
        "PNG after text": b"film\n" + png,
        "PNG, then ZIP": png + archive.getvalue(),
        "PNG, then 10 MB": png + bytes(10 * MB),
        "JPEG, then PNG": jpeg + png,
        "PNG that says DICM": png[:128] + b"DICM" + png[132:],
        "DICOM that begins as PNG": PNG + dicom[len(PNG) :],
        "DICOM that begins as PDF": b"%PDF-1.7\n" + dicom[9:],
        "DICOM that begins as EXE": b"MZ" + dicom[2:],
        "JPEG named PNG": PNG + jpeg,
    }
    return {f"other: {name}": body for name, body in bodies.items()}
