"""``POST /v1/reports/{id}/feedback``: what a reader says is written down once, for good, and comes out as a table."""

import csv
import json
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import DBAPIError

from gateway.export_feedback import export
from gateway.feedback import Feedback
from gateway.keys import KEYS_FILE, make
from gateway.record_database import RecordsFault
from handlers.findings import FINDINGS, LABELS
from tests.gateway.conftest import Gateway, StartGateway
from tests.gateway.stand_in import PATIENCE, REPORT_ID, StandIn
from tests.postgresql import PASSWORD, Postgresql, ask
from tests.small_disk import SmallDisk

AGREED = {"findings": {"Finding": True, "Mass": False}}
HEALTHY = {"findings": {"Finding": False}}


def judge(gateway: Gateway, id: str, document: object, key: str | None = None, **request: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key or gateway.key}", "Content-Type": "application/json"}
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    headers |= request.pop("headers", {})
    return gateway.call("POST", f"/v1/reports/{id}/feedback", content=body, headers=headers, **request)


def read(gateway: Gateway, film: bytes = b"film:0.75") -> str:
    id: str = gateway.read(film).json()["id"]
    return id


def table(gateway: Gateway, folder: Path) -> list[dict[str, str]]:
    out = folder / "feedback.csv"
    out.unlink(missing_ok=True)
    export(gateway.records, out)
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_report_has_an_id_of_its_own(roomy: Gateway, torchserve: StandIn) -> None:
    ids = {gateway_id for _ in range(3) if (gateway_id := read(roomy))}
    ids.add(roomy.read(b"film:0.75", headers={"X-Request-ID": "mine"}).json()["id"])
    assert len(ids) == 4
    assert all(REPORT_ID.fullmatch(id) for id in ids)
    headers = {"Authorization": f"Bearer {roomy.key}"}
    form = [("data", ("one.png", b"film:0.75")), ("data", ("two.png", b"film:0.25"))]
    lines = roomy.call("POST", "/v1/studies", files=form, headers=headers).text.splitlines()
    ids |= {json.loads(line)["report"]["id"] for line in lines[:2]}
    assert len(ids) == 6


def test_what_a_reader_says_is_noted_and_where_it_differs_from_the_report(
    start_gateway: StartGateway, torchserve: StandIn, records_place: str, tmp_path: Path
) -> None:
    gateway = start_gateway(records=records_place)
    agreed, corrected, healthy, dark = (read(gateway, f"film:0.{at}".encode()) for at in (75, 7, 25, 9))
    answers = [
        judge(gateway, agreed, AGREED),
        judge(gateway, corrected, {"findings": dict.fromkeys(("Mass", "Hernia"), True), "remark": " two\n lines\0 "}),
        judge(gateway, healthy, HEALTHY),
        judge(gateway, dark, {"readable": False}),
    ]
    assert [answer.status_code for answer in answers] == [201] * 4
    assert [answer.json()["corrected"] for answer in answers] == [[], ["Mass", "Hernia"], [], []]
    rows = table(gateway, tmp_path)
    assert [row["Image Index"] for row in rows] == [agreed, corrected, healthy, dark]
    first, second, third, fourth = rows
    assert (first["Image ID"], first["Reader ID"], first["routed"], first["readable"]) == (
        agreed,
        "tests",
        "True",
        "YES",
    )
    assert (first["prob_Finding"], first["prob_Mass"]) == ("0.75", "0.25")
    assert (first["Abnormal"], first["Mass"], first["Hernia"]) == ("YES", "NO", "")
    assert (second["Abnormal"], second["Mass"], second["Effusion"]) == ("YES", "YES", "")
    assert (second["corrected"], second["remark"]) == ("Mass|Hernia", "two lines")
    assert (third["routed"], {third[name] for name in ("Abnormal", *FINDINGS)}) == ("False", {"NO"})
    assert (fourth["readable"], {fourth[name] for name in ("Abnormal", *FINDINGS)}) == ("NO", {""})
    counted = {kind: gateway.metric(f'cxr_gateway_feedback_total{{kind="{kind}"}}') for kind in ("agreed", "corrected")}
    assert counted == {"agreed": 2, "corrected": 1}


@pytest.mark.parametrize(
    ("document", "type", "said"),
    [
        (b"", "MalformedFeedback", "the document"),
        (b"{", "MalformedFeedback", "the document"),
        ([], "MalformedFeedback", "the document"),
        ({}, "MalformedFeedback", "one finding at least"),
        ({"remark": "nothing else"}, "MalformedFeedback", "one finding at least"),
        ({"findings": {"Mass": "yes"}}, "MalformedFeedback", "findings.Mass"),
        ({"findings": {"Mass": 1}}, "MalformedFeedback", "findings.Mass"),
        ({"findings": {"Mass": True}, "patient": "Doe"}, "MalformedFeedback", "patient"),
        ({"findings": {"Mass": True}, "remark": "a" * 501}, "MalformedFeedback", "remark"),
        ({"readable": False, "findings": {"Mass": True}}, "MalformedFeedback", "not readable"),
        ({"findings": {"Finding": False, "Mass": True}}, "MalformedFeedback", "any of the 14"),
        ({"findings": {"Finding": True, **dict.fromkeys(FINDINGS, False)}}, "MalformedFeedback", "any of the 14"),
        ({"findings": {"Fracture": True}}, "UnknownFinding", "'Fracture' is none of"),
    ],
)
def test_a_document_that_says_nothing_or_contradicts_itself_is_refused_by_name(
    roomy: Gateway, torchserve: StandIn, document: object, type: str, said: str
) -> None:
    id = read(roomy)
    answer = judge(roomy, id, document)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert answer.json()["type"] == f"urn:cxr:{type}"
    assert said in answer.json()["detail"]
    assert judge(roomy, id, HEALTHY).status_code == 201  # nothing of it was kept


def test_only_its_holder_judges_a_report_and_only_once(noting: Gateway, torchserve: StandIn) -> None:
    id, other = read(noting), make(noting.secrets / KEYS_FILE, "another-ward")
    for unknown in ("0" * 32, "nothing", "%2e%2e"):
        answer = judge(noting, unknown, AGREED)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:cxr:UnknownReport")
    answer = judge(noting, id, AGREED, key=other)
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:cxr:AnotherKeysReport")
    answer = judge(noting, id, AGREED, key="nobody's")
    assert (answer.status_code, answer.json()["type"]) == (401, "urn:cxr:Unauthorized")
    given = judge(noting, id, AGREED).json()["given"]
    for again in (AGREED, HEALTHY):
        answer = judge(noting, id, again)
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:cxr:FeedbackGiven")
        assert given[:19] in answer.json()["detail"]


def test_the_body_is_small_json(roomy: Gateway, torchserve: StandIn) -> None:
    id = read(roomy)
    answer = judge(roomy, id, AGREED, headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["type"]) == (415, "urn:cxr:UnsupportedMediaType")
    answer = judge(roomy, id, b" " * 20_000)
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:cxr:BodyTooLarge")


def test_a_gateway_that_holds_all_films_that_it_may_still_listens_to_readers(
    narrow: Gateway, torchserve: StandIn
) -> None:
    id = read(narrow)
    with ThreadPoolExecutor(4) as clients:
        films = [clients.submit(narrow.read, b"held:film:0.5") for _ in range(4)]
        narrow.until(lambda: narrow.state()["waiting"] == 2)
        assert narrow.read(b"film:0.5").status_code == 429
        assert judge(narrow, id, AGREED).status_code == 201
        torchserve.release()
        assert {film.result().status_code for film in films} == {200}


def test_nothing_that_was_answered_is_lost_by_kill_9(
    start_gateway: StartGateway, torchserve: StandIn, records_place: str, tmp_path: Path
) -> None:
    gateway = start_gateway(records=records_place)
    waiting = [read(gateway) for _ in range(5)]
    noted: list[str] = []

    def work(_: int) -> None:
        while True:
            try:
                id = read(gateway)
                if judge(gateway, id, AGREED).status_code == 201:
                    noted.append(id)
            except httpx.TransportError:
                return

    with ThreadPoolExecutor(4) as readers:
        done = [readers.submit(work, at) for at in range(4)]
        gateway.until(lambda: len(noted) >= 20)
        table(gateway, tmp_path)  # another process that opens the file, and closes it again
        gateway.until(lambda: len(noted) >= 60)
        gateway.process.send_signal(signal.SIGKILL)
        gateway.process.wait(PATIENCE)
        for one in done:
            one.result()
    rows = table(gateway, tmp_path)
    assert set(noted) <= {row["Image Index"] for row in rows}
    assert {tuple(row[name] for name in ("prob_Finding", "Abnormal", "Mass")) for row in rows} == {
        ("0.75", "YES", "NO")
    }
    # The key's name is what counts, and "tests" is that of both gateways' keys.
    after = start_gateway(records=gateway.records)
    assert [judge(after, id, AGREED).status_code for id in waiting] == [201] * 5
    assert judge(after, noted[-1], AGREED).status_code == 409
    assert len(table(after, tmp_path)) == len(rows) + 5


@pytest.mark.parametrize("order", ["UPDATE feedback SET labels = '{}'", "DELETE FROM feedback", "DELETE FROM reports"])
def test_what_was_said_cannot_be_changed_or_removed(noting: Gateway, torchserve: StandIn, order: str) -> None:
    judge(noting, read(noting), AGREED)
    with pytest.raises(DBAPIError, match=r"never|violates foreign key constraint"):
        ask(noting.records, order)


def test_a_database_that_is_away_costs_reports_their_id_and_feedback_its_answer_but_no_film(
    start_gateway: StartGateway, torchserve: StandIn, own_postgresql: Postgresql, tmp_path: Path
) -> None:
    gateway = start_gateway(records=own_postgresql.new_database())
    id = read(gateway)
    assert gateway.state()["records_written"] is True
    for _ in range(2):  # it comes back, and goes again
        own_postgresql.kill()
        failed = gateway.metric("cxr_gateway_records_failed_total")
        with ThreadPoolExecutor(8) as clients:
            reports = list(clients.map(gateway.read, [b"film:0.75"] * 40))
        assert {report.status_code for report in reports} == {200}
        assert not any("id" in report.json() for report in reports)
        answer = judge(gateway, id, AGREED)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:cxr:NotStored")
        assert answer.headers["retry-after"] == "30"
        assert gateway.metric("cxr_gateway_records_failed_total") >= failed + 41
        assert (gateway.state()["ready"], gateway.state()["records_written"]) == (True, False)
        with pytest.raises(RecordsFault, match=r"postgres:\*\*\*@127.* cannot be read \(Can't create a conn"):
            export(gateway.records, tmp_path / "feedback.csv")
        own_postgresql.start()
        gateway.until(lambda: bool(gateway.state()["records_written"]))
        id = read(gateway)
    assert judge(gateway, id, AGREED).status_code == 201
    events = [line.get("event") for line in gateway.log]
    assert (events.count("records_failed"), events.count("records_back")) == (2, 2)  # not a line for each film
    assert PASSWORD not in gateway.log_text
    gateway.stop()


def test_a_database_that_does_not_answer_is_not_waited_for_by_every_film(
    start_gateway: StartGateway, torchserve: StandIn, own_postgresql: Postgresql
) -> None:
    gateway = start_gateway(records=own_postgresql.new_database())
    read(gateway)
    own_postgresql.hang()
    with ThreadPoolExecutor(32) as clients:
        reports = list(clients.map(gateway.read, [b"film:0.75"] * 100))
    assert {report.status_code for report in reports} == {200}
    assert not any("id" in report.json() for report in reports)
    assert [line.get("event") for line in gateway.log].count("records_failed") == 1  # all waited for one
    own_postgresql.hang(False)
    gateway.until(lambda: bool(gateway.state()["records_written"]))
    read(gateway)
    gateway.stop()


def test_a_gateway_that_starts_without_its_database_reads_films_and_notes_them_once_it_is_there(
    start_gateway: StartGateway, torchserve: StandIn, own_postgresql: Postgresql
) -> None:
    url = own_postgresql.new_database()
    own_postgresql.kill()
    gateway = start_gateway(records=url)
    assert "id" not in gateway.read(b"film:0.75").json()
    own_postgresql.start()
    gateway.until(lambda: bool(gateway.state()["records_written"]))
    assert judge(gateway, read(gateway), AGREED).status_code == 201
    gateway.stop()


def test_a_full_disk_costs_reports_their_id_and_feedback_its_answer_but_no_film(
    start_gateway: StartGateway, torchserve: StandIn, small_disk: SmallDisk
) -> None:
    if not small_disk.mounted:
        pytest.skip("no disk of its own can be mounted here")
    gateway = start_gateway(records=small_disk.folder / "gateway.sqlite")
    id = read(gateway)
    small_disk.fill()
    reports = [gateway.read(b"film:0.75") for _ in range(400)]  # what SQLite has reserved goes first
    assert {report.status_code for report in reports} == {200}
    assert "id" not in reports[-1].json()
    answer = judge(gateway, id, AGREED)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:cxr:NotStored")
    assert answer.headers["retry-after"] == "30"
    assert gateway.metric("cxr_gateway_records_failed_total") > 0
    small_disk.clear()
    assert judge(gateway, id, AGREED).status_code == 201
    assert judge(gateway, read(gateway), AGREED).status_code == 201
    gateway.stop()


def test_nothing_of_a_patient_or_a_remark_reaches_log_metrics_or_tables(
    noting: Gateway, torchserve: StandIn, tmp_path: Path
) -> None:
    id = noting.read(b"film:0.75;Testperson^no4711", headers={"X-Request-ID": "req-4711"}).json()["id"]
    judge(noting, id, {"findings": {"Testperson": True}})
    judge(noting, id, {"Testperson": "no4711"})
    assert judge(noting, id, {**AGREED, "remark": "seen by Testperson"}).status_code == 201
    noting.line(status=201)
    assert "Testperson" not in noting.log_text + noting.get("/metrics").text
    assert id not in noting.log_text + noting.get("/metrics").text
    noted = [str(row) for name in ("reports", "histograms") for row in ask(noting.records, f"SELECT * FROM {name}")]
    assert not [row for row in noted if "4711" in row or "Testperson" in row]


def test_what_follows_from_what_is_said() -> None:
    assert Feedback(findings={"Mass": True}).labels == dict.fromkeys(LABELS) | {"Finding": True, "Mass": True}
    assert Feedback(findings=dict.fromkeys(FINDINGS, False)).labels == dict.fromkeys(LABELS, False)
    assert Feedback(findings={"Finding": True}).labels == dict.fromkeys(LABELS) | {"Finding": True}
    assert Feedback(readable=False).labels == dict.fromkeys(LABELS)


def test_a_table_or_records_that_are_there_already_are_left_alone(roomy: Gateway, tmp_path: Path) -> None:
    (tmp_path / "feedback.csv").write_text("mine")
    with pytest.raises(RecordsFault, match="is there already: move it away"):
        export(roomy.records, tmp_path / "feedback.csv")
    with pytest.raises(RecordsFault, match="is not there: run this in the gateway's folder"):
        export(str(tmp_path / "records.sqlite"), tmp_path / "other.csv")
    sqlite3.connect(tmp_path / "foreign.sqlite").execute("CREATE TABLE reports (mine)")
    for foreign in ("feedback.csv", "foreign.sqlite"):
        with pytest.raises(RecordsFault, match="is no file of the gateway's records"):
            export(str(tmp_path / foreign), tmp_path / "other.csv")
    assert (tmp_path / "feedback.csv").read_text() == "mine"
    assert not (tmp_path / "other.csv").exists()


def test_a_database_without_records_is_said_and_nothing_is_made_in_it(postgresql: Postgresql, tmp_path: Path) -> None:
    url = postgresql.new_database()
    with pytest.raises(RecordsFault, match=r"cannot be read \(PostgreSQL 42P01\)"):
        export(url, tmp_path / "feedback.csv")
    assert ask(url, "SELECT 1 FROM pg_namespace WHERE nspname = 'cxr_cascade'") == []
