"""`map`, and `map` of the Python API: lists from files, pipes, variables and objects, here and over HTTP."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provisioner.core.commands.uploads import PARTS
from provisioner.core.errors import Invalid
from provisioner.faces.cli import exits, session
from provisioner.faces.python import Client, connect
from tests.cli.conftest import Done, Provision
from tests.e2e.rig import Rig
from tests.polling import until

pytestmark = pytest.mark.usefixtures("whole")

QUICK = {"name": "quick", "image": "any", "instance_type": "g5.xlarge", "command": "echo hello", "nprocs": 2}


@pytest.fixture
def job(provision: Provision, recipe: Callable[..., str]) -> Callable[..., str]:
    """Return a function that applies a job whose runs get no machine, and returns its name."""

    def apply(name: str = "mapped", command: str | list[str] = "echo hello", **spec: Any) -> str:
        done = provision("apply", recipe(name, command=command, instance_type="g6.xlarge", **spec))
        assert done.code == 0, done.err
        return name

    return apply


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], str]:
    """Return a function that writes a file of commands and returns its path."""

    def write(content: bytes) -> str:
        (tmp_path / "commands").write_bytes(content)
        return str(tmp_path / "commands")

    return write


@pytest.fixture
def client() -> Iterator[Client]:
    with connect() as client:
        yield client


@pytest.fixture
def commands(provision: Provision) -> Callable[..., list[str]]:
    """Return a function that starts a list and returns its commands."""

    def started(*words: str) -> list[str]:
        done = provision("map", *words, "--detach")
        assert done.code == 0, done.err
        return texts(provision, done.out.decode().strip())

    return started


def texts(provision: Provision, run: str) -> list[str]:
    return [each["text"] for each in json.loads(provision("commands", run, "--json").out)]


def runs(provision: Provision) -> list[str]:
    return [run["id"] for run in json.loads(provision("runs", "--json").out)]


def stored(whole: Rig) -> set[str]:
    return {entry.key for entry in whole.service.installation.bucket.list(PARTS)}


def test_each_line_of_a_file_is_a_command(
    job: Callable[..., str], file: Callable[[bytes], str], commands: Callable[..., list[str]]
) -> None:
    path = file("echo 1\r\necho 'ü' {}".encode())
    assert commands(job(), "--commands", path) == ["echo 1", "echo 'ü' {}"]
    assert commands(job("several", ["a", "b"]), "--commands", path) == ["echo 1", "echo 'ü' {}"]


def test_each_line_of_a_pipe_is_a_value(
    job: Callable[..., str], commands: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The template is an option, or the job's command if that has a place for a value."""
    for words, expected in (
        ((job("single"), "--template", "cp {} out/{#}"), ["cp -x out/1", "cp 'a b' out/2"]),
        ((job("placed", "run {}\n"),), ["run -x", "run 'a b'"]),
        ((job("listed", ["a"]), "--template", "echo {#}"), ["echo 1", "echo 2"]),
    ):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"-x\r\na b\n")))
        assert commands(*words, "--commands", "-") == expected


def test_variables_make_all_combinations(job: Callable[..., str], commands: Callable[..., list[str]]) -> None:
    words = "--each", "A=1,2", "--each", "B=x y"
    assert commands(job(), *words) == ["export A=1 B='x y'; echo hello", "export A=2 B='x y'; echo hello"]
    script = job("script", "#!/bin/sh\nset -e\nrun {#}")
    assert commands(script, "--each", "A=1") == ["#!/bin/sh\nexport A=1\nset -e\nrun 1"]
    assert commands(script, "--each", "A=1", "--template", "date") == ["export A=1; date"]


@pytest.fixture
def objects(whole: Rig) -> str:
    """Return the URL of a folder with objects, one of which has an unusual name."""
    for key, data in (("", b""), ("a b.wav", b"1"), ("empty", b""), ("it's", b"1"), ("sub/", b"")):
        whole.service.installation.bucket.put(f"mine/{key}", data)
    return f"s3://{whole.double.bucket}/mine/"


def test_each_object_below_a_prefix_is_a_value(
    job: Callable[..., str], commands: Callable[..., list[str]], objects: str
) -> None:
    """Objects that only show a folder are left out."""
    found = commands(job(), "--over", objects, "--template", "cat {} >{#}")
    assert found == [f"cat '{objects}a b.wav' >1", f"cat {objects}empty >2", f"cat '{objects}it'\"'\"'s' >3"]


def test_bucket_without_the_right_to_list_it_is_named(provision: Provision, job: Callable[..., str]) -> None:
    done = provision("map", job("placed", "cat {}"), "--over", "s3://of-others/x")
    assert (done.code, done.out) == (exits.CLOUD, b"")
    assert done.last_line.endswith("AccessDenied: your AWS credentials need s3:ListBucket for bucket of-others")


def test_options_of_start_are_those_of_the_run(
    provision: Provision, job: Callable[..., str], file: Callable[[bytes], str]
) -> None:
    path = file(b"echo 1\n")
    words = "map", job(), "--commands", path, "--detach", "--scale", "3", "--idempotency-key", "once", "--env", "A=1"
    first = json.loads(provision(*words, "--json").out)
    assert (first["scale"], first["commands"]["total"], first["idempotency_key"]) == (3, 1, "once")
    assert json.loads(provision(*words, "--json").out)["id"] == first["id"]
    file(b"echo 2\n")
    done = provision(*words)
    assert (done.code, done.out) == (exits.CONFLICT, b"")
    assert "the key 'once' was used for run" in done.last_line


def test_list_belongs_to_the_owner_of_the_job(
    provision: Provision, recipe: Callable[..., str], file: Callable[[bytes], str]
) -> None:
    assert provision("apply", recipe("theirs", owner="bob", instance_type="g6.xlarge")).code == 0
    done = provision("map", "bob/theirs", "--commands", file(b"echo 1\n"), "--detach", "--json")
    assert json.loads(done.out)["owner"] == "bob"


def test_dry_run_shows_what_the_list_needs_and_stores_nothing(
    provision: Provision, job: Callable[..., str], file: Callable[[bytes], str], whole: Rig
) -> None:
    name, path = job(nprocs=8, scale=4), file(b"echo 1\n" * 9 + b"# \x1b[31m\n")
    before = runs(provision), stored(whole)
    done = provision("map", name, "--commands", path, "--dry-run")
    assert done.code == 0
    assert done.out.decode().splitlines() == [
        "10 commands, 61 B",
        "  command 0: echo 1",
        "  command 9: # \\x1b[31m",
        "at most 2 machines, 16 commands at once, an unknown price an hour",
        "unknown duration and cost: no command of a list of this job has succeeded yet",
    ]
    assert done.last_line == "nothing was started: run the command again without --dry-run"
    found = json.loads(provision("map", name, "--commands", path, "--dry-run", "--scale", "1", "--json").out)
    assert (found["commands"], found["first"], found["machines"], found["slots"]) == (10, "echo 1", 1, 8)
    assert (runs(provision), stored(whole)) == before


def test_dry_run_estimates_time_and_cost_by_an_earlier_list(
    provision: Provision, client: Client, file: Callable[[bytes], str]
) -> None:
    """The price is that of the only type, and the time of a command is that of the last list with successes."""
    client.apply({"type": "job", "spec": {**QUICK, "name": "measured", "use_spot_instance": True}})
    run = client.map("measured", ["echo 1"]).run
    run.wait()
    path = file(b"echo 1\n" * 100)
    found = json.loads(provision("map", "measured", "--commands", path, "--dry-run", "--json").out)
    assert (found["measured"], found["slots"]) == (run.id, 2)
    assert found["hourly_dollars_least"] == found["hourly_dollars_most"] == 1.0
    assert found["seconds"] == pytest.approx(50 * found["command_seconds"])
    assert found["dollars_most"] == pytest.approx(found["seconds"] / 3600)
    text = provision("map", "measured", "--commands", path, "--dry-run").out.decode()
    assert f"a command took {found['command_seconds']:.3g} s in run {run.id[:12]}" in text


BLANK = "it is blank; write a value, or leave it out"
PROBLEMS: list[tuple[str, bytes, str]] = [
    ("single", b"", "give one of --commands, --each and --over"),
    ("single --commands FILE --each A=1", b"a", "give one of --commands, --each and --over"),
    ("single --commands /no-such-file", b"", "/no-such-file: No such file or directory"),
    ("single --commands /", b"", "/: Is a directory"),
    ("single --commands FILE", b"", "the list has no line; write one command in each line"),
    ("single --commands FILE", b"a\n\n", "line 2: it is blank; write a command, or leave it out"),
    ("single --commands FILE", b"a\n-b\n", "line 2: the shell would read a command that begins with - as an option"),
    ("single --commands FILE --template echo,{}", b"a\n\n", f"line 2: {BLANK}"),
    (
        "single --commands FILE --template echo,{}",
        b"a\nb\xff\n",
        "line 2: byte 2 is no UTF-8; write the values in UTF-8",
    ),
    ("single --commands FILE --template echo,{}", b"a\n" + b"x" * 200_000, "command 1: too long: Linux allows"),
    ("single --commands FILE --template echo,{}", b"a\nb\0\n", "command 1: it must not contain a NUL character"),
    ("single --commands FILE --template echo", b"a\n", "the template has no {}: write {} where each value belongs"),
    ("single --commands FILE --template -", b"a\n", "the template has no {}"),
    ("single --commands FILE --template ,", b"a\n", "the template is empty: write the command"),
    ("placed --each A=1", b"", "the command of job placed: {} has no value here: use the variables"),
    ("single --each A", b"", "'A' has no values: write NAME=VALUE,VALUE"),
    ("listed --each A=1", b"", "the command of job listed is a list: give a template, which is used in its place"),
    ("single --over s3://bucket/x", b"", "the command of job single has no {}: write {} where the URL"),
    ("placed --over bucket/x", b"", "'bucket/x' is no place in a bucket: write s3://BUCKET/PREFIX"),
    ("placed --over s3://BUCKET", b"", "'s3://BUCKET' is no place in a bucket"),
    ("placed --over s3://RIG/none-such/", b"", "has no objects below 'none-such/': check the prefix"),
    ("single --commands FILE --dry-run --follow", b"a", "cannot be combined with --dry-run"),
    ("single --commands FILE --detach --wait", b"a", "cannot be combined with --wait or --follow"),
    ("single --commands FILE --idempotency-key ,", b"a", "the key is empty"),
    ("single --commands FILE --env =x", b"a", "the name is missing in --env '=x'"),
    ("chosen --commands FILE", b"a", "map chosen: spec.retry.on: retry.on is for a single command"),
]


@pytest.fixture(scope="module")
def kinds(whole: Rig) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "single": {"command": "echo hello"},
        "placed": {"command": "cat {}"},
        "listed": {"command": ["a", "b"]},
        "chosen": {"command": "echo hello", "retry": {"on": [1]}},
    }
    for name, spec in kinds.items():
        text = json.dumps({"type": "job", "spec": {**QUICK, **spec, "name": name}})
        whole.service.jobs.apply(text, "the test's recipe")


@pytest.mark.usefixtures("kinds")
@pytest.mark.parametrize(("words", "content", "text"), PROBLEMS, ids=lambda value: str(value)[:50])
def test_wrong_use_is_one_clear_line_and_starts_nothing(
    provision: Provision, file: Callable[[bytes], str], whole: Rig, words: str, content: bytes, text: str
) -> None:
    path, before = file(content), (runs(provision), stored(whole))
    words = words.replace("FILE", path).replace("RIG", whole.double.bucket)
    for more in ([], ["--dry-run"] if "--" not in words.split("--commands")[-1] else []):
        done = provision("map", *(word.replace(",", " ") for word in words.split()), *more)
        assert (done.code, done.out) == (exits.INVALID, b"")
        (line,) = done.err.splitlines()
        assert text in line
    assert (runs(provision), stored(whole)) == before


def test_unknown_job_is_not_found_before_anything_is_read(provision: Provision) -> None:
    done = provision("map", "none-such", "--commands", "/no-such-file")
    assert (done.code, "no job 'none-such'" in done.err) == (exits.NOT_FOUND, True)


@pytest.mark.usefixtures("kinds")
def test_wrong_lines_are_named_up_to_five(provision: Provision, file: Callable[[bytes], str]) -> None:
    for words in ((), ("--template", "echo {}")):
        done = provision("map", "single", "--commands", file(b"a\n" + b"\n" * 10), *words)
        lines = done.err.splitlines()
        assert [line.split(":")[1] for line in lines[:5]] == [f" line {number}" for number in range(2, 7)]
        assert lines[5:] == ["provision: more are wrong"]


@pytest.mark.usefixtures("kinds")
def test_interrupted_upload_starts_nothing_and_leaves_nothing(
    provision: Provision, whole: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pieces(_: str) -> Iterator[bytes]:
        yield b"echo 1\n" * 100_000
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "pieces", pieces)
    before, deletions = (runs(provision), stored(whole)), len(whole.double.calls.of("s3", "DeleteObjects"))
    done: Done = provision("map", "single", "--commands", "any")
    assert (done.code, done.out) == (exits.DETACHED, b"")
    assert done.last_line == "interrupted before the run was started"
    assert runs(provision) == before[0]
    # The server may store the parts, and deletes them, after the client has disconnected.
    until(lambda: len(whole.double.calls.of("s3", "DeleteObjects")) > deletions, "the parts are deleted")
    until(lambda: stored(whole) == before[1], "no part of the upload is left")


def test_python_gets_each_command_when_it_has_ended(client: Client) -> None:
    client.apply({"type": "job", "spec": QUICK})
    found = client.map("quick", (f"echo {number}" for number in range(20)))
    ended = list(found)
    assert sorted(each.index for each in ended) == list(range(20))
    assert {each.index: each.state.value for each in ended if each.state != "succeeded"} == {1: "failed", 3: "failed"}
    assert found.run.progress is not None
    assert found.run.progress.command_seconds is not None
    assert list(found) == []


def test_python_gets_the_commands_in_order(client: Client) -> None:
    client.apply({"type": "job", "spec": QUICK})
    several: list[dict[str, Any]] = [{"A": 1, "B": True}, {"A": 0.5, "B": "x y"}]
    found = client.map("quick", envs=several, in_order=True, scale=2, env={"C": 1})
    expected = ["export A=1 B=true; echo hello", "export A=0.5 B='x y'; echo hello"]
    assert [each.text for each in found] == expected
    assert found.run.wait() == "failed"
    found = client.map("quick", ["c", "a\nb"], template="echo {} {#}", in_order=True)
    assert [each.text for each in found] == ["echo c 1", "echo 'a\nb' 2"]
    assert found.run.wait() == "failed"
    assert [each.text for each in found.run.rerun().commands()] == ["echo 'a\nb' 2"]


def test_python_names_the_wrong_command(client: Client) -> None:
    client.apply({"type": "job", "spec": QUICK})
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"commands": ["a", " "]}, "^command 1: it is blank"),
        ({"commands": ["a", "\ud800"]}, "^command 1: byte 1 is no UTF-8"),
        ({"commands": ["a\0b"]}, "^command 0: it must not contain a NUL character"),
        ({}, "^give either commands or envs"),
        ({"commands": ["a"], "envs": [{}]}, "^give either commands or envs"),
        ({"envs": [{"1": "x"}]}, "^'1' is no variable"),
    ]
    for words, text in wrong:
        with pytest.raises(Invalid, match=text):
            client.map("quick", **words)
