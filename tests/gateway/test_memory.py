"""Films leave no memory behind."""

import random
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.gateway.conftest import Gateway
from tests.gateway.stand_in import StandIn

SIZES = (200, 60_000, 400_000, 3_000_000, 8_000_000, 20_000_000, 30_000_000, 45_000_000)
"""Bytes."""
MORE = 10
"""MB that a gateway may hold beside what it held before; one film that stays in each round would be more."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "status"), [(b"film:0.1;", 200), (b"refuse:422:BlankImage;", 422), (b"status:500;", 503), (b"cut:;", 503)]
)
def test_a_gateway_holds_no_more_after_large_films_than_before(
    roomy: Gateway, torchserve: StandIn, asked: bytes, status: int
) -> None:
    draw, process = random.Random(1), psutil.Process(roomy.process.pid)

    def held() -> float:
        return process.memory_info().rss / 2**20

    def one_round() -> float:
        films = [asked + bytes(size) for size in draw.choices(SIZES, k=32)]
        with ThreadPoolExecutor(6) as clients:
            assert {answer.status_code for answer in clients.map(roomy.read, films)} == {status}
        torchserve.films.clear()  # some 4 GB in all
        return held()

    before = min(one_round() for _ in range(3))
    for _ in range(6):
        one_round()
    # The last films go just after their answers, once the gateway has its turn. It is asked nothing meanwhile: that
    # would bring on the garbage collection for which a leaked film waits.
    roomy.until(lambda: held() < before + MORE)
