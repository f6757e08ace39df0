"""NIH's ``Finding Labels`` column to targets."""

import numpy as np
from numpy.typing import NDArray

from handlers.findings import FINDINGS, NO_FINDING
from training.data.label_map import any_present
from workflows.files.text_files import DataError


class LabelError(DataError):
    """A label that NIH ChestX-ray14 does not have."""


def parse_finding_labels(text: str, row: str) -> NDArray[np.int8]:
    """``"Cardiomegaly|Effusion"`` -> [14] int8, 1 where the finding is present, in NIH's order.

    Args:
        text: names joined by ``|``, or ``No Finding`` alone.
        row: how to name this row in an error, e.g. ``"row 7 (00000001_000.png)"``.

    Raises:
        LabelError: an unknown name, none at all, or ``No Finding`` beside a finding.
    """
    names = [name.strip() for name in text.split("|")]
    if names == [NO_FINDING]:
        return np.zeros(len(FINDINGS), np.int8)
    unknown = [name for name in names if name not in FINDINGS]
    if NO_FINDING in unknown:
        raise LabelError(f"{row}: 'Finding Labels' is {text!r}: 'No Finding' cannot stand beside a finding")
    if unknown:
        known = ", ".join(FINDINGS)
        raise LabelError(f"{row}: 'Finding Labels' has unknown name {unknown[0]!r}; the known ones are {known}")
    return np.array([name in names for name in FINDINGS], np.int8)


def any_finding(diseases: NDArray[np.int8]) -> NDArray[np.int8]:
    """[N, 14] in {-1, 0, 1} -> [N, 1], the binary target: 1 where any is present, 0 where all are absent, else -1.

    ``No Finding`` has no column, so it cannot count as one.
    """
    return any_present(diseases)[:, None]
