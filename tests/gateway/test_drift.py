"""Films that have changed are told from films that have not, and what moved is named."""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from gateway.drift import Change, compare, largest_distance, stability_index
from handlers.findings import FINDING, LABELS
from handlers.histograms import BRIGHTNESS, MODALITY, SIZE, histogram
from tests.gateway.conftest import Gateway, StartGateway
from tests.gateway.stand_in import StandIn
from workflows import jvm
from workflows.sums import sha256_of, write_sums

ROOT = Path(__file__).parents[2]
FILMS, DRAWS = 683, 20
TRAIN_LIST, TEST_LIST = (-0.55, 0.75), (0.08, 0.76)
"""Mean and standard deviation of stage 1's calibrated logits on NIH's validation films (of the train list; 30% AP) and
on its test list (60% AP): a probe on the small NIH films. ``python -m benchmarks.drift`` measures the films."""


def seen_films(logits: tuple[float, float], number: int, rng: np.random.Generator) -> dict[str, list[int]]:
    """Pictures of 1024 px. That of a rare finding is a tenth of stage 1's odds, on routed films."""
    values = rng.normal(*logits, number)
    routed = values[values > -1.39]
    return {
        FINDING: histogram(FINDING, (1 / (1 + np.exp(-values))).tolist()),
        "Mass": histogram("Mass", (1 / (1 + 10 * np.exp(-routed))).tolist()),
        BRIGHTNESS: histogram(BRIGHTNESS, np.clip(rng.normal(0.53, 0.1, number), 0, 1).tolist()),
        SIZE: histogram(SIZE, [1024.0] * number),
        MODALITY: [number, 0, 0, 0],
    }


def moved(changes: dict[str, Change]) -> list[str]:
    return [name for name, change in changes.items() if change.moved]


def test_nih_s_test_list_raises_it_and_two_halves_of_validation_do_not() -> None:
    rng = np.random.default_rng(16)
    for _ in range(DRAWS):
        first, second = (seen_films(TRAIN_LIST, FILMS, rng) for _ in range(2))
        assert moved(compare(first, second)) == []
        assert moved(compare(first, seen_films(TEST_LIST, FILMS, rng))) == [FINDING, "Mass"]


def test_what_moved_is_named_and_from_what_to_what() -> None:
    rng = np.random.default_rng(1)
    reference, films = (seen_films(TRAIN_LIST, 1000, rng) for _ in range(2))
    films[SIZE] = histogram(SIZE, [2500.0] * 1000)
    films[MODALITY] = [100, 0, 900, 0]
    changes = compare(reference, films)
    assert moved(changes) == [SIZE, MODALITY]
    size, modality = changes[SIZE], changes[MODALITY]
    assert size.reference_middle == pytest.approx(1024, rel=0.1)
    assert size.middle == pytest.approx(2500, rel=0.1)
    assert (size.ks, modality.ks) == (1.0, None)
    assert (modality.reference_middle, modality.middle) == ("none", "DX")


def test_smaller_films_are_seen_like_larger_ones() -> None:
    """All validation films have one size: a group of their own, with others below and above it."""
    for side in (256.0, 4000.0):
        changes = compare({SIZE: histogram(SIZE, [1024.0] * 500)}, {SIZE: histogram(SIZE, [side] * 500)})
        assert moved(changes) == [SIZE]


def test_few_films_are_not_compared() -> None:
    rng = np.random.default_rng(2)
    change = compare(seen_films(TRAIN_LIST, 500, rng), seen_films(TEST_LIST, 99, rng))[FINDING]
    assert (change.films, change.reference_films, change.psi, change.ks, change.moved) == (99, 500, None, None, False)
    assert compare(seen_films(TRAIN_LIST, 500, rng), {})[FINDING].middle is None


def test_the_two_measures_are_those_of_the_books() -> None:
    # Half a film is added to each group: (41, 61) and (61, 41) of 102.
    assert stability_index([40, 60], [60, 40]) == pytest.approx(2 * (20 / 101) * np.log(60.5 / 40.5))
    assert largest_distance([50, 50, 0], [0, 50, 50]) == 0.5


@pytest.fixture
def served(stand_in_server: tuple[StandIn, Path], tmp_path: Path) -> Path:
    """The stand-in's folder with a live pair whose archives know 1000 validation films."""
    _, stand_in = stand_in_server
    folder = tmp_path / "server"
    store = folder / "model_store"
    store.mkdir(parents=True)
    for name in ("config.properties", "key_file.json"):
        (folder / name).write_text((stand_in / name).read_text())
    jvm.note(folder, psutil.Process())
    rng = np.random.default_rng(3)
    references = {
        "binary": {FINDING: histogram(FINDING, rng.uniform(0.05, 0.95, 1000).tolist())},
        "disease": {name: histogram(name, [0.25] * 1000) for name in LABELS[1:]},
    }
    for stage, reference in references.items():
        with zipfile.ZipFile(store / f"{stage}.mar", "w") as archive:
            archive.writestr("metadata.json", json.dumps({"reference": reference}))
    write_sums(store, {f"{stage}.mar": sha256_of(store / f"{stage}.mar") for stage in references})
    return folder


def drift(gateway: Gateway, **query: object) -> dict[str, object]:
    headers = {"Authorization": f"Bearer {gateway.key}"}
    answer = gateway.call("GET", "/v1/drift", headers=headers, params=query)
    return {"status": answer.status_code, **answer.json()}


def test_the_gateway_counts_films_and_says_what_moved(
    start_gateway: StartGateway, torchserve: StandIn, served: Path
) -> None:
    gateway = start_gateway(server=served)
    for probability in np.linspace(0.05, 0.95, 120):
        gateway.read(f"film:{probability:.4f}".encode())
    alike = drift(gateway)
    assert (alike["status"], alike["moved"]) == (200, [])
    assert alike["quantities"][FINDING]["films"] == 120
    assert alike["quantities"]["Mass"]["films"] == sum(np.linspace(0.05, 0.95, 120).round(4) >= 0.5)
    for probability in np.linspace(0.85, 0.95, 80):
        gateway.read(f"film:{probability:.4f}".encode())
    # Heatmaps are asked for of films that were read before.
    gateway.read(b"film:0.9", params={"heatmaps": "Mass"})
    changed = drift(gateway, days=1)
    assert (changed["moved"], changed["days"]) == ([FINDING], 1)
    assert changed["quantities"][FINDING]["films"] == 200
    assert changed["quantities"][FINDING]["middle"] > changed["quantities"][FINDING]["reference_middle"]
    for days, said in ((0, "Malformed request"), (401, "Malformed request"), ("week", "Malformed request")):
        refused = drift(gateway, days=days)
        assert (refused["status"], refused["title"]) == (400, said)
    assert drift(gateway, day=1)["type"] == "urn:cxr:UnknownParameter"
    # A metric is compared once a minute: that of a gateway that has just started is of now.
    again = start_gateway(server=served, records=gateway.records)
    assert again.metric(f'cxr_gateway_drift{{quantity="{FINDING}",measure="moved"}}') == 1
    assert again.metric('cxr_gateway_drift{quantity="Mass",measure="moved"}') == 0
    assert again.metric(f'cxr_gateway_drift_films{{quantity="{FINDING}"}}') == 200


def test_archives_that_were_made_before_serve_as_ever(roomy: Gateway, torchserve: StandIn) -> None:
    assert roomy.read(b"film:0.75").status_code == 200
    without = drift(roomy)
    assert (without["status"], without["type"]) == (404, "urn:cxr:NoReference")
    assert "'make evaluate archive'" in str(without["detail"])
    assert roomy.metric("cxr_gateway_drift") == 0


def test_the_alert_rules_name_metrics_that_exist(roomy: Gateway) -> None:
    rules = [
        rule
        for group in yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    ]
    exposed = set(re.findall(r"^# TYPE (\w+)", roomy.get("/metrics").text, re.MULTILINE))
    for rule in rules:
        assert {"alert", "expr", "for", "labels", "annotations"} == rule.keys()
        assert set(re.findall(r"cxr_\w+", rule["expr"])) <= exposed
