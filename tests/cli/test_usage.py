"""Mistakes in usage: each gives a line that says what to do, and an exit code of the CLI."""

import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Verdict
from provisioner.core.views import from_records
from provisioner.core.views.run import Run
from provisioner.faces.cli import exits
from provisioner.faces.cli.catalog import CATALOG, Commands
from provisioner.faces.cli.terminal import outcomes
from tests.cli.conftest import HERE, Provision
from tests.support import samples
from tests.support.heavy import HEAVY, SERVERS
from tests.support.samples import NOW

pytestmark = pytest.mark.usefixtures("whole")


@HERE
def test_the_list_of_commands_says_what_their_help_says() -> None:
    """`--help` imports no command, so the catalog repeats the first line of each help text."""
    for name, listed in CATALOG.items():
        command = Commands().get_command(None, name)
        assert command.help.partition("\n\n")[0].replace("\n", " ") == listed.text
        assert listed.example in command.epilog


@HERE
@pytest.mark.parametrize(
    "words",
    [
        *((), ("--help",), ("-h",), ("ami",), ("ami", "-h")),
        *((name, "-h") for name in CATALOG),
        *(("ami", name, "-h") for name in ("bake", "list", "use", "delete")),
        *(("token",), ("token", "-h"), *(("token", name, "-h") for name in ("create", "list", "revoke"))),
    ],
)
def test_help_works_for_every_command_without_settings(
    provision: Provision, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Help goes to standard output, exits with 0 and needs no settings."""
    monkeypatch.delenv("PROVISION_SETTINGS")
    done = provision(*words)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(b"Usage: ")


def test_help_tells_every_exit_code(provision: Provision) -> None:
    """The CLI's exit codes are documented in its help."""
    text = provision("--help").out.decode()
    assert all(f"  {code:<3}  {meaning}\n" in text for code, meaning in exits.MEANING.items())
    assert all(code >= 64 for code in exits.MEANING)


def test_a_command_loads_no_server(provision: Provision) -> None:  # noqa: ARG001 - the fixture needs `whole`'s settings
    """Only `serve` imports FastAPI and its dependencies."""
    code = (
        "import sys; from provisioner.faces.cli import main; main.run(['jobs', '--json']);"
        f"print(*(name for name in {SERVERS} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_help_loads_nothing_heavy() -> None:
    """`provision --help` imports no cloud, store or model, so it starts about as fast as Python."""
    code = (
        "import sys; from provisioner.faces.cli import main; main.run(['--help']);"
        f"print(*(name for name in {HEAVY} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("strat",), "'start'"),
        (("start",), "'JOB'"),
        (("wait",), "'RUN...'"),
        (("start", "x", "--detach", "--wait"), "--detach"),
        (("start", "x", "--env", "NAME"), "NAME=VALUE"),
        (("logs", "x", "--stream", "stdout"), "system, setup, output"),
        (("logs", "x", "--tail", "-1"), "--tail"),
        (("logs", "x", "--attempt", "0"), "--attempt"),
        (("runs", "--limit", "99999999999999999999"), "--limit"),
        (("runs", "--debug"), "before the command"),
        (("rehearse",), "--serve"),
        (("rehearse", "--serve", "--end"), "--end"),
        (("rehearse", "--serve", "--env", "A=1"), "only for a RECIPE"),
        (("rehearse", "--background", "--json"), "--json"),
        (("rehearse", "--end", "--json"), "--json"),
        (("start", "x", "--idempotency-key", ""), "--idempotency-key"),
        (("start", "x", "--env", "=x"), "the name is missing in --env '=x'"),
        (("stop",), "--job"),
        (("stop", "x", "--all"), "--all"),
        (("schema", "--output", "cook"), "token list"),
        (("init", "kitchen"), "recipe"),
        (("schedule", "x", "--timezone", "UTC"), "CRON"),
        (("schedule", "x", "@daily", "--disable"), "--disable"),
        (("ami", "cook"), "cook"),
        (("ami", "use"), "'AMI'"),
        (("ami", "bake", "--disk", "1"), "--disk"),
        (("rehearse", "x", "--serve"), "--serve"),
        (("rehearse", "no-such-file"), "no-such-file"),
        (("rehearse", "--serve", "--machine", "xen"), "light, scripted, qemu"),
        (("rehearse", "--serve", "--machine", "qemu", "--docker"), "only for light machines"),
        (("rehearse", "--serve", "--machine", "scripted", "--no-sandbox"), "only for light machines"),
        (("rehearse", "--serve", "--machine", "qemu", "--shared-network"), "only for light machines"),
        (("apply", "/"), "Is a directory"),
        (("status", "\udcff"), "UTF-8"),
        (("--settings", "/no-such-file", "runs"), "provision rehearse"),
    ],
)
def test_wrong_usage(provision: Provision, words: tuple[str, ...], told: str) -> None:
    """One line names the mistake or the correct form; exit code 64."""
    done = provision(*words)
    assert (done.code, done.out) == (exits.INVALID, b"")
    assert done.err.startswith("provision: ")
    assert done.err.count("\n") == 1
    assert told in done.err


@HERE
def test_a_preloaded_image_is_no_option(provision: Provision) -> None:
    """As in a recipe, an image's name must not begin with a hyphen."""
    done = provision("ami", "bake", "--preload", "-x")
    assert (done.code, done.out) == (exits.INVALID, b"")
    assert "-x" in done.err


@pytest.mark.parametrize("name", ["", "%", "_", "zz", "../../x", "$(x)", "' OR 1=1 --", "\x1b[2J", "é" * 1000])
@pytest.mark.parametrize(
    "command", ["status", "wait", "logs", "stop", "receipt", "show", "start", "delete", "schedule"]
)
def test_unknown_name_is_not_found(provision: Provision, command: str, name: str) -> None:
    """A name is looked up and never interpreted: an unknown one gives one plain line and exit code 66."""
    done = provision(command, "--", name)
    assert (done.code, done.out) == (exits.NOT_FOUND, b"")
    assert done.err.count("\n") == 1
    assert "\x1b" not in done.err


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"\0", b"[]", b"a: b: c", b"x" * (1 << 21)])
def test_file_that_is_not_a_recipe_is_refused(provision: Provision, tmp_path: Path, content: bytes) -> None:
    """The error names the file, the exit code is 64, and no job is created."""
    path = tmp_path / "recipe"
    path.write_bytes(content)
    done = provision("apply", str(path))
    assert done.code == exits.INVALID
    assert str(path) in done.err
    assert b"recipe" not in provision("jobs").out


def test_every_problem_of_a_recipe_is_told_at_once(provision: Provision, tmp_path: Path) -> None:
    """Each problem has one line with the line number in the file and a suggestion."""
    path = tmp_path / "bad.yaml"
    path.write_text("type: job\nspec:\n  name: bad\n  imagee: any\n  instance_type: g5\n  command: ''\n")
    lines = provision("apply", str(path)).err.splitlines()
    assert [line.startswith(f"provision: {path}:") for line in lines] == [True] * len(lines)
    assert any(":4: spec.imagee" in line and "did you mean image?" in line for line in lines)
    assert any(":5: spec.instance_type" in line for line in lines)


def test_debug_shows_where(provision: Provision) -> None:
    """With --debug the traceback precedes the error line; without it there is none."""
    assert "Traceback" not in provision("status", "zz").err
    done = provision("--debug", "status", "zz")
    assert "Traceback" in done.err
    assert done.last_line.startswith("provision: no run")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_crash_a_command(closed: str) -> None:
    """A shell may close any stream: the command must not crash, or write to a file that got the descriptor."""
    command = f'"{sys.executable}" -m provisioner.faces.cli.main jobs {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, "fault" in done.stderr) == (0, False)


def ended(outcome: Outcome, code: int | None, reason: str = "why") -> Run:
    return from_records.run(samples.run(verdict=Verdict(outcome, reason, NOW, code), ended_at=NOW))


#: The exit codes of `wait` and of `rehearse`.
EXITS = [
    (Outcome.SUCCEEDED, 0, 0, 0),
    (Outcome.FAILED, 7, 7, 7),
    (Outcome.FAILED, 255, 255, 255),
    (Outcome.FAILED, None, 80, 80),
    *((outcome, 0, code, code) for outcome, code in exits.WITHOUT_EXIT_CODE.items()),
    # A shell sees only the lowest eight bits of 256: 0.
    *((outcome, 256, code, code) for outcome, code in exits.WITHOUT_EXIT_CODE.items()),
    (Outcome.CANCELLED, 7, 81, 7),
    (Outcome.CANCELLED, None, 81, 81),
    (Outcome.TIMED_OUT, 143, 82, 143),
    (Outcome.INTERRUPTED, 7, 83, 83),
    (Outcome.LOST, None, 84, 84),
    (Outcome.REFUSED, None, 85, 85),
]


@HERE
@pytest.mark.parametrize(("outcome", "code", "of_wait", "of_rehearsal"), EXITS)
def test_only_success_exits_0(outcome: Outcome, code: int | None, of_wait: int, of_rehearsal: int) -> None:
    """Only a success exits with 0. The process's own code is used only if it explains the outcome."""
    run = ended(outcome, code)
    assert (outcomes.of_run(run), outcomes.of_rehearsal(run)) == (of_wait, of_rehearsal)
    assert (outcomes.of_runs([run]), outcomes.of_runs([ended(Outcome.SUCCEEDED, 0), run])) == (of_wait, of_wait)
    [line] = outcomes.last_lines([run])
    assert f"{of_wait}" in line


def test_an_exit_code_is_told_once() -> None:
    """If a signal ended the job, the reason already has the exit code, so the line does not repeat it."""
    failed = ended(Outcome.FAILED, 137, "died of SIGKILL (exit code 137)")
    assert outcomes.last_lines([failed]) == ["r1 failed: died of SIGKILL (exit code 137)"]


def test_invalid_choice_lists_the_valid_ones(provision: Provision) -> None:
    """The line lists the valid choices, without wording of the CLI library."""
    done = provision("runs", "--state", "dnoe")
    assert done.err.startswith("provision: Invalid value for '--state': 'dnoe' is not one of 'queued', ")


def test_closed_pipe_ends_the_command_silently() -> None:
    """`provision … | head -1` prints no error."""
    command = f"{sys.executable} -m provisioner.faces.cli.main schema | head -1"
    done = subprocess.run(["bash", "-c", command + "; exit ${PIPESTATUS[0]}"], capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"{\n", b"")
    assert done.returncode in (0, exits.UNREAD)


def test_last_line_of_several_runs_says_that_all_succeeded() -> None:
    runs = [ended(Outcome.SUCCEEDED, 0)] * 3
    assert outcomes.last_lines(runs)[-1] == "all 3 runs succeeded"


@HERE
def test_light_machine_cannot_be_entered(provision: Provision) -> None:
    done = provision("ssh", "1f3c", "--", "true")
    assert done.code == exits.INVALID
    assert "light machines" in done.err
    assert "--machine qemu" in done.err
