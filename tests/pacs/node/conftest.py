"""Nodes in front of the live service, and who they speak to."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from benchmarks.arms.reserved_ports import free_ports
from tests.gateway.conftest import Gateway
from tests.pacs.node.archive import Archive
from tests.pacs.node.films import film, small_pixels
from tests.pacs.node.orthanc import INSTALLED, MISSING
from tests.pacs.node.process import Node

StartNode = Callable[..., Node]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not INSTALLED:
        terminalreporter.write_line(MISSING, yellow=True, bold=True)


@pytest.fixture(scope="session")
def new_film(film_paths: list[Path]) -> Callable[..., Dataset]:
    """A small film that no test has had yet."""
    numbers = count(1)

    def new(**tags: object) -> Dataset:
        number = next(numbers)
        return film(small_pixels(film_paths[number % len(film_paths)]), number, **tags)

    return new


@pytest.fixture(scope="module")
def start_node(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartNode]:
    """Starts nodes, and ends those that still run."""
    started: list[Node] = []

    def start(peers: list[dict[str, Any]], **settings: Any) -> Node:
        started.append(Node(tmp_path_factory.mktemp("node"), gateway.url, gateway.key, peers, **settings))
        return started[-1]

    yield start
    for node in started:
        if node.process.poll() is None:
            node.kill()


@pytest.fixture(scope="module")
def archive() -> Iterator[Archive]:
    """A PACS that is there."""
    one = Archive("PACS", free_ports(1)[0]).open()
    yield one
    one.close()
