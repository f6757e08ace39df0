"""The way to TorchServe, against a server that speaks as it does: tokens, broken connections, answers of every kind."""

import asyncio
import gc
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Any

import pytest

from gateway import upstream as module
from gateway.upstream import NotServed, Unreachable, Upstream
from handlers.report import Refusal, Report
from tests.gateway.stand_in import report_of
from tests.gateway.torchserve_stub import REFUSED_TOKEN, Stub, started, through
from workflows.server import KEY_FILE


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    with started(tmp_path) as one:
        yield one


def test_a_film_whose_answer_is_lost_is_sent_again(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PASSED", 0.05)
    monkeypatch.setattr(module, "LOOK", 0.01)
    first, end = threading.Event(), threading.Event()

    def lose_the_first(film: bytes) -> tuple[int, str] | None:
        if film == b"lost" and not first.is_set():
            first.set()
            end.wait()
            return None
        return 200, report_of(0.75).model_dump_json()

    stub.answer = lose_the_first

    async def work(upstream: Upstream) -> Report | Refusal:
        lost = asyncio.create_task(upstream.read(b"lost", "a", "chest_xray", {}))
        await asyncio.to_thread(first.wait)
        while stub.films.count(b"lost") < 2:
            await upstream.read(b"later", "b", "chest_xray", {})
        counted.append(upstream._answers_lost._value.get())
        return await lost

    counted: list[float] = []
    assert through(stub, work) == report_of(0.75)
    assert stub.films.count(b"lost") == 2
    assert counted == [1.0]
    end.set()


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_a_later_film_that_is_not_answered_does_not_make_an_earlier_ones_answer_a_lost_one(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(module, "PASSED", 0.0)
    monkeypatch.setattr(module, "LOOK", 0.01)
    go = threading.Event()

    def answer(film: bytes) -> tuple[int, str]:
        if film == b"slow":
            go.wait()
            return 200, report_of(0.75).model_dump_json()
        return status, "no report"

    stub.answer = answer

    async def work(upstream: Upstream) -> Report | Refusal:
        slow = asyncio.create_task(upstream.read(b"slow", "a", "chest_xray", {}))
        while b"slow" not in stub.films:
            await asyncio.sleep(0)
        for _ in range(10):
            with pytest.raises(module.NotServed):
                await upstream.read(b"later", "b", "chest_xray", {})
        go.set()
        return await slow

    assert through(stub, work) == report_of(0.75)
    assert stub.films.count(b"slow") == 1


def test_a_slow_answer_that_no_later_film_has_passed_is_waited_for(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PASSED", 0.0)
    monkeypatch.setattr(module, "LOOK", 0.01)
    go = threading.Event()

    def hold(film: bytes) -> tuple[int, str]:
        go.wait()
        return 200, report_of(0.75).model_dump_json()

    async def work(upstream: Upstream) -> Report | Refusal:
        await upstream.read(b"earlier", "a", "chest_xray", {})
        stub.answer = hold
        slow = asyncio.create_task(upstream.read(b"slow", "b", "chest_xray", {}))
        done, _ = await asyncio.wait({slow}, timeout=0.3)
        assert not done
        go.set()
        return await slow

    assert through(stub, work) == report_of(0.75)
    assert stub.films.count(b"slow") == 1


def read(stub: Stub, film: bytes = b"film", options: dict[str, str] | None = None) -> Report | Refusal:
    return through(stub, lambda upstream: upstream.read(film, "request-1", "chest_xray", options or {}))


def test_the_report_comes_back_as_it_was_sent(stub: Stub) -> None:
    assert read(stub) == report_of(0.75)
    assert stub.films == [b"film"]


def test_a_refusal_of_the_cascade_is_an_answer(stub: Stub) -> None:
    refusal = Refusal.because(415, "NotARadiograph", "a colour photograph")
    stub.answer = lambda _: (200, refusal.model_dump_json())
    assert read(stub) == refusal


def test_nothing_goes_out_but_the_film_and_our_own_headers(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    read(stub)
    (headers,) = stub.headers
    assert {name.lower(): value for name, value in headers.items()} == {
        "host": f"127.0.0.1:{stub.server_address[1]}",
        "authorization": "Bearer token-0",
        "content-type": "application/octet-stream",
        "content-length": "4",
        "x-request-id": "request-1",
    }


def test_options_travel_as_form_fields_beside_the_film(stub: Stub) -> None:
    film = bytes(range(256)) + b"\r\n--film--\r\n"
    read(stub, film, {"heatmaps": "Effusion,Mass", "other": 'é"\r\n--'})
    (body,), (headers,) = stub.films, stub.headers
    message = BytesParser(policy=HTTP).parsebytes(
        b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body
    )
    fields = {
        part.get_param("name", header="Content-Disposition"): part.get_payload(decode=True)
        for part in message.iter_parts()
    }
    assert fields == {"heatmaps": b"Effusion,Mass", "other": 'é"\r\n--'.encode(), "data": film}


@pytest.mark.parametrize("options", [{}, {"heatmaps": "Mass"}])
def test_a_film_that_was_answered_is_not_kept_in_memory(stub: Stub, options: dict[str, str]) -> None:
    film = bytes(1_000_000)

    async def work(upstream: Upstream) -> int:
        before = sys.getrefcount(film)
        for _ in range(5):
            await upstream.read(film, "0", "chest_xray", options)
        return sys.getrefcount(film) - before

    gc.disable()
    try:
        assert through(stub, work) == 0
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((500, '{"code": 500, "type": "InternalServerException"}'), "answered HTTP 500"),
        ((503, "busy"), "answered HTTP 503"),
        ((404, "no such workflow"), "the workflow chest_xray is not registered"),
        ((200, "Healthy"), "answered 200, but with no report"),
        ((200, '{"finding": {"probability": 1.5}}'), "answered 200, but with no report"),
    ],
)
def test_anything_but_a_report_is_said_and_the_film_is_sent_once(stub: Stub, answer: Any, said: str) -> None:
    stub.answer = lambda _: answer
    with pytest.raises(NotServed, match=said):
        read(stub)
    assert stub.films == [b"film"]


def test_a_server_that_does_not_listen_is_told_from_one_that_fails(stub: Stub) -> None:
    stub.shutdown()
    stub.server_close()
    with pytest.raises(Unreachable, match=r"nothing listens at http://127.0.0.1"):
        read(stub)
    (stub.folder / KEY_FILE).unlink()
    with pytest.raises(Unreachable, match="is not there: the server is not up"):
        read(stub)


def test_an_expired_token_is_renewed_before_it_is_used(stub: Stub) -> None:
    stub.set_token("old", timedelta(seconds=1))
    assert read(stub) == report_of(0.75)
    assert stub.renewals == 1


def test_many_films_with_a_refused_token_make_one_renewal(stub: Stub) -> None:
    async def work(upstream: Upstream) -> list[Report | Refusal]:
        await upstream.read(b"first", "0", "chest_xray", {})
        stub.token = "another"  # TorchServe's, while the key file still holds the old one
        return await asyncio.gather(*[upstream.read(b"film", str(at), "chest_xray", {}) for at in range(50)])

    assert through(stub, work) == [report_of(0.75)] * 50
    assert stub.renewals == 1
    assert stub.films == [b"first"] + [b"film"] * 50


def test_a_token_that_another_client_renewed_is_read_from_the_file(stub: Stub) -> None:
    async def work(upstream: Upstream) -> Report | Refusal:
        await upstream.read(b"first", "0", "chest_xray", {})
        stub.set_token("renewed-elsewhere", timedelta(hours=1))
        return await upstream.read(b"second", "1", "chest_xray", {})

    assert through(stub, work) == report_of(0.75)
    assert stub.renewals == 0


def test_a_server_that_takes_no_token_ends_in_a_plain_error(stub: Stub) -> None:
    stub.answer = lambda _: (400, REFUSED_TOKEN)
    with pytest.raises(NotServed, match="refuses the inference token"):
        read(stub)


def test_large_films_take_turns_and_one_that_is_larger_than_all_goes_alone(stub: Stub, monkeypatch) -> None:
    monkeypatch.setattr(module, "BYTES_AT_ONCE", 2_000_000)
    sizes = [900_000, 3_000_000, 900_000, 1_000, 900_000, 900_000, 3_000_000, 1_000]

    async def work(upstream: Upstream) -> list[Report | Refusal]:
        return await asyncio.gather(*[upstream.read(bytes(size), "0", "chest_xray", {}) for size in sizes])

    assert through(stub, work) == [report_of(0.75)] * 8
    assert stub.most_bytes <= 3_000_000


def test_a_film_takes_the_room_of_its_heatmaps_too(stub: Stub, monkeypatch) -> None:
    monkeypatch.setattr(module, "BYTES_AT_ONCE", 2 * module.HEATMAP_BYTES)

    async def work(upstream: Upstream) -> list[Report | Refusal]:
        options = {"heatmaps": "Mass"}
        return await asyncio.gather(*[upstream.read(b"film", "0", "chest_xray", options) for _ in range(8)])

    assert through(stub, work) == [report_of(0.75)] * 8
    assert stub.most_bytes == len(stub.films[0])


def test_a_film_that_is_given_up_leaves_its_room_to_the_next(stub: Stub, monkeypatch) -> None:
    monkeypatch.setattr(module, "BYTES_AT_ONCE", 10)
    release = threading.Event()

    def slow(film: bytes) -> tuple[int, str]:
        if film == b"slow film ":
            release.wait()
        return 200, report_of(0.75).model_dump_json()

    stub.answer = slow

    async def work(upstream: Upstream) -> Report | Refusal:
        given_up = asyncio.create_task(upstream.read(b"slow film ", "0", "chest_xray", {}))
        waiting = asyncio.create_task(upstream.read(b"0123456789", "1", "chest_xray", {}))
        while not stub.films:
            await asyncio.sleep(0)
        given_up.cancel()
        return await waiting

    assert through(stub, work) == report_of(0.75)
    release.set()
