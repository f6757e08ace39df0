"""Runs that share a machine are never given the same port, and a port costs a run nothing that it could run out of."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.arms import reserved_ports
from benchmarks.arms.reserved_ports import free_ports

ROOT = Path(__file__).parents[2]
OF_ANOTHER = """
import sys
from benchmarks.arms import reserved_ports
reserved_ports.PORTS = range(int(sys.argv[1]), int(sys.argv[2]))
print(*reserved_ports.free_ports(len(reserved_ports.PORTS)))
"""


def ports_of_another_run(ports: range) -> list[int]:
    command = [sys.executable, "-c", OF_ANOTHER, str(ports.start), str(ports.stop)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [int(port) for port in run.stdout.split()]


def test_what_one_run_has_no_other_gets_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    few = range(20_100, 20_130)
    monkeypatch.setattr(reserved_ports, "PORTS", few)
    ours = free_ports(10)
    assert len({*ours, *free_ports(10)}) == 20
    theirs = ports_of_another_run(few)
    assert theirs
    assert not {*theirs} & {*ours}
    assert {*theirs} == {*ports_of_another_run(few)}


def test_a_thousand_ports_leave_the_numbers_of_files_alone() -> None:
    free_ports(1)
    before = len(os.listdir("/proc/self/fd"))
    assert len({*free_ports(1000)}) == 1000
    assert len(os.listdir("/proc/self/fd")) == before
