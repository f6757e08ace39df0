"""How the cascade does on parts of the test list: by sex, age band and view position.

A data set's table may say all three of each film. A patient who was filmed at 59 and at 60 is in both age bands.
"""

import re
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from handlers.findings import FINDING, FINDINGS
from training.evaluation.bootstrap import Interval, intervals, share_intervals
from training.evaluation.metrics import MIN_COUNT, Scored, rates

BANDS = {"0-17": 17, "18-39": 39, "40-59": 59, "60-79": 79, "80+": 120}
"""Age bands by the last year in each; nobody is older than the last of all."""
OTHER = "other or not known"
GROUPS = {"sex": ("F", "M", OTHER), "age": (*BANDS, OTHER), "view": ("PA", "AP", OTHER)}
SPELLINGS = {"FEMALE": "F", "MALE": "M", "AP_HORIZONTAL": "AP"}
"""CheXpert's sexes, and PadChest's films of patients who lie."""

AGE = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>[DWMY]?)")
IN_A_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}


@dataclass(frozen=True)
class Subgroup:
    """One part of the test list; ``dataclasses.asdict`` turns it into plain JSON.

    Attributes:
        by: ``sex``, ``age`` or ``view``.
        group: one of ``GROUPS[by]``.
        films: number of them; ``patients`` likewise.
        prevalence: share of films with any finding, of those that are labelled; None without films.
        auc: of stage 1, with its 95% interval over patients.
        sensitivity: of stage 1 at the served threshold; ``specificity`` likewise.
        missed: share of the films with a finding that stage 1 holds back, with its 95% interval over patients.
        with_finding: how many those are.
        mean_auc: of the findings that it can be had of, gated: what is served.
        findings: how many those are.
        blank: why the figures are missing; None where they are not.
    """

    by: str
    group: str
    films: int
    patients: int
    prevalence: float | None
    auc: Interval | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    missed: Interval | None = None
    with_finding: int = 0
    mean_auc: Interval | None = None
    findings: int = 0
    blank: str | None = None


def age_in_years(text: str) -> float | None:
    """``"58"``, ``"058Y"`` and, as DICOM writes them, ``"018M"``, ``"006W"``, ``"010D"`` -> years (PS3.5 section 6.2).

    None for anything else and for an age over 120 years: NIH's older table has some of over 400.
    """
    found = AGE.fullmatch(text.strip().upper())
    years = float(found["number"]) / IN_A_YEAR[found["unit"]] if found else None
    return years if years is not None and years <= max(BANDS.values()) else None


def group_films(table: pd.DataFrame) -> pd.DataFrame:
    """``sex``, ``age`` and ``view`` of a film table -> each film's group of ``GROUPS``.

    ``OTHER`` for what the table does not say, and for a value that it cannot mean.
    """
    return pd.DataFrame({by: [_group(by, text) for text in table[by]] for by in GROUPS})


def subgroups(traits: pd.DataFrame, patients: NDArray[np.str_], films: Scored) -> list[Subgroup]:
    """Every group of ``GROUPS``; ``OTHER`` only where films are in it.

    Args:
        traits: [N], of ``group_films``.
        patients: [N].
        films: N of them.
    """
    parts = [
        _measure(by, group, np.flatnonzero(traits[by].to_numpy() == group), patients, films)
        for by, groups in GROUPS.items()
        for group in groups
    ]
    return [part for part in parts if part.films or part.group != OTHER]


def _group(by: str, text: str) -> str:
    if by == "age":
        years = age_in_years(text)
        return OTHER if years is None else next(band for band, last in BANDS.items() if int(years) <= last)
    value = SPELLINGS.get(text.strip().upper(), text.strip().upper())
    return value if value in GROUPS[by] else OTHER


def _measure(by: str, group: str, rows: NDArray[np.int64], patients: NDArray[np.str_], films: Scored) -> Subgroup:
    targets, finding, whose = films.targets[rows], films.finding[rows], patients[rows]
    present = films.any_finding[rows]
    known = present[present >= 0]
    prevalence = float(known.mean()) if len(known) else None
    counted = Subgroup(by, group, len(rows), len(np.unique(whose)), prevalence)
    if blank := _why_blank(group, present, whose):
        return replace(counted, blank=blank)
    called = rates(present, films.routed[rows])
    ill = present == 1
    [missed] = share_intervals(~films.routed[rows, None], ill[:, None], whose)
    served = films.ways["gated"][rows]
    enough = [label for label in range(len(FINDINGS)) if min(_patients_of(targets[:, label], whose)) >= MIN_COUNT]
    names = [FINDINGS[label] for label in enough]
    return replace(
        counted,
        auc=intervals(present[:, None], finding[:, None], whose, [FINDING]).labels[FINDING].auc,
        sensitivity=called["sensitivity"],
        specificity=called["specificity"],
        missed=missed,
        with_finding=int(ill.sum()),
        mean_auc=intervals(targets[:, enough], served[:, enough], whose, names).mean_auc if enough else None,
        findings=len(enough),
    )


def _why_blank(group: str, present: NDArray[np.int8], patients: NDArray[np.str_]) -> str | None:
    if not len(patients):
        return "no test film"
    if group == OTHER:
        return "the table does not say, or says what cannot be (an age over 120)"
    ill, well = _patients_of(present, patients)
    if min(ill, well) < MIN_COUNT:
        return f"{ill} patients have a film with a finding, {well} one without; fewer than {MIN_COUNT} give no AUC"
    return None


def _patients_of(present: NDArray[np.int8], patients: NDArray[np.str_]) -> tuple[int, int]:
    """[N] and [N] -> patients with a film that shows it, patients with one that does not."""
    return len(np.unique(patients[present == 1])), len(np.unique(patients[present == 0]))
