"""The gateway answers while its log's disk is full, and the log is whole again as soon as there is room."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.gateway.stand_in import StandIn
from tests.small_disk import ROOT, SmallDisk

ANSWER = """
import logging.config, sys
from pathlib import Path
from starlette.testclient import TestClient
from gateway.app import create_app
from gateway.logs import LOGGING
from gateway.settings import Settings

logging.config.dictConfig(LOGGING)
app = create_app(Settings(server=Path(sys.argv[2])))
client, answers = TestClient(app), open(int(sys.argv[1]), "w")
for line in sys.stdin:
    codes = {client.get("/", headers={"X-Request-ID": line.strip()}).status_code for _ in range(40)}
    print(*codes, file=answers, flush=True)
"""


def test_requests_are_answered_while_the_log_s_disk_is_full(
    small_disk: SmallDisk, stand_in_server: tuple[StandIn, Path]
) -> None:
    log = small_disk.folder / "gateway.log"
    reading, writing = os.pipe()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", ANSWER, str(writing), str(stand_in_server[1])],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            pass_fds=[writing],
        )
    os.close(writing)
    assert process.stdin is not None
    with open(reading) as answers:
        for request in ("before", "full", "after"):
            if request == "full":
                small_disk.fill()
            process.stdin.write(f"{request}\n")
            process.stdin.flush()
            assert answers.readline() == "200\n"
            small_disk.clear()
    _, complained = process.communicate()
    assert (process.returncode, complained) == (0, "")
    seen = [json.loads(line)["request_id"] for line in log.read_text().splitlines()]
    assert seen.count("before") == seen.count("after") == 40
    assert seen == sorted(seen, key=["before", "full", "after"].index)
    if small_disk.mounted:
        assert seen.count("full") < 40
