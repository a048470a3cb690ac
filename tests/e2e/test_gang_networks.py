"""Runs with several machines at the same time, end to end: their leaders listen at ports that do not collide."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from provisioner.core.protocol.keys import rank_name
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from tests.e2e.commands import Command
from tests.e2e.rig import Rig, rig
from tests.support import needs

#: The leader listens at all of its addresses. Each rank prints its host name, and where it finds the leader; rank 1
#: prints what the leader sends. The ranks end when the file exists.
TALK = """#!/usr/bin/env python3
import os, pathlib, socket, time
rank, leader = os.environ["PROVISION_RANK"], (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
said = ""
if rank == "0":
    server = socket.create_server(("", leader[1]))
    server.accept()[0].sendall(os.environ["RUN_ID"].encode())
for _ in range(600 if rank == "1" else 0):
    try:
        said = socket.create_connection(leader).makefile().read()
        break
    except ConnectionRefusedError:
        time.sleep(0.1)
print(socket.gethostname(), *leader, socket.gethostbyname(leader[0]), said, flush=True)
while not pathlib.Path({over!r}).exists():
    time.sleep(0.1)
"""

Open = Callable[..., Rig]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    with ExitStack() as up:
        yield lambda **options: up.enter_context(rig(tmp_path / "rig", monkeypatch, **options))


def talk(whole: Rig, over: Path) -> list[tuple[Run, str, list[list[str]]]]:
    """Run two runs at the same time; return each run, its leader's address, and the words that each rank printed."""
    runs = [whole.start(TALK.format(over=str(over)), scale=2) for _ in range(2)]
    whole.pace = 0.2

    def said_all() -> bool:
        failed = any(whole.service.runs.record(run.id).done_at for run in runs)
        return failed or all(whole.log(run, rank=rank).endswith(b"\n") for run in runs for rank in (0, 1))

    whole.until(said_all)
    over.touch()
    outcomes = [run.verdict and run.verdict.outcome for run in whole.done(*runs)]
    assert outcomes == [Outcome.SUCCEEDED] * 2
    store = whole.service.installation.store
    leaders = [store.machines([store.nodes(run.id)[0].instance_id])[0].address for run in runs]
    said = [[whole.log(run, rank=rank).decode().split() for rank in (0, 1)] for run in runs]
    return list(zip(runs, leaders, said, strict=True))


def test_leaders_of_two_runs_listen_at_one_port_in_networks_of_their_own(opened: Open, tmp_path: Path) -> None:
    """As on EC2, each rank has its own ports and host name, and finds the leader by its name."""
    needs.networks(proves="the leaders of two runs can listen at the same port")
    whole = opened()
    hosts = set()
    for run, leader, (first, second) in talk(whole, tmp_path / "over"):
        assert first == [f"ip-{leader.replace('.', '-')}", rank_name(run.id, 0), "29500", leader]
        assert second[1:] == [*first[1:], run.id]
        hosts |= {first[0], second[0]}
    assert len(hosts) == 4


def test_leaders_of_two_runs_listen_at_different_ports_of_this_computer(opened: Open, tmp_path: Path) -> None:
    """Without networks of their own, ranks find the leader by its address, and its port is free."""
    whole = opened(own_networks=False)
    ports = set()
    for run, leader, (first, second) in talk(whole, tmp_path / "over"):
        assert first[1] == first[3] == leader
        assert leader.startswith("127.")
        assert second == [*first, run.id]
        ports.add(first[2])
    assert len(ports) == 2


def test_rehearsal_with_a_shared_network_uses_loopback_addresses(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "{type: job, spec: {name: job, image: any, instance_type: g5.xlarge, scale: 2, "
        "command: 'case $MASTER_ADDR in 127.*) exit 0; esac; exit 9'}}"
    )
    with Command(tmp_path / "out", "rehearse", str(recipe), "--shared-network") as command:
        assert command.ended() == 0, command.err
