"""Lists of commands that are stopped or interrupted, and those whose agent dies."""

import time
from pathlib import Path

from provisioner.core.protocol.messages import ListOrders, Orders, Secret, Stop
from provisioner.core.protocol.words import Attachment, Outcome, Step
from tests.agent.conftest import Site
from tests.polling import until
from tests.support.command_lists import ends, lines, list_order, output, start_list

#: Makes a file, and prints a line at SIGTERM.
HOLD = "trap 'echo saved; exit {}' TERM; touch \"$HOME/up-{}\"; while :; do sleep 0.1; done"


def home(site: Site, machine: str) -> Path:
    return site.folder / "machines" / machine / "home/jovyan"


def wait_for(site: Site, machine: str, *names: str) -> None:
    for name in names:
        until((home(site, machine) / name).exists, name, lambda: site.host.console(machine))


def test_stop_ends_the_running_commands_and_begins_no_other(site: Site) -> None:
    """Commands that have not begun have no record."""
    commands = [
        HOLD.format(5, 0),
        "trap '' TERM; touch \"$HOME/up-1\"; sleep 600",
        "echo ended",
        "sleep 600",
        "echo never",
    ]
    machine = start_list(site, list_order(site, 3, stop_grace=2.0), commands)
    wait_for(site, machine, "up-0", "up-1")
    until(lambda: lines(site, machine), "the first record")
    stop = Stop(Outcome.CANCELLED, "the user asked", time.time())
    site.give_orders(machine, Orders(stop, commands=ListOrders(1, True)))
    site.wait_off(machine)
    result = site.result(machine)
    assert (result.outcome, result.step, result.exit_code) == (Outcome.CANCELLED, Step.COMMAND, None), result.reason
    found = ends(site, machine)
    # The last `sleep` belongs to a command that ignores SIGTERM.
    assert {index: (end.code, end.why) for index, end in found.items()} == {
        0: (5, "stop"),
        1: (137, "stop"),
        2: (0, ""),
        3: (143, "stop"),
    }
    assert output(site, machine, found[0]).replace(b"Terminated\n", b"") == b"saved\n"


def test_limit_of_the_run_ends_the_list(site: Site) -> None:
    """The control plane, which counts from the first command of the list, may be away."""
    machine = start_list(
        site, list_order(site, 1, runtime_limit=2.0, lifetime=600.0), [HOLD.format(0, 0), "echo never"]
    )
    site.wait_off(machine)
    assert site.result(machine).outcome is Outcome.TIMED_OUT
    assert [(end.index, end.why) for end in lines(site, machine)] == [(0, "stop")]


def test_after_a_notice_running_commands_go_on_and_no_other_begins(site: Site) -> None:
    """SIGTERM comes as late as possible. What fails, or gets SIGTERM, has no record: it executes again elsewhere."""
    commands = [
        'touch "$HOME/up-0"; sleep 4; echo finished',
        'touch "$HOME/up-1"; sleep 3; exit 7',
        HOLD.format(0, 2),
        'touch "$HOME/never"',
    ]
    order = list_order(site, 3, stop_grace=2.0, lifetime=7800.0)
    machine = start_list(site, order, commands, age=7200)
    wait_for(site, machine, "up-0", "up-1", "up-2")
    began = time.time()
    site.metadata.announce(machine, float(int(began) + 24))
    home_folder = home(site, machine)
    until(lambda: ends(site, machine), "the first record")
    assert not (home_folder / "never").exists()
    site.wait_off(machine)
    result = site.result(machine)
    assert (result.outcome, result.step) == (Outcome.INTERRUPTED, Step.COMMAND), result.reason
    assert {index: end.code for index, end in ends(site, machine).items()} == {0: 0}
    assert b"never" not in site.log(machine)
    span = result.spans["command"]
    assert span.ended is not None
    # SIGKILL is due 12 s before AWS takes the machine, and SIGTERM 2 s earlier.
    assert 8 < span.ended - began < 18
    assert site.log(machine).replace(b"Terminated\n", b"") == b"finished\nsaved\n"


def test_failure_that_a_notice_may_have_caused_has_no_record(site: Site) -> None:
    """A program may read the notice before the agent does, and exit."""
    site.variables["PROVISION_NOTICE_INTERVAL"] = "600"
    commands = ["exit 3", 'touch "$HOME/up"; until [ -e "$HOME/on" ]; do sleep 0.05; done; exit 1', "sleep 2; echo ok"]
    machine = start_list(site, list_order(site, 2, lifetime=7800.0), commands, age=7200)
    wait_for(site, machine, "up")
    until(lambda: 0 in ends(site, machine), "the record of an earlier failure")
    site.metadata.announce(machine, float(int(time.time()) + 120))
    (home(site, machine) / "on").touch()
    site.wait_off(machine)
    assert site.result(machine).outcome is Outcome.INTERRUPTED
    assert {index: end.code for index, end in ends(site, machine).items()} == {0: 3, 2: 0}


def test_killed_agent_costs_neither_a_command_nor_a_byte(site: Site) -> None:
    """Its successor goes on where it was: no command executes twice, and none is left out."""
    secret = Secret(site.parameter("token", "hunter2-swordfish"), Attachment.VARIABLE, "TOKEN")
    wait = 'until [ -e "$HOME/on" ]; do sleep 0.05; done'
    long = (
        'echo x >>"$HOME/ran-0"; head -c 150000 /dev/zero; printf %s "it is ${TOKEN%fish}"; touch "$HOME/half"; '
        f'{wait}; echo "fish, ${{TOKEN}}."; exit 7'
    )
    short = 'echo x >>"$HOME/ran-{0}"; printf %s "{0}"; sleep 0.2; exit {1}'
    commands = [long, *(short.format(index, index % 3) for index in range(1, 61))]
    machine = start_list(site, list_order(site, 3, secrets=(secret,)), commands, last=False)
    wait_for(site, machine, "half", "ran-8")
    site.kill_agent(machine)
    (home(site, machine) / "on").touch()
    until(
        lambda: len({end.index for end in lines(site, machine)}) == 61,
        "all records",
        lambda: site.host.console(machine),
    )
    ran = {path.name: path.read_text() for path in home(site, machine).glob("ran-*")}
    assert ran == {f"ran-{index}": "x\n" for index in range(61)}
    site.give_orders(machine, Orders(commands=ListOrders(1, True)))
    site.wait_off(machine)
    assert site.result(machine).outcome is Outcome.SUCCEEDED, site.result(machine).reason
    # An agent that dies just after it wrote a record may write it again.
    for end in lines(site, machine):
        expected = bytes(150000) + b"it is ***, ***.\n" if end.index == 0 else b"%d" % end.index
        assert output(site, machine, end) == expected
        assert end.code == (end.index % 3 if end.index else 7)
    assert b"the agent died at command" in site.whole_log(machine, "system")
    assert b"swordfish" not in site.everything_said(machine)


def test_list_whose_processes_died_with_the_agent_is_lost(site: Site) -> None:
    """What has a record keeps it; the other commands execute again on another machine."""
    kill = 'read -r _ _ _ keep _ <"/proc/$PPID/stat"; read -r _ _ _ entry _ <"/proc/$keep/stat"; '
    kill += 'read -r _ _ _ agent _ <"/proc/$entry/stat"; kill -9 "$agent" "$entry"'
    machine = start_list(site, list_order(site, 1), ["echo first", f"sleep 3; {kill}; sleep 600", "echo never"])
    site.wait_off(machine)
    result = site.result(machine)
    assert (result.outcome, result.step) == (Outcome.LOST, Step.COMMAND), result.reason
    assert {end.index: end.code for end in lines(site, machine)} == {0: 0}
