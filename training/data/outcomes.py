"""What the splits hold of both outcomes, looked at before training: what cannot be learned, chosen by or scored.

A finding without films that show it, or without films that do not, is left out of what needs both, and named. Stage 1
is not: without both outcomes of "any finding" in training and validation there is nothing to learn or to choose by.
"""

from dataclasses import dataclass

import numpy as np

from handlers.findings import FINDINGS
from training.data.films import Films
from training.data.splits import SPLITS, Split
from training.evaluation.metrics import MIN_COUNT
from training.evaluation.thresholds import UNKNOWN
from training.fit.config import Stage
from workflows.files.text_files import DataError

CONSEQUENCES: dict[Split, dict[int, str]] = {
    "train": {1: "cannot be learned from one outcome"},
    "validation": {
        1: f"not calibrated, and its threshold is {UNKNOWN:g}",
        MIN_COUNT: f"calibrated by the intercept alone, and its threshold is {UNKNOWN:g}",
    },
    "test": {1: "not scored, and left out of the mean"},
}
"""Of a finding that a split has fewer films of either outcome of; in validation the gate will leave still fewer."""


@dataclass(frozen=True)
class Outcomes:
    """Films and patients of a split, by what they show.

    Attributes:
        split: its name.
        films: (with a finding, without one).
        patients: (with a film with a finding, with a film without one); a patient may be both.
        all_films: number of them, those included that nobody has labelled.
        all_patients: likewise.
        labels: of each finding (films with it, films without it).
    """

    split: Split
    films: tuple[int, int]
    patients: tuple[int, int]
    all_films: int
    all_patients: int
    labels: dict[str, tuple[int, int]]

    def fewer(self, films: int) -> dict[str, tuple[int, int]]:
        """The findings with fewer films of either outcome, each with the numbers of films with and without it."""
        return {name: of for name, of in self.labels.items() if min(of) < films}

    @property
    def unlabelled(self) -> list[str]:
        """The findings that no film is labelled for."""
        return [name for name, of in self.labels.items() if not any(of)]


def outcomes(films: Films) -> list[Outcomes]:
    """A row a split, in the order of ``SPLITS``."""
    findings, patients = films.findings[:, 0], films.table["patient"].to_numpy()
    counted = []
    for split in SPLITS:
        rows = films.rows(split)
        ill, well = rows[findings[rows] == 1], rows[findings[rows] == 0]
        whose = [len(np.unique(patients[some])) for some in (ill, well, rows)]
        both = zip(*((films.diseases[rows] == value).sum(axis=0).tolist() for value in (1, 0)), strict=True)
        labels = dict(zip(FINDINGS, both, strict=True))
        counted.append(Outcomes(split, (len(ill), len(well)), (whose[0], whose[1]), len(rows), whose[2], labels))
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
            if sum(each.films) < each.all_films:
                faults[-1] += " (a film is without one where its table says 'No Finding', or denies all 14)"
        if not of_stage_1 and len(each.fewer(1)) == len(FINDINGS):
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
    """Lines for a person: a split each, then the findings that a split has too few films of, and what follows."""
    counted = outcomes(films)
    lines = [_line(each) for each in counted]
    for each in counted:
        said = set(each.unlabelled)
        lines += (
            [f"{each.split}: no film is labelled, and none counts, for: {', '.join(each.unlabelled)}"] if said else []
        )
        for fewest, consequence in CONSEQUENCES[each.split].items():
            few = {name: of for name, of in each.fewer(fewest).items() if name not in said}
            said |= set(few)
            named = ", ".join(f"{name} ({of[0]} of {sum(of)} films)" for name, of in few.items())
            lines += [f"{each.split}: {consequence}: {named}"] if few else []
    return lines


def _line(each: Outcomes) -> str:
    all_films = f"{each.split}: {each.all_films} films of {each.all_patients} patients"
    ill, well = (f"{films} ({of} patients)" for films, of in zip(each.films, each.patients, strict=True))
    open_ = each.all_films - sum(each.films)
    return f"{all_films}, {ill} with a finding, {well} without" + (f", {open_} not labelled" if open_ else "")
