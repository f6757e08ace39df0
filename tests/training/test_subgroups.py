"""The cascade by sex, age band and view position: scikit-learn's figures on those films, or blank with a reason."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from handlers.findings import FINDINGS
from training.data.films import read_table
from training.evaluation.metrics import Scored, gated
from training.evaluation.subgroups import OTHER, Subgroup, age_in_years, group_films, subgroups

GATE = 0.4
EFFUSION, MASS, HERNIA = (FINDINGS.index(name) for name in ("Effusion", "Mass", "Hernia"))


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("58", 58),
        ("058Y", 58),
        (" 7 ", 7),
        ("57.0", 57),
        ("018M", 1.5),
        ("052W", pytest.approx(1, abs=0.01)),
        ("010D", pytest.approx(0.027, abs=0.001)),
        ("120", 120),
        ("121", None),
        ("414Y", None),
        ("", None),
        ("-3", None),
        ("old", None),
    ],
)
def test_an_age_is_read_in_nihs_form_and_in_dicoms(text: str, years: float | None) -> None:
    assert age_in_years(text) == years


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """The header has fewer names than the rows have fields, as NIH's."""
    rows = [
        "a.png,Mass,0,1,017Y,F,PA,2500,2048,0.1,0.1",
        "b.png,Mass,0,2,18,M,AP,2500,2048,0.1,0.1",
        "c.png,No Finding,0,3,79,f,LL,2500,2048,0.1,0.1",
        "d.png,No Finding,0,4,080Y,,PA,2500,2048,0.1,0.1",
        "e.png,No Finding,0,5,412,M,,2500,2048,0.1,0.1",
        "f.png,No Finding,0,6,009M,M,PA,2500,2048,0.1,0.1",
    ]
    header = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
    )
    (tmp_path / "Data_Entry_2017.csv").write_text("\n".join([header, *rows]) + "\n")
    return tmp_path


def test_films_are_grouped_by_what_the_table_says_of_them(table: Path) -> None:
    found = group_films(read_table(table).table)
    assert found["age"].tolist() == ["0-17", "18-39", "60-79", "80+", OTHER, "0-17"]
    assert found["sex"].tolist() == ["F", "M", "F", OTHER, "M", "M"]
    assert found["view"].tolist() == ["PA", "AP", OTHER, "PA", OTHER, "PA"]


def test_a_column_that_the_table_lacks_makes_no_group(table: Path) -> None:
    path = table / "Data_Entry_2017.csv"
    pd.read_csv(path, dtype=str, index_col=False).drop(columns="Patient Age").to_csv(path, index=False)
    found = group_films(read_table(table).table)
    assert set(found["age"]) == {OTHER}
    assert found["sex"].tolist()[:2] == ["F", "M"]


def test_other_data_sets_words_for_sex_and_view_are_understood() -> None:
    films = pd.DataFrame({"sex": ["Female", "Male", "Unknown"], "age": "", "view": ["AP_horizontal", "PA", ""]})
    found = group_films(films)
    assert found["sex"].tolist() == ["F", "M", OTHER]
    assert found["view"].tolist() == ["AP", "PA", OTHER]


N = 400


@pytest.fixture(scope="module")
def films() -> Scored:
    """Hernia is on no film, Mass on a man's only; the rest is on every third film or so."""
    rng = np.random.default_rng(4)
    targets = (rng.random((N, 14)) < 0.1).astype(np.int8)
    targets[:, HERNIA] = 0
    targets[::2, MASS] = 0
    noise = rng.random((N, 15))
    finding = (noise[:, 0] + 0.5 * targets.any(axis=1)) / 1.5
    return scored(targets, finding, ((noise[:, 1:] + targets) / 2).astype(np.float32))


def scored(targets: np.ndarray, finding: np.ndarray, diseases: np.ndarray) -> Scored:
    routed = finding >= GATE
    ways = {"ungated": diseases, "gated": gated(routed, diseases)}
    return Scored(targets, finding, routed, ways, ways["gated"] >= 0.5, targets.any(axis=1).astype(np.int8))


PATIENTS = np.arange(N).astype(str)
PATIENTS[100:200] = PATIENTS[:100]


@pytest.fixture(scope="module")
def traits() -> pd.DataFrame:
    """Women on the even films; six films of the eldest; an age unknown on ten; nobody under 18; every view is PA."""
    ages = np.array(["40-59"] * N, dtype=object)
    ages[:6], ages[6:16], ages[200:] = "80+", OTHER, "18-39"
    return pd.DataFrame({"sex": ["F", "M"] * (N // 2), "age": ages, "view": "PA"})


@pytest.fixture(scope="module")
def found(traits: pd.DataFrame, films: Scored) -> dict[tuple[str, str], Subgroup]:
    return {(part.by, part.group): part for part in subgroups(traits, PATIENTS, films)}


def test_each_groups_figures_are_those_of_its_films_alone(
    found: dict[tuple[str, str], Subgroup], traits: pd.DataFrame, films: Scored
) -> None:
    for by, group in (("sex", "F"), ("sex", "M"), ("age", "18-39"), ("age", "40-59"), ("view", "PA")):
        part, rows = found[by, group], (traits[by] == group).to_numpy()
        targets, finding = films.targets[rows], films.finding[rows]
        ill, called = targets.any(axis=1), finding >= GATE
        assert (part.films, part.patients) == (rows.sum(), len(set(PATIENTS[rows])))
        assert part.prevalence == pytest.approx(ill.mean())
        assert part.auc is not None
        assert part.auc.value == pytest.approx(roc_auc_score(ill, finding))
        assert part.auc.low < part.auc.value < part.auc.high
        assert part.sensitivity == pytest.approx((called & ill).sum() / ill.sum())
        assert part.specificity == pytest.approx((~called & ~ill).sum() / (~ill).sum())
        assert part.blank is None


def test_what_the_gate_misses_is_counted_with_an_interval_over_patients(
    found: dict[tuple[str, str], Subgroup], traits: pd.DataFrame, films: Scored
) -> None:
    for by, group in (("sex", "F"), ("age", "40-59"), ("view", "PA")):
        part, rows = found[by, group], (traits[by] == group).to_numpy()
        ill = films.targets[rows].any(axis=1)
        assert part.with_finding == ill.sum()
        assert part.missed is not None
        assert part.missed.value == pytest.approx((films.finding[rows][ill] < GATE).mean())
        assert 0 < part.missed.low < part.missed.value < part.missed.high < 1
        # Its width is that of a share of so many patients, within a half.
        share = part.missed.value
        expected = 3.92 * np.sqrt(share * (1 - share) / len(set(PATIENTS[rows][ill])))
        assert (part.missed.high - part.missed.low) / expected == pytest.approx(1, abs=0.5)
    assert found["age", "80+"].missed is None


def test_the_mean_is_of_what_is_served_over_the_findings_that_the_group_has(
    found: dict[tuple[str, str], Subgroup], traits: pd.DataFrame, films: Scored
) -> None:
    for group, lacking in (("F", {HERNIA, MASS}), ("M", {HERNIA})):
        rows = (traits["sex"] == group).to_numpy()
        served = np.where(films.finding[rows, None] >= GATE, films.ways["ungated"][rows], 0)
        areas = [roc_auc_score(films.targets[rows, k], served[:, k]) for k in range(14) if k not in lacking]
        part = found["sex", group]
        assert part.findings == len(areas)
        assert part.mean_auc is not None
        assert part.mean_auc.value == pytest.approx(np.mean(areas))


def test_a_group_that_is_too_small_is_named_and_left_blank_with_the_reason(
    found: dict[tuple[str, str], Subgroup],
) -> None:
    nobody, eldest, unknown, ap = (
        found[key] for key in (("age", "0-17"), ("age", "80+"), ("age", OTHER), ("view", "AP"))
    )
    assert (nobody.films, nobody.prevalence, nobody.blank) == (0, None, "no test film")
    assert ap.blank == "no test film"
    assert eldest.films == 6
    assert "fewer than 10 give no AUC" in str(eldest.blank)
    assert "does not say" in str(unknown.blank)
    for part in (nobody, eldest, unknown, ap):
        assert (part.auc, part.sensitivity, part.specificity, part.mean_auc, part.findings) == (
            None,
            None,
            None,
            None,
            0,
        )
    assert ("sex", OTHER) not in found


def test_it_is_patients_that_are_counted_not_films() -> None:
    """Forty films of eight ill patients are eight patients."""
    targets = np.zeros((80, 14), np.int8)
    targets[:40, EFFUSION] = 1
    patients = np.concatenate([np.arange(40) % 8, 100 + np.arange(40)]).astype(str)
    films = scored(targets, np.linspace(1, 0, 80), np.zeros((80, 14)))
    traits = pd.DataFrame({"sex": ["F"] * 80, "age": "40-59", "view": "PA"})
    part = subgroups(traits, patients, films)[0]
    assert part.auc is None
    assert part.blank == "8 patients have a film with a finding, 40 one without; fewer than 10 give no AUC"
