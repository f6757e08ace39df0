"""What the gateway notes is bounded in age and number, and what readers judged stays."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from prometheus_client import CollectorRegistry, Counter
from pydicom.data import get_testdata_file

from gateway.feedback import Feedback
from gateway.kept_films import KeptFilms
from gateway.records import Records, RecordsFault
from handlers.decoding.image import read_film
from handlers.report import FilmFacts
from tests.gateway.conftest import Gateway, StartGateway
from tests.gateway.stand_in import StandIn, report_of

HEALTHY = Feedback(findings={"Finding": False})


def with_records(path: Path, work: Callable[[Records], Coroutine[Any, Any, Any]], number: int = 100) -> Any:
    async def run() -> Any:
        records = Records(path, 90, number, Counter("failed", "Failed", registry=CollectorRegistry()))
        try:
            return await work(records)
        finally:
            await records.aclose()

    return asyncio.run(run())


def ids_in(path: Path) -> list[str]:
    with sqlite3.connect(path) as rows:
        return [id for (id,) in rows.execute("SELECT id FROM reports ORDER BY rowid")]


def test_reports_that_nobody_judged_go_by_age_and_number(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"

    async def notes(records: Records) -> None:
        for at in range(8):
            assert await records.note(f"report-{at}", "ward", "pair", report_of(0.25), False)
        for at in (0, 3):
            await records.answer(f"report-{at}", "ward", HEALTHY)

    with_records(path, notes)
    with sqlite3.connect(path) as rows:
        rows.execute("UPDATE reports SET given = '2020-01-01T00:00:00+00:00' WHERE id IN ('report-0', 'report-7')")
    with_records(path, Records.prune, number=3)
    assert ids_in(path) == ["report-0", "report-3", "report-4", "report-5", "report-6"]
    with_records(path, Records.prune, number=1)
    assert ids_in(path) == ["report-0", "report-3", "report-6"]


def test_films_are_counted_by_day_and_pair_and_not_where_they_were_read_before(tmp_path: Path) -> None:
    image = FilmFacts(width=1024, height=1024, brightness=0.5, modality="DX")

    async def work(records: Records) -> tuple[dict[str, list[int]], ...]:
        for at in range(3):
            report = report_of(0.75 if at else 0.25).model_copy(update={"image": image})
            await records.note(f"{at}", "ward", "one", report, False)
        await records.note("heatmaps", "ward", "one", report_of(0.75), True)
        await records.note("other", "ward", "two", report_of(0.25), False)
        return await records.films("one", 1), await records.films("two", 1), await records.films("three", 1)

    one, two, three = with_records(tmp_path / "records.sqlite", work)
    assert {name: sum(films) for name, films in one.items()}.items() >= {"Finding": 3, "Mass": 2, "size": 3}.items()
    assert one["modality"] == [0, 0, 3, 0]
    assert one["brightness"][25] == 3
    assert {name: sum(films) for name, films in two.items()} == {"Finding": 1}
    assert three == {}


def test_another_program_s_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.sqlite"
    with sqlite3.connect(path) as rows:
        rows.execute("CREATE TABLE reports (mine)")
    before = path.read_bytes()
    with pytest.raises(RecordsFault, match=r"mine\.sqlite is no file of the gateway's records: move it away"):
        with_records(path, Records.prune)
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
    assert not (roomy.records.parent / "films").exists()


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
