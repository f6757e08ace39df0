"""Labels keep their names: NIH's order, no finding lost, none invented."""

import numpy as np
import pytest

from handlers.findings import FINDINGS, NO_FINDING
from training.data.labels import LabelError, any_finding, parse_finding_labels
from training.evaluation.metrics import Scored, disease_metrics


def test_the_first_finding_is_atelectasis_and_no_finding_has_no_column() -> None:
    assert FINDINGS[0] == "Atelectasis"
    assert FINDINGS[-1] == "Hernia"
    assert len(FINDINGS) == 14
    assert NO_FINDING not in FINDINGS


@pytest.mark.parametrize("name", FINDINGS)
def test_each_finding_fills_its_own_column(name: str) -> None:
    assert parse_finding_labels(name, "row 2").tolist() == [int(finding == name) for finding in FINDINGS]


def test_several_findings_and_none() -> None:
    both = parse_finding_labels("Cardiomegaly|Effusion", "row 2")
    assert [FINDINGS[column] for column in np.flatnonzero(both)] == ["Cardiomegaly", "Effusion"]
    assert parse_finding_labels("No Finding", "row 2").sum() == 0


@pytest.mark.parametrize("text", ["Cardiomegalie", "", "Effusion|", "No Finding|Mass", "atelectasis"])
def test_an_unknown_name_is_an_error_that_names_the_row(text: str) -> None:
    with pytest.raises(LabelError, match=r"row 7 \(00000001_000.png\)"):
        parse_finding_labels(text, "row 7 (00000001_000.png)")


def test_no_finding_is_not_a_finding() -> None:
    """The notebook's binary target counted the column No Finding, and was always 1."""
    diseases = np.stack([parse_finding_labels(text, "row") for text in ("No Finding", "Hernia", "Mass|Edema")])
    assert any_finding(diseases).tolist() == [[0], [1], [1]]


@pytest.mark.parametrize("known", FINDINGS)
def test_a_per_class_auc_carries_its_own_name(known: str) -> None:
    """A model that knows one finding and guesses the rest has an AUC of 1 at that name, and at no neighbour's."""
    chance = np.random.default_rng(0)
    targets = chance.integers(0, 2, (400, 14)).astype(np.int8)
    scores = chance.random((400, 14))
    scores[:, FINDINGS.index(known)] = targets[:, FINDINGS.index(known)]
    everyone = np.ones(400, bool)
    ways = dict.fromkeys(("ungated", "gated", "soft"), scores)
    films = Scored(targets, np.ones(400), everyone, ways, scores >= 0.5, any_finding(targets)[:, 0])
    areas = disease_metrics(films)["diseases"]
    assert list(areas) == list(FINDINGS)
    assert [name for name in FINDINGS if areas[name]["ungated"] == 1.0] == [known]
