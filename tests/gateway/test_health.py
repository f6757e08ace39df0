"""Readiness, draining, and what operators look at: metrics, dashboard, documentation, log."""

import json
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.routes.openapi import REASONS
from handlers.report import ModelVersions
from pacs.film_queue import FilmQueue
from pacs.metrics import Metrics
from tests.gateway.conftest import Gateway, StartGateway
from tests.gateway.stand_in import PATIENCE, StandIn, content, report_of

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "gateway" / "dashboard.json").read_text())


def test_it_is_ready_only_after_a_film_has_gone_through(start_gateway: StartGateway, torchserve: StandIn) -> None:
    torchserve.up = False
    gateway = start_gateway(ready=False)
    assert gateway.get("/health/live").json() == {"live": True}
    answer = gateway.get("/health/ready")
    assert (answer.status_code, answer.json()["ready"], answer.json()["draining"]) == (503, False, False)
    assert answer.json()["precision"] is None
    assert gateway.metric("cxr_gateway_model") == 0
    film = gateway.read(b"film:0.5")
    assert (film.status_code, film.json()["type"]) == (503, "urn:cxr:NotReady")
    assert film.headers["retry-after"] == "5"
    torchserve.up = True
    gateway.until(lambda: gateway.get("/health/ready").status_code == 200)
    assert gateway.state() == {
        "ready": True,
        "torchserve": "ready",
        "workflow": "chest_xray",
        "precision": {"binary": "float32", "disease": "float32"},
        "in_flight": 0,
        "waiting": 0,
        "draining": False,
        "records_written": True,
        "keeps_films": False,
    }
    assert gateway.read(b"film:0.5").status_code == 200
    torchserve.models = ModelVersions(binary="2.0.0+bfloat16", disease="2.0.0+synthetic.bfloat16")  # as after a roll
    assert gateway.read(b"film:0.5").status_code == 200
    assert gateway.state()["precision"] == {"binary": "bfloat16", "disease": "bfloat16"}
    series = 'cxr_gateway_model{precision="bfloat16",stage="disease",version="2.0.0+synthetic.bfloat16"}'
    assert (gateway.metric(series), gateway.metric("cxr_gateway_model")) == (1, 2)
    assert [line["precision"] for line in gateway.log if line.get("event") == "models"] == [
        {"binary": precision, "disease": precision} for precision in ("float32", "bfloat16")
    ]
    assert gateway.stop() == 0


def test_sigterm_admits_no_more_films_finishes_those_admitted_and_exits_0(
    start_gateway: StartGateway, torchserve: StandIn
) -> None:
    gateway = start_gateway(max_in_flight=2, max_waiting=3, max_wait=PATIENCE, upload_limit=PATIENCE, deadline=PATIENCE)
    with ThreadPoolExecutor(4) as clients, gateway.open(b"film", "Content-Length: 9") as uploading:
        films = [clients.submit(gateway.read, f"held:film:0.{at}".encode()) for at in (1, 2)]
        torchserve.wait_until_holding(2)
        films += [clients.submit(gateway.read, f"held:film:0.{at}".encode()) for at in (6, 7)]
        gateway.until(lambda: gateway.state()["waiting"] == 2)
        gateway.process.send_signal(signal.SIGTERM)
        gateway.until(lambda: gateway.state()["draining"] is True)
        state = gateway.get("/health/ready")
        assert (state.status_code, state.json()["in_flight"], state.json()["waiting"]) == (503, 2, 2)
        new = gateway.read(b"film:0.5")
        assert (new.status_code, new.json()["type"]) == (503, "urn:cxr:NotReady")
        uploading.sendall(b":0.75")
        gateway.until(lambda: gateway.state()["waiting"] == 3)
        torchserve.release()
        assert [content(film.result()) for film in films] == [
            report_of(one).model_dump() for one in (0.1, 0.2, 0.6, 0.7)
        ]
        assert uploading.recv(65536).startswith(b"HTTP/1.1 200")
        assert gateway.process.wait(PATIENCE) == 0
    assert sorted(torchserve.films) == [b"film:0.75", *(f"held:film:0.{at}".encode() for at in (1, 2, 6, 7))]
    assert all(set(line) >= {"time", "level", "message"} for line in gateway.log)


def test_an_idle_gateway_stops_at_once_and_a_second_signal_does_not_wait_for_films(
    start_gateway: StartGateway, torchserve: StandIn
) -> None:
    idle = start_gateway()
    assert idle.stop() == 0
    busy = start_gateway(deadline=10 * PATIENCE)
    with busy.open(b"held:film:0.5"):
        torchserve.wait_until_holding(1)
        busy.process.send_signal(signal.SIGTERM)
        busy.until(lambda: busy.state()["draining"] is True)
        busy.process.send_signal(signal.SIGTERM)
        assert busy.process.wait(PATIENCE) == 0


def test_the_dashboard_shows_only_metrics_that_exist(roomy: Gateway, tmp_path: Path) -> None:
    shown = {
        name
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", [])
        for name in re.findall(r"\b(?:cxr|process)_\w+", target["expr"])
    }
    node = Metrics(FilmQueue(tmp_path)).exposition().decode()
    exposed = re.findall(r"^# TYPE (\w+)", roomy.get("/metrics").text + node, re.MULTILINE)
    counted = [
        name
        for file in (ROOT / "handlers").glob("*_handler.py")
        for name in re.findall(r'count\("(\w+)"', file.read_text())
    ]
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in shown} <= {*exposed, *counted}
    ours = {name for name in exposed if name.startswith(("cxr_gateway", "cxr_pacs"))} | {
        "cxr_binary_batches",
        "cxr_disease_films",
    }
    assert ours <= {re.sub("_(bucket|sum|count)$", "", name) for name in shown}


def test_the_dashboard_s_routed_share_is_not_bent_by_heatmaps_of_films_that_were_read_before() -> None:
    (share,) = [panel for panel in DASHBOARD["panels"] if panel["title"] == "Routed share"]
    (target,) = share["targets"]
    assert target["expr"].count("cxr_gateway_films_total{") == target["expr"].count('heatmaps="false"') == 2


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    assert DASHBOARD["schemaVersion"] >= 39
    assert DASHBOARD["id"] is None
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["type"] in ("timeseries", "stat", "row")
        assert set(panel["gridPos"]) == {"x", "y", "w", "h"}
        assert all(target["datasource"]["uid"] == "${source}" for target in panel.get("targets", []))
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["source"]


def test_the_documentation_needs_no_outside_network(roomy: Gateway) -> None:
    page = roomy.get("/docs").text
    linked = re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    assert len(linked) == 3
    for address in linked:
        assert address.startswith("/")
        assert roomy.get(address).status_code == 200


def test_the_documentation_describes_every_status_and_field(roomy: Gateway) -> None:
    document = roomy.get("/openapi.json").json()
    operation = document["paths"]["/v1/reports"]["post"]
    assert set(operation["responses"]) == {"200", "204", *(str(status) for status in REASONS)}
    report = operation["responses"]["200"]
    assert report["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Report"}
    for name in ("Report", "Score", "ModelVersions"):
        assert all("description" in field for field in document["components"]["schemas"][name]["properties"].values())
    options = [one for one in operation["parameters"] if one["in"] == "query"]
    assert [(one["name"], one["required"]) for one in options] == [("heatmaps", False), ("format", False)]
    assert "all-present" in options[0]["description"]
    assert set(operation["responses"]["429"]["headers"]) == {"X-Request-ID", "Retry-After"}
    for status in REASONS:
        problem = operation["responses"][str(status)]["content"]["application/problem+json"]["schema"]
        assert all("description" in field for field in problem["properties"].values())
    assert set(operation["requestBody"]["content"]) >= {"application/octet-stream", "multipart/form-data"}
    assert operation["security"] == [{"HTTPBearer": []}]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json"])
def test_none_but_films_wants_a_key(roomy: Gateway, path: str) -> None:
    assert roomy.get(path).status_code == 200


def test_health_and_metrics_are_logged_only_where_they_fail(roomy: Gateway) -> None:
    answers = [roomy.get(path) for path in ("/health/live", "/health/ready", "/metrics", "/nowhere")]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert roomy.line(request_id=ids[-1])["status"] == 404
    assert not any(line.get("request_id") in ids[:-1] for line in roomy.log)
