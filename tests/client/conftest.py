"""A service for the clients' tests."""

from collections.abc import Iterator

import pytest

from tests.client.gateway_stub import GatewayStub


@pytest.fixture
def service() -> Iterator[GatewayStub]:
    stub = GatewayStub()
    yield stub
    stub.release()
    stub.stop()
