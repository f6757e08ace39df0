"""What the tests ask of the live service."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from workflows.server import Server


@pytest.fixture(scope="session")
def films(film_paths: list[Path]) -> list[bytes]:
    return [path.read_bytes() for path in film_paths]


@pytest.fixture
def counters(server: Server) -> Callable[[], dict[str, float]]:
    """The handlers' counters, as the metrics endpoint shows them, of all workflows together."""

    def read() -> dict[str, float]:
        text = server.call("GET", f"{server.metrics}/metrics", "inference").text
        totals: Counter[str] = Counter()
        for line in text.splitlines():
            if line.startswith("cxr_"):
                series, value = line.split(" ")
                totals[series.partition("{")[0]] += float(value)
        return dict(totals)

    return read


@pytest.fixture
def wait_for(counters) -> Callable[[dict[str, float]], dict[str, float]]:
    """Reads the counters until they show what is expected: workers report them just after they have answered."""

    def wait(expected: dict[str, float]) -> dict[str, float]:
        for _ in range(2000):
            seen = counters()
            if all(seen.get(name, 0) >= value for name, value in expected.items()):
                return seen
        raise AssertionError(f"expected at least {expected}, the metrics endpoint shows {seen}")

    return wait


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60) as client:
        yield client
