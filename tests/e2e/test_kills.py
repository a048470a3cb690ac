"""scripts/kills: a list under kills of the control plane, agents and machines, and the rules that the script checks."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from scripts.benchmarks import executions, kills
from scripts.benchmarks.executions import Journal, Line

ROOT = Path(__file__).parents[2]


def test_each_command_has_one_record_though_control_plane_agents_and_machines_are_killed() -> None:
    """Of 1,000 commands none executes twice in one generation, and after 10 kills nothing is left."""
    words = (sys.executable, "-m", "scripts.benchmarks.kills", "--commands", "1000", "--kills", "10", "--seed", "1")
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    print(found.stdout, found.stderr)
    told = json.loads(found.stdout.splitlines()[-1])
    assert (found.returncode, told["verdict"], told["broken"]) == (0, "kept", {})
    assert (told["commands"], told["kills"]) == (1000, 10)


def test_a_seed_determines_the_kills_and_there_are_as_many_of_each_kind() -> None:
    planned = kills.plan(7, 20)
    assert planned == kills.plan(7, 20) != kills.plan(8, 20)
    assert Counter(aim.kind for aim in planned) == dict.fromkeys(kills.KINDS, 4)
    shares = [aim.share for aim in planned]
    assert shares == sorted(shares)


def line(what: str, index: int = 5) -> Line:
    """Return the line of `begins 1 a`: what happens, the generation, and the machine."""
    word, generation, machine = what.split()
    return Line(word == "ends", "run", index, int(generation), machine)


@pytest.mark.parametrize(
    ("lines", "broken"),
    [
        (("begins 1 a", "ends 1 a"), None),
        (("begins 1 dead", "begins 2 b", "ends 2 b"), None),
        (("begins 1 dead", "ends 1 dead", "begins 3 b"), None),
        (("begins 1 a", "ends 1 a", "begins 1 a"), "began 2 times"),
        (("begins 1 dead", "begins 1 b"), "began 2 times"),
        (("begins 1 a", "begins 2 b", "ends 2 b"), "its machine a was not lost"),
        (("begins 1 dead", "begins 2 b", "ends 1 dead"), "ended after generation 2 had begun"),
        (("begins 2 b", "begins 1 dead"), "began after generation 2 had begun"),
        (("ends 1 a",), "ended without a begin"),
    ],
)
def test_executions_that_break_a_rule_are_found(lines: tuple[str, ...], broken: str | None) -> None:
    found = list(executions.violations(map(line, lines), killed={"dead"}))
    assert len(found) == (broken is not None), found
    assert (broken or "") in "".join(found)


def test_a_command_that_failed_may_execute_again_on_the_same_machine() -> None:
    lines = [line(what, index=3) for what in ("begins 1 a", "ends 1 a", "begins 2 a", "ends 2 a")]
    assert executions.code(3)
    assert list(executions.violations(lines, killed=())) == []
    assert list(executions.violations([lines[0], *lines[2:]], killed=()))


@pytest.mark.parametrize("index", [0, 3, 4, 6])
def test_a_command_notes_its_begin_and_end_outside_the_bucket(tmp_path: Path, index: int) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    given = {
        executions.STEP: executions.TEXT,
        executions.JOURNAL: str(path),
        "PROVISION_RUN_ID": "run",
        "PROVISION_COMMAND_INDEX": str(index),
        "PROVISION_COMMAND_GENERATION": "2",
        "PROVISION_INSTANCE_ID": "i-1",
    }
    ended = subprocess.run(["sh", "-c", executions.COMMAND], env=given, capture_output=True, check=False)
    journal.read()
    journal.close()
    assert ended.returncode == executions.code(index)
    assert ended.stdout == executions.output(index, 2)
    wanted = [Line(False, "run", index, 2, "i-1"), Line(True, "run", index, 2, "i-1")]
    assert journal.lines == {("run", index): wanted}
    assert (journal.ended, journal.machines) == (1, {"i-1": "run"})


def test_a_line_of_the_journal_is_read_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    with path.open("ab", buffering=0) as file:
        file.write(b"begins run 5 1 i-1\nends ru")
        journal.read()
        assert (len(journal.lines["run", 5]), journal.ended) == (1, 0)
        file.write(b"n 5 1 i-1\n")
        journal.read()
    journal.close()
    assert (len(journal.lines["run", 5]), journal.ended) == (2, 1)
