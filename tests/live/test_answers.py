"""Every request is answered, however fast the models are and however busy the machine.

Bodies that are no film are refused at once, so both nodes answer within microseconds of being asked. 20,000 in the
tests; ``ANSWERS=1000000 pytest -s tests/live/test_answers.py`` is the long run.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.live.footprint import JVM, THREADS_MORE, processes
from workflows.active import WORKFLOW
from workflows.server import Server

ANSWERS = int(os.environ.get("ANSWERS", "20000"))
CLIENTS = 32
WARM_UP = 50
"""Requests of each client, after which the JVM has the threads that it keeps."""
SILENCE = 45.0
"""Seconds after which an answer counts as lost: less than the workflow's time-out, more than any queue of 32."""


@pytest.fixture
def busy_cores() -> Iterator[None]:
    """A process per core that computes and never waits."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


@pytest.mark.slow
@pytest.mark.timeout(600 + ANSWERS / 20)
@pytest.mark.usefixtures("busy_cores")
def test_no_answer_is_lost_and_no_thread_is_left_behind(server: Server) -> None:
    _ask(server, WARM_UP)
    before = threads(server)
    began = time.monotonic()
    seen = _ask(server, ANSWERS // CLIENTS)
    seconds = time.monotonic() - began
    after = threads(server)
    print(
        f"\n{seen.total()} requests in {seconds:.0f} s: {dict(seen)}; threads of the JVM {len(before)} -> {len(after)}"
    )
    assert set(seen) == {"UnreadableImage"}
    assert len(after) <= len(before) + THREADS_MORE
    assert not [name for name in after if name.startswith("wf-execute")], "TorchServe runs its own DagExecutor"


def threads(server: Server) -> list[str]:
    """The names of the JVM's threads, cut by the kernel to 15 characters."""
    jvm: psutil.Process = processes(server)[JVM][0]
    return [one.read_text().strip() for one in Path(f"/proc/{jvm.pid}/task").glob("*/comm")]


def _ask(server: Server, each: int) -> Counter[str]:
    """What ``CLIENTS`` clients are answered, ``each`` times one after the other."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(lambda _: _answers(server, each), range(CLIENTS)), Counter[str]())


def _answers(server: Server, number: int) -> Counter[str]:
    """A client on one connection. It speaks HTTP by hand: a library would take more of the cores than the service."""
    host, port = server.inference.removeprefix("http://").split(":")
    seen: Counter[str] = Counter()
    token = server.token("inference").key
    with socket.create_connection((host, int(port)), SILENCE) as connection, connection.makefile("rb") as answers:
        while seen.total() < number:
            connection.sendall(_request(token))
            try:
                status, body = _answer(answers)
            except TimeoutError:
                seen["lost"] += 1
                return seen
            if status == 400 and b"InvalidKeyException" in body:
                server.alive()  # renews a token that has expired
                token = server.token("inference").key
                continue
            seen[json.loads(body)["error"]["type"] if status == 200 else f"HTTP {status}"] += 1
    return seen


def _request(token: str) -> bytes:
    head = f"POST /wfpredict/{WORKFLOW} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    return f"{head}Content-Type: application/octet-stream\r\nContent-Length: 1\r\n\r\nx".encode()


def _answer(stream) -> tuple[int, bytes]:
    status, length = int(stream.readline().split(b" ")[1]), 0
    while (line := stream.readline().strip()) != b"":
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return status, stream.read(length)
