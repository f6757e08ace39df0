"""A port that is taken or cannot be had is named before anything starts, with its setting, its owner and what to do."""

import multiprocessing
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflows.conftest import Holder, change
from workflows.ports import Port, of_torchserve, require_free
from workflows.server import Server, ServerError, read_settings

SETTINGS = (
    "inference_address",
    "management_address",
    "metrics_address",
    "grpc_inference_port",
    "grpc_management_port",
)
LISTEN = "one = socket.create_server(('{host}', {port}))"


def port_of(folder: Path, setting: str) -> int:
    return int(read_settings(folder)[setting].rpartition(":")[2])


def accepted(folder: Path, ours: tuple[int, ...] = ()) -> None:
    require_free(of_torchserve(Server.of_folder(folder)), ours)


def refusal(folder: Path, ours: tuple[int, ...] = ()) -> str:
    with pytest.raises(ServerError) as refused:
        accepted(folder, ours)
    return str(refused.value)


def test_free_ports_are_accepted_and_left_free(folder: Path) -> None:
    accepted(folder)
    accepted(folder)
    assert [port.number for port in of_torchserve(Server.of_folder(folder))] == [port_of(folder, it) for it in SETTINGS]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_is_named_with_its_setting_and_its_owner(folder: Path, hold: Holder, setting, host) -> None:
    port = port_of(folder, setting)
    owner = hold(LISTEN.format(host=host, port=port), "an-old-dashboard")
    said = refusal(folder)
    assert f"TorchServe cannot listen on 127.0.0.1, port {port} ({setting} in {folder}/config.properties)" in said
    assert re.search(rf"process {owner.pid} \(.*\) does; end it, or give {setting} another port", said)
    accepted(folder, ours=(owner.pid,))


def test_a_torchserve_of_another_folder_is_named_by_its_folder(folder: Path, hold: Holder, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    listen = LISTEN.format(host="127.0.0.1", port=port_of(folder, "inference_address"))
    owner = hold(listen, "org.pytorch.serve.ModelServer", cwd=other)
    assert f"process {owner.pid} (the TorchServe of {other}) does; end it" in refusal(folder)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_two_settings_with_the_same_port_are_named(folder: Path, host: str) -> None:
    port = port_of(folder, "inference_address")
    change(folder, management_address=f"http://{host}:{port}")
    assert re.match(rf"inference_address in .* and management_address in .* are both {port}", refusal(folder))


def test_the_same_port_at_two_addresses_of_the_machine_is_no_clash(folder: Path) -> None:
    change(folder, metrics_address=f"http://127.0.0.2:{port_of(folder, 'inference_address')}")
    accepted(folder)


def test_a_metrics_port_that_is_switched_off_may_be_taken(folder: Path, hold: Holder) -> None:
    hold(LISTEN.format(host="127.0.0.1", port=port_of(folder, "metrics_address")))
    change(folder, enable_metrics_api="false")
    accepted(folder)


def test_connections_that_were_closed_are_no_hindrance(folder: Path) -> None:
    port = port_of(folder, "inference_address")
    with socket.create_server(("127.0.0.1", port)) as listening:
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = listening.accept()
        served.close()  # the side that closes first keeps the port for a minute (TIME_WAIT)
        client.close()
    with socket.socket() as strict, pytest.raises(OSError, match="in use"):
        strict.bind(("127.0.0.1", port))
    accepted(folder)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_this_machine_s_is_named(folder: Path, host: str) -> None:
    change(folder, metrics_address=f"http://{host}:{port_of(folder, 'metrics_address')}")
    assert re.search(rf"\(metrics_address in .*\): {host} is no address of this machine", refusal(folder))


@pytest.mark.parametrize("host", ["http://127.0.0.1", "192.0.2.1", "a..b", "x" * 70])
def test_a_grpc_address_that_is_none_is_named(folder: Path, host: str) -> None:
    change(folder, grpc_management_address=host)
    assert f"{host} is no address of this machine" in refusal(folder)


def test_grpc_may_listen_on_ipv6(folder: Path, hold: Holder) -> None:
    change(folder, grpc_management_address="::1")
    accepted(folder)
    port = port_of(folder, "grpc_management_port")
    owner = hold(f"one = socket.create_server(('::1', {port}), family=socket.AF_INET6)")
    assert f"cannot listen on ::1, port {port} (grpc_management_port in" in (said := refusal(folder))
    assert f"process {owner.pid} " in said


@pytest.mark.parametrize("port", ["seventy", "0", "65536", "-1", "", "7070.0", "٧٠٧٠"])
def test_a_grpc_port_that_is_none_is_named(folder: Path, port: str) -> None:
    change(folder, grpc_inference_port=port)
    said = refusal(folder)
    assert said.startswith(f"grpc_inference_port in {folder}/config.properties is ")
    assert said.endswith("no port: a number from 1 to 65535")


def test_a_port_that_only_root_may_have_is_named() -> None:
    if os.getuid() != 0 or Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip() != "1024":
        pytest.skip("this needs root, and a machine that keeps low ports for root")
    port = Port("TorchServe", "127.0.0.1", 81, "inference_address", "give it another port")
    assert "port 81 (inference_address): this user may not have ports as low as that" in as_nobody(
        require_free, [port], set()
    )


def test_the_port_of_another_user_s_program_is_named_as_such(hold: Holder, free_ports) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can be another user")
    (number,) = free_ports(1)
    hold(LISTEN.format(host="127.0.0.1", port=number))
    port = Port("TorchServe", "127.0.0.1", number, "inference_address", "give it another port")
    assert "a program of another user does; end it, or give it another port" in as_nobody(require_free, [port], set())


def as_nobody(check: Callable[..., None], *arguments: object) -> str:
    """What another user is told, in a process of that user's."""
    fork = multiprocessing.get_context("fork")
    said = fork.Queue()

    def refused() -> None:
        os.setgid(65534)
        os.setuid(65534)
        try:
            check(*arguments)
            said.put("")
        except ServerError as fault:
            said.put(str(fault))

    child = fork.Process(target=refused)
    child.start()
    answer = str(said.get(timeout=60))
    child.join()
    return answer
