"""The log's lines, also where something goes wrong that nobody foresaw."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from gateway.logs import Journal, Line


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the gateway's loggers write."""
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(Line())
    logger = logging.getLogger("gateway")
    logger.addHandler(handler)
    yield handler.stream
    logger.removeHandler(handler)


def test_a_fault_is_a_problem_document_and_its_message_stays_out_of_the_log(log: io.StringIO) -> None:
    async def route(request: Request) -> Response:
        raise ValueError("Doe^Jane is no number")

    app = Starlette(routes=[Route("/", route)], middleware=[Middleware(Journal)])
    answer = TestClient(app).get("/", headers={"X-Request-ID": "request-1"})
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert (answer.json()["type"], answer.json()["instance"]) == ("urn:cxr:InternalError", "request-1")
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert lines[0]["event"] == "fault"
    assert lines[0]["request_id"] == "request-1"
    assert lines[0]["fault"].startswith("ValueError < ")
    assert "test_logs.py" in lines[0]["fault"]
    assert "Jane" not in log.getvalue() + answer.text


def test_the_system_s_own_words_stay_in(log: io.StringIO) -> None:
    try:
        raise OSError(24, "Too many open files", "/films/Doe^Jane.dcm")
    except OSError:
        logging.getLogger("gateway").exception("no file")
    line = json.loads(log.getvalue())
    assert line["fault"].startswith("OSError Too many open files < ")
    assert (line["level"], line["message"]) == ("ERROR", "no file")
    assert "Jane" not in log.getvalue()
