"""What a report says of how sure it is."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from handlers.cascade import Cascade
from handlers.certainty import Bounds, Certainty, Standing, percentile
from handlers.findings import FINDINGS
from handlers.message import Screened, pack, unpack
from handlers.reading import Naming, Screening
from handlers.report import Report, Score, parse_answer

CPU = torch.device("cpu")


def test_a_probability_between_the_bounds_is_uncertain() -> None:
    bounds = Bounds(low=0.25, high=0.75)
    calls = [bounds.call(one) for one in (0.0, 0.2499, 0.25, 0.5, 0.75, 0.7501, 1.0)]
    assert calls == ["absent", "absent", "uncertain", "uncertain", "uncertain", "present", "present"]


def test_bounds_that_cross_leave_what_neither_kind_shows_uncertain() -> None:
    bounds = Bounds(low=0.75, high=0.25)
    assert [bounds.call(one) for one in (0.25, 0.5, 0.75)] == ["absent", "uncertain", "present"]


def test_open_bounds_are_never_certain() -> None:
    assert {Bounds().call(one) for one in (0.0, 0.5, 1.0)} == {"uncertain"}


def test_a_percentile_is_the_place_among_the_films() -> None:
    films = np.random.default_rng(0).random(5000)
    table = np.percentile(films, np.arange(101)).tolist()
    for value in np.random.default_rng(1).random(200):
        assert percentile(table, float(value)) == pytest.approx(100 * (films < value).mean(), abs=0.6)
    assert (percentile(table, -1.0), percentile(table, 2.0)) == (0.0, 100.0)
    assert percentile([0.5] * 101, 0.5) == 50.0
    assert percentile([], 0.5) is None


CERTAINTY = Certainty(
    error=0.1,
    bounds={
        "Finding": Bounds(low=0.2, high=0.6),
        "Mass": Bounds(low=0.0, high=0.4),
        "Edema": Bounds(low=0.1, high=0.4),
    },
    standing={
        "Finding": Standing(with_finding=np.linspace(0, 1, 101).tolist()),
        "Mass": Standing(without_finding=np.linspace(0, 0.5, 101).tolist()),
    },
)
CASCADE = Cascade(thresholds={"Finding": 0.5, **dict.fromkeys(FINDINGS, 0.5)}, certainty=CERTAINTY)


def test_every_score_has_a_call_and_a_place_where_films_tell_it() -> None:
    finding = CASCADE.finding_score(0.0)
    assert (finding.probability, finding.call) == (0.5, "uncertain")
    assert finding.percentiles
    assert (finding.percentiles.with_finding, finding.percentiles.without_finding) == (50.0, None)
    logits = np.full(14, -1.0986123, np.float32)  # of 0.25
    scores = CASCADE.disease_scores(0.0, logits)
    assert {name for name, score in scores.items() if score.percentiles} == {"Mass"}
    assert scores["Mass"].percentiles
    assert scores["Mass"].percentiles.without_finding == pytest.approx(50.0, abs=0.1)
    assert {score.call for score in scores.values()} == {"uncertain"}
    assert CASCADE.disease_scores(0.0, -logits)["Mass"].call == "present"


def test_a_film_that_stage_2_did_not_see_has_calls_but_no_place() -> None:
    """Absent by the gate alone only where the gate's own misses are within the error."""
    scores = CASCADE.disease_scores(-3.0, None)
    assert (scores["Edema"].call, scores["Mass"].call, scores["Hernia"].call) == ("absent", "uncertain", "uncertain")
    assert {score.percentiles for score in scores.values()} == {None}


def test_the_message_carries_stage_1_s_call() -> None:
    screened = Screened(CASCADE.finding_score(2.0), 2.0, "1.0.0", np.zeros((32, 32), np.uint8))
    assert unpack(pack(screened)).finding == screened.finding
    assert screened.finding.call == "present"


def test_an_archive_without_calls_is_served_as_before_and_says_nothing_of_them(
    unpacked: dict[str, Path], film_paths: list[Path], tmp_path: Path
) -> None:
    steps = {"binary": Screening, "disease": Naming}
    reports = {}
    for made in ("with", "without"):
        folders = {stage: Path(shutil.copytree(unpacked[stage], tmp_path / made / stage)) for stage in steps}
        for folder in folders.values():
            metadata = json.loads((folder / "metadata.json").read_text())
            if made == "without":
                del metadata["certainty"]
            (folder / "metadata.json").write_text(json.dumps(metadata))
        screening, naming = (step(folders[stage], CPU) for stage, step in steps.items())
        reports[made] = naming.name(screening.screen([film.read_bytes() for film in film_paths[:8]]))
    for new, old in zip(reports["with"], reports["without"], strict=True):
        assert isinstance(new, Report)
        assert isinstance(old, Report)
        said = json.loads(old.model_dump_json())
        assert {key for score in (said["finding"], *said["diseases"].values()) for key in score} == {
            "probability",
            "threshold",
            "present",
        }
        assert parse_answer(old.model_dump_json()) == old
        assert new.finding.call == "uncertain"  # this run's validation has too few patients
        assert Score.at(new.finding.probability, new.finding.threshold) == old.finding
