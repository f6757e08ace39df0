"""Instance UIDs that follow from what an object says, so that making it again makes the same object."""

import uuid

from pydicom.uid import UID

from handlers.report import ModelVersions

NAMESPACE = uuid.UUID("b0e9d2a5-6c1f-5d1b-9a70-2f3c8f6f7d15")
"""Of these name-based UUIDs (RFC 9562, section 5.5). It never changes: UIDs that are in archives hang on it."""


def uuid_of(film: str, models: ModelVersions, kind: str) -> uuid.UUID:
    """As ``uid_of``, for those who want a UUID."""
    return uuid.uuid5(NAMESPACE, "\n".join((film, models.binary, models.disease, kind)))


def uid_of(film: str, models: ModelVersions, kind: str) -> UID:
    """The UID of an object of ``kind`` that is made of a film's report.

    The same film, models and kind have the same UID, whoever makes the object, and when.

    Args:
        film: the film's SOP Instance UID; "" for what stands for the models alone.
        models: that read it.
        kind: what has the UID: ``sr``, ``sr series``, ``sc Effusion``, ….
    """
    return UID(f"2.25.{uuid_of(film, models, kind).int}")  # PS3.5, B.2
