"""HTTP as strangers send it: smuggling, path tricks, headers without end, connections that say nothing."""

import collections
import contextlib
import itertools
import json
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from benchmarks.arms.reserved_ports import free_ports
from gateway.listener import Protocol
from tests.gateway.conftest import Gateway, answer_on
from tests.gateway.stand_in import PATIENCE, StandIn

CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (["Content-Length: 5", CHUNKED], b"0\r\n\r\n"),
        ([CHUNKED, "Content-Length: 0"], b"9\r\nfilm:0.75\r\n0\r\n\r\n"),
        (["Content-Length: 9", "Content-Length: 8"], b"film:0.75"),
        (["Content-Length: 9, 8"], b"film:0.75"),
        (["Content-Length: -9"], b"film:0.75"),
        (["Content-Length: 0x9"], b"film:0.75"),
        (["Transfer-Encoding: chunked, identity"], b"film:0.75"),
        ([CHUNKED, CHUNKED], b"9\r\nfilm:0.75\r\n0\r\n\r\n"),
        ([CHUNKED], b"zz\r\nfilm:0.75\r\n0\r\n\r\n"),
        (["Content-Length : 9"], b"film:0.75"),
        (["Content-Length: 9\rX: y"], b"film:0.75"),
        (["Content-Length: 9", "X-Name: a\0b"], b"film:0.75"),
    ],
)
def test_a_request_that_could_be_read_in_two_ways_is_refused_and_the_connection_closed(
    roomy: Gateway, torchserve: StandIn, headers: list[str], body: bytes
) -> None:
    with roomy.open(body, *headers) as connection:
        status, problem = answer_on(connection)
        assert (status, json.loads(problem)["type"]) == (400, "urn:cxr:MalformedRequest")
        with contextlib.suppress(ConnectionResetError):  # it was closed before all that we sent was read
            assert connection.recv(65536) == b""
    assert torchserve.films == []


@pytest.mark.parametrize("header", ["X-Long: " + "x" * 2_000_000, "X: y\r\n" * 400_000])
def test_headers_without_end_are_not_kept(roomy: Gateway, torchserve: StandIn, header: str) -> None:
    received = b""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError), roomy.open(b"film:0.75", header) as connection:
        while piece := connection.recv(65536):
            received += piece
    assert not received or received.startswith(b"HTTP/1.1 400")
    assert torchserve.films == []


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/reports/", "//v1/reports", "/v1//reports", "/v1/reports/../x", "/v1/x/../reports", "/v1/reports;x"),
        *("/v1/reports%2f..", "/V1/reports", "/v1/reports%00", "http://elsewhere/v1/reports", "*"),
        *("/wfpredict/chest_xray", "/predictions/binary", "/docs/static/../core.py", "/docs/static/%2e%2e/core.py"),
    ],
)
def test_no_other_path_leads_to_a_film_or_a_file(roomy: Gateway, torchserve: StandIn, path: str) -> None:
    with socket.create_connection(("127.0.0.1", roomy.port), timeout=PATIENCE) as connection:
        for method in ("GET", "POST"):
            head = f"{method} {path} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {roomy.key}\r\n"
            connection.sendall(f"{head}Content-Length: 0\r\n\r\n".encode())
            status, problem = answer_on(connection)
            assert status in (404, 405)
            assert json.loads(problem)["type"] in ("urn:cxr:NotFound", "urn:cxr:MethodNotAllowed")
    assert torchserve.films == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_only_post_reads_a_film(roomy: Gateway, torchserve: StandIn, method: str) -> None:
    headers = {"Authorization": f"Bearer {roomy.key}"}
    answer = httpx.request(method, f"{roomy.url}/v1/reports", content=b"film:0.5", headers=headers)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert torchserve.films == []


def test_connect_opens_no_tunnel(roomy: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", roomy.port), timeout=PATIENCE) as connection:
        connection.sendall(b"CONNECT 127.0.0.1:8081 HTTP/1.1\r\nHost: 127.0.0.1:8081\r\n\r\n")
        assert answer_on(connection)[0] == 404


def test_a_client_that_asks_first_learns_that_its_key_is_bad_before_it_sends(roomy: Gateway) -> None:
    head = b"POST /v1/reports HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 9\r\n"
    with socket.create_connection(("127.0.0.1", roomy.port), timeout=PATIENCE) as connection:
        connection.sendall(head + b"Authorization: Bearer wrong\r\n\r\n")
        assert answer_on(connection)[0] == 401
    with socket.create_connection(("127.0.0.1", roomy.port), timeout=PATIENCE) as connection:
        connection.sendall(head + f"Authorization: Bearer {roomy.key}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(b"film:0.75")
        assert answer_on(connection)[0] == 200


@pytest.fixture(scope="module")
def impatient() -> Iterator[int]:
    """The port of an app that answers at once without reading a body, on connections that may pause for 0.3 s."""

    async def app(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    (port,) = free_ports(1)
    config = uvicorn.Config(app, port=port, http=Protocol, timeout_keep_alive=0.3, log_config=None, lifespan="off")  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    with httpx.Client(transport=httpx.HTTPTransport(retries=20)) as client:
        assert client.get(f"http://127.0.0.1:{port}/").status_code == 401
    yield port
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: here\r\nX-Slow: ",
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\nGET /again HTTP/1.1\r\nHo",
        b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000000\r\n\r\nnot all of it",
    ],
)
def test_a_connection_on_which_no_request_is_made_is_closed(impatient: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", impatient), timeout=PATIENCE) as connection:
        connection.sendall(sent)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        assert received.count(b"HTTP/1.1 401") == sent.count(b"\r\n\r\n")


def test_a_body_without_end_is_cut_off_after_its_answer(impatient: int) -> None:
    with socket.create_connection(("127.0.0.1", impatient), timeout=PATIENCE) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000000000\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 401")
        endless = itertools.repeat(bytes(65536))
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            collections.deque(map(connection.sendall, endless), maxlen=0)
