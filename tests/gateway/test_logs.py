"""The log's lines."""

import logging

from structlog.contextvars import bound_contextvars

from tests.gateway.conftest import Log


def test_the_system_s_own_words_stay_in_and_an_exception_s_message_does_not(log: Log) -> None:
    try:
        raise OSError(24, "Too many open files", "/films/Doe^Jane.dcm")
    except OSError:
        logging.getLogger("gateway").exception("no file")
    line = log.line()
    assert line["fault"].startswith("OSError Too many open files < ")
    assert "test_logs.py" in line["fault"]
    assert (line["level"], line["message"]) == ("ERROR", "no file")
    assert "Jane" not in log.text


def test_a_line_has_the_id_of_the_request_that_it_came_of(log: Log) -> None:
    with bound_contextvars(request_id="request-1"):
        logging.getLogger("gateway.upstream").warning("the film is sent again", extra={"event": "answer_lost"})
    logging.getLogger("gateway.upstream").warning("no request's")
    lines = log.lines
    assert (lines[0]["request_id"], lines[0]["event"]) == ("request-1", "answer_lost")
    assert "request_id" not in lines[1]
