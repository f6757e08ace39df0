"""Heatmaps through the gateway and a live TorchServe: what is served is what ``training.localise`` measures."""

from base64 import b64decode
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from handlers.decoding.image import read_film, to_pixels
from handlers.findings import FINDINGS
from handlers.networks.explain import relevance
from handlers.networks.vit import Vit
from tests.gateway.conftest import Gateway
from tests.gateway.stand_in import content
from workflows.register import predict
from workflows.server import Server


def ask(gateway: Gateway, film: bytes, heatmaps: str) -> httpx.Response:
    return gateway.read(film, params={"heatmaps": heatmaps})


@pytest.fixture(scope="module")
def routes(server: Server, films: list[bytes]) -> dict[bool, list[bytes]]:
    """Ten films by whether they are routed."""
    sorted_: dict[bool, list[bytes]] = {True: [], False: []}
    for film in films[:10]:
        sorted_[predict(server, film).routed].append(film)
    assert all(sorted_.values())
    return sorted_


def test_a_served_map_is_the_one_computed_offline(gateway: Gateway, run: Path, routes: dict[bool, list[bytes]]) -> None:
    vit = Vit(run / "disease" / "checkpoint", torch.device("cpu"))
    for film in routes[True]:
        served = ask(gateway, film, "Effusion,Mass").json()["heatmaps"]
        assert set(served) == {"Effusion", "Mass"}
        shown = read_film(film)
        for name, png in served.items():
            offline = relevance(vit, to_pixels(shown, vit.image_size)[None], FINDINGS.index(name))[0]
            expected = Image.fromarray(offline * 255.0).resize(shown.shape[::-1], Image.Resampling.BILINEAR)
            map_ = Image.open(BytesIO(b64decode(png, validate=True)), formats=("PNG",))
            assert (map_.mode, map_.size) == ("L", shown.shape[::-1])
            assert np.abs(np.asarray(map_, float) - np.asarray(expected)).max() <= 2.0


def test_the_report_beside_its_maps_is_the_plain_one(gateway: Gateway, routes: dict[bool, list[bytes]]) -> None:
    for film in (routes[True][0], routes[False][0]):
        plain, with_maps = content(gateway.read(film)), content(ask(gateway, film, "all-present"))
        assert "heatmaps" not in plain
        present = {name for name, score in plain["diseases"].items() if score["present"]}
        assert set(with_maps.pop("heatmaps")) == present
        assert with_maps == plain


def test_a_film_that_is_not_routed_has_no_maps(gateway: Gateway, routes: dict[bool, list[bytes]]) -> None:
    report = ask(gateway, routes[False][0], "Effusion").json()
    assert (report["routed"], report["heatmaps"]) == (False, {})


def test_an_unknown_finding_is_refused_by_name(gateway: Gateway, films: list[bytes]) -> None:
    answer = ask(gateway, films[0], "Effusion,Tumour")
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:cxr:UnknownFinding")
    assert "'Tumour'" in answer.json()["detail"]
    assert "Pleural_Thickening" in answer.json()["detail"]


def test_only_the_maps_that_were_asked_for_are_made(gateway: Gateway, routes, counters, wait_for) -> None:
    before = counters().get("cxr_heatmaps", 0)
    gateway.read(routes[True][0])
    ask(gateway, routes[False][0], "Mass")
    ask(gateway, routes[True][0], ",".join(FINDINGS))
    assert wait_for({"cxr_heatmaps": before + 14})["cxr_heatmaps"] == before + 14
