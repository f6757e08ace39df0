"""What strangers try on the gateway: each is refused, and the service reads the next film with the same workers."""

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import httpx
import psutil
import pytest

from gateway.keys import KEYS_FILE, make, revoke
from tests.gateway.conftest import Gateway, answer_on
from tests.gateway.stand_in import PATIENCE, content
from tests.live.clients import in_turn, is_report_of, read_alone
from tests.live.footprint import processes
from tests.live.test_strangers import workflows_of
from workflows.server import KEY_FILE, Server


@pytest.fixture(scope="module")
def film(films: list[bytes]) -> bytes:
    return films[0]


@pytest.fixture(scope="module")
def alone(gateway: Gateway, film: bytes) -> list[float]:
    return read_alone(gateway, [film])[film]


@pytest.fixture(scope="module")
def service(gateway: Gateway, server: Server) -> list[psutil.Process]:
    """The processes that are there at the start."""
    return [psutil.Process(gateway.process.pid), *(group[0] for group in processes(server).values())]


@pytest.fixture(autouse=True)
def unharmed(gateway: Gateway, film: bytes, alone: list[float], service: list[psutil.Process]) -> Iterator[None]:
    """After each test the same processes run, and the film's report is as before."""
    yield
    (answer,) = in_turn(gateway, [film], clients=1)
    assert is_report_of(answer, alone)
    assert all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in service)


# Keys


def unauthorized(answer: httpx.Response) -> bool:
    said = (answer.status_code, answer.headers.get("www-authenticate"), answer.json()["type"])
    return said == (401, "Bearer", "urn:cxr:Unauthorized")


def test_no_key_and_a_wrong_one_are_refused(gateway: Gateway, film: bytes) -> None:
    for given in ({}, *({"Authorization": f"Bearer {key}"} for key in ("cxr_wrong", gateway.key[:-1], "null"))):
        assert unauthorized(httpx.post(f"{gateway.url}/v1/reports", content=film, headers=given, timeout=PATIENCE))
    for scheme in ("Basic", "Token", "Digest"):
        assert unauthorized(gateway.read(film, headers={"Authorization": f"{scheme} {gateway.key}"}))


def test_torchserve_s_own_keys_open_nothing(gateway: Gateway, server: Server, film: bytes) -> None:
    for kind in ("inference", "management", "API"):
        assert unauthorized(gateway.read(film, headers={"Authorization": f"Bearer {server.token(kind).key}"}))


def test_a_key_that_is_revoked_is_refused_at_the_next_request(gateway: Gateway, film: bytes) -> None:
    key = make(gateway.secrets / KEYS_FILE, "leaver")
    assert gateway.read(film, headers={"Authorization": f"Bearer {key}"}).status_code == 200
    revoke(gateway.secrets / KEYS_FILE, "leaver")
    assert unauthorized(gateway.read(film, headers={"Authorization": f"Bearer {key}"}))
    assert gateway.read(film).status_code == 200


# TorchServe's token


def expire(server: Server, in_file: bool) -> set[str]:
    """The tokens before and after TorchServe was told to make a new one; ``in_file``: the key file keeps the old."""
    path = server.folder / KEY_FILE
    old = json.loads(path.read_text())
    httpx.get(f"{server.management}/token?type=inference", headers=api_key(server), timeout=30)
    new = json.loads(path.read_text())
    assert old["inference"]["key"] != new["inference"]["key"]
    if in_file:
        old["inference"]["expiration time"] = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
        path.with_suffix(".new").write_text(json.dumps(old))
        os.replace(path.with_suffix(".new"), path)
    return {old["inference"]["key"], new["inference"]["key"], old["API"]["key"], old["management"]["key"]}


def api_key(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token('API').key}"}


@pytest.mark.parametrize("in_file", [False, True], ids=["renewed by another", "expired in the key file"])
def test_a_token_that_expired_is_renewed_and_never_shown(
    gateway: Gateway, server: Server, film: bytes, in_file: bool
) -> None:
    assert gateway.read(film).status_code == 200
    tokens = expire(server, in_file)
    answer = gateway.read(film)
    assert answer.status_code == 200
    said = f"{answer.headers} {answer.text} {gateway.log_text} {gateway.get('/metrics').text}"
    assert not [token for token in {*tokens, server.token("inference").key} if token in said]


# Requests that can be read in two ways


def talk(gateway: Gateway, sent: bytes) -> list[int]:
    """The statuses of all answers that come until the gateway closes the connection."""
    received = b""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE) as connection, suppress(OSError):
        connection.sendall(sent)  # it may be cut off before all of it is sent
        while piece := connection.recv(65536):
            received += piece
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def ask(gateway: Gateway, sent: bytes) -> int:
    """The status of the first answer."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE) as connection:
        connection.sendall(sent)
        return answer_on(connection)[0]


HIDDEN = b"POST /v1/reports HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfilm"
"""A request that a proxy would take for the body of the one before it."""
TWO = ("a folded line", "a header of 100 kB", "10000 headers")
"""Tricks after which it is plain where the second request begins: it is one of its own, and it has no key."""


def smuggled() -> dict[str, tuple[bytes, bytes]]:
    """Headers and body; the key is added."""
    size = str(len(HIDDEN)).encode()
    return {
        "both lengths": (b"Content-Length: 4\r\nTransfer-Encoding: chunked", b"0\r\n\r\n" + HIDDEN),
        "both lengths, turned": (b"Transfer-Encoding: chunked\r\nContent-Length: " + size, b"0\r\n\r\n" + HIDDEN),
        "two lengths": (b"Content-Length: 0\r\nContent-Length: " + size, HIDDEN),
        "a list of lengths": (b"Content-Length: 0, " + size, HIDDEN),
        "a length with a sign": (b"Content-Length: +" + size, HIDDEN),
        "a negative length": (b"Content-Length: -1", HIDDEN),
        "a hexadecimal length": (b"Content-Length: 0x10", HIDDEN),
        "a length of 5000 digits": (b"Content-Length: " + b"9" * 5000, HIDDEN),
        "a folded line": (b"Content-Length: 0\r\nX-Fold: a\r\n b: c\r\n\tTransfer-Encoding: chunked", HIDDEN),
        "a space before the colon": (b"Transfer-Encoding : chunked\r\nContent-Length: 0", HIDDEN),
        "another coding": (b"Transfer-Encoding: xchunked", HIDDEN),
        "two codings": (b"Transfer-Encoding: chunked, identity", b"0\r\n\r\n" + HIDDEN),
        "chunked twice": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"0\r\n\r\n" + HIDDEN),
        "a chunk's size with a sign": (b"Transfer-Encoding: chunked", b"-1\r\n" + HIDDEN),
        "a chunk without an end": (b"Transfer-Encoding: chunked", b"4\r\nfilmX\r\n0\r\n\r\n" + HIDDEN),
        "a NUL in a header": (b"X-Film: a\0b\r\nContent-Length: 0", HIDDEN),
        "a bare CR in a header": (b"X-Film: a\rContent-Length: 0\r\nContent-Length: " + size, HIDDEN),
        "a NUL in a name": (b"X-\0Film: a\r\nContent-Length: 0", HIDDEN),
        "a header without a name": (b": a\r\nContent-Length: 0", HIDDEN),
        "a header without a colon": (b"Content-Length\r\nContent-Length: 0", HIDDEN),
        "a header of 100 kB": (b"X-Film: " + b"a" * 100_000 + b"\r\nContent-Length: 0", HIDDEN),
        "10000 headers": (b"X-Film: a\r\n" * 10_000 + b"Content-Length: 0", HIDDEN),
    }


@pytest.mark.parametrize("trick", list(smuggled()))
def test_a_request_that_hides_another_is_refused_and_its_connection_closed(gateway: Gateway, trick: str) -> None:
    headers, body = smuggled()[trick]
    key = f"Authorization: Bearer {gateway.key}".encode()
    sent = b"POST /v1/reports HTTP/1.1\r\nHost: here\r\n" + key + b"\r\n" + headers + b"\r\n\r\n" + body
    assert talk(gateway, sent) == ([400, 401] if trick in TWO else [400])


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v1/reports\r\n\r\n",
        b"\0" * 1000,
        b"POST /v1/reports\0 HTTP/1.1\r\nHost: here\r\n\r\n",
        b"POST /v1/reports HTTP/1.1\r\n\r\n",
        b"POST /v1/reports HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ],
    ids=["TLS", "HTTP/2", "HTTP/0.9", "NULs", "NUL in the path", "no host", "two hosts"],
)
def test_what_is_no_http_1_1_request_is_refused(gateway: Gateway, sent: bytes) -> None:
    assert talk(gateway, sent) in ([400], [404, 400])


@pytest.mark.parametrize(
    ("header", "sent"),
    [
        ("Content-Length: 1000", b""),
        ("Content-Length: 1000", b"film"),
        ("Transfer-Encoding: chunked", b"ffffffffffffffffff\r\nfilm"),
        ("Content-Type: multipart/form-data; boundary=edge\r\nContent-Length: 1000", b"--edge\r\n"),
    ],
    ids=["before the body", "in the body", "in a chunk of 2^64", "in a form"],
)
def test_clients_that_hang_up_leave_nothing(gateway: Gateway, header: str, sent: bytes) -> None:
    for _ in range(200):  # more than are admitted
        gateway.open(sent, header).close()
    gateway.until(lambda: (gateway.state()["in_flight"], gateway.state()["waiting"]) == (0, 0))


def test_header_values_that_are_no_text_are_not_passed_on(gateway: Gateway, film: bytes) -> None:
    """Bytes over 127 are allowed (RFC 9110, 5.5): the film is read, and the request gets another id."""
    key, size = gateway.key.encode(), str(len(film)).encode()
    head = b"POST /v1/reports HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer " + key + b"\r\nContent-Length: " + size
    odd = b"\r\nX-Request-ID: \xff\xfe\r\nX-Film: \xe9\x80\r\nContent-Type: image/\xff\r\n\r\n"
    assert ask(gateway, head + odd + film) == 200
    strange = b"POST /v1/reports HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer \xff\xfe\r\nContent-Length: 0\r\n\r\n"
    assert ask(gateway, strange) == 401


# Forms


def form(*parts: tuple[bytes, bytes], boundary: bytes = b"edge", end: bytes = b"--edge--\r\n") -> bytes:
    return b"".join(b"--" + boundary + b"\r\n" + head + b"\r\n\r\n" + body + b"\r\n" for head, body in parts) + end


DATA = b'Content-Disposition: form-data; name="data"'


def forms(film: bytes) -> dict[str, tuple[str, bytes]]:
    """Boundary and body of forms that are refused."""
    other = b'Content-Disposition: form-data; name="workflow"'
    return {
        "two films": ("edge", form((DATA, film), (DATA, film))),
        "another field": ("edge", form((other, b"chest_xray"), (DATA, film))),
        "another field after": ("edge", form((DATA, film), (other, b"chest_xray"))),
        "a name in other letters": ("edge", form((DATA.replace(b"data", b"Data"), film))),
        "a name with a NUL": ("edge", form((DATA.replace(b"data", b"data\0"), film))),
        "a name that is no UTF-8": ("edge", form((DATA.replace(b"data", b"\xff\xfe"), film))),
        "no name": ("edge", form((b"Content-Disposition: form-data", film))),
        "no header": ("edge", form((b"", film))),
        "another boundary": ("ridge", form((DATA, film))),
        "no end": ("edge", form((DATA, film), end=b"")),
        "cut in its end": ("edge", form((DATA, film), end=b"--edge")),
        "no part": ("edge", b"--edge--\r\n"),
        "an empty boundary": ("", form((DATA, film))),
        "a boundary of 10 kB": ("e" * 10_000, form((DATA, film), boundary=b"e" * 10_000)),
        "10000 parts": ("edge", form(*[(other, b"")] * 10_000)),
        "a part's header of 1 MB": ("edge", form((DATA + b"\r\nX-Film: " + b"a" * 2**20, film))),
        "a part's headers without end": ("edge", form((DATA + b"\r\nX-Film: a" * 100_000, film))),
    }


@pytest.mark.parametrize("trick", list(forms(b"")))
def test_a_form_that_is_more_than_a_film_is_refused(gateway: Gateway, film: bytes, trick: str) -> None:
    boundary, body = forms(film)[trick]
    answer = gateway.read(body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})
    assert answer.status_code == 400
    assert answer.json()["type"] in ("urn:cxr:MalformedForm", "urn:cxr:MalformedRequest")


@pytest.mark.parametrize(
    "name", [b"\xff\xfe.png", b"../../etc/passwd", b"a\0b.png", "röntgen.png".encode(), b"a" * 4000]
)
def test_a_file_s_name_changes_nothing_and_is_not_kept(gateway: Gateway, film: bytes, name: bytes) -> None:
    body = form((DATA + b'; filename="' + name + b'"', film))
    answer = gateway.read(body, headers={"Content-Type": "multipart/form-data; boundary=edge"})
    assert answer.status_code == 200
    assert content(answer) == content(gateway.read(film))
    assert name.decode("latin-1")[:40] not in gateway.log_text


# Paths


@pytest.mark.parametrize(
    "path",
    [
        *("/wfpredict/chest_xray", "/predictions/chest_xray__binary", "/workflows", "/models", "/ping", "/metrics/.."),
        *("/token?type=management", "/v1/reports/../../workflows", "/v1/reports/%2e%2e/%2e%2e/models", "//workflows"),
        *("/v1/reports/..%2f..%2fmodels", "/v1/reports;/../workflows", "/v1/reports%00", "/v1/reports\\..\\models"),
        *("http://127.0.0.1:8081/workflows", "/docs/static/../../keys.json", "/docs/static/%2e%2e/%2e%2e/keys.json"),
    ],
)
def test_no_path_leads_to_torchserve_or_to_a_file(gateway: Gateway, server: Server, path: str) -> None:
    key = f"Authorization: Bearer {gateway.key}\r\n"
    for method in ("GET", "POST", "DELETE"):
        request = f"{method} {path} HTTP/1.1\r\nHost: here\r\n{key}Content-Length: 0\r\n\r\n"
        assert ask(gateway, request.encode()) in (404, 405)
    assert workflows_of(server) == ["chest_xray"]


@pytest.mark.parametrize("query", ["workflow=other", "url=file:///etc/passwd", "workflow_name=../../evil", "%00=1"])
def test_a_query_chooses_no_workflow(gateway: Gateway, film: bytes, query: str) -> None:
    answer = gateway.call(
        "POST", f"/v1/reports?{query}", content=film, headers={"Authorization": f"Bearer {gateway.key}"}
    )
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:cxr:UnknownParameter")


def test_the_gateway_listens_on_loopback_alone(gateway: Gateway) -> None:
    listening = [
        one.laddr
        for one in psutil.Process(gateway.process.pid).net_connections("inet")
        if one.status == psutil.CONN_LISTEN
    ]
    assert listening == [("127.0.0.1", gateway.port)]
