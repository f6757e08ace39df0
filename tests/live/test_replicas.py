"""Three replicas behind a balancer go over to a new pair of models one by one, while films are read.

What is promised: a film is answered with a report, or with a problem document that says that it was not read, or that
its replica was killed under it. A report is of one pair. Whichever replica has given it, any of them takes what a
reader says of it, once. Each film that was answered with a report is counted once; of those whose replica was killed
each is counted once or not at all. A revoked key is refused by all replicas at their next request.

REPLICAS_FILMS says how many films are read, in six stretches of the same length.
"""

import csv
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from gateway.keys import KEYS_FILE, make, revoke
from tests.gateway.conftest import ROOT
from tests.live.clients import Answer, Load
from tests.live.replicas import PROGRAM, Balancer, Replica
from tests.postgresql import Postgresql, ask
from training.archive import archive

FILMS = int(os.environ.get("REPLICAS_FILMS", "400"))
CLIENTS = 48
SELDOM = 4.0
"""Films a second once those of a stretch are read, until the replica that is started is ready."""
OLD, NEW = "1.0.0+synthetic", "2.0.0+synthetic"
NOT_READ = {"NotReady", "QueueFull", "Busy"}
KILLED = "NotServed"
MISSING = "NO TESTS OF REPLICAS: no film went through a balancer. Install it ('apt-get install haproxy')"


@pytest.fixture(scope="module")
def pairs(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The stores of the old models and of the new."""
    folder = tmp_path_factory.mktemp("pairs")
    for name, version in (("old", "1.0.0"), ("new", "2.0.0")):
        archive(run, folder / name, version, "float32")
    return folder / "old", folder / "new"


@pytest.fixture(scope="module")
def records(postgresql: Postgresql) -> str:
    return postgresql.new_database()


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secrets")


@pytest.fixture(scope="module")
def replicas(
    pairs: tuple[Path, Path], records: str, secrets: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Replica]]:
    """Three, ready, with the old pair."""
    if not PROGRAM:
        pytest.skip(MISSING)
    key = make(secrets / KEYS_FILE, "ward")
    started: list[Replica] = []
    try:
        for _ in range(3):
            started.append(Replica(tmp_path_factory.mktemp("replica"), pairs[0], secrets, records, key))
        for one in started:
            one.wait_until_ready()
        yield started
    finally:
        for one in started:
            one.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def balancer(replicas: list[Replica], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balancer]:
    one = Balancer(replicas, tmp_path_factory.mktemp("balancer"), replicas[0].gateway.key)
    yield one
    one.stop()


def stretch(
    balancer: Balancer, films: list[bytes], step: Callable[[], object] = lambda: None
) -> tuple[list[Answer], float]:
    """Films are read by 48 clients, who have films under way when ``step`` begins, and by some until it ends.

    Returns:
        each film's answer, and the films a second that the 48 clients had reports of.
    """
    with ThreadPoolExecutor(1) as other:
        with Load(balancer, films, CLIENTS) as load:
            load.wait_for_reports(CLIENTS)
            stepping = other.submit(step)
            load.wait_for_reports(FILMS // 6)
        rate = load.reports_a_second()
        with Load(balancer, films, CLIENTS, SELDOM) as seldom:
            stepping.result()
    return [*load.answers, *seldom.answers], rate


def versions(answers: list[Answer]) -> set[tuple[str, str]]:
    reports = [json.loads(answer.body) for answer in answers if answer.status == 200]
    return {(report["models"]["binary"], report["models"]["disease"]) for report in reports}


def judge(port: int, key: str, report: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    said = {"findings": {"Finding": False}}
    return httpx.post(f"http://127.0.0.1:{port}/v1/reports/{report}/feedback", json=said, headers=headers, timeout=60)


def counted(records: str) -> dict[str, int]:
    """The films of each pair."""
    films = "SELECT pair, sum(films) FROM histograms WHERE quantity = 'Finding' GROUP BY pair ORDER BY pair"
    return {pair: int(number) for pair, number in ask(records, films)}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_replicas_go_over_to_a_new_pair_one_by_one_and_no_film_is_lost(
    replicas: list[Replica],
    balancer: Balancer,
    pairs: tuple[Path, Path],
    records: str,
    films: list[bytes],
    tmp_path: Path,
) -> None:
    first, second, third = replicas
    new, key = pairs[1], balancer.key

    def renew(replica: Replica, sent: signal.Signals, code: int) -> None:
        assert replica.end(sent) == code
        replica.start_with(new)

    warm_up, _ = stretch(balancer, films)
    before, rate = stretch(balancer, films)
    ((old_pair, _),) = counted(records).items()
    rolls, rates = zip(
        stretch(balancer, films, lambda: renew(first, signal.SIGKILL, -signal.SIGKILL)),
        stretch(balancer, films, lambda: renew(second, signal.SIGTERM, 0)),
        stretch(balancer, films, lambda: renew(third, signal.SIGTERM, 0)),
        strict=True,
    )
    after, last = stretch(balancer, films)

    answers = [*warm_up, *before, *(answer for roll in rolls for answer in roll), *after]
    refused = Counter(answer.problem for answer in answers if answer.status != 200)
    ids = [json.loads(answer.body)["id"] for answer in answers if answer.status == 200]
    ratios = " ".join(f"{one / rate:.2f}" for one in rates)
    print(f"\n{len(answers)} films, {len(ids)} read, refused {dict(refused)}; {rate:.1f} a second before the roll")
    print(f"during it, over that: {ratios}; after it {last / rate:.2f}")
    assert set(refused) <= {*NOT_READ, KILLED}
    assert refused[KILLED] <= CLIENTS
    assert all(one.headers["Retry-After"] for one in answers if one.status != 200)
    assert versions([*warm_up, *before]) == {(OLD, OLD)}
    assert set().union(*map(versions, rolls)) == {(OLD, OLD), (NEW, NEW)}
    assert versions(after) == {(NEW, NEW)}

    assert len(set(ids)) == len(ids) >= FILMS
    by_pair = counted(records)
    of_old = sum(versions([answer]) == {(OLD, OLD)} for answer in answers)
    assert of_old <= by_pair.pop(old_pair) <= of_old + refused[KILLED]
    assert list(by_pair.values()) == [len(ids) - of_old]
    for replica in replicas:
        shown = replica.gateway.call("GET", "/v1/drift", headers={"Authorization": f"Bearer {key}"}).json()
        assert [shown["pair"]] == list(by_pair)
        assert shown["quantities"]["Finding"]["films"] == len(ids) - of_old

    of_first = first.gateway.read(films[0]).json()["id"]
    assert judge(second.port, key, of_first).status_code == 201
    again = judge(third.port, key, of_first)
    assert (again.status_code, again.json()["type"]) == (409, "urn:cxr:FeedbackGiven")
    of_old_pair = json.loads(before[0].body)["id"]
    assert judge(balancer.port, key, of_old_pair).status_code == 201
    out = tmp_path / "feedback.csv"
    command = [sys.executable, "-m", "workflows.feedback", "export", "--records", records, "--out", str(out)]
    subprocess.run(command, cwd=ROOT, check=True)
    with out.open(newline="") as file:
        assert [row["Image ID"] for row in csv.DictReader(file)] == [of_first, of_old_pair]


@pytest.mark.slow
def test_a_revoked_key_is_refused_by_all_replicas_at_the_next_request(replicas: list[Replica], secrets: Path) -> None:
    key = make(secrets / KEYS_FILE, "visitor")

    def asked() -> list[int]:
        headers = {"Authorization": f"Bearer {key}"}
        return [one.gateway.call("GET", "/v1/drift", headers=headers).status_code for one in replicas]

    assert asked() == [200] * 3
    revoke(secrets / KEYS_FILE, "visitor")
    assert asked() == [401] * 3
