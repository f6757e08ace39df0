"""What TorchServe itself lets a stranger do: nothing."""

from http.client import HTTPConnection
from pathlib import Path
from typing import Literal

import httpx
import psutil
import pytest

from workflows import torchserve
from workflows.register import register
from workflows.server import Server, ServerError
from workflows.store import check_archives

TRICKS = [
    "http://127.0.0.1:9/evil.war",
    "https://example.com/evil.war",
    "ftp://127.0.0.1/evil.war",
    "file:///etc/passwd",
    "file://{store}/chest_xray.war",
    "{store}/../evil/evil.war",
    "{evil}/evil.war",
    "../evil/evil.war",
    "..%2Fevil%2Fevil.war",
    "%2e%2e/evil/evil.war",
    "..\\evil\\evil.war",
    "./../evil/evil.war",
    "/etc/passwd",
    "jar:file://{store}/chest_xray.war!/",
    "nowhere.war",
    "",
]
NAMES = ["../../evil", "..%2F..%2Fevil", "/tmp/evil", "a%00b", "%2e%2e"]


@pytest.fixture
def evil(server: Server) -> Path:
    """A workflow's archive beside the store, where a path trick would find it."""
    folder = server.store.parent / "evil"
    folder.mkdir(exist_ok=True)
    (folder / "evil.war").write_bytes((server.store / "chest_xray.war").read_bytes())
    return folder


def workflows_of(server: Server) -> list[str]:
    answer = server.call("GET", f"{server.management}/workflows", "management").json()
    return sorted(one["workflowName"] for one in answer["workflows"])


def files_of(server: Server) -> set[Path]:
    """Everything in the server's folder but the logs, which are TorchServe's own."""
    return {path for path in server.folder.rglob("*") if server.folder / "logs" not in (path, *path.parents)}


@pytest.mark.parametrize(
    ("method", "api", "path"),
    [
        ("GET", "inference", "/ping"),
        ("POST", "inference", "/wfpredict/chest_xray"),
        ("POST", "inference", "/predictions/chest_xray__binary"),
        ("GET", "management", "/workflows"),
        ("POST", "management", "/workflows?url=chest_xray.war&workflow_name=mine"),
        ("DELETE", "management", "/workflows/chest_xray"),
        ("GET", "management", "/models"),
        ("POST", "management", "/models?url=binary.mar"),
        ("GET", "management", "/token?type=management"),
    ],
)
def test_no_token_and_a_wrong_one_are_refused_everywhere(
    server: Server, http: httpx.Client, method: str, api: str, path: str
) -> None:
    other = server.token("management" if api == "inference" else "inference").key
    for token in (None, "AAAAAAAA", "null", other):
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        answer = http.request(method, f"{getattr(server, api)}{path}", headers=headers)
        assert answer.status_code == 400
        assert "InvalidKeyException" in answer.text
    assert workflows_of(server) == ["chest_xray"]


@pytest.mark.parametrize("trick", TRICKS)
def test_even_the_management_token_registers_nothing_from_outside_the_store(
    server: Server, evil: Path, trick: str
) -> None:
    before = files_of(server)
    url = f"{server.management}/workflows?url={trick.format(store=server.store, evil=evil)}&workflow_name=evil"
    answer = server.call("POST", url, "management")
    assert 400 <= answer.status_code < 500
    assert workflows_of(server) == ["chest_xray"]
    assert files_of(server) == before


@pytest.mark.parametrize("name", NAMES)
def test_a_path_in_a_workflow_s_name_reaches_no_file(server: Server, evil: Path, name: str) -> None:
    before = files_of(server)
    assert status_of(server, "GET", "management", f"/workflows/{name}") >= 400
    assert status_of(server, "DELETE", "management", f"/workflows/{name}") >= 400
    assert status_of(server, "POST", "inference", f"/wfpredict/{name}") >= 400
    assert files_of(server) == before
    assert workflows_of(server) == ["chest_xray"]


def status_of(server: Server, method: str, api: Literal["inference", "management"], path: str) -> int:
    """Of a request whose path goes out as it stands; httpx would tidy it up."""
    connection = HTTPConnection(getattr(server, api).removeprefix("http://"), timeout=60)
    try:
        headers = {"Authorization": f"Bearer {server.token(api).key}"}
        connection.request(method, path, body=b"a film" if method == "POST" else None, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_models_cannot_be_registered_beside_the_workflow(server: Server) -> None:
    for method, path in (
        ("POST", "/models?url=binary.mar&initial_workers=1"),
        ("DELETE", "/models/chest_xray__binary"),
    ):
        assert server.call(method, f"{server.management}{path}", "management").status_code == 405


def test_every_port_of_the_jvm_and_the_workers_is_on_loopback(server: Server) -> None:
    listening = {
        (process.name(), connection.laddr.ip, connection.laddr.port)
        for process in torchserve.running(server)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {ip.removeprefix("::ffff:") for _, ip, _ in listening} == {"127.0.0.1"}
    settings = dict(
        line.split("=", 1) for line in (server.folder / "config.properties").read_text().splitlines() if "=" in line
    )
    http = {int(settings[f"{api}_address"].rpartition(":")[2]) for api in ("inference", "management", "metrics")}
    grpc = {int(settings[f"grpc_{api}_port"]) for api in ("inference", "management")}
    assert {port for _, _, port in listening} == http | grpc  # the workers listen on Unix sockets alone


def test_the_key_file_is_its_owner_s_alone(server: Server) -> None:
    assert (server.folder / "key_file.json").stat().st_mode & 0o077 == 0


def test_an_archive_with_one_byte_changed_is_not_served(server: Server) -> None:
    archive = server.store / "disease.mar"
    good = archive.read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    archive.write_bytes(bad)
    try:
        with pytest.raises(ServerError, match=r"disease.mar is not the file that 'make archive' wrote"):
            register(server)
    finally:
        archive.write_bytes(good)
    check_archives(server.store)
