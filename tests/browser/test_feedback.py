"""A reader judges what was read; the models are refitted to that, rolled in, and answer by it."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.export_feedback import export
from handlers.report import Report
from tests.browser.conftest import Known, Visit, Visitor
from tests.gateway.conftest import Gateway
from training.recalibrate import recalibrate_by_feedback
from workflows import roll as rolling
from workflows.active import WORKFLOW, Active
from workflows.register import register
from workflows.server import Server

FILMS, CORRECTED = 30, 5


@pytest.fixture
def rolled_back(server: Server) -> Iterator[None]:
    """The session's server serves its first pair afterwards, whatever happens."""
    yield
    active = Active.of(server)
    if (name := active.name()) != WORKFLOW:
        active.set(WORKFLOW)
        rolling.retire(server, name)
    (server.store / "active").unlink(missing_ok=True)
    register(server)


def judged(visitor: Visitor) -> str:
    visitor.page.locator("#report .judged").wait_for()
    return visitor.text("#report .judged")


def correct(visitor: Visitor, remark: str) -> str:
    """What the page says once the reader has said the opposite of the report."""
    page = visitor.page
    found = page.locator("#report .verdict.present").count()
    page.locator("#correct").click()
    if found:
        page.locator("#correction [name=Finding]").uncheck()
        assert page.locator("#correction .seen :checked").count() == 0
    else:
        page.locator("#correction [name=Effusion]").check()
        assert page.locator("#correction [name=Finding]").is_checked()
    page.locator("#correction [name=remark]").fill(remark)
    page.locator("#correction .main").click()
    return judged(visitor)


def rows_of(gateway: Gateway, path: Path) -> list[dict[str, str]]:
    path.unlink(missing_ok=True)
    export(gateway.records, path)
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_thirty_films_are_read_five_corrected_and_the_thresholds_move(
    visit: Visit, gateway: Gateway, server: Server, film_paths: list[Path], tmp_path: Path, rolled_back: None
) -> None:
    before = len(rows_of(gateway, tmp_path / "before.csv"))
    old = Report.model_validate_json(gateway.read(film_paths[0].read_bytes()).content)
    visitor = visit().open().choose(*film_paths[:FILMS]).wait_for_all()
    visitor.page.locator("#films button").first.click()
    names, said = [], []
    for at in range(FILMS):
        visitor.wait_for_report()
        names.append(visitor.text("#report .film-name"))
        if at % (FILMS // CORRECTED) == 0:
            said.append(correct(visitor, "seen twice"))
        else:
            visitor.page.keyboard.press("y")
            assert judged(visitor) == "Noted: you agree."
        if at == 0:
            visitor.shot("corrected-dark")
        if at < FILMS - 1:
            visitor.page.locator("#viewer").focus()
            visitor.page.keyboard.press("n")
            visitor.page.locator("#agree").wait_for()
    assert len(set(names)) == FILMS
    assert all(text.startswith("Noted: you corrected any finding") for text in said)

    table = tmp_path / "feedback.csv"
    rows = rows_of(gateway, table)[before:]
    assert len(rows) == FILMS
    assert sum(bool(row["corrected"]) for row in rows) == CORRECTED
    assert [row["remark"] for row in rows if row["corrected"]] == ["seen twice"] * CORRECTED
    assert {row["Reader ID"] for row in rows} == {"tests"}

    site = tmp_path / "model_store_site"
    recalibrate_by_feedback(server.store.parent, table, site)
    rolling.roll(server, site)
    new = Report.model_validate_json(gateway.read(film_paths[0].read_bytes()).content)
    assert (old.models.binary, new.models.binary) == ("1.0.0+synthetic", "1.0.0+synthetic.site.1")
    assert new.finding.threshold != old.finding.threshold
    assert new.finding.probability != old.finding.probability


def test_a_film_that_is_not_readable_is_said_to_be_so(
    visit: Visit, gateway: Gateway, film_paths: list[Path], tmp_path: Path
) -> None:
    visitor = visit().open().choose(film_paths[0]).wait_for_report()
    page = visitor.page
    page.locator("#correct").click()
    page.locator("#correction [name=unreadable]").check()
    assert page.locator("#correction [name=Effusion]").is_disabled()
    page.locator("#correction .main").click()
    assert judged(visitor) == "Noted: not readable."
    assert visitor.focused == "Noted: not readable."
    [row] = [row for row in rows_of(gateway, tmp_path / "feedback.csv") if row["readable"] == "NO"]
    assert (row["Abnormal"], row["corrected"]) == ("", "")


def test_what_the_service_refuses_stands_on_the_page(visit: Visit, known: Known, gateway: Gateway) -> None:
    visitor = visit().open().drop(known.skipped).wait_for_report()
    with visitor.page.expect_download() as waiting:
        visitor.page.locator("[data-download=json]").click()
    id = json.loads(Path(waiting.value.path()).read_text())["id"]
    headers = {"Authorization": f"Bearer {gateway.key}"}
    first = gateway.call("POST", f"/v1/reports/{id}/feedback", json={"findings": {"Finding": False}}, headers=headers)
    assert first.status_code == 201
    visitor.page.locator("#agree").click()
    visitor.page.locator("#report .fault", has_text="This report was judged at").wait_for()
    assert visitor.page.locator("#agree").is_enabled()


def test_the_page_says_that_no_film_is_kept(visit: Visit) -> None:
    visit().open().page.locator("#private", has_text="Nothing leaves this machine, and no film is kept.").wait_for()
