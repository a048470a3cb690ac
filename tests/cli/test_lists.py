"""`commands`, `logs --command` and the Python API for a run of a list, on the control host and over HTTP."""

import json
from collections.abc import Callable

import pytest

from provisioner.core.errors import Conflict, NotFound
from provisioner.core.views.commands import CommandState
from provisioner.faces.cli import exits
from provisioner.faces.python import connect
from tests.cli.conftest import Provision
from tests.e2e.rig import Rig
from tests.support.listed import MemoryCommands, command, install

pytestmark = pytest.mark.usefixtures("whole", "listed")

BINARY = bytes(range(256)) * 1000 + b"\x1b]0;title\x07no line end"
COMMANDS = [
    command(0, exit_code=0, seconds=0.25, output_bytes=len(BINARY)),
    command(1, CommandState.FAILED, exit_code=3, seconds=61.0, output_bytes=11, text="exit 3\n# \x1b[31mred"),
    command(2, CommandState.FAILED, exit_code=137, why="limit", seconds=4000.0, output_bytes=9),
    command(3, CommandState.LOST, generation=4),
    command(4, CommandState.RUNNING),
    command(5, CommandState.WAITING, generation=0, attempt=None, rank=None),
]


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> MemoryCommands:
    made = MemoryCommands(COMMANDS, {0: BINARY, 1: b"no line end", 2: b"too long\n"})
    install(monkeypatch, made)
    return made


@pytest.fixture(scope="module")
def run(whole: Rig) -> list[str]:  # noqa: ARG001 - each installation has a run of its own
    return []


@pytest.fixture
def waiting(provision: Provision, recipe: Callable[..., str], run: list[str]) -> str:
    """Return the id of a run of a list that gets no machine."""
    if not run:
        file = recipe("listed", command=[each.text for each in COMMANDS], instance_type="g6.xlarge", nprocs=2)
        assert provision("apply", file).code == 0
        run.append(provision("start", "listed", "--detach").out.decode().strip())
    return run[0]


def indexes(done_out: bytes) -> list[int]:
    return [each["index"] for each in json.loads(done_out)]


def test_commands_are_listed_in_order(provision: Provision, waiting: str) -> None:
    lines = provision("commands", waiting).out.decode().splitlines()
    assert [line.split()[:6] for line in lines] == [
        ["INDEX", "STATE", "TRY", "CODE", "TOOK", "RANK"],
        ["0", "succeeded", "1", "0", "0.2s", "0"],
        ["1", "failed", "1", "3", "1m01s", "0"],
        ["2", "failed", "1", "137", "limit", "1h06m"],
        ["3", "lost", "4", "-", "-", "0"],
        ["4", "running", "1", "-", "-", "0"],
        ["5", "waiting", "-", "-", "-", "-"],
    ]
    # Control characters of a command are shown as text.
    assert lines[2].endswith("exit 3\\x0a# \\x1b[31mred")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), [0, 1, 2, 3, 4, 5]),
        (("--failed",), [1, 2, 3]),
        (("--running",), [4]),
        (("--state", "waiting", "--running"), [4, 5]),
        (("--limit", "2"), [0, 1]),
        (("--failed", "--limit", "2"), [1, 2]),
        (("--state", "cancelled"), []),
    ],
)
def test_options_select_commands_over_all_pages(
    provision: Provision, waiting: str, listed: MemoryCommands, words: tuple[str, ...], found: list[int]
) -> None:
    """A page of the service may be empty and not the last."""
    listed.each = 1
    assert indexes(provision("commands", waiting, "--json", *words).out) == found


def test_shortened_list_says_so(provision: Provision, waiting: str) -> None:
    assert (
        provision("commands", waiting, "--limit", "5").last_line == "only the first 5 are shown; --limit N shows more"
    )
    assert provision("commands", waiting, "--limit", "6").err == ""
    assert provision("commands", waiting, "--state", "cancelled").last_line == "no command is in this state"


def test_output_of_one_command_is_byte_for_byte_what_it_wrote(provision: Provision, waiting: str) -> None:
    done = provision("logs", waiting, "--command", "0")
    assert (done.code, done.err) == (0, "")
    assert done.out == BINARY
    assert provision("logs", waiting, "--command", "1").out == b"no line end"


def test_job_log_is_printed_as_it_comes(provision: Provision, waiting: str) -> None:
    assert provision("commands", waiting, "--csv").out == b'Seq,Command\n1,"a\nb"\n'


def test_outputs_of_failed_commands_follow_lines_with_their_numbers(provision: Provision, waiting: str) -> None:
    """A command without output has only its line; one that was lost before it ended, too."""
    done = provision("logs", waiting, "--failed")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        b"== command 1: exit code 3\nno line end\n== command 2: exit code 137 (limit)\ntoo long\n"
        b"== command 3: lost with its machine\n"
    )


def test_no_output_of_failed_commands_is_said(provision: Provision, waiting: str, listed: MemoryCommands) -> None:
    listed.commands = COMMANDS[:1]
    assert provision("logs", waiting, "--failed").last_line == "no command has failed"


def test_one_command_is_stopped(provision: Provision, waiting: str, listed: MemoryCommands) -> None:
    done = provision("stop", waiting, "--command", "4")
    expected = f"command 4 is stopping; see its end: provision commands {waiting[:12]} --state cancelled\n"
    assert (done.code, done.out.decode()) == (0, expected)
    assert provision("stop", waiting, "--command", "1").out == b"command 1 has ended before: failed\n"
    assert json.loads(provision("stop", waiting, "--command", "5", "--json").out)["index"] == 5
    assert listed.stopped == [4, 1, 5]


def test_rerun_passes_its_options_on(provision: Provision, waiting: str) -> None:
    done = provision("rerun", waiting, "--failed", "--unfinished", "--idempotency-key", "once")
    assert (done.code, done.out) == (exits.INVALID, b"")
    assert f"no command of run {waiting[:12]} failed, once, True" in done.err


PROBLEMS = [
    ("logs RUN --command 6", exits.NOT_FOUND, "has no command 6: its commands are 0 to 5"),
    ("logs RUN --command 4", exits.CONFLICT, "command 4 has not ended: its output appears when it ends"),
    ("logs RUN --command -1", exits.INVALID, "'--command': Input should be greater than or equal to 0"),
    ("logs RUN --command x", exits.INVALID, "'--command': Input should be a valid integer"),
    *(
        (f"logs RUN --command 0 {more}", exits.INVALID, "cannot be combined with --command")
        for more in ("--follow", "--rank 0", "--stream output", "--attempt 1", "--tail 0", "--json")
    ),
    ("logs 0000 --command 0", exits.NOT_FOUND, "no run '0000'"),
    ("commands 0000", exits.NOT_FOUND, "no run '0000'"),
    *(
        (f"logs RUN --failed {more}", exits.INVALID, "cannot be combined with --failed")
        for more in ("--follow", "--rank 0", "--tail 0")
    ),
    ("logs RUN --failed --command 1", exits.INVALID, "cannot be combined with --command"),
    ("commands RUN --csv --failed", exits.INVALID, "cannot be combined with --csv"),
    ("stop RUN RUN --command 1", exits.INVALID, "requires exactly one RUN"),
    ("stop RUN --command 6", exits.NOT_FOUND, "has no command 6: its commands are 0 to 5"),
    ("rerun RUN", exits.INVALID, "say which commands run again: give --failed"),
    ("rerun RUN --failed --detach --wait", exits.INVALID, "cannot be combined with --wait or --follow"),
    ("commands RUN --state done", exits.INVALID, "'done' is not one of 'waiting', 'assigned'"),
    ("commands RUN --limit 0", exits.INVALID, "'--limit': Input should be greater than or equal to 1"),
    ("commands", exits.INVALID, "Missing argument 'RUN'"),
]


@pytest.mark.parametrize(("words", "code", "text"), PROBLEMS, ids=lambda value: str(value)[:50])
def test_wrong_use_is_one_clear_line(provision: Provision, waiting: str, words: str, code: int, text: str) -> None:
    done = provision(*words.replace("RUN", waiting).split())
    assert (done.code, done.out) == (code, b"")
    (line,) = done.err.splitlines()
    assert text in line


def test_run_with_one_command_has_no_numbered_commands(
    provision: Provision, waiting: str, listed: MemoryCommands
) -> None:
    listed.commands = []
    for words in (("commands", waiting), ("logs", waiting, "--command", "0")):
        done = provision(*words)
        assert (done.code, done.out) == (exits.INVALID, b"")
        text = f"run {waiting[:12]} has one command; only runs of a list have numbered commands"
        assert done.err.splitlines() == [f"provision: {text}"]


def test_python_has_the_same_commands_and_outputs(waiting: str, listed: MemoryCommands) -> None:
    listed.each = 2
    with connect() as client:
        run = client.run(waiting)
        assert list(run.commands()) == COMMANDS
        assert [each.index for each in run.commands("failed")] == [1, 2]
        assert [each.index for each in run.commands(["lost", "running"])] == [3, 4]
        assert run.output(0) == BINARY
        with pytest.raises(Conflict):
            run.output(5)
        with pytest.raises(NotFound):
            run.output(6)
        with pytest.raises(ValueError, match="'done' is not a valid CommandState"):
            next(run.commands("done"))
