"""De-identified films of public data sets are read by what is left of their headers, or refused by what is missing."""

import pytest
from pydicom import uid

from handlers.decoding.image import read_film
from tests.handlers.dicom_files import ANATOMY, AS_SEEN, WHOLE, dataset_of, refused, written

CR, DX = uid.ComputedRadiographyImageStorage, uid.DigitalXRayImageStorageForPresentation
RAW, CAPTURE = uid.DigitalXRayImageStorageForProcessing, uid.SecondaryCaptureImageStorage


def with_meta(data: bytes, element: bytes, value: str | None) -> bytes:
    """A file with another value of this element of its file meta information, or with none."""
    place = data.index(element)
    after = place + 8 + int.from_bytes(data[place + 6 : place + 8], "little")
    said = (value or "").encode() + b"\0" * (len(value or "") % 2)
    return data[: place + 6] + len(said).to_bytes(2, "little") + said + data[after:]


STORAGE, SYNTAX = b"\2\0\2\0UI", b"\2\0\x10\0UI"
"""MediaStorageSOPClassUID and TransferSyntaxUID."""


def stripped(*names: str, empty: bool = False, storage: str | None = CR, **tags: object) -> bytes:
    """A film without these elements, or with them empty; ``storage`` is its MediaStorageSOPClassUID."""
    dataset = dataset_of(ANATOMY, 12, **tags)
    for name in names:
        if empty:
            dataset[name].value = None
        else:
            delattr(dataset, name)
    return with_meta(written(dataset), STORAGE, storage)


BOTH = ("Modality", "SOPClassUID")


@pytest.mark.parametrize("empty", [False, True], ids=["removed", "emptied"])
@pytest.mark.parametrize("storage", [CR, None], ids=["CR", "nothing"])
def test_a_film_without_modality_and_class_is_what_its_file_meta_says_or_what_it_holds(
    empty: bool, storage: str | None
) -> None:
    """As VinDr-CXR's files. MediaStorageSOPClassUID says the same as SOPClassUID (PS3.10, 7.1)."""
    assert (read_film(stripped(*BOTH, empty=empty, storage=storage)) == AS_SEEN).all()


def test_a_dx_film_without_modality_and_class_is_what_its_file_meta_says() -> None:
    assert (read_film(stripped(*BOTH, storage=DX, SOPClassUID=DX)) == AS_SEEN).all()


@pytest.mark.parametrize(
    "kind",
    [
        uid.CTImageStorage,
        uid.MRImageStorage,
        uid.UltrasoundImageStorage,
        uid.XRayAngiographicImageStorage,
        uid.DigitalMammographyXRayImageStorageForPresentation,
        "1.2.3.4",
    ],
)
def test_another_kind_by_the_file_meta_is_refused(kind: str) -> None:
    fault = refused(stripped(*BOTH, storage=kind))
    assert fault.type == "NotARadiograph"
    assert "MediaStorageSOPClassUID" in fault.message


def test_a_film_for_processing_by_either_class_is_refused() -> None:
    assert "for processing" in refused(stripped(*BOTH, storage=RAW)).message
    assert "for processing" in refused(stripped(storage=RAW, Modality="DX", SOPClassUID=DX)).message


def test_a_secondary_capture_needs_a_modality() -> None:
    """It may be a capture of anything."""
    assert refused(stripped(*BOTH, storage=CAPTURE)).type == "NotARadiograph"
    assert (read_film(stripped("SOPClassUID", storage=CAPTURE, Modality="DX")) == AS_SEEN).all()


@pytest.mark.parametrize(
    "kind",
    [
        uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    ],
)
def test_a_capture_of_one_frame_is_read_and_of_several_is_not(kind: str) -> None:
    tags = {"Modality": "CR", "SOPClassUID": kind}
    assert (read_film(written(dataset_of(ANATOMY, 12, NumberOfFrames=1, **tags))) == AS_SEEN).all()
    assert refused(written(dataset_of(ANATOMY, 12, NumberOfFrames=2, **tags))).type == "NotARadiograph"


@pytest.mark.parametrize("modality", ["CT", "MR", "US", "MG", "OT", "CR\\MR"])
def test_another_modality_is_refused_whatever_the_class_says(modality: str) -> None:
    dataset = dataset_of(ANATOMY, 12)
    dataset.add_new("Modality", "LO", modality.split("\\"))
    assert refused(written(dataset)).type == "NotARadiograph"


@pytest.mark.parametrize("modality", ["cr", " DX ", "Dx", "RG\0"])
def test_a_modality_in_another_case_or_padded_is_that_modality(modality: str) -> None:
    dataset = dataset_of(ANATOMY, 12)
    dataset.add_new("Modality", "LO", modality)
    assert (read_film(written(dataset)) == AS_SEEN).all()


@pytest.mark.parametrize(
    "tags",
    [
        {"ImagePositionPatient": [1, 2, 3]},
        {"SliceThickness": 5},
        {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        {"SliceLocation": 10},
    ],
    ids=lambda tags: next(iter(tags)),
)
def test_a_slice_is_no_radiograph_though_nothing_says_what_it_is(tags: dict[str, object]) -> None:
    fault = refused(stripped(*BOTH, storage=None, **tags))
    assert fault.type == "NotARadiograph"
    assert next(iter(tags)) in fault.message
    assert (read_film(stripped("Modality", **tags)) == AS_SEEN).all()


def test_several_frames_or_colour_are_no_radiograph_though_nothing_says_what_it_is() -> None:
    assert refused(stripped(*BOTH, storage=None, NumberOfFrames=30)).type == "NotARadiograph"
    palette = stripped(*BOTH, storage=None, PhotometricInterpretation="PALETTE COLOR")
    assert "PALETTE COLOR" in refused(palette).message


# Attributes that every image has


@pytest.mark.parametrize("empty", [False, True], ids=["removed", "emptied"])
@pytest.mark.parametrize(
    "names",
    [
        ("SamplesPerPixel",),
        ("PixelRepresentation",),
        ("HighBit",),
        ("BitsStored",),
        ("BitsAllocated",),
        ("BitsStored", "HighBit"),
        ("BitsAllocated", "HighBit"),
        ("SOPInstanceUID",),
    ],
    ids="+".join,
)
def test_what_follows_from_other_attributes_may_be_missing(names: tuple[str, ...], empty: bool) -> None:
    assert (read_film(stripped(*names, empty=empty)) == AS_SEEN).all()
    assert (
        read_film(stripped(*names, empty=empty, **WHOLE)) == read_film(written(dataset_of(ANATOMY, 12, **WHOLE)))
    ).all()


@pytest.mark.parametrize("empty", [False, True], ids=["removed", "emptied"])
@pytest.mark.parametrize("name", ["Rows", "Columns", "PhotometricInterpretation"])
def test_what_follows_from_nothing_is_named_where_it_is_missing(name: str, empty: bool) -> None:
    fault = refused(stripped(name, empty=empty))
    assert fault.type == "UnreadableImage"
    assert f"{name} is missing" in fault.message


def test_a_film_without_any_bits_said_is_refused_by_the_element() -> None:
    assert "BitsAllocated" in refused(stripped("BitsAllocated", "BitsStored", "HighBit")).message


@pytest.mark.parametrize(("shape", "expected"), [("IDENTITY", AS_SEEN), ("INVERSE", 255 - AS_SEEN)])
def test_which_end_is_dark_follows_from_the_presentation_lut_shape(shape: str, expected: object) -> None:
    """In a DX object each shape has its photometric interpretation (PS3.3, C.8.11.1)."""
    assert (read_film(stripped("PhotometricInterpretation", PresentationLUTShape=shape)) == expected).all()


def test_emptied_optional_attributes_are_none() -> None:
    names = ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "VOILUTFunction", "PixelPaddingValue")
    tags = {"RescaleSlope": 1, "RescaleIntercept": 0, "VOILUTFunction": "LINEAR", "PixelPaddingValue": 0, **WHOLE}
    assert (read_film(stripped(*names, empty=True, **tags)) == AS_SEEN).all()
    assert (read_film(stripped("NumberOfFrames", empty=True, NumberOfFrames=1)) == AS_SEEN).all()


# The file around the data set


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_a_file_that_names_no_transfer_syntax_is_read_by_its_first_element(syntax: uid.UID) -> None:
    """PS3.5, 10.1: implicit, little endian by default; the data set shows whether it is explicit."""
    data = with_meta(written(dataset_of(ANATOMY, 12, syntax)), SYNTAX, None)
    assert (read_film(data) == AS_SEEN).all()
    assert (read_film(data[:132] + data[144:]) == AS_SEEN).all()  # without the length of the group


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_a_file_without_preamble_begins_with_its_file_meta_or_its_data_set(syntax: uid.UID) -> None:
    data = written(dataset_of(ANATOMY, 12, syntax))
    meta = 132 + 12 + int.from_bytes(data[140:144], "little")
    assert (read_film(data[132:]) == AS_SEEN).all()
    assert (read_film(data[meta:]) == AS_SEEN).all()


def test_a_file_that_begins_with_its_mark_is_refused_by_what_it_lacks() -> None:
    fault = refused(written(dataset_of(ANATOMY, 12))[128:])
    assert fault.type == "UnreadableImage"
    assert "preamble" in fault.message


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
def test_a_data_set_in_the_other_value_representation_than_said_is_read(syntax: uid.UID) -> None:
    other = {uid.ImplicitVRLittleEndian: uid.ExplicitVRLittleEndian}.get(syntax, uid.ImplicitVRLittleEndian)
    data = with_meta(written(dataset_of(ANATOMY, 12, syntax)), SYNTAX, other)
    assert (read_film(data) == AS_SEEN).all()


def test_a_file_whose_meta_length_is_wrong_is_read() -> None:
    data = bytearray(written(dataset_of(ANATOMY, 12)))
    data[140:144] = (12345).to_bytes(4, "little")
    assert (read_film(bytes(data)) == AS_SEEN).all()
