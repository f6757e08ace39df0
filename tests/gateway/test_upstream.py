"""The way to TorchServe, against a server that speaks as it does: tokens, broken connections, answers of every kind."""

import asyncio
import gc
import json
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway import upstream as module
from gateway.keeper import Keeper, State
from gateway.upstream import NotServed, Unreachable, Upstream
from handlers.report import Refusal, Report
from tests.gateway.conftest import report_of
from workflows.active import Active
from workflows.server import KEY_FILE, Server

REFUSED_TOKEN = json.dumps({"code": 400, "type": "InvalidKeyException", "message": "Token Authorization failed."})


class Stub(ThreadingHTTPServer):
    """Speaks as TorchServe does.

    Attributes:
        films: bodies that it took, in order.
        headers: of each.
        renewals: how often a new token was asked for.
        answer: what it does with a film: a status and a body, or None to hang up.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.films, self.headers, self.renewals = folder, [], [], 0
        self.held = threading.Semaphore(1000)
        self.answer: Callable[[bytes], tuple[int, str] | None] = lambda _: (200, report_of(0.75).model_dump_json())
        self.lock = threading.Lock()
        self.inside = self.most_bytes = 0
        self.set_token("token-0", timedelta(hours=1))

    def handle_error(self, *_: object) -> None:
        """A client that hung up before its answer."""

    def set_token(self, token: str, valid: timedelta) -> None:
        self.token = token
        expires = (datetime.now(UTC) + valid).isoformat().replace("+00:00", "123Z")
        keys = {"inference": {"key": token, "expiration time": expires}, "API": {"key": "api"}}
        (self.folder / KEY_FILE).write_text(json.dumps(keys))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        assert self.path == "/token?type=inference"
        assert self.headers["Authorization"] == "Bearer api"
        with self.server.lock:
            self.server.renewals += 1
            self.server.set_token(f"token-{self.server.renewals}", timedelta(hours=1))
        self._say(200, "")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != f"Bearer {self.server.token}":
            return self._say(400, REFUSED_TOKEN)
        with self.server.lock:
            self.server.films.append(body)
            self.server.headers.append(dict(self.headers))
            self.server.inside += len(body)
            self.server.most_bytes = max(self.server.most_bytes, self.server.inside)
        answer = self.server.answer(body)
        with self.server.lock:
            self.server.inside -= len(body)
        if answer is None:
            self.close_connection = True
            return None
        return self._say(*answer)

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    one = Stub(tmp_path)
    threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
    yield one
    one.shutdown()
    one.server_close()


def server_of(stub: Stub) -> Server:
    address = f"http://127.0.0.1:{stub.server_address[1]}"
    return Server(stub.folder, address, address, address, stub.folder)


def through(stub: Stub, work: Callable[[Upstream], Coroutine[Any, Any, Any]]) -> Any:
    async def run() -> Any:
        upstream = Upstream(server_of(stub), places=64)
        try:
            return await work(upstream)
        finally:
            await upstream.aclose()

    return asyncio.run(run())


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
        return await lost

    assert through(stub, work) == report_of(0.75)
    assert stub.films.count(b"lost") == 2
    end.set()


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
        (None, "the connection to TorchServe broke"),
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


def watched(stub: Stub, work: Callable[[Keeper], Coroutine[Any, Any, None]]) -> None:
    async def run(upstream: Upstream) -> None:
        keeper = Keeper(server_of(stub), upstream, Active(stub.folder / "active"), patience=3600)
        watching = asyncio.create_task(keeper.run())
        await work(keeper)
        watching.cancel()

    through(stub, run)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


def test_ready_only_after_a_film_has_gone_through(stub: Stub) -> None:
    release = threading.Event()

    def slow(_: bytes) -> tuple[int, str]:
        release.wait()
        return 200, report_of(0.1).model_dump_json()

    stub.answer = slow

    async def work(keeper: Keeper) -> None:
        await until(lambda: len(stub.films) == 1)
        assert (keeper.ready, keeper.state) == (False, State.STARTING)
        release.set()
        await until(lambda: keeper.ready)

    watched(stub, work)


def test_a_film_that_fails_is_doubted_by_a_probe_and_not_believed_alone(stub: Stub) -> None:
    async def work(keeper: Keeper) -> None:
        await until(lambda: keeper.ready)
        probes = len(stub.films)
        keeper.failed()
        await until(lambda: len(stub.films) == probes + 1)
        assert keeper.ready

    watched(stub, work)


def test_not_ready_while_probes_fail_and_ready_again_after(stub: Stub) -> None:
    async def work(keeper: Keeper) -> None:
        await until(lambda: keeper.ready)
        good, stub.answer = stub.answer, lambda _: (500, "a worker died")
        keeper.failed()
        await until(lambda: keeper.state is State.FAILING)
        stub.answer = good
        await until(lambda: keeper.ready)

    watched(stub, work)


def test_a_probe_that_fails_while_other_films_are_read_is_no_failure(stub: Stub) -> None:
    seen: list[State] = []

    async def work(keeper: Keeper) -> None:
        await until(lambda: keeper.ready)
        probes = len(stub.films)
        release = threading.Event()

        def fail_slowly(_: bytes) -> tuple[int, str]:
            release.wait()
            return 500, "overloaded"

        stub.answer = fail_slowly
        keeper.failed()
        await until(lambda: len(stub.films) == probes + 1)
        keeper.saw()  # a client's film comes back meanwhile
        release.set()
        keeper.failed()
        await until(lambda: len(stub.films) == probes + 2 or bool(seen.append(keeper.state)))

    watched(stub, work)
    assert set(seen) == {State.READY}
