"""Instance UIDs that follow from what an object says, so that making it again makes the same object."""

import uuid

from pydicom.uid import UID

from handlers.report import Report

NAMESPACE = uuid.UUID("b0e9d2a5-6c1f-5d1b-9a70-2f3c8f6f7d15")
"""Of this project's name-based UUIDs (RFC 9562, section 5.5). It never changes: UIDs that are in archives hang on it."""


def uid_of(film: str, report: Report, kind: str) -> UID:
    """The UID of an object of ``kind`` that is made of a film and its report.

    The same film, models and kind have the same UID, whoever makes it and when.

    Args:
        film: the film's SOP Instance UID.
        kind: what the object is: ``sr``, ``sr-series``, ``sc:Effusion``, ….
    """
    name = "\n".join((film, report.models.binary, report.models.disease, kind))
    return UID(f"2.25.{uuid.uuid5(NAMESPACE, name).int}")  # PS3.5, B.2: a UUID as an OID
