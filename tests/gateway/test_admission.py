"""How many films are admitted, how long they wait, and what becomes of those whose client hangs up."""

import asyncio
import contextlib
import random
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest

from gateway.admission import Admission, Slots
from gateway.problems import Problem
from tests.gateway.conftest import Gateway, StartGateway, answer_on
from tests.gateway.stand_in import StandIn, content, report_of


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def full_queue(gateway: Gateway, torchserve: StandIn, clients: ThreadPoolExecutor) -> list[Future[httpx.Response]]:
    """Films 0 and 1 are with TorchServe, films 2 and 3 wait."""
    films = [clients.submit(gateway.read, f"held:film:0.{at}".encode()) for at in (1, 2)]
    torchserve.wait_until_holding(2)
    films += [clients.submit(gateway.read, f"held:film:0.{at}".encode()) for at in (6, 7)]
    gateway.until(lambda: gateway.state()["waiting"] == 2)
    return films


def is_empty(gateway: Gateway) -> bool:
    state = gateway.state()
    return (state["in_flight"], state["waiting"]) == (0, 0)


def test_no_more_films_reach_torchserve_than_may_be_in_flight_and_those_that_wait_follow(
    narrow: Gateway, torchserve: StandIn, clients: ThreadPoolExecutor
) -> None:
    films = full_queue(narrow, torchserve, clients)
    state = narrow.state()
    assert (state["in_flight"], state["waiting"], len(torchserve.films)) == (2, 2, 2)
    assert narrow.metric("cxr_gateway_in_flight") == 2
    assert narrow.metric("cxr_gateway_waiting") == 2
    assert narrow.metric("cxr_gateway_slots") == 2
    torchserve.release()
    assert [content(film.result()) for film in films] == [report_of(one).model_dump() for one in (0.1, 0.2, 0.6, 0.7)]
    assert is_empty(narrow)


def test_a_full_queue_says_429_and_when_to_come_back_before_a_body_is_sent(
    narrow: Gateway, torchserve: StandIn, clients: ThreadPoolExecutor
) -> None:
    films = full_queue(narrow, torchserve, clients)
    with narrow.open(b"", "Content-Length: 10000000") as connection:
        status, problem = answer_on(connection)
    assert (status, b"urn:cxr:QueueFull" in problem) == (429, True)
    answer = narrow.read(b"film:0.5")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")
    torchserve.release()
    assert [film.result().status_code for film in films] == [200] * 4
    assert narrow.read(b"film:0.5").status_code == 200


def test_a_stranger_is_not_admitted_nor_told_that_the_queue_is_full(
    narrow: Gateway, torchserve: StandIn, clients: ThreadPoolExecutor
) -> None:
    films = full_queue(narrow, torchserve, clients)
    assert narrow.read(b"film:0.5", headers={"Authorization": "Bearer wrong"}).status_code == 401
    torchserve.release()
    assert [film.result().status_code for film in films] == [200] * 4


def test_a_film_that_waits_goes_at_once_when_its_client_hangs_up(narrow: Gateway, torchserve: StandIn, clients) -> None:
    hung_up = 'cxr_gateway_requests_total{outcome="hung_up"}'
    before = narrow.metric(hung_up)
    films = [clients.submit(narrow.read, b"held:film:0.75") for _ in range(2)]
    torchserve.wait_until_holding(2)
    with narrow.open(b"held:film:0.875"):
        narrow.until(lambda: narrow.state()["waiting"] == 1)
    narrow.until(lambda: narrow.state()["waiting"] == 0)
    narrow.until(lambda: narrow.metric(hung_up) == before + 1)
    torchserve.release()
    assert [film.result().status_code for film in films] == [200] * 2
    assert narrow.read(b"film:0.5").status_code == 200
    assert b"held:film:0.875" not in torchserve.films


def test_a_film_that_torchserve_has_keeps_its_slot_after_its_client_hung_up(
    narrow: Gateway, torchserve: StandIn, clients: ThreadPoolExecutor
) -> None:
    hung_up = 'cxr_gateway_requests_total{outcome="hung_up"}'
    before = narrow.metric(hung_up)
    with narrow.open(b"held:film:0.1"), narrow.open(b"held:film:0.2"):
        torchserve.wait_until_holding(2)
    narrow.until(lambda: narrow.metric(hung_up) == before + 2)
    third = clients.submit(narrow.read, b"film:0.75")
    narrow.until(lambda: narrow.state()["waiting"] == 1)
    assert (narrow.state()["in_flight"], len(torchserve.films)) == (2, 2)
    torchserve.release()
    assert content(third.result()) == report_of(0.75).model_dump()
    narrow.until(lambda: is_empty(narrow))
    assert narrow.line(status=499)["bytes"] == len(b"held:film:0.2")


def test_clients_that_hang_up_while_they_send_leave_none_admitted(narrow: Gateway, torchserve: StandIn) -> None:
    for _ in range(5):
        connections = [narrow.open(b"half a film", "Content-Length: 1000") for _ in range(4)]
        narrow.until(lambda: narrow.read(b"film:0.5").status_code == 429)
        for connection in connections:
            connection.close()
        narrow.until(lambda: narrow.read(b"film:0.5").status_code == 200)
    assert is_empty(narrow)


def test_a_film_that_waits_too_long_is_refused_with_503(hasty: Gateway, torchserve: StandIn, clients) -> None:
    first = clients.submit(hasty.read, b"held:film:0.75")
    torchserve.wait_until_holding(1)
    answer = hasty.read(b"film:0.5")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:cxr:Busy")
    assert answer.headers["retry-after"] == "1"
    torchserve.release()
    assert first.result().status_code == 200


def test_a_report_that_takes_too_long_is_504_and_frees_its_slot(
    start_gateway: StartGateway, torchserve: StandIn
) -> None:
    gateway = start_gateway(max_in_flight=1, deadline=1.0)
    answer = gateway.read(b"held:film:0.75")
    assert (answer.status_code, answer.json()["type"]) == (504, "urn:cxr:DeadlinePassed")
    assert torchserve.held == 1
    gateway.until(lambda: gateway.state()["ready"] is True)
    gateway.until(lambda: gateway.read(b"film:0.5").status_code == 200)


def test_a_slow_upload_has_no_slot_and_is_cut_off(hasty: Gateway, torchserve: StandIn) -> None:
    with hasty.open(b"the first bytes", "Content-Length: 1000") as connection:
        assert hasty.read(b"film:0.5").status_code == 200
        assert hasty.state()["in_flight"] == 0
        status, problem = answer_on(connection)
    assert (status, b"urn:cxr:UploadTooSlow" in problem) == (408, True)
    assert torchserve.films == [b"film:0.5"]


def test_slots_are_first_come_first_served_and_those_who_are_cancelled_give_up_their_turn() -> None:
    async def scene() -> list[int]:
        slots, served, leave = Slots(1, max_wait=60.0), [], asyncio.Event()

        async def film(number: int) -> None:
            async with slots.slot():
                served.append(number)
                await leave.wait()

        tasks = []
        for number in range(6):
            tasks.append(asyncio.create_task(film(number)))
            while slots.in_flight + slots.waiting < number + 1:
                await asyncio.sleep(0)
        tasks[1].cancel()
        tasks[4].cancel()
        leave.set()
        await asyncio.wait(tasks)
        assert (slots.in_flight, slots.waiting) == (0, 0)
        return served

    assert asyncio.run(scene()) == [0, 2, 3, 5]


@pytest.mark.parametrize("seed", range(5))
def test_no_slot_is_lost_whenever_films_are_cancelled(seed: int) -> None:
    async def scene() -> None:
        chance = random.Random(seed)
        admission = Admission(max_in_flight=3, max_waiting=5, max_wait=60.0)
        most = 0

        async def film() -> None:
            nonlocal most
            with admission.admit():
                async with admission.slot():
                    most = max(most, admission.in_flight)
                    for _ in range(chance.randrange(4)):
                        await asyncio.sleep(0)

        tasks: list[asyncio.Task[None]] = []
        for _ in range(500):
            tasks.append(asyncio.create_task(film()))
            if chance.random() < 0.3:
                chance.choice(tasks).cancel()
            if chance.random() < 0.5:
                await asyncio.sleep(0)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert most == 3
        assert {type(one) for one in outcomes} == {type(None), asyncio.CancelledError, Problem}
        assert (admission.admitted, admission.in_flight, admission.waiting) == (0, 0, 0)
        async with contextlib.AsyncExitStack() as held:  # all three can be had still
            async with asyncio.timeout(1):
                for _ in range(3):
                    await held.enter_async_context(admission.slot())

    asyncio.run(scene())
