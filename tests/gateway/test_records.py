"""What the gateway notes is bounded in age and number, and what readers judged stays."""

import asyncio
import csv
import json
import sqlite3
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pydicom
import pytest
from PIL import Image
from prometheus_client import CollectorRegistry, Counter
from pydicom.data import get_testdata_file
from sqlalchemy.exc import IntegrityError

from gateway.export_feedback import export
from gateway.feedback import Feedback
from gateway.kept_films import KeptFilms
from gateway.problems import Problem
from gateway.record_database import Database, RecordsFault, _require_ours
from gateway.records import Given, Records
from handlers.decoding.image import read_film
from handlers.findings import LABELS
from handlers.report import FilmFacts
from tests.gateway.conftest import Gateway, StartGateway
from tests.gateway.stand_in import StandIn, report_of
from tests.postgresql import Postgresql, ask

HEALTHY = Feedback(findings={"Finding": False})
FIRST_VERSION = """
CREATE TABLE reports (
    id TEXT PRIMARY KEY, given TEXT NOT NULL, key TEXT NOT NULL, pair TEXT NOT NULL, models TEXT NOT NULL,
    routed INTEGER NOT NULL, scores TEXT NOT NULL, present TEXT NOT NULL);
CREATE TABLE feedback (
    report TEXT PRIMARY KEY REFERENCES reports (id), given TEXT NOT NULL, key TEXT NOT NULL,
    readable INTEGER NOT NULL, labels TEXT NOT NULL, remark TEXT NOT NULL);
CREATE TABLE histograms (
    day TEXT, pair TEXT, quantity TEXT, bin INTEGER, films INTEGER NOT NULL,
    PRIMARY KEY (day, pair, quantity, bin)) WITHOUT ROWID;
PRAGMA journal_mode=WAL;
PRAGMA application_id=0x43585231;
INSERT INTO reports SELECT name, '2026-01-01T00:00:00+00:00', 'ward', 'pair', 'binary=1 disease=1', 0, scores, '[]'
    FROM (SELECT 'judged' AS name UNION SELECT 'waits'),
    (SELECT json_group_object(value, 0.25) AS scores FROM json_each('NAMES'));
INSERT INTO feedback SELECT 'judged', '2026-01-02T00:00:00+00:00', 'ward', 1, json_group_object(value, NULL), 'seen'
    FROM json_each('NAMES');
INSERT INTO histograms VALUES ('2026-01-01', 'pair', 'Finding', 40, 5);
""".replace("NAMES", json.dumps(LABELS))
"""As the gateway made it before it knew SQLAlchemy."""


def with_records(place: str, work: Callable[[Records], Coroutine[Any, Any, Any]], number: int = 100) -> Any:
    async def run() -> Any:
        records = Records(place, 90, number, Counter("failed", "Failed", registry=CollectorRegistry()))
        try:
            return await work(records)
        finally:
            await records.aclose()

    return asyncio.run(run())


def ids_in(place: str) -> list[str]:
    return [id for (id,) in ask(place, "SELECT id FROM reports ORDER BY id")]


def test_reports_that_nobody_judged_go_by_age_and_number(records_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.records.PRUNED_AT_ONCE", 2)

    async def notes(records: Records) -> None:
        for at in range(8):
            assert await records.note(f"report-{at}", "ward", "pair", report_of(0.25), False)
        for at in (0, 3):
            await records.answer(f"report-{at}", "ward", HEALTHY)

    with_records(records_place, notes)
    ask(records_place, "UPDATE reports SET given = '2020-01-01T00:00:00+00:00' WHERE id IN ('report-0', 'report-7')")
    with_records(records_place, Records.prune, number=3)
    assert ids_in(records_place) == ["report-0", "report-3", "report-4", "report-5", "report-6"]
    with_records(records_place, Records.prune, number=1)
    assert ids_in(records_place) == ["report-0", "report-3", "report-6"]


def test_films_are_counted_by_day_and_pair_and_not_where_they_were_read_before(records_place: str) -> None:
    image = FilmFacts(width=1024, height=1024, brightness=0.5, modality="DX")

    async def work(records: Records) -> tuple[dict[str, list[int]], ...]:
        for at in range(3):
            report = report_of(0.75 if at else 0.25).model_copy(update={"image": image})
            await records.note(f"{at}", "ward", "one", report, False)
        await records.note("heatmaps", "ward", "one", report_of(0.75), True)
        await records.note("other", "ward", "two", report_of(0.25), False)
        return await records.films("one", 1), await records.films("two", 1), await records.films("three", 1)

    one, two, three = with_records(records_place, work)
    assert {name: sum(films) for name, films in one.items()}.items() >= {"Finding": 3, "Mass": 2, "size": 3}.items()
    assert one["modality"] == [0, 0, 3, 0]
    assert one["brightness"][25] == 3
    assert {name: sum(films) for name, films in two.items()} == {"Finding": 1}
    assert three == {}


def test_replicas_that_start_and_count_at_once_lose_no_film_to_one_another(records_place: str) -> None:
    image = FilmFacts(width=1024, height=1024, brightness=0.5, modality="DX")
    report = report_of(0.75).model_copy(update={"image": image})

    def replica(number: int) -> bool:
        async def work(records: Records) -> bool:
            return all([await records.note(f"{number}-{at}", "ward", "pair", report, False) for at in range(25)])

        return with_records(records_place, work)

    with ThreadPoolExecutor(3) as replicas:
        assert list(replicas.map(replica, range(3))) == [True] * 3
    films = with_records(records_place, lambda records: records.films("pair", 1))
    assert {sum(bins) for bins in films.values()} == {75}
    assert {max(bins) for bins in films.values()} == {75}


class BetweenStatements:
    """A connection during whose statements, or between them, something else happens."""

    def __init__(self, rows: sqlite3.Connection, happens: Callable[[], None]) -> None:
        self._rows, self._happens = rows, happens

    def execute(self, statement: str) -> SimpleNamespace:
        found = self._rows.execute(statement).fetchall()
        self._happens()
        return SimpleNamespace(fetchall=lambda: found)


def test_a_file_that_another_replica_makes_meanwhile_is_no_other_program_s(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    with closing(sqlite3.connect(path)) as rows:
        _require_ours(path, cast(Any, BetweenStatements(rows, Database(str(path)).look)))
    assert ask(str(path), "SELECT count(*) FROM histograms") == [(0,)]


def test_of_two_readers_at_two_replicas_at_once_one_is_the_first(records_place: str) -> None:
    async def work(records: Records) -> list[str]:
        other = Records(records_place, 90, 100, Counter("failed", "Failed", registry=CollectorRegistry()))
        for at in range(10):
            await records.note(f"{at}", "ward", "pair", report_of(0.75), False)
        said = [one.answer(f"{at}", "ward", HEALTHY) for at in range(10) for one in (records, other)]
        answers = await asyncio.gather(*said, return_exceptions=True)
        await other.aclose()
        return ["given" if isinstance(one, Given) else one.type for one in answers]

    assert sorted(with_records(records_place, work)) == ["FeedbackGiven"] * 10 + ["given"] * 10
    assert len(ask(records_place, "SELECT report FROM feedback")) == 10


def test_a_file_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    with sqlite3.connect(path) as rows:
        rows.executescript(FIRST_VERSION)

    async def work(records: Records) -> list[str]:
        assert await records.note("new", "ward", "pair", report_of(0.75), False)
        await records.answer("waits", "ward", HEALTHY)
        with pytest.raises(Problem, match="judged at 2026-01-02"):
            await records.answer("judged", "ward", HEALTHY)
        films = await records.films("pair", 36_500)
        return [name for name, bins in films.items() if sum(bins) == 6]

    assert with_records(str(path), work) == ["Finding"]
    assert export(str(path), tmp_path / "feedback.csv") == 2
    with (tmp_path / "feedback.csv").open(newline="") as file:
        assert [row["Image ID"] for row in csv.DictReader(file)] == ["judged", "waits"]
    for order in ("UPDATE feedback SET labels = '{}'", "DELETE FROM feedback", "DELETE FROM reports"):
        with pytest.raises(IntegrityError, match="never"):
            ask(str(path), order)


@pytest.mark.parametrize("place", ["mysql://host/records", "postgresql+psycopg2://me:secret@host", "http://x:y:z"])
def test_a_url_of_something_else_is_refused_without_its_password(place: str) -> None:
    with pytest.raises(
        RecordsFault, match=r"records are a file, or postgresql://USER:PASSWORD@HOST:5432/DATABASE"
    ) as one:
        with_records(place, Records.prune)
    assert place not in str(one.value)


def test_a_gateway_whom_the_database_lets_make_nothing_writes_to_what_another_made(postgresql: Postgresql) -> None:
    url = postgresql.new_database()
    with_records(url, Records.prune)
    name = f"gateway_{url.rpartition('_')[2]}"
    for order in (
        f"CREATE USER {name} PASSWORD 'a-password'",
        f"GRANT USAGE ON SCHEMA cxr_cascade TO {name}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA cxr_cascade TO {name}",
    ):
        ask(url, order)
    own = url.replace("postgres:a-password", f"{name}:a-password")

    async def work(records: Records) -> Given:
        assert await records.note("one", "ward", "pair", report_of(0.75), False)
        return await records.answer("one", "ward", HEALTHY)

    assert with_records(own, work).corrected == ["Finding"]


def test_another_program_s_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.sqlite"
    with sqlite3.connect(path) as rows:
        rows.execute("CREATE TABLE reports (mine)")
    before = path.read_bytes()
    with pytest.raises(RecordsFault, match=r"mine\.sqlite is no file of the gateway's records: move it away"):
        with_records(str(path), Records.prune)
    assert path.read_bytes() == before


def named_film(name: str) -> bytes:
    film = pydicom.dcmread(str(get_testdata_file("RG1_UNCR.dcm")))
    film.PatientName = name
    buffer = BytesIO()
    film.save_as(buffer)
    return buffer.getvalue()


def test_films_are_kept_only_where_that_is_turned_on_and_without_what_a_dicom_file_says(
    start_gateway: StartGateway, torchserve: StandIn, roomy: Gateway, tmp_path: Path
) -> None:
    films, records = tmp_path / "films", tmp_path / "gateway.sqlite"
    gateway = start_gateway(records=records, keep_films=True)
    assert gateway.state()["keeps_films"] is True
    film = named_film("Doe^Jane^Testperson")
    assert b"Testperson" in film
    id = gateway.read(film).json()["id"]
    gateway.read(film, params={"heatmaps": "Mass"})  # read before
    (kept,) = films.iterdir()
    assert kept.name == f"{id}.png"
    assert b"Testperson" not in kept.read_bytes()
    np.testing.assert_array_equal(np.asarray(Image.open(kept)), read_film(film))
    assert all(path.stat().st_mode & 0o077 == 0 for path in films.iterdir())
    roomy.read(film)
    assert not (Path(roomy.records).parent / "films").exists()


def test_kept_films_are_bounded_in_bytes_and_age(tmp_path: Path) -> None:
    picture = BytesIO()
    Image.linear_gradient("L").save(picture, "PNG")

    async def work() -> None:
        films = KeptFilms(tmp_path / "films", 30, 3 * size)
        for at in range(5):
            await films.keep(f"film-{at}", picture.getvalue())
        assert sorted(path.stem for path in (tmp_path / "films").iterdir()) == ["film-2", "film-3", "film-4"]
        late = KeptFilms(tmp_path / "films", 0, 3 * size)
        await late.prune()
        assert list((tmp_path / "films").iterdir()) == []

    async def one() -> int:
        await KeptFilms(tmp_path / "one", 30, 10**9).keep("one", picture.getvalue())
        return (tmp_path / "one" / "one.png").stat().st_size

    size = asyncio.run(one())
    asyncio.run(work())
