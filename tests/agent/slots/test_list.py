"""Lists of commands on light machines: each command executes once, and its record has its end and its own output."""

import random
import shlex
import time
from pathlib import Path

from provisioner.core.protocol.command_lines import CommandEnd
from provisioner.core.protocol.messages import ListOrders, Orders, Secret
from provisioner.core.protocol.words import RECORDS, STREAMS, Attachment, Outcome, Step
from tests.agent.conftest import Site, sited
from tests.e2e.processes import processes_with
from tests.polling import until
from tests.support import needs
from tests.support.command_lists import ends, lines, list_order, name_batches, output, put_batch, run_list, start_list

#: Writes the bytes of a file of the machine's home folder.
CAT = 'cat "$HOME/{}"'


def home(site: Site, machine: str) -> Path:
    return site.folder / "machines" / machine / "home/jovyan"


def outputs(site: Site, machine: str) -> dict[int, bytes]:
    return {index: output(site, machine, end) for index, end in ends(site, machine).items()}


def test_two_hundred_commands_execute_once_each_on_four_slots(site: Site) -> None:
    """Each has its own exit code, output and variables; the raw log consists of the outputs."""
    text = 'echo "$PROVISION_COMMAND_INDEX/$PROVISION_COMMANDS $PROVISION_SLOT/$PROVISION_SLOTS"; exit {}'
    machine = site.start(list_order(site, 4, 200))
    put_batch(site, machine, 1, [text.format(index % 3) for index in range(120)])
    put_batch(site, machine, 2, [text.format(index % 3) for index in range(120, 200)], first=120, generation=3)
    name_batches(site, machine, 2)
    site.wait_off(machine)
    result = site.result(machine)
    assert (result.outcome, result.step, result.exit_code) == (Outcome.SUCCEEDED, Step.COMMAND, 0), result.reason
    assert set(result.streams) == set(STREAMS)
    found = ends(site, machine)
    assert sorted(found) == list(range(200))
    told = []
    for index, end in found.items():
        batch, generation = (1, 1) if index < 120 else (2, 3)
        assert (end.batch, end.generation, end.code, end.why) == (batch, generation, index % 3, "")
        place, slots = output(site, machine, end).decode().split()
        assert place == f"{index}/200"
        told.append(slots)
    assert set(told) == {"0/4", "1/4", "2/4", "3/4"}
    assert len(site.whole_log(machine)) == sum(length for end in found.values() for *_, length in end.extents)
    last = site.reports(machine)[-1].commands
    assert last is not None
    assert (last.batches, last.running, last.ended, last.failed, last.waiting) == (2, (), 200, 133, 0)


def test_output_of_each_command_is_exactly_what_it_wrote(site: Site) -> None:
    """Binary, long, empty and unfinished output; standard error; an interpreter line."""
    machine = site.boot()
    data = random.Random(1).randbytes(3 << 20)
    commands = [
        CAT.format("binary"),
        CAT.format("binary") + " | head -c 200001",
        "printf 'no newline'",
        ":",
        "echo out; echo problem >&2",
        "#!/usr/bin/env python3\nimport os, sys\nos.write(2, bytes(range(256)))\nsys.exit(9)",
        'printf "%s" "$PROVISION_TRY"; kill -9 $$',
        f"{CAT.format('binary')} & {CAT.format('binary')}; wait",
        # A process that ignores SIGINT from its start cannot be interrupted.
        "kill -s INT $$; echo lives",
    ]
    home(site, machine).mkdir(parents=True, exist_ok=True)
    (home(site, machine) / "binary").write_bytes(data)
    put_batch(site, machine, 1, commands)
    name_batches(site, machine, 1)
    site.assign(machine, list_order(site, 3))
    site.wait_off(machine)
    found = outputs(site, machine)
    assert found[0] == data
    assert found[1] == data[:200001]
    assert (found[2], found[3], found[4]) == (b"no newline", b"", b"out\nproblem\n")
    assert found[5] == bytes(range(256))
    assert found[6].startswith(b"run-1.6.1.")
    assert (len(found[7]), found[8]) == (2 * len(data), b"")
    codes = [end.code for _, end in sorted(ends(site, machine).items())]
    assert codes == [0, 0, 0, 0, 0, 9, 137, 0, 130]
    assert site.whole_log(machine)


def test_processes_that_a_command_leaves_behind_are_killed(site: Site) -> None:
    """Also one in a session of its own and one that ignores SIGTERM; another slot's processes live on."""
    mark = f"left-{site.bucket}"
    noise = f"#!/bin/sh\n# {mark}\nexec 9<&0; trap '' TERM; while :; do echo noise; sleep 0.1; done"
    leave = f'printf %s {shlex.quote(noise)} >"$HOME/{mark}"; (setsid sh "$HOME/{mark}" &); sleep 0.5; echo left'
    machine = run_list(
        site,
        list_order(site, 2),
        ["sleep 8; echo slow; exit 4", leave, "sleep 600 & exit 2", "echo next", "sleep 1; echo last"],
    )
    found = outputs(site, machine)
    assert found[1].replace(b"noise\n", b"") == b"left\n"
    assert found[1].count(b"noise\n") > 2
    assert [found[index] for index in (0, 2, 3, 4)] == [b"slow\n", b"", b"next\n", b"last\n"]
    assert [end.code for _, end in sorted(ends(site, machine).items())] == [4, 0, 2, 0, 0]
    assert not processes_with(mark)


def test_secret_is_masked_within_a_command_and_not_across_two(site: Site) -> None:
    """It is found if two reads of the pipe have a half each. The end of one output is not held for the next."""
    secret = Secret(site.parameter("token", "hunter2-swordfish"), Attachment.VARIABLE, "TOKEN")
    commands = [
        'printf %s "it is ${TOKEN%fish}"; sleep 0.5; echo "fish, ${TOKEN}."',
        'printf %s "${TOKEN%fish}"',
        "printf fish",
    ]
    machine = run_list(site, list_order(site, 1, secrets=(secret,)), commands)
    assert outputs(site, machine) == {0: b"it is ***, ***.\n", 1: b"hunter2-sword", 2: b"fish"}
    assert b"hunter2-swordfish" not in site.everything_said(machine)


def test_command_that_exceeds_its_limit_is_ended_alone(site: Site) -> None:
    """It gets SIGTERM, then SIGKILL after the grace period; the other commands go on."""
    commands = [
        "trap 'echo saved; exit 5' TERM; echo up; while :; do sleep 0.1; done",
        "trap '' TERM; (trap '' TERM; sleep 600) & wait; sleep 600",
        "for i in 1 2 3 4 5 6 7 8; do sleep 0.2; done; echo done",
        "echo after",
    ]
    machine = run_list(site, list_order(site, 3, limit=3.0, stop_grace=3.0), commands)
    found = ends(site, machine)
    assert [(end.code, end.why) for _, end in sorted(found.items())] == [(5, "limit"), (137, "limit"), (0, ""), (0, "")]
    assert outputs(site, machine)[0].replace(b"Terminated\n", b"") == b"up\nsaved\n"
    assert 3 <= found[0].took < 6 <= found[1].took
    assert site.result(machine).outcome is Outcome.SUCCEEDED


def test_single_commands_are_stopped_and_the_others_go_on(site: Site) -> None:
    """One that runs gets SIGTERM, then SIGKILL; one that has not begun never begins. Both have one record."""
    machine = site.boot()
    put_batch(
        site,
        machine,
        1,
        [
            "trap 'echo saved; exit 0' TERM; echo up >$HOME/up-0; while :; do sleep 0.1; done",
            "trap '' TERM; echo up >$HOME/up-1; while :; do sleep 0.1; done",
            'echo never >"$HOME/never"',
            "echo after",
        ],
    )
    name_batches(site, machine, 1)
    site.assign(machine, list_order(site, 2, 4, stop_grace=2.0))
    for name in ("up-0", "up-1"):
        until((home(site, machine) / name).exists, name, lambda: site.host.console(machine))
    site.give_orders(machine, Orders(commands=ListOrders(1, True, stop=(0, 1, 2))))
    site.wait_off(machine)
    found = ends(site, machine)
    assert [(end.code, end.why) for _, end in sorted(found.items())] == [
        (0, "cancel"),
        (137, "cancel"),
        (0, "skip"),
        (0, ""),
    ]
    assert output(site, machine, found[0]).endswith(b"saved\n")
    assert not (home(site, machine) / "never").exists()
    assert site.result(machine).outcome is Outcome.SUCCEEDED


def test_list_that_ends_early_begins_no_more_commands(site: Site) -> None:
    """Those that run finish, and have their records; then the machine ends, though it has more commands."""
    machine = site.boot()
    slow = 'echo up >"$HOME/up"; while [ ! -e "$HOME/go" ]; do sleep 0.1; done; echo slow; exit 3'
    put_batch(site, machine, 1, [slow, 'echo never >"$HOME/never"'])
    name_batches(site, machine, 1, last=False)
    site.assign(machine, list_order(site, 1, 2))
    until((home(site, machine) / "up").exists, "up", lambda: site.host.console(machine))
    # While a client follows the log, it is shipped every second.
    site.give_orders(machine, Orders(followed_until=time.time() + 600, commands=ListOrders(1, finish=True)))
    site.wait_output(machine, b"the list ends early", "system")
    (home(site, machine) / "go").touch()
    site.wait_off(machine)
    assert {index: end.code for index, end in ends(site, machine).items()} == {0: 3}
    assert not (home(site, machine) / "never").exists()
    result = site.result(machine)
    assert (result.outcome, result.reason) == (Outcome.SUCCEEDED, "the list ends early")


def test_machine_without_a_command_ends_after_its_idle_limit(site: Site) -> None:
    order = list_order(site, 1, idle=2.0)
    machine = start_list(site, order, ["echo only"], last=False)
    site.wait_off(machine)
    result = site.result(machine)
    assert (result.outcome, result.reason) == (Outcome.SUCCEEDED, "no command for 2 s")
    assert outputs(site, machine) == {0: b"only\n"}


def test_command_that_kills_its_slots_shell_fails_alone(site: Site) -> None:
    """Its exit code is that of SIGKILL, and its slot goes on with a new shell. No command executes twice."""
    commands = [
        'echo x >>"$HOME/ran-0"; echo before; sh -c "kill -9 $PPID"; sleep 600',
        *(f'echo x >>"$HOME/ran-{index}"; echo {index}' for index in range(1, 6)),
    ]
    machine = start_list(site, list_order(site, 1), commands, last=False)
    site.wait_output(machine, b"5\n")
    ran = {path.name: path.read_text() for path in home(site, machine).glob("ran-*")}
    name_batches(site, machine, 1)
    site.wait_off(machine)
    assert ran == {f"ran-{index}": "x\n" for index in range(6)}
    found = ends(site, machine)
    assert (found[0].code, found[0].why) == (137, "")
    assert outputs(site, machine) == {0: b"before\n", **{index: b"%d\n" % index for index in range(1, 6)}}


def test_gpus_are_divided_among_the_slots(site: Site) -> None:
    """A light machine has eight GPUs, so that each of three slots gets two of its own."""
    machine = run_list(site, list_order(site, 3, gpus=8), ['echo "$PROVISION_SLOT $CUDA_VISIBLE_DEVICES"; sleep 1'] * 3)
    expected = {b"%d GPU-rehearsed-%d,GPU-rehearsed-%d\n" % (slot, 2 * slot, 2 * slot + 1) for slot in range(3)}
    assert set(outputs(site, machine).values()) == expected


def test_gpus_that_the_job_chooses_itself_are_kept(site: Site) -> None:
    order = list_order(site, 1, gpus=8, environment={"CUDA_VISIBLE_DEVICES": "7", "index": "a", "IFS": "/"})
    machine = run_list(site, order, ['echo "$CUDA_VISIBLE_DEVICES $PROVISION_COMMAND_INDEX $index"'])
    assert outputs(site, machine) == {0: b"7 0 a\n"}


def test_records_follow_the_output_that_they_point_to(site: Site) -> None:
    """In every moment the bucket has the output of each record in it."""
    machine = start_list(site, list_order(site, 2), ["head -c 300000 /dev/zero; sleep 0.3"] * 20)
    seen: list[CommandEnd] = []
    while machine not in site.off:
        for end in lines(site, machine)[len(seen) :]:
            assert len(output(site, machine, end)) == 300000
            seen.append(end)
    assert len(ends(site, machine)) == 20
    assert RECORDS not in site.result(machine).streams


def test_full_disk_stops_no_list(tmp_path: Path, aws_url: str) -> None:
    """The agent has a reserve: it records the command that filled the disk, and the next one may make room."""
    with sited(tmp_path, aws_url, disk=64 << 20) as site:
        needs.bubblewrap(works=site.host.sandboxed, proves="a list goes on after its command has filled the disk")
        fill = 'head -c 200000000 /dev/zero >"$HOME/fill" || { sleep 1; exit 3; }'
        machine = run_list(site, list_order(site, 1), [fill, 'echo here; rm "$HOME/fill"', "echo last"])
        assert [end.code for _, end in sorted(ends(site, machine).items())] == [3, 0, 0]
        found = outputs(site, machine)
        assert b"No space left" in found[0]
        assert (found[1], found[2]) == (b"here\n", b"last\n")


def test_command_that_the_kernel_killed_for_want_of_memory_is_marked(site: Site) -> None:
    """Exit code 137 alone does not show it."""
    told = 'echo "[9.1] Out of memory: Killed process 42 (python) total-vm:1kB" >>"$HOME/../../var/log/dmesg"'
    machine = run_list(
        site, list_order(site, 1), ["kill -9 $$", "sleep 2", f"{told}; kill -9 $$", "sleep 2", "kill -9 $$"]
    )
    found = ends(site, machine)
    assert [(found[index].code, found[index].why) for index in (0, 2, 4)] == [(137, ""), (137, "oom"), (137, "")]
