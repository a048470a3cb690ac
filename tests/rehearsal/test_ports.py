"""Ports of light machines that share this computer's network."""

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from provisioner.rehearsal.machines import light
from provisioner.rehearsal.machines.host import Guest
from provisioner.rehearsal.machines.light import LightHost
from tests.ports import free_ports


def port_of(address: str) -> int:
    """Return the port that a leader with this address listens at, as its ranks know it."""
    high, low = address.split(".")[2:]
    return int(high) << 8 | int(low)


def test_machines_of_two_rehearsals_have_different_free_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that a program uses, or that a machine of any rehearsal has, is not given again before it is free."""
    with socket.create_server(("127.0.0.1", 0)) as program, ExitStack() as up:
        free = free_ports(2)
        monkeypatch.setattr(light, "PORTS", [free[0], program.getsockname()[1], free[1]])
        one, other = (LightHost(tmp_path, sandbox=False) for _ in range(2))
        up.callback(one.close)
        up.callback(other.close)
        addresses = [one.address(1, True), other.address(1, True)]
        assert sorted(map(port_of, addresses)) == sorted(free)
        with pytest.raises(light.NotSafe, match="no port of"):
            one.address(2, True)
        one.boot(Guest("i-1", "x", "ami", "region", "zone", "spot", 0.0, addresses[0], "", "", ""), lambda _: None)
        one.end("i-1")
        assert other.address(2, True) == addresses[0]
        other.close()
        assert one.address(3, True) in addresses


def test_machine_of_a_run_with_one_machine_holds_no_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(light, "PORTS", [])
    assert LightHost(tmp_path, sandbox=False).address(256, False) == "127.0.1.0"
