"""An archive becomes a table with a row a film, whatever happens to the service or to the command meanwhile."""

import csv
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.arms.reserved_ports import free_ports
from client import score as command
from client.film_list import find_films
from client.gateway import TRIES, Gateway, NotNow
from client.journal import COLUMNS, PredictionsTable, TableError
from client.score import score
from handlers.findings import FINDINGS
from handlers.report import Refusal
from tests.client.gateway_stub import KEY, PATIENCE, GatewayStub, Say, report_of
from training.evaluation.predictions import read_predictions
from workflows import command_line
from workflows.server import ServerDown

ROOT = Path(__file__).parents[2]
FILMS = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty films, each with a probability of its own, 0.40 to 0.79."""
    for number in range(FILMS):
        path = tmp_path / "films" / f"images_{number % 3 + 1:03d}" / "images" / f"{number:08d}_000.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(film(number))
    return tmp_path / "films"


@pytest.fixture
def words(folder: Path, service: GatewayStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command's arguments."""
    monkeypatch.setenv("CXR_KEY", KEY)
    out = str(tmp_path / "predictions.csv")
    return [str(folder), "--out", out, "--address", service.address, "--concurrency", "4"]


class Hurried(Gateway):
    """Notes how long it ought to wait, and does not."""

    def __init__(self, address: str, connections: int = 4, **limits: float) -> None:
        super().__init__(address, KEY, connections, **limits)
        self.waits: list[tuple[str, float]] = []
        self.waited = threading.Event()

    def wait(self, cause: NotNow, seconds: float) -> None:
        self.waits.append((cause.type, seconds))
        self.waited.set()
        super().wait(cause, 0.001)


def main(words: list[str]) -> int:
    return command_line.ended(lambda: command.main(words))


def film(number: int) -> bytes:
    return f"{0.4 + number / 100:.2f}".encode()


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["Image Index"] for row in rows}) == len(rows)
    return {row["Image Index"]: row for row in rows}


def assert_complete(path: Path) -> None:
    """Every film of the folder once, with its own probabilities."""
    rows = rows_of(path)
    assert sorted(rows) == [f"{number:08d}_000.png" for number in range(FILMS)]
    for number in range(FILMS):
        report, row = report_of(float(film(number))), rows[f"{number:08d}_000.png"]
        assert float(row["Finding"]) == report.finding.probability
        assert [float(row[f"prob_{name}"]) for name in FINDINGS] == [report.diseases[n].probability for n in FINDINGS]
        assert (row["routed"], row["error"]) == (str(report.routed), "")
    assert not path.with_name("predictions.csv.partial").exists()


def start(words: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "client.score", *words]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore Ctrl-C
    )


def test_every_film_has_a_row_with_its_report_s_probabilities(words, tmp_path: Path, capsys) -> None:
    assert main(words) == 0
    assert_complete(tmp_path / "predictions.csv")
    unrouted = rows_of(tmp_path / "predictions.csv")["00000000_000.png"]
    assert (unrouted["Finding"], unrouted["routed"]) == ("0.4", "False")
    assert {unrouted[f"prob_{name}"] for name in FINDINGS} == {"0.0"}
    assert unrouted["models"] == "binary=1.0.0+synthetic disease=1.0.1"
    said = capsys.readouterr()
    assert "40 films, 40 read" in said.out
    assert "40/40" in said.err
    assert "films/s" in said.err


def test_the_table_is_read_by_the_evaluation_which_names_the_refused_films(
    words, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "images_001" / "images" / "00000000_000.png").write_bytes(b"refuse 422 NotARadiograph")
    labels = ["No Finding" if number % 2 else "Mass|Hernia" for number in range(FILMS)]
    images = [f"{number:08d}_000.png" for number in range(FILMS)]
    table = pd.DataFrame({"Image Index": images, "Finding Labels": labels, "Patient ID": range(FILMS)})
    table.to_csv(folder / "Data_Entry_2017.csv", index=False)
    assert main(words) == 4
    found = read_predictions(tmp_path / "predictions.csv", folder)
    assert sorted(found.images) == images[1:]
    expected = {image: report_of(float(film(number))) for number, image in enumerate(images)}
    np.testing.assert_array_equal(found.scores[:, 0], [expected[image].finding.probability for image in found.images])
    mass = found.scores[:, found.names.index("Mass")]
    np.testing.assert_array_equal(mass, [expected[image].diseases["Mass"].probability for image in found.images])
    assert "1 films were refused and are left out, the first: ['00000000_000.png (NotARadiograph)']" in caplog.text


def test_refused_films_have_their_reason_and_no_probability(words, folder: Path, tmp_path: Path, capsys) -> None:
    (folder / "bad.png").write_bytes(b"refuse 400 TruncatedImage")
    (folder / "huge.png").write_bytes(b"9" * 8_000_000)
    assert main(words) == 4
    rows = rows_of(tmp_path / "predictions.csv")
    assert len(rows) == FILMS + 2
    assert [rows[name]["error"] for name in ("bad.png", "huge.png")] == ["TruncatedImage", "BodyTooLarge"]
    assert {rows["bad.png"][column] for column in COLUMNS[1:-1]} == {""}
    said = capsys.readouterr().out
    assert "42 films, 40 read" in said
    assert "2 refused: " in said
    assert "bad.png (TruncatedImage)" in said


def test_a_film_whose_file_cannot_be_read_has_a_row_that_says_so(words, folder: Path, tmp_path: Path, capsys) -> None:
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    assert main(words) == 1
    assert rows_of(tmp_path / "predictions.csv")["gone.png"]["error"] == "FileNotRead"
    assert "1 without a report: gone.png (FileNotRead)" in capsys.readouterr().out


def test_a_full_service_is_waited_for_as_long_as_it_says(service: GatewayStub, folder: Path, tmp_path: Path) -> None:
    full = [Say(429, "QueueFull", "7"), Say(503, "Busy", "5"), Say(503, "NotReady", "5")] * TRIES
    service.script[film(3)] = list(full)
    service.script[film(4)] = [Say(503, "InternalError")] * 3
    gateway = Hurried(service.address)
    with PredictionsTable(tmp_path / "predictions.csv") as table:
        score(find_films(folder)[0], table, gateway)
        table.finish()
    assert_complete(tmp_path / "predictions.csv")
    asked = {"QueueFull": 7.0, "Busy": 5.0, "NotReady": 5.0}
    waits = [(kind, seconds) for kind, seconds in gateway.waits if kind in asked]
    assert [kind for kind, _ in waits] == [say.type for say in full]
    assert all(asked[kind] <= seconds <= 1.5 * asked[kind] for kind, seconds in waits)
    unasked = [seconds for kind, seconds in gateway.waits if kind == "InternalError"]
    for seconds, least in zip(unasked, (0.5, 1.0, 2.0), strict=True):
        assert least <= seconds <= 1.5 * least


def test_a_restart_of_the_service_costs_no_film(service: GatewayStub, folder: Path, tmp_path: Path) -> None:
    service.hold_after = 15
    gateway = Hurried(service.address)

    def restart() -> None:
        service.wait_until(answered=15, held=4)
        service.stop()
        gateway.waited.wait(PATIENCE)
        service.release()
        service.start()

    restarter = threading.Thread(target=restart)
    restarter.start()
    with PredictionsTable(tmp_path / "predictions.csv") as table:
        score(find_films(folder)[0], table, gateway)
        restarter.join()
        assert gateway.waits[0][0] == "Unreachable"
        table.finish()
    assert_complete(tmp_path / "predictions.csv")


@pytest.mark.parametrize(
    ("say", "type"),
    [(Say(503, "NotServed", "0"), "NotServed"), (Say(504, "DeadlinePassed", "0"), "DeadlinePassed")],
)
def test_a_film_that_the_service_cannot_answer_is_given_up_by_name(
    words, service: GatewayStub, tmp_path: Path, capsys, say: Say, type: str
) -> None:
    service.script[film(39)] = [say] * 1000
    assert main(words) == 1
    assert service.posts[film(39)] == TRIES
    rows = rows_of(tmp_path / "predictions.csv")
    assert rows.pop("00000039_000.png")["error"] == type
    assert len(rows) == FILMS - 1
    assert not any(row["error"] for row in rows.values())
    assert f"1 without a report: 00000039_000.png ({type})" in capsys.readouterr().out


def test_a_film_that_breaks_its_connection_is_given_up_only_while_others_are_read(service: GatewayStub) -> None:
    class Others(Hurried):
        def wait(self, cause: NotNow, seconds: float) -> None:
            super().wait(cause, seconds)
            self.hear()  # another connection has its answer

    service.script[film(0)] = [Say(0)] * 1000
    with pytest.raises(ServerDown, match=r"has answered no film for 0\.2 s \(Unreachable"):
        Hurried(service.address, silence=0.2).read(film(0))
    alone = service.posts[film(0)]
    given_up = Others(service.address).read(film(0))
    assert isinstance(given_up, Refusal)
    assert given_up.error.type == "Unreachable"
    # The first try says nothing: it was not known then that others were read.
    assert service.posts[film(0)] - alone == TRIES + 1


def test_a_service_that_stays_away_ends_the_run_at_last(service: GatewayStub, folder: Path, tmp_path: Path) -> None:
    service.hold_after = 10
    gateway = Hurried(service.address, silence=0.2)
    with PredictionsTable(tmp_path / "predictions.csv") as table:
        stopper = threading.Thread(target=lambda: (service.wait_until(10, 4), service.stop()))
        stopper.start()
        with pytest.raises(ServerDown, match=r"has answered no film for 0\.2 s \(Unreachable"):
            score(find_films(folder)[0], table, gateway)
        stopper.join()
        assert len(table.names) == 10


def test_after_kill_9_the_same_command_gives_each_film_exactly_once(
    words, service: GatewayStub, tmp_path: Path
) -> None:
    service.hold_after = 17
    killed = start(words)
    service.wait_until(answered=17, held=4)
    killed.kill()
    killed.communicate()
    with PredictionsTable(tmp_path / "predictions.csv") as table:
        written = len(table.names)
    assert not (tmp_path / "predictions.csv").exists()
    service.release()
    again = start(words)
    _, said = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0
    assert f"{written}/40" in said.replace(" ", "")
    assert_complete(tmp_path / "predictions.csv")
    repeated = sum(times - 1 for times in service.posts.values())
    assert repeated == 21 - written


def test_ctrl_c_says_the_command_that_goes_on(words, service: GatewayStub, tmp_path: Path) -> None:
    service.hold_after = 12
    stopped = start(words)
    service.wait_until(answered=12, held=4)
    stopped.send_signal(signal.SIGINT)
    _, said = stopped.communicate(timeout=PATIENCE)
    assert stopped.returncode == 130
    assert "Traceback" not in said
    assert f"of 40 films are in {tmp_path}/predictions.csv.partial; the same command goes on from there" in said
    assert f"python -m client.score {' '.join(words)}" in said
    service.release()
    assert main(words) == 0
    assert_complete(tmp_path / "predictions.csv")


@pytest.mark.parametrize("left", [0, 1, 5000, 50_000, 100_000])
def test_rows_whose_writing_was_cut_anywhere_are_scored_again(
    words, service: GatewayStub, tmp_path: Path, left: int
) -> None:
    """A kill, or a machine without power, leaves SQLite's log cut at any byte."""
    out, partial = tmp_path / "predictions.csv", tmp_path / "predictions.csv.partial"
    service.hold_after = 30
    killed = start(words)
    service.wait_until(answered=30, held=4)
    killed.kill()
    killed.communicate()
    service.release()
    log = partial.with_name(f"{partial.name}-wal")
    os.truncate(log, min(left, log.stat().st_size))
    with PredictionsTable(out) as table:
        kept = len(table.names)
    before = service.posts.total()
    assert main(words) == 0
    assert_complete(out)
    assert service.posts.total() - before == FILMS - kept
    assert not list(tmp_path.glob("predictions.csv.*"))


def test_a_table_of_something_else_is_never_overwritten(words, folder: Path, tmp_path: Path, capsys) -> None:
    out, partial = tmp_path / "predictions.csv", tmp_path / "predictions.csv.partial"
    with closing(sqlite3.connect(tmp_path / "sweep.db")) as sweep:
        sweep.execute("CREATE TABLE trials (number, state)")
    table = (tmp_path / "sweep.db").read_bytes()
    for foreign in (b"m", b"my,notes\n1,2\n", b"\xff\n", ",".join(COLUMNS).encode() + b"\n", bytes(5000), table):
        partial.write_bytes(foreign)
        assert main(words) == 1
        assert partial.read_bytes() == foreign
        assert "predictions.csv.partial is no table of this command: move it away" in capsys.readouterr().err
    partial.unlink()
    with PredictionsTable(out) as table:
        assert main(words) == 1
        assert "is being written by another run" in capsys.readouterr().err
        table.add("stranger.png", report_of(0.5))
    assert main(words) == 1
    assert "holds 1 films that are not among those to score, the first: ['stranger.png']" in capsys.readouterr().err
    out.write_text("kept")
    assert main(words) == 1
    assert "is there already" in capsys.readouterr().err
    assert out.read_text() == "kept"
    with pytest.raises(TableError, match="is there already"):
        PredictionsTable(out)


def test_faults_of_the_call_end_with_the_client_s_exit_codes(
    words, folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    (nobody,) = free_ports(1)
    assert main([*words, "--address", f"http://127.0.0.1:{nobody}"]) == 2
    assert "make serve" in capsys.readouterr().err
    assert main([*words, "--address", "localhost"]) == 1
    assert "'localhost' is no address" in capsys.readouterr().err
    assert main([*words, "--address", "http://localhost:none"]) == 1
    assert "'http://localhost:none' is no address" in capsys.readouterr().err
    (tmp_path / "old.key").write_text("revoked\n")
    assert main([*words, "--key-file", str(tmp_path / "old.key")]) == 3
    assert "refuses the key" in capsys.readouterr().err
    monkeypatch.delenv("CXR_KEY")
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    assert "secrets/first.key is not there" in capsys.readouterr().err
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "first.key").write_text(f"{KEY}\n")
    assert main(words) == 0


def test_what_answers_but_is_not_the_gateway_is_said_so(words, service: GatewayStub, folder: Path, capsys) -> None:
    service.script[film(0)] = [Say(404, "NotFound")]
    assert main(words) == 1
    assert "answers HTTP 404, which is not the gateway's way" in capsys.readouterr().err
    assert main([*words[:-2], "--list", os.devnull]) == 1
    assert "the list names no film" in capsys.readouterr().err
