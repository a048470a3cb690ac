"""User input is data: it reaches the job byte for byte, and no part of it is executed on the way."""

import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from tests.e2e.rig import Rig, make_repository, rig

#: A text that leaves a file if any part of it is executed.
TOUCH = "$(touch pwned)`touch pwned`;touch pwned|touch pwned&touch pwned\ntouch pwned\n"
#: A text like TOUCH, without white space.
TIGHT = "$(touch${IFS}pwned1)`touch${IFS}pwned2`;'\"&|<>!#%"

VALUES = {
    "PLAIN": "plain",
    "EMPTY": "",
    "SPACES": "  two  spaces\t",
    "QUOTES": """'"''""'\\'\\""",
    "NEWLINES": "\n\na\r\nb\n\n",
    "EXPANSIONS": "$HOME ${HOME} $$ $? !! ~ * ? [a-z] {a,b}",
    "TOUCHES": TOUCH,
    "UNICODE": "é 日本語 🚀 \u202e \x85 \ufeff",
    "CONTROL": "".join(map(chr, range(1, 32))) + "\x7f\x1b[31m",
    "OPTION": "--help",
    "EQUALS": "=a=b=",
    "HEREDOC": "EOF\n'EOF'\n)",
    "NUMBER": "007",
    "LONG": "x" * 100_000,
    # Names that shells, git and Python use, or that the agent's shell code might use.
    "here": "/",
    "code": "7",
    "go": "stay",
    "first": "#!false",
    "interpreter": "false",
    "CDPATH": "/",
    "ENV": "$(touch pwned)",
    "BASH_ENV": "$(touch pwned)",
    "PS4": "$(touch pwned)",
    "GIT_SSH_COMMAND": "touch pwned",
    "GIT_EXTERNAL_DIFF": "touch pwned",
    "PYTHONSTARTUP": "/no-such-file",
}
#: The command's shell sets IFS itself; the agent's shell must ignore the user's value.
IFS = {"IFS": "aeiou/="}
FOLDER = f"/home/jovyan/a b{TIGHT}"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, dict[str, Run]]]:
    """Run one job with these values in its recipe, and one that gets them at its start."""
    folder = tmp_path_factory.mktemp("hostile")
    repository = make_repository(folder / "plain").rename(folder / f"re{TIGHT}.git")
    subprocess.run(["git", "-C", str(repository), "branch", f"b{TIGHT}"], check=True, capture_output=True)
    # Files of the other machine may vanish while `find` reads the folders; its errors are ignored.
    look = f"find {folder / 'rig' / 'machines'} -name 'pwned*' 2>/dev/null || true"
    command = f"env -0; cat -- {shlex.quote(f'./-p {TIGHT}/greet.py')}\n{look}"
    recipe: dict[str, Any] = {
        "name": "recipe",
        "description": TOUCH,
        "tags": {TOUCH: TOUCH, "-x": "--help"},
        "working_directory": FOLDER,
        "environment_variables": VALUES | IFS,
        "start_script": "pwd; # it's \"quoted\" $(echo only a comment\necho 'it'\\''s' \"$OPTION\"\n",
        "git_repositories": [
            {"url": f"file://{repository}", "reference": f"b{TIGHT}", "path": f"-p {TIGHT}"},
        ],
    }
    start: dict[str, Any] = {"name": "start", "environment_variables": {"PLAIN": "the recipe's"}}
    with pytest.MonkeyPatch.context() as patch, rig(folder / "rig", patch) as whole:
        patch.chdir(folder)
        first = whole.start(command, **recipe)
        whole.start("false", **start)
        second = whole.service.runs.start("start", VALUES | IFS, command=f"env -0\n{look}", idempotency_key=TOUCH)
        runs = whole.done(first, second)
        yield whole, {run.job_name: run for run in runs}


@pytest.mark.parametrize("job", ["recipe", "start"])
def test_values_arrive_byte_for_byte(hostile: tuple[Rig, dict[str, Run]], job: str) -> None:
    """Every variable reaches the command unchanged, from the recipe and from --env."""
    whole, runs = hostile
    run = runs[job]
    assert run.verdict is not None
    assert (run.verdict.outcome, run.attempt) == (Outcome.SUCCEEDED, 1), run.verdict
    *pairs, rest = whole.log(run).split(b"\0")
    found = dict(pair.split(b"=", 1) for pair in pairs)
    got = {name: found.get(name.encode(), b"(missing)") for name in VALUES}
    assert got == {name: value.encode() for name, value in VALUES.items()}
    # The rest is the cloned file, and the path of any file that an execution left.
    assert rest == (b"print('hello from the repository')\n" if job == "recipe" else b"")


def test_hostile_paths_are_used_literally(hostile: tuple[Rig, dict[str, Run]]) -> None:
    """The working directory has this exact name, and the start script is one script."""
    whole, runs = hostile
    first, *rest = whole.log(runs["recipe"], "setup").decode().splitlines()
    assert first.endswith(FOLDER.removeprefix("/home/jovyan"))
    assert rest == ["it's --help"]


def test_nothing_was_executed(hostile: tuple[Rig, dict[str, Run]]) -> None:
    """No file was touched, neither in the control plane's folder, nor in the repository, nor on a machine."""
    whole, runs = hostile
    assert list(whole.folder.parent.rglob("pwned*")) == []
    assert b"pwned" not in whole.log(runs["start"]).rpartition(b"\0")[2]
