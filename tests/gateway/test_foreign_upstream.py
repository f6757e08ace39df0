"""A film, its token and the key that renews it go to the server's own TorchServe alone."""

from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from gateway.upstream import Unreachable, Upstream
from tests.gateway.torchserve_stub import started, through
from workflows import jvm


@pytest.mark.parametrize("valid", [timedelta(hours=1), timedelta(hours=-1)])
def test_another_program_on_torchserve_s_port_gets_neither_film_nor_token(tmp_path: Path, valid: timedelta) -> None:
    async def read(upstream: Upstream) -> object:
        return await upstream.read(b"film", "1", "chest_xray", {})

    with started(tmp_path) as stub:
        stub.set_token("token-0", valid)
        jvm.forget(tmp_path)
        with pytest.raises(Unreachable, match="it was sent no token"):
            through(stub, read)
        assert not stub.films
        assert not stub.renewals


def test_connections_to_another_program_are_not_kept(tmp_path: Path) -> None:
    async def read(upstream: Upstream) -> list[int]:
        open_files = []
        for _ in range(30):
            with pytest.raises(Unreachable):
                await upstream.read(b"film", "1", "chest_xray", {})
            open_files.append(psutil.Process().num_fds())
        return open_files

    with started(tmp_path) as stub:
        jvm.forget(tmp_path)
        seen = through(stub, read)
    assert seen[-1] <= seen[5] + 3
