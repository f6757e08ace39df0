"""The benchmark's client and its statistics."""

import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from benchmarks.load import Answer, Load, Target, by_film, closed_loop, failures, films_per_second, latencies, open_loop


def answers(times: list[float], status: int = 200) -> list[Answer]:
    return [Answer(number % 3, 0.0, time, status, b"") for number, time in enumerate(times)]


def test_the_rate_is_the_films_over_the_time_from_the_first_sending_to_the_last_answer() -> None:
    assert films_per_second(Load(8, answers([3.0, 4.0, 4.0, 7.0]), started=2.0)) == pytest.approx(0.8)
    assert films_per_second(Load(8, [])) == 0.0


def test_lost_films_count_neither_in_the_rate_nor_in_the_latency() -> None:
    load = Load(1, [*answers([1.0, 2.0]), *answers([9.0], status=500)], started=0.0)
    assert films_per_second(load) == pytest.approx(1.0)
    assert latencies(load)["p99_ms"] == pytest.approx(2000.0, rel=0.01)
    assert failures(load)["lost"] == 1
    assert math.isnan(latencies(Load(1))["p50_ms"])


def test_latencies_are_percentiles_in_milliseconds() -> None:
    load = Load(1, answers(np.linspace(0.001, 0.1, 100).tolist()))
    assert latencies(load) == pytest.approx({"p50_ms": 50.5, "p95_ms": 95.05, "p99_ms": 99.01})


class Counting(BaseHTTPRequestHandler):
    """Says how long the body was; counts how many requests are answered at once."""

    protocol_version = "HTTP/1.1"
    lock, inside, most = threading.Lock(), 0, 0
    gate = threading.Barrier(4)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with Counting.lock:
            Counting.inside += 1
            Counting.most = max(Counting.most, Counting.inside)
        if self.path == "/together":
            Counting.gate.wait(timeout=10)
        with Counting.lock:
            Counting.inside -= 1
        said = str(len(body)).encode()
        self.send_response(200 if body else 500)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *arguments: object) -> None: ...


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # more than a load's connections: from a queue of 5 they are reset on a busy machine


@pytest.fixture
def port() -> Iterator[int]:
    Counting.most = 0
    with Server(("127.0.0.1", 0), Counting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_closed_loop_keeps_as_many_films_in_flight_as_asked_and_sends_them_in_turn(port: int) -> None:
    films = [b"a", b"bb", b"ccc"]
    load = closed_loop(Target("127.0.0.1", port, "/together", {}, films), 4, seconds=0.0, least=12)
    assert sorted(answer.film for answer in load.answers) == [0] * 4 + [1] * 4 + [2] * 4
    assert all(answer.body == str(len(films[answer.film])).encode() for answer in load.answers)
    assert Counting.most == 4
    assert set(by_film(load)) == {0, 1, 2}


def test_an_open_loop_sends_each_film_once_and_none_before_it_is_due(port: int) -> None:
    load = open_loop(Target("127.0.0.1", port, "/", {}, [b"a", b"bb"]), rate=200.0, seconds=0.2)
    assert len(load.answers) == 40
    assert len({answer.due for answer in load.answers}) == 40
    assert all(answer.done > answer.due for answer in load.answers)


def test_a_connection_gives_up_on_a_server_that_fails(port: int) -> None:
    load = closed_loop(Target("127.0.0.1", port, "/", {}, [b""]), 3, seconds=60.0)
    assert failures(load) == {"lost": 6, "first": "HTTP 500: 0"}
