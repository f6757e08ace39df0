"""What the splits hold of both outcomes, looked at before training: what cannot be learned, chosen by or scored.

A finding without films that show it, or without films that do not, is left out of what needs both, and named. Stage 1
is not: without both outcomes of "any finding" in training and validation there is nothing to learn or to choose by.
"""

from dataclasses import dataclass

import numpy as np

from handlers.findings import FINDINGS
from training.fit.config import Stage
from training.data.films import Films
from training.data.splits import SPLITS, Split
from training.evaluation.thresholds import UNKNOWN
from workflows.files.text_files import DataError

CONSEQUENCES = {
    "train": "cannot be learned from one outcome",
    "validation": f"not calibrated, and where no film shows it its threshold is {UNKNOWN:g}",
    "test": "not scored, and left out of the mean",
}
"""Of a finding that a split has one outcome of."""


@dataclass(frozen=True)
class Outcomes:
    """Films and patients of a split, by what they show.

    Attributes:
        split: its name.
        films: (with a finding, without one).
        patients: (with a film with a finding, with a film without one); a patient may be both.
        all_patients: number of them.
        positives: films with each finding.
    """

    split: Split
    films: tuple[int, int]
    patients: tuple[int, int]
    all_patients: int
    positives: dict[str, int]

    @property
    def one_sided(self) -> dict[str, int]:
        """The findings with one outcome only, each with its number of films."""
        return {name: count for name, count in self.positives.items() if count in (0, sum(self.films))}


def outcomes(films: Films) -> list[Outcomes]:
    """A row a split, in the order of ``SPLITS``."""
    present, patients = films.findings[:, 0] == 1, films.table["patient"].to_numpy()
    counted = []
    for split in SPLITS:
        rows = films.rows(split)
        ill, well = rows[present[rows]], rows[~present[rows]]
        whose = [len(np.unique(patients[some])) for some in (ill, well, rows)]
        positives = dict(zip(FINDINGS, films.diseases[rows].sum(axis=0).tolist(), strict=True))
        counted.append(Outcomes(split, (len(ill), len(well)), (whose[0], whose[1]), whose[2], positives))
    return counted


def require_outcomes(films: Films, stage: Stage) -> None:
    """What a stage cannot do without: a label with both outcomes to learn from, and one to choose the best epoch by.

    Raises:
        DataError: training or validation is without, or validation is of one patient; the message counts what there is.
    """
    of_stage_1 = stage in ("binary", "joint")
    train, validation, _ = counted = outcomes(films)
    faults = []
    for each, purpose in ((train, "learn from"), (validation, "choose the best epoch and the thresholds by")):
        if of_stage_1 and not all(each.films):
            lacking = "with a finding" if not each.films[0] else "without a finding"
            faults.append(f"the {each.split} split has no film {lacking} to {purpose}")
        if not of_stage_1 and len(each.one_sided) == len(FINDINGS):
            faults.append(f"the {each.split} split has no finding that some films show and others do not, to {purpose}")
    if stage != "single" and validation.all_patients < 2:
        faults.append("the validation split is of one patient, and calibration is measured on other patients' films")
    if faults:
        raise DataError(
            f"{films.folder}: stage {stage} is not trained, for {'; '.join(faults)}.\n"
            + "".join(f"  {_line(each)}\n" for each in counted)
            + "Add films of other patients, change data.validation, or draw another validation split: data.split_seed"
        )


def describe_outcomes(films: Films) -> list[str]:
    """Lines for a person: a split each, then the findings that a split has one outcome of, and what follows."""
    counted = outcomes(films)
    return [_line(each) for each in counted] + [
        f"{each.split}: {CONSEQUENCES[each.split]}: "
        + ", ".join(f"{name} ({count} of {sum(each.films)} films)" for name, count in each.one_sided.items())
        for each in counted
        if each.one_sided
    ]


def _line(each: Outcomes) -> str:
    all_films = f"{each.split}: {sum(each.films)} films of {each.all_patients} patients"
    ill, well = (f"{films} ({of} patients)" for films, of in zip(each.films, each.patients, strict=True))
    return f"{all_films}, {ill} with a finding, {well} without"
