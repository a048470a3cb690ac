"""The command line against a server: the output equals that on the control host, except for refused commands."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

import provisioner
from provisioner.core.errors import Denied, Invalid
from provisioner.core.protocol.words import Outcome
from provisioner.faces.cli import exits, main
from provisioner.rehearsal.machines.scripted import ScriptedHost
from tests.api.served import Server
from tests.cli.conftest import CONDITIONS, SCRIPTS, Done
from tests.e2e.commands import settings_file
from tests.e2e.rig import Rig, rig
from tests.ports import free_ports
from tests.support.heavy import HEAVY


class Paths:
    """An installation with a daemon, a server, and runs of several kinds."""

    def __init__(self, whole: Rig, server: Server) -> None:
        self.whole = whole
        self.server = server
        self.here = {"PROVISION_SETTINGS": str(settings_file(whole))}
        self.elsewhere = self.with_token(server.token("tester", admin=True))
        ended = [whole.start("true", name=name, use_spot_instance=True) for name in ("good", "bad")]
        ended.append(whole.start("true", name="none", instance_type="g5g.xlarge", placement={"gpu": "none"}))
        ended.append(whole.start(["a", "b", "c", "d\ne"], name="list", nprocs=2))
        self.runs = {run.job_name: run.id for run in whole.done(*ended)}
        # The run must be done, so that its output is stable between two commands.
        whole.done(whole.service.runs.start("good", {"A": "1"}, idempotency_key="one-key"))
        self.runs["dry"] = whole.start("true", name="dry", instance_type="g6.xlarge").id
        whole.until(lambda: whole.service.runs.record(self.runs["dry"]).waiting is not None)
        whole.service.schedules.set("good", {"schedule": "@yearly"})

    def with_token(self, token: str, url: str = "") -> dict[str, str]:
        return {"PROVISION_URL": url or self.server.url, "PROVISION_TOKEN": token}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paths]:
    folder = tmp_path_factory.mktemp("remote")
    with (
        pytest.MonkeyPatch.context() as patch,
        rig(folder, patch, host=ScriptedHost(SCRIPTS), **CONDITIONS) as whole,
        Server(whole.settings) as server,
    ):
        yield Paths(whole, server)


#: Heavy packages that the client does need.
NEEDED = ("pydantic_core", "tenacity", "urllib3")

Run = Callable[..., Done]


@pytest.fixture
def run(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command with environment variables."""

    def run(environment: dict[str, str], *words: str) -> Done:
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            code = main.run(list(words))
        out, err = capsysbinary.readouterr()
        return Done(code, out, err.decode())

    return run


#: Commands to compare; names in capitals stand for runs' ids. Most are also run with --json.
COMMANDS = (
    "jobs",
    "show good",
    "show tester/good",
    "show nobody/good",
    "show other/x/good",
    "runs",
    "runs good",
    "runs nobody/good",
    "runs --limit 2",
    "runs --state done --outcome failed --outcome succeeded",
    "runs --owner tester --owner other",
    "status GOOD",
    "status BAD",
    "status NONE",
    "receipt GOOD",
    "receipt BAD",
    "receipt NONE",
    "logs GOOD",
    "logs GOOD --follow",
    "logs GOOD --tail 1",
    "logs GOOD --tail 2 --follow",
    "logs GOOD --tail 0",
    "logs GOOD --attempt 2",
    "logs GOOD --stream system --stream output",
    "logs NONE",
    "status LIST",
    "commands LIST",
    "commands LIST --failed",
    "commands LIST --state waiting",
    "commands LIST --limit 2",
    "commands GOOD",
    "logs LIST --command 3",
    "logs LIST --command 4",
    "logs GOOD --command 0",
    "logs LIST",
    "wait LIST",
    "wait GOOD",
    "wait GOOD BAD NONE",
    "stop GOOD BAD",
    "schedules",
    "schedule good",
    "schedule bad",
    "schedule bad --disable",
    "start nobody/good",
    "start good --env A=1 --idempotency-key one-key",
    "delete dry",
    "delete tester/dry",
    "delete nobody",
    "status 0000000000000",
    "wait GOOD 0000000000000",
    "logs -- -x",
    "token list",
    "token revoke 000000000000",
    "token revoke ../x",
    "audit",
    "audit -n 3",
)
TEXT_ONLY = (
    "receipt GOOD --waterfall",
    "schedule good '0 2 * *",
    "schedule good 60*****",
    "schedule good @yearly --policy Sometimes",
    "schedule good @yearly --timezone Nowhere/Land",
    "schedule good @yearly --catchup most",
    "start good --env =1",
    "start good --command ",
    "start bad --idempotency-key one-key2 --env A=1",
)


def words_of(text: str, runs: dict[str, str]) -> list[str]:
    return [runs.get(word.lower(), word) if word.isupper() else word for word in text.split(" ")]


@pytest.mark.parametrize(
    "command", [*COMMANDS, *(f"{each} --json" for each in COMMANDS if "--" not in each.split()), *TEXT_ONLY]
)
def test_remote_command_equals_the_local_one(place: Paths, run: Run, command: str) -> None:
    """Output, error messages and exit code are equal."""
    words = words_of(command, place.runs)
    here, elsewhere = run(place.here, *words), run(place.elsewhere, *words)
    for _ in range(5):
        # A shown age, such as "3 s ago", may differ between the two.
        if here != elsewhere:
            here, elsewhere = run(place.here, *words), run(place.elsewhere, *words)
    assert here == elsewhere


def test_commands_and_output_of_an_ended_list(place: Paths, run: Run) -> None:
    found = json.loads(run(place.elsewhere, "commands", place.runs["list"], "--json").out)
    assert [
        (each["index"], each["state"], each["exit_code"], each["output_bytes"], each["text"]) for each in found
    ] == [
        (0, "succeeded", 0, 50, "a"),
        (1, "failed", 1, 50, "b"),
        (2, "succeeded", 0, 50, "c"),
        (3, "failed", 1, 50, "d\ne"),
    ]
    outputs = [run(place.elsewhere, "logs", place.runs["list"], "--command", str(at)).out for at in range(4)]
    assert [len(each) for each in outputs] == [50] * 4
    log = run(place.here, "logs", place.runs["list"]).out
    assert sorted(outputs) == sorted(log[at : at + 50] for at in range(0, 200, 50))
    assert run(place.elsewhere, "wait", place.runs["list"]).code == 1


def test_top_and_status_of_live_runs_equal_the_local_ones(place: Paths, run: Run) -> None:
    """`top` and `status` of live runs are equal except for times."""

    def seen(environment: dict[str, str]) -> tuple[object, ...]:
        told = json.loads(run(environment, "top", "--json").out)
        story = json.loads(run(environment, "status", place.runs["dry"], "--json").out)
        told.pop("at")
        return (
            told["states"],
            told["foreign"],
            told["more"],
            [each["run"]["id"] for each in told["runs"]],
            story["run"]["id"],
        )

    assert seen(place.elsewhere) == seen(place.here)
    assert b"queued: capacity" in run(place.elsewhere, "top").out
    assert run(place.elsewhere, "status", place.runs["dry"]).code == 0


def test_a_recipes_problems_are_told_with_its_file(place: Paths, run: Run, tmp_path: object) -> None:
    """Each problem has the file's name and line, as on the control host."""
    path = f"{tmp_path}/r\u00e9cipe #1.yaml"
    with open(path, "w") as file:
        file.write("type: job\nspec:\n  name: bad\n  imagee: any\n  instance_type: g5\n  command: ''\n")
    found = run(place.elsewhere, "apply", path)
    assert (found.code, found) == (exits.INVALID, run(place.here, "apply", path))
    assert f"{path}:4: spec.imagee" in found.err


def test_start_returns_at_once_and_waits_if_asked(place: Paths, run: Run) -> None:
    """The server acts, so `start` prints the id and ends; with --wait or --follow it exits as the job does."""
    done = run(place.elsewhere, "start", "bad")
    assert (done.code, done.err, len(done.out)) == (0, "", 33)
    assert run(place.elsewhere, "wait", done.out.decode().strip()).code == 3
    done = run(place.elsewhere, "start", "bad", "--wait", "--json")
    assert (done.code, json.loads(done.out)["outcome"]) == (3, "failed")
    done = run(place.elsewhere, "start", "good", "--follow")
    assert (done.code, len(done.out)) == (0, 33 + 100)


def test_control_host_commands_are_refused_on_a_client(place: Paths, run: Run) -> None:
    """One line names the control host, with exit code 64; `--settings` still opens this computer's installation."""
    for words in (
        ("daemon",),
        ("cron",),
        ("reap",),
        ("takeover",),
        ("serve", "--port", "0"),
        ("ami", "list"),
        ("ssh", place.runs["good"]),
        ("cp", f"{place.runs['good']}:x", "y"),
        ("logs", place.runs["good"], "-f", "--direct"),
    ):
        done = run(place.elsewhere, *words)
        assert (done.code, done.out, done.err.count("\n")) == (exits.INVALID, b"", 1), words
        assert "control host" in done.err
    assert run(place.elsewhere, "--settings", place.here["PROVISION_SETTINGS"], "reap", "--json").out == b"[]\n"


def test_invalid_token_gives_one_line(place: Paths, run: Run) -> None:
    """An unknown, an expired, a revoked and a missing token each give one line that says what to do."""
    revoked = place.server.token("tester")
    service = place.server.service
    service.tokens.revoke(revoked.split("_")[1])
    expired = place.server.token("tester", expires_in=1e-6)
    for token, told in (("pvt_000000000000_" + "x" * 43, "unknown"), (expired, "expired"), (revoked, "revoked")):
        done = run(place.with_token(token), "jobs")
        assert (done.code, done.out, done.err.count("\n")) == (exits.NOT_ALLOWED, b"", 1)
        assert told in done.err
        assert "provision token create" in done.err
        assert token not in done.err
    done = run({"PROVISION_URL": place.server.url}, "jobs")
    assert (done.code, done.err.count("\n")) == (exits.INVALID, 1)
    assert "PROVISION_TOKEN" in done.err


def test_another_owners_runs_and_jobs_are_not_found(place: Paths, run: Run) -> None:
    """With a user's token, another owner's data is reported as nonexistent."""
    other = place.with_token(place.server.token("other"))
    for command in ("status GOOD", "wait GOOD", "logs GOOD", "logs GOOD -f", "stop DRY", "receipt GOOD"):
        words = words_of(command, place.runs)
        done = run(other, *words)
        assert (done.code, done.out) == (exits.NOT_FOUND, b"")
        assert done.err == f"provision: no run {words[1]!r}; `provision runs` lists the runs\n"
    for words in (["show", "tester/good"], ["start", "tester/good"], ["delete", "tester/good"]):
        assert run(other, *words).code == exits.NOT_FOUND
    assert [json.loads(run(other, word, "--json").out) for word in ("jobs", "runs", "schedules")] == [[], [], []]
    assert json.loads(run(other, "top", "--json").out)["runs"] == []


def test_two_installations_at_once_are_refused(place: Paths, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL and settings together in the environment are refused; an argument overrides both."""
    done = run(place.here | place.elsewhere, "jobs")
    assert (done.code, done.err.count("\n")) == (exits.INVALID, 1)
    assert "unset one" in done.err
    with pytest.raises(Invalid, match="give one"):
        provisioner.connect(place.here["PROVISION_SETTINGS"], url=place.server.url)
    for name, value in place.elsewhere.items():
        monkeypatch.setenv(name, value)
    with provisioner.connect(place.whole.settings) as here:
        # The client of a server must not open an installation.
        monkeypatch.setattr("provisioner.wiring.service", None)
        with provisioner.connect() as elsewhere:
            assert here.jobs() == elsewhere.jobs()
    with pytest.raises(Denied), provisioner.connect(url=place.server.url, token="pvt_none") as nobody:
        nobody.jobs()


def test_unreachable_server_exits_75(place: Paths, run: Run) -> None:
    """The first line comes at once, the second after the retries; exit code 75."""
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    done = run(place.with_token("pvt_x", url), "jobs")
    assert (done.code, done.out) == (exits.RETRY, b"")
    away = f"provision: {url} cannot be reached: Connection refused"
    assert done.err == f"{away}; retrying for 10 s\n{away}\n"


def test_a_url_with_the_apis_path(place: Paths, run: Run) -> None:
    """Examples with curl use a URL with /api. One line says which part of it is the server's URL."""
    done = run({**place.elsewhere, "PROVISION_URL": f"{place.server.url}/api"}, "jobs")
    assert (done.code, done.out) == (exits.INVALID, b"")
    assert "set PROVISION_URL to the part of the server's URL before /api" in done.err


def test_admin_client_creates_and_revokes_tokens(place: Paths, run: Run) -> None:
    """An admin's client creates and revokes a token; a user's client may not."""
    made = json.loads(run(place.elsewhere, "token", "create", "--owner", "new", "--expires", "1h", "--json").out)
    user = place.with_token(made["token"])
    assert run(user, "runs", "--json").out == b"[]\n"
    done = run(user, "token", "create", "--owner", "new", "--role", "admin")
    assert (done.code, done.err) == (exits.NOT_ALLOWED, "provision: only an admin may do this\n")
    assert run(place.elsewhere, "token", "revoke", made["id"]).code == 0
    assert run(user, "runs").code == exits.NOT_ALLOWED
    told = json.loads(run(place.elsewhere, "audit", "-n", "2", "--json").out)
    assert [(each["what"], each["target"]) for each in told] == [
        ("revoke token", made["id"]), ("create token", made["id"]),
    ]  # fmt: skip
    assert told[0]["source"] == "127.0.0.1"


def test_a_client_starts_without_what_a_control_host_needs(place: Paths) -> None:
    """The client imports neither a cloud nor a store."""
    code = (
        "import sys; from provisioner.faces.cli import main; print(main.run(['runs']));"
        f"print(*(name for name in {[name for name in HEAVY if name not in NEEDED]} if name in sys.modules))"
    )
    environment = {**os.environ, **place.elsewhere}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["0", ""]


def test_python_client_of_a_server_starts_follows_and_waits(place: Paths) -> None:
    """`connect(url=…)` starts, follows and waits as a local client does."""
    with provisioner.connect(url=place.server.url, token=place.elsewhere["PROVISION_TOKEN"]) as client:
        run = client.start("bad")
        assert b"".join(run.logs(follow=True)) == b"".join(run.logs())
        assert (run.wait(), run.exit_code, run.job) == (Outcome.FAILED, 3, "tester/bad")
        assert run.receipt.outcome is Outcome.FAILED
        assert run.id in [each.id for each in client.runs("bad")]
