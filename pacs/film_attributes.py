"""What an object takes over from the film that it is about: its study, its patient, and the reference to it.

Films come from archives as they are: with names that no validator takes, without a sex, with a weight of "70 kg". What
can be read is copied as it is and validated by nobody; what cannot be read is left out.
"""

import logging
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple

from highdicom import SOPClass
from pydicom import config
from pydicom.dataset import Dataset

from handlers.report import ModelVersions
from pacs.identifiers import uid_of

# Their words quote the values that they speak of.
for library in ("pydicom", "highdicom"):
    logging.getLogger(library).setLevel(logging.CRITICAL)

DEVICE_NAME = "CXR Cascade"
NOT_FOR_DIAGNOSIS = "Research use only; not for diagnostic use."
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_BLANK = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber"),
    *("StudyID", "ReferringPhysicianName"),
)
"""Attributes that every object has, of no value where the film has none (PS3.3, C.7.1.1 and C.7.2.1: type 2)."""
_PIXEL_GROUPS = 0x0028
"""From here on a data set speaks of pixels; the patient and the study stand before."""


class NotReportable(ValueError):
    """The film lacks what ties an object to it; the message says which attribute, and holds no value of the film's."""


class Reference(NamedTuple):
    """The film, as an object refers to it: its UIDs."""

    sop_class: str
    instance: str
    study: str
    series: str


def reference_to(film: Dataset) -> Reference:
    """The film's UIDs; class and instance by the file meta information where the data set does not say.

    Raises:
        NotReportable: one of them is missing.
    """
    meta = getattr(film, "file_meta", Dataset())
    found = [str(film.get(name) or meta.get(f"MediaStorage{name}") or "") for name in _NEEDED]
    if missing := [name for name, value in zip(_NEEDED, found, strict=True) if not value]:
        raise NotReportable(f"the film has no {' and no '.join(missing)}: an object of its study cannot name it")
    return Reference(*found)


def blank_source(film: Dataset) -> Dataset:
    """The film as highdicom's constructors may see it: UIDs and size alone, since any other value may raise there.

    Raises:
        NotReportable: as ``reference_to``.
    """
    reference, source = reference_to(film), Dataset()
    for name, value in zip(_NEEDED, reference, strict=True):
        setattr(source, name, value)
    for name in _BLANK:
        setattr(source, name, None)
    source.Rows, source.Columns = film.Rows, film.Columns
    return source


def describe(target: SOPClass, film: Dataset, models: ModelVersions, made: datetime | None) -> None:
    """Gives an object what is the film's, and what all objects have: when and by which device it was made.

    Args:
        made: when; now unless given. Naive times are this machine's.
    """
    with config.disable_value_validation():
        readable = Dataset()
        for tag in sorted(film.keys()):
            if tag.group < _PIXEL_GROUPS and not tag.is_private:
                with suppress(Exception):  # pydicom may raise anything on a value that it cannot make sense of
                    readable[tag] = deepcopy(film[tag])  # elements are changed in place below
        readable.SOPClassUID, readable.SOPInstanceUID = target.SOPClassUID, target.SOPInstanceUID
        target.copy_patient_and_study_information(readable)
        for name in ("SpecificCharacterSet", "TimezoneOffsetFromUTC"):
            if name in readable:
                target[name] = readable[name]
        for name in _BLANK:
            if name not in target:
                setattr(target, name, None)
    _sign(target, models, made_at(film, made))


def device_uid(models: ModelVersions) -> str:
    """Of the two models as the device that observes."""
    return uid_of("", models, "device")


def made_at(film: Dataset, made: datetime | None) -> datetime:
    """``made``, by the clock that the film's own dates go by: that of its Timezone Offset From UTC, or this machine's.

    The offset holds for all dates and times of an object (PS3.3, C.12.1.1.8).
    """
    moment = (made or datetime.now(UTC)).astimezone()
    with suppress(Exception):
        offset = str(film.TimezoneOffsetFromUTC)
        minutes = int(offset[1:3]) * 60 + int(offset[3:5])
        return moment.astimezone(timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)))
    return moment


def _sign(target: Dataset, models: ModelVersions, moment: datetime) -> None:
    target.pop("ContributingEquipmentSequence", None)  # highdicom's name and the present time: no repeat would be equal
    target.Manufacturer = target.ManufacturerModelName = DEVICE_NAME
    target.SoftwareVersions = [f"binary {models.binary}", f"disease {models.disease}"]
    target.DeviceUID = device_uid(models)
    target.ContentQualification = "RESEARCH"
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    target.InstanceCreationDate = target.SeriesDate = target.ContentDate = date
    target.InstanceCreationTime = target.SeriesTime = target.ContentTime = time
