"""A list of commands end to end: a real agent, which is killed, and a machine that loses its power."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.lists import uploading
from provisioner.faces.lists.making import from_each, from_texts
from provisioner.ports.control.lists import CommandFilter, every
from tests.e2e.processes import agents
from tests.e2e.rig import Rig, rig

COMMANDS, SLOTS = 60, 4
SPEC = {"name": "several", "image": "any", "instance_type": "g5.xlarge", "nprocs": 2}
#: Commands that fail, and one whose output is longer than the agent holds back.
FAILS, LONG = (5, 23, 41), 30


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with rig(tmp_path, monkeypatch) as made:
        made.pace = 0.1
        yield made


def command(index: int) -> str:
    """Return a command that writes its index and generation, and bytes that are no text.

    It is so slow that the machine reports each end within two seconds.
    """
    more = "yes long | head -c 200000" if index == LONG else "sleep 0.5"
    begins = rf"printf 'begins {index} %s\n\000\377\r' $PROVISION_COMMAND_GENERATION"
    return rf"{begins}; {more}; printf '\376end'; exit {index % 7 + 1 if index in FAILS else 0}"


def output(index: int, generation: int) -> bytes:
    more = (b"long\n" * 40000)[:200000] if index == LONG else b""
    return f"begins {index} {generation}\n".encode() + b"\0\xff\r" + more + b"\xfeend"


def test_each_command_ends_once_though_the_agent_and_then_the_machine_die(whole: Rig, tmp_path: Path) -> None:
    """No command begins twice in one generation, and each output is what its command wrote, byte by byte."""
    run = whole.start([command(index) for index in range(COMMANDS)], nprocs=SLOTS)
    store = whole.service.installation.store

    def ended() -> int:
        commands = store.command_list(run.id)
        return commands.ended if commands else 0

    whole.until(lambda: ended() >= SLOTS)
    machine = store.nodes(run.id)[0].instance_id
    killed = agents(tmp_path / "machines" / machine)
    assert killed
    for pid in killed:
        os.kill(pid, 9)
    before = ended()
    whole.until(lambda: ended() > before + SLOTS)
    assert len(store.nodes(run.id)) == 1, "the machine outlives its agent"
    whole.double.power_off(machine)
    [done] = whole.done(run)

    assert done.verdict
    assert (done.verdict.outcome, done.verdict.exit_code, done.attempt) == (Outcome.FAILED, 1, 2), done.verdict
    assert whole.double.alive() == []
    page = whole.service.commands.page(run.id, CommandFilter(limit=COMMANDS))
    assert [each.index for each in page.commands] == list(range(COMMANDS))
    codes = {each.index: each.exit_code for each in page.commands}
    assert codes == {index: index % 7 + 1 if index in FAILS else 0 for index in range(COMMANDS)}
    assert any(each.generation > 1 for each in page.commands), "the power cut took no command"
    for each in page.commands:
        written = b"".join(whole.service.commands.output(run.id, each.index))
        assert written == output(each.index, each.generation), each
    raw = b"".join(whole.log(run, attempt=attempt) for attempt in (1, 2))
    begun = Counter(re.findall(rb"begins ([0-9]+ [0-9]+)\n", raw))
    assert max(begun.values()) == 1, begun


def test_machines_share_a_list_and_one_that_is_lost_is_replaced(whole: Rig) -> None:
    """The commands of the first machine, which never end there, move to the others."""
    slow = "until [ -e /tmp/never ]; do sleep 0.05; [ $PROVISION_RANK = 0 ] || exit 0; done"
    run = whole.start(
        [f"{slow}; exit 3" if index < 2 else command(index) for index in range(COMMANDS)], nprocs=2, scale=3
    )
    store = whole.service.installation.store

    def ended() -> int:
        commands = store.command_list(run.id)
        return commands.ended if commands else 0

    def ranks() -> set[int]:
        return {worker.rank for worker in store.workers(run.id) if worker.ended}

    whole.until(lambda: ranks() >= {1, 2})
    first = next(node for node in store.nodes(run.id) if node.rank == 0)
    whole.double.power_off(first.instance_id)
    [done] = whole.done(run)

    assert done.verdict
    assert (done.verdict.outcome, done.verdict.exit_code, done.attempt) == (Outcome.FAILED, 1, 1), done.verdict
    assert whole.double.alive() == []
    page = whole.service.commands.page(run.id, CommandFilter(limit=COMMANDS))
    codes = {each.index: each.exit_code for each in page.commands}
    assert codes == {index: index % 7 + 1 if index in FAILS else 0 for index in range(COMMANDS)}
    for each in page.commands[2:]:
        written = b"".join(whole.service.commands.output(run.id, each.index))
        assert written == output(each.index, each.generation), each
    begun = Counter(re.findall(rb"begins ([0-9]+ [0-9]+)\n", whole.log(run)))
    assert max(begun.values()) == 1, begun


def test_an_uploaded_list_runs_in_place_of_the_jobs_command(whole: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands are in several parts; the control role may write and read them, and their texts are shown."""
    monkeypatch.setattr(uploading, "PART_COMMANDS", 7)
    lines = [f"echo {index} of $PROVISION_COMMANDS" for index in range(20)]
    spec = {"name": "job", "image": "any", "instance_type": "g5.xlarge", "command": ["false"], "nprocs": SLOTS}
    service = whole.service
    service.jobs.apply(yaml.safe_dump({"type": "job", "spec": spec}), "the test's recipe")
    upload = service.uploads.add("\n".join(lines).encode()[at : at + 50] for at in range(0, 1000, 50))
    [done] = whole.done(service.runs.start("job", {}, upload=upload.id))
    assert done.verdict
    assert done.verdict.outcome is Outcome.SUCCEEDED
    assert [each.text for each in every(service.commands, done.id)] == lines
    found = [b"".join(service.commands.output(done.id, index)) for index in range(20)]
    assert found == [f"{index} of 20\n".encode() for index in range(20)]


def test_values_and_variables_reach_a_command_of_several_lines(whole: Rig) -> None:
    """The recipe has one command. Values may have any characters, and no part of them is executed."""
    service = whole.service
    text = yaml.safe_dump({"type": "job", "spec": {**SPEC, "command": "set -u\nprintf '%s|' \"$A\" {#}\n"}})
    job = service.jobs.apply(text, "the test's recipe")
    values = ["a b", "it's", "$(touch x) `touch x`; touch x", "line\nbreak\n"]
    numbered = [f"{each}|{number}|" for number, each in enumerate(values, 1)]
    lists = [
        (from_each(job, [{"A": each} for each in values], None), numbered),
        (from_texts(job, values, "printf %s {}"), values),
    ]
    for made, expected in lists:
        upload = service.uploads.add(made.pieces, null=made.null)
        [done] = whole.done(service.runs.start("several", {}, upload=upload.id))
        outputs = [b"".join(service.commands.output(done.id, index)).decode() for index in range(len(values))]
        assert outputs == expected
