"""Networks of light machines: what a machine reaches, and that nothing is left."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from provisioner.rehearsal.machines import network
from provisioner.rehearsal.machines.host import Guest
from provisioner.rehearsal.machines.light import LightHost
from tests.e2e.processes import processes_with
from tests.polling import until
from tests.support import needs

#: User-data that runs a Python program and leaves the machine up.
USER_DATA = """Content-Type: text/x-shellscript

#!/bin/sh
exec python3 - <<'END'
{program}
END
"""

#: Functions for the machines' programs.
ASKING = """
import socket, subprocess

def ask(host, port, sent=b""):
    try:
        with socket.create_connection((host, port), 20) as to:
            to.sendall(sent)
            to.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: to.recv(9), b"")).decode()
    except OSError as error:
        return type(error).__name__
"""

#: A loopback address for this computer's name server.
RESOLVER = "127.53.53.53"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LightHost]:
    needs.networks(proves="a light machine of a run with several machines has its own network")
    made = LightHost(tmp_path / "machines")
    yield made
    made.close()


def guest(name: str, address: str, program: str, ports: tuple[int, int] = (1, 2)) -> Guest:
    metadata, aws = (f"http://127.0.0.1:{port}" for port in ports)
    told = USER_DATA.format(program=program)
    return Guest(name, "g5.xlarge", "ami-1", "us-east-1", "us-east-1a", "spot", 0.0, address, told, metadata, aws)


def console(host: LightHost, name: str, end: str) -> list[str]:
    """Return the lines that the machine has printed, when the line `end` is among them."""
    until(lambda: f"{end}\n" in host.console(name), end, lambda: host.console(name))
    return host.console(name).splitlines()


Serve = Callable[[Callable[[socket.socket], None]], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Yield a function that opens a port of this computer's 127.0.0.1 and lets `answer` handle each connection."""
    with ExitStack() as up:

        def opened(answer: Callable[[socket.socket], None]) -> int:
            server = up.enter_context(socket.create_server(("127.0.0.1", 0)))

            def accept() -> None:
                try:
                    while True:
                        with server.accept()[0] as connection:
                            answer(connection)
                except OSError:
                    # The test is over.
                    pass

            thread = threading.Thread(target=accept)
            thread.start()
            up.callback(thread.join)
            up.callback(server.shutdown, socket.SHUT_RDWR)
            return int(server.getsockname()[1])

        yield opened


def count(connection: socket.socket) -> None:
    """Send how many bytes the client has sent before its end of file."""
    got = sum(map(len, iter(lambda: connection.recv(65536), b"")))
    connection.sendall(f"{got} bytes".encode())


def reset(connection: socket.socket) -> None:
    """Reset the connection after the client's end of file."""
    while connection.recv(65536):
        pass
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_machine_reaches_this_computer_through_its_forwarder(host: LightHost, serve: Serve) -> None:
    """The double's ports answer at the machine's own 127.0.0.1; all ports of this computer's loopback at GATEWAY.

    Ends of file and resets are forwarded, too.
    """
    double, broken, other = serve(count), serve(reset), serve(count)
    address = host.address(256, True)
    program = f"""{ASKING}
print("double", ask("127.0.0.1", {double}, b"x" * 3_000_000))
print("broken", ask("127.0.0.1", {broken}, b"x"))
print("other", ask("127.0.0.1", {other}))
print("gateway", ask("{network.GATEWAY}", {other}, b"xy"))
print("itself", ask("{address}", {double}))
print("name", socket.gethostname(), socket.gethostbyname(socket.gethostname()))
print("end", flush=True)
"""
    host.boot(guest("i-1", address, program, (double, broken)), lambda _: None)
    said = dict(line.split(" ", 1) for line in console(host, "i-1", "end") if " " in line)
    assert said == {
        "double": "3000000 bytes",
        "broken": "ConnectionResetError",
        "other": "ConnectionRefusedError",
        "gateway": "2 bytes",
        "itself": "ConnectionRefusedError",
        "name": f"ip-{address.replace('.', '-')} {address}",
    }


def test_a_machine_resolves_names_through_this_computers_name_server(
    host: LightHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer comes from the address that the machine has asked; resolvers ignore others."""
    monkeypatch.setattr(network, "name_server", lambda: RESOLVER)
    program = f"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
    asker.settimeout(20)
    asker.sendto(b"where?", ("{network.NAME_SERVER}", 53))
    answer, (server, port) = asker.recvfrom(99)
print(server, port, answer.decode())
print("end", flush=True)
"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.bind((RESOLVER, 53))
        resolver.settimeout(60)
        host.boot(guest("i-1", host.address(256, True), program), lambda _: None)
        question, asker = resolver.recvfrom(99)
        resolver.sendto(question + b" here", asker)
        assert f"{network.NAME_SERVER} 53 where? here" in console(host, "i-1", "end")


def networks(processes: list[int], descriptors: list[int]) -> set[str]:
    """Return the network namespaces that the processes are in, and those that the others have open."""
    inside = [Path(f"/proc/{process}/ns/net") for process in processes]
    held = [path for process in descriptors for path in Path(f"/proc/{process}/fd").glob("*")]
    found = set()
    for path in [*inside, *held]:
        try:
            found.add(os.readlink(path))
        except OSError:
            # The process has ended meanwhile.
            pass
    return {name for name in found if name.startswith("net:")}


def test_a_killed_rehearsal_leaves_no_network(host: LightHost, tmp_path: Path) -> None:
    """After kill -9, no process has the machines' networks or their switch, and this computer never had an interface.

    The kernel removes a network that no process has.
    """
    host.close()
    interfaces = set(os.listdir("/sys/class/net"))
    marker = f"m{uuid.uuid4().hex[:12]}"
    program = f"""
import dataclasses, time
from pathlib import Path
from provisioner.rehearsal.machines.host import Guest
from provisioner.rehearsal.machines.light import LightHost
host = LightHost(Path({str(tmp_path / marker)!r}))
up = {guest("i-1", "", "print('up', flush=True)")!r}
for number in (256, 257):
    name = f"i-{{number}}"
    host.boot(dataclasses.replace(up, instance_id=name, address=host.address(number, True)), print)
    while "up" not in host.console(name): time.sleep(0.05)
print("up", flush=True)
time.sleep(1000)
"""
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "up\n"
    made = networks(processes_with(marker), [holder.pid]) - networks([os.getpid()], [])
    assert len(made) == 3, "two machines and the switch"
    assert set(os.listdir("/sys/class/net")) == interfaces
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    until(lambda: not processes_with(marker) and not list((tmp_path / marker).iterdir()), "the end of all processes")
    every = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    assert not made & networks(every, every)
    assert set(os.listdir("/sys/class/net")) == interfaces


@pytest.mark.parametrize("lacking", ["switch", "furnish"])
def test_machines_share_the_network_where_the_trial_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    """A computer without the rights or the programs gets loopback addresses, and no file is left."""

    def fail(*_: object) -> None:
        raise OSError("no such right")

    monkeypatch.setattr(network, lacking, fail)
    host = LightHost(tmp_path / "machines")
    assert host.address(1, True).startswith("127.1.")
    assert list(tmp_path.glob("machines/*")) == []
    host.close()


def test_names_of_a_machine_are_those_of_this_computer_and_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    monkeypatch.setattr(network, "ETC", theirs)
    (theirs / "hosts").write_text("127.0.0.1 localhost\n192.0.2.9 git.example")
    (theirs / "resolv.conf").write_text("search example\nnameserver 127.0.0.53\nnameserver 192.0.2.1\n")
    network.furnish(ours, "10.213.1.0")
    assert (ours / "hosts").read_text().splitlines() == [
        *("127.0.0.1 localhost", "192.0.2.9 git.example"),
        "10.213.1.0 ip-10-213-1-0.ec2.internal ip-10-213-1-0",
    ]
    assert (ours / "resolv.conf").read_text() == f"nameserver {network.NAME_SERVER}\nsearch example\n"
    assert network.name_server() == "127.0.0.53"
    (theirs / "resolv.conf").unlink()
    assert network.name_server() == "127.0.0.1"
