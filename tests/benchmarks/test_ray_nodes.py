"""Ray's nodes on a machine of the tests or of the benchmark."""

from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the extra 'cluster' is not installed")

from benchmarks.arms.ray_nodes import ray_cluster

STORE_MEMORY = 80 * 2**20


def test_nodes_start_where_ray_never_ran_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with ray_cluster(1, STORE_MEMORY) as one:
        assert len(one.list_all_nodes()) == 1
    assert list(tmp_path.iterdir()) == []
