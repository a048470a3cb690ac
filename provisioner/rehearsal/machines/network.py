"""Run a command in a network of its own, which is connected to other such networks and to this computer's network.

    network.py SWITCH ADDRESS PORTS RESOLVER COMMAND...

SWITCH is the path of the network namespace that connects the networks, ADDRESS is the command's address, and PORTS are
the ports of this computer's 127.0.0.1 that the command reaches at its own 127.0.0.1, separated by commas. RESOLVER is
the address of this computer's name server. The command also has its own host name, like that of an EC2 machine.

A connection to another computer ends at this program, which makes a second one from this computer's network, and
forwards the bytes. So nothing changes in this computer's network: it gets no interface, address, route or firewall
rule. The kernel removes a namespace with the last process or open file that uses it, also after SIGKILL.
"""

import ctypes
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

#: The first two numbers of the addresses; a computer in this range of this computer's network cannot be reached.
SUBNET = "10.213"
#: Address at which a machine reaches the ports of this computer's 127.0.0.1.
GATEWAY = "169.254.169.2"
#: Address of the name server, as on EC2 (Amazon VPC User Guide, "Amazon DNS server").
NAME_SERVER = "169.254.169.253"
#: The interface in the switch that connects the machines.
BRIDGE = "machines"

#: <linux/sched.h>
CLONE_NEWUTS, CLONE_NEWNET = 0x04000000, 0x40000000
#: <linux/netfilter_ipv4.h>: the destination of a connection before REDIRECT changed it.
SO_ORIGINAL_DST = 80
#: The port of name servers.
DNS = 53
#: Seconds that a name server has for its answer: resolvers try again after five.
ANSWER = 5.0
ETC = Path("/etc")
#: The tools of this computer: on a light machine, PATH finds doubles of some.
TOOLS = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

SWITCH_SCRIPT = f"ip link add {BRIDGE} up type bridge && echo made && read -r _"

OWN_RULE = "-A OUTPUT -p tcp -d 127.0.0.0/8 --dport {port} -j REDIRECT --to-ports {tcp}"
#: The default route leads nowhere. Without one, the kernel would make no packet whose destination REDIRECT can change.
NETWORK_SCRIPT = f"""
ip address add {{address}}/16 dev eth0
ip link set eth0 up
ip route add default dev eth0
iptables-restore --wait <<END
*nat
{{own}}
-A OUTPUT -d 127.0.0.0/8 -j RETURN
-A OUTPUT -d {SUBNET}.0.0/16 -j RETURN
-A OUTPUT -p tcp -j REDIRECT --to-ports {{tcp}}
-A OUTPUT -p udp -d {NAME_SERVER} --dport {DNS} -j REDIRECT --to-ports {{udp}}
COMMIT
END
"""


def switch() -> int:
    """Make a namespace that connects the networks of machines, and return its descriptor. Raises OSError."""
    command = ["unshare", "--net", "sh", "-c", SWITCH_SCRIPT]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing, env=TOOLS) as made:
        assert made.stdout is not None
        if not made.stdout.readline():
            raise OSError("this process may not make a network namespace with a bridge")
        return os.open(f"/proc/{made.pid}/ns/net", os.O_RDONLY)


def address(number: int) -> str:
    """Return the address of the machine with this number."""
    return f"{SUBNET}.{number >> 8 & 255}.{number & 255}"


def has(address: str) -> bool:
    """Return whether the address is one of `address`."""
    return address.startswith(f"{SUBNET}.")


def host_name(address: str) -> str:
    """Return EC2's name for a machine with this private address, without the domain."""
    return f"ip-{address.replace('.', '-')}"


def furnish(etc: Path, address: str) -> None:
    """Write the machine's `hosts` and `resolv.conf`: those of this computer, its own name, and its name server."""
    name = host_name(address)
    hosts = (ETC / "hosts").read_text().rstrip("\n")
    (etc / "hosts").write_text(f"{hosts}\n{address} {name}.ec2.internal {name}\n")
    kept = [line for line in _resolver() if not line.startswith("nameserver")]
    (etc / "resolv.conf").write_text("\n".join([f"nameserver {NAME_SERVER}", *kept, ""]))


def _resolver() -> list[str]:
    try:
        return (ETC / "resolv.conf").read_text().splitlines()
    except OSError:
        return []


def name_server() -> str:
    """Return the address of this computer's first name server."""
    named = [words[1] for words in map(str.split, _resolver()) if words[:1] == ["nameserver"] and len(words) > 1]
    # resolv.conf(5): without any, the name server of this computer is used.
    return named[0] if named else "127.0.0.1"


def run(command: Sequence[str], switch: str, address: str, ports: str, resolver: str) -> int:
    """Run the command in a new network until it ends; return its exit code."""
    outside, middle = (os.open(path, os.O_RDONLY) for path in ("/proc/self/ns/net", switch))
    _call("unshare", CLONE_NEWNET | CLONE_NEWUTS)
    inside = os.open("/proc/self/ns/net", os.O_RDONLY)
    socket.sethostname(host_name(address))
    _enter(middle)
    # Created in the switch, the pair of interfaces is never in this computer's network.
    ours, theirs = f"m{socket.inet_aton(address).hex()}", f"/proc/{os.getpid()}/fd/{inside}"
    _do("ip", "link", "add", ours, "master", BRIDGE, "up", "type", "veth", "peer", "name", "eth0", "netns", theirs)
    _enter(inside)
    # Before lo is up, a socket that is bound to 127.0.0.1 sends from another address.
    _do("ip", "link", "set", "lo", "up")
    connections = socket.create_server(("127.0.0.1", 0), backlog=1024)
    questions = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    questions.bind(("127.0.0.1", 0))
    tcp, udp = connections.getsockname()[1], questions.getsockname()[1]
    own = "\n".join(OWN_RULE.format(port=port, tcp=tcp) for port in ports.split(","))
    _do("sh", "-ec", NETWORK_SCRIPT.format(address=address, own=own, tcp=tcp, udp=udp))
    child = subprocess.Popen(command)
    # The two sockets stay in the machine's network. Those that the threads make are in this computer's network.
    _enter(outside)
    _begin(_serve, connections, resolver)
    _begin(_resolve, questions, resolver)
    return child.wait()


def _call(name: str, *arguments: int) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        raise OSError(ctypes.get_errno(), name)


def _enter(namespace: int) -> None:
    _call("setns", namespace, CLONE_NEWNET)


def _do(*words: str) -> None:
    subprocess.run(words, stdin=subprocess.DEVNULL, env=TOOLS, check=True)


def _begin(function: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


def _serve(connections: socket.socket, resolver: str) -> None:
    while True:
        try:
            _begin(_forward, connections.accept()[0], resolver)
        except (OSError, RuntimeError):
            # This process has too many open files or threads for now.
            time.sleep(0.1)


def _forward(inner: socket.socket, resolver: str) -> None:
    """Connect to where the connection was meant to go, and copy bytes both ways until both ways have ended."""
    with inner:
        try:
            _, port, where = struct.unpack("!HH4s", inner.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)[:8])
            meant = socket.inet_ntoa(where)
            host = {GATEWAY: "127.0.0.1", NAME_SERVER: resolver}.get(meant, meant)
            with socket.create_connection((host, port)) as outer:
                back = threading.Thread(target=_copy, args=(outer, inner), daemon=True)
                back.start()
                _copy(inner, outer)
                back.join()
        except OSError:
            _break(inner)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 18):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        # One of the two was reset, so reset the other.
        _break(source)
        _break(target)


def _break(connection: socket.socket) -> None:
    """Let `close` send a reset instead of an end of file, and wake the thread that reads from the connection."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)
    except OSError:
        # It is closed or reset already.
        pass


def _resolve(questions: socket.socket, resolver: str) -> None:
    while True:
        question, asker = questions.recvfrom(65535)
        _begin(_answer, questions, question, asker, resolver)


def _answer(questions: socket.socket, question: bytes, asker: tuple[str, int], resolver: str) -> None:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(resolver, DNS, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as ours:
            ours.settimeout(ANSWER)
            ours.connect(place)
            ours.send(question)
            questions.sendto(ours.recv(65535), asker)
    except OSError:
        # A lost answer: the resolver asks again.
        pass


if __name__ == "__main__":
    code = run(sys.argv[5:], *sys.argv[1:5])
    # Exit without waiting for any thread.
    os._exit(code & 255)
