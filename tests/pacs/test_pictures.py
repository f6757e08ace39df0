"""Heatmaps as Secondary Captures and as a Segmentation: what is shown where, on which film."""

from io import BytesIO

import highdicom
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from handlers.decoding.dicom import read_dicom
from handlers.refusals import RefusedFilm
from pacs.secondary_capture import secondary_captures
from pacs.segmentation import segmentation
from tests.handlers.dicom_files import ANATOMY, dataset_of
from tests.pacs.reports import MADE, report_of


def film(stored: NDArray[np.uint16] = ANATOMY, **tags: object) -> Dataset:
    """Of 160 x 200 px, unless it is told."""
    its = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "PatientName": "Somebody", "PatientID": "7"}
    return dataset_of(stored, 12, **its, **tags)


def file_of(data: Dataset) -> bytes:
    file = BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def saved(data: Dataset) -> Dataset:
    return pydicom.dcmread(BytesIO(file_of(data)))


def test_each_heatmap_is_a_capture_of_the_film_s_study_in_one_series() -> None:
    captures = secondary_captures(film(), report_of(maps=("Mass", "Effusion"), shape=ANATOMY.shape), MADE)
    assert [one.ImageComments for one in captures] == ["Pleural effusion", "Mass"]
    assert len({one.SeriesInstanceUID for one in captures}) == 1
    assert len({one.SOPInstanceUID for one in captures}) == len({one.InstanceNumber for one in captures}) == 2
    for one in captures:
        assert (one.StudyInstanceUID, one.PatientName, one.PatientID) == ("1.2.3", "Somebody", "7")
        assert one.SourceImageSequence[0].ReferencedSOPInstanceUID == film().SOPInstanceUID


def test_the_map_colours_the_film_where_it_is_high_and_leaves_it_as_it_is_elsewhere() -> None:
    shown = film(ANATOMY.repeat(4, axis=0).repeat(4, axis=1))
    (capture,) = secondary_captures(shown, report_of(maps=("Mass",), shape=ANATOMY.shape), MADE)
    pixels, grey = saved(capture).pixel_array, read_dicom(file_of(shown))
    assert pixels.shape[1:] == (640, 3)
    assert pixels.shape[0] > 800
    np.testing.assert_array_equal(pixels[600:800], np.repeat(grey[600:, :, None], 3, axis=2))
    red, _, blue = pixels[200, 320].astype(int)  # the middle of the spot
    assert red - blue > 50


def test_the_legend_below_says_something_in_light_on_black_and_shows_the_scale() -> None:
    (capture,) = secondary_captures(film(), report_of(maps=("Mass",), shape=ANATOMY.shape), MADE)
    legend = saved(capture).pixel_array[800:]
    assert (legend.max(axis=2) > 200).any(axis=1).sum() > 20  # rows with ink
    assert len(np.unique(legend.reshape(-1, 3), axis=0)) > 100  # colours


@pytest.mark.parametrize(("stored", "size"), [(np.tile(ANATOMY, (10, 5)), (512, 1280)), (ANATOMY, (640, 800))])
def test_a_large_film_is_shown_smaller_and_a_small_one_larger(
    stored: NDArray[np.uint16], size: tuple[int, int]
) -> None:
    (capture,) = secondary_captures(film(stored), report_of(maps=("Mass",), shape=(500, 200)), MADE)
    assert capture.Columns == size[0]
    assert size[1] < capture.Rows < 1.3 * size[1]


def test_nobody_takes_a_capture_for_a_film() -> None:
    (capture,) = secondary_captures(film(), report_of(maps=("Mass",), shape=ANATOMY.shape), MADE)
    assert capture.Modality == "OT"
    with pytest.raises(RefusedFilm) as caught:
        read_dicom(file_of(capture))
    assert caught.value.type == "NotARadiograph"


def test_once_lossy_always_lossy() -> None:
    report = report_of(maps=("Mass",), shape=ANATOMY.shape)
    lossy = film(LossyImageCompression="01", LossyImageCompressionRatio="12.5")
    (capture,) = secondary_captures(lossy, report, MADE)
    assert (capture.LossyImageCompression, capture.LossyImageCompressionRatio) == ("01", 12.5)
    (capture,) = secondary_captures(film(LossyImageCompression="00"), report, MADE)
    assert "LossyImageCompression" not in capture


def test_without_heatmaps_there_is_no_picture() -> None:
    for report in (report_of(), report_of(routed=False), report_of().model_copy(update={"heatmaps": {}})):
        assert secondary_captures(film(), report, MADE) == []
        assert segmentation(film(), report, MADE) is None


def test_a_repeat_is_the_same_object_byte_by_byte() -> None:
    report = report_of(maps=("Mass", "Effusion"), shape=ANATOMY.shape)
    first, second = (
        [file_of(one) for one in (*secondary_captures(film(), report, MADE), segmentation(film(), report, MADE))]
        for _ in range(2)
    )
    assert first == second


def test_a_region_is_where_the_map_reaches_half_of_its_maximum_on_the_film_s_own_pixels() -> None:
    report = report_of(maps=("Mass", "Effusion"), shape=(100, 80))
    regions = highdicom.seg.Segmentation.from_dataset(saved(segmentation(film(), report, MADE)))
    assert [regions.get_segment_description(at).segment_label for at in (1, 2)] == [
        "Evidence of Pleural effusion",
        "Evidence of Mass",
    ]
    (pixels,) = regions.get_pixels_by_source_instance([str(film().SOPInstanceUID)])
    assert pixels.shape == (*ANATOMY.shape, 2)
    down, across = np.mgrid[0:200, 0:160]
    for at, column in ((0, 2 / 3), (1, 1 / 3)):  # exp(-r² / 0.02) is a half at r² = 0.02 ln 2
        inside = ((across + 0.5) / 160 - column) ** 2 + ((down + 0.5) / 200 - 0.25) ** 2 <= 0.02 * np.log(2)
        assert (pixels[..., at].astype(bool) != inside).mean() < 0.01


def test_other_maps_of_a_film_make_another_segmentation() -> None:
    both, one = (report_of(maps=maps, shape=(100, 80)) for maps in (("Mass", "Effusion"), ("Mass",)))
    assert segmentation(film(), both).SOPInstanceUID != segmentation(film(), one).SOPInstanceUID
