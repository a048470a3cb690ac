"""Secrets, files and packages as a job on a light machine finds them."""

import base64
import hashlib
import itertools
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provisioner.agent.aws.client import ServiceError
from provisioner.agent.aws.http import NoAnswer
from provisioner.agent.fetch.secrets import Secrets, login
from provisioner.agent.machine.tools import Tools
from provisioner.agent.outcomes import Ended, Halt
from provisioner.core.protocol.keys import started_key
from provisioner.core.protocol.messages import ConfigFile, Packages, Secret
from provisioner.core.protocol.words import Attachment, Outcome, Step
from tests.agent.conftest import Site
from tests.agent.wire import given

WILD = 'it\'s "x" $HOME `date` \\\n\n*~ \x7f\u00e9'
HIDDEN = "hunter2-hunter2"


def secret(site: Site, value: str | bytes) -> str:
    """Store a secret that only this test uses; return its name in a work order."""
    kind = "SecretString" if isinstance(value, str) else "SecretBinary"
    site.client("secretsmanager").create_secret(Name=site.bucket, **{kind: value})
    return f"secretsmanager:{site.bucket}"


def test_secrets_reach_the_job_and_nothing_else(site: Site) -> None:
    """Secrets arrive as variables, and as files that only the job's user can read; no report or log has them."""
    keys = secret(site, json.dumps({"KEY": WILD, "number": 7}))
    token = site.parameter("token", HIDDEN)
    secrets = (
        Secret(token, Attachment.VARIABLE, "TOKEN"),
        Secret(f"{keys}#KEY", Attachment.VARIABLE, "WILD"),
        Secret(f"{keys}#number", Attachment.VARIABLE, "NUMBER"),
        Secret(f"{keys}#KEY", Attachment.FILE, ".cloud/it's a key"),
        Secret(token, Attachment.FILE, "/home/jovyan/workspace/token"),
    )
    # The log would mask the values, so the command prints checksums.
    command = 'printf %s "$TOKEN$WILD$NUMBER" | sha256sum; cat ~/".cloud/it\'s a key" token | sha256sum'
    command += "; stat -c %a token ~/.cloud/*"
    machine = site.run(site.order(command, start_script="[ -s token ]", secrets=secrets))
    assert site.result(machine).outcome is Outcome.SUCCEEDED, site.result(machine).reason
    sums = [hashlib.sha256(value.encode()).hexdigest() for value in (f"{HIDDEN}{WILD}7", WILD + HIDDEN)]
    assert site.log(machine).decode().split() == [sums[0], "-", sums[1], "-", "600", "600"]
    assert HIDDEN.encode() not in site.everything_said(machine)


def test_all_keys_of_a_used_secret_are_masked(site: Site) -> None:
    """All strings of a secret with keys are masked, in any print format, though the job uses one key."""
    value = {"user": "somebody", "key": HIDDEN, "more": [{"inner": "correct-horse"}], "port": 5432, "short": "abc"}
    key = Secret(f"{secret(site, json.dumps(value))}#key", Attachment.VARIABLE, "KEY")
    pretty = json.dumps(value, indent=2)
    machine = site.run(site.order(f"echo '{json.dumps(value)}'; cat <<END\n{pretty}\nEND", secrets=(key,)))
    for name in ("somebody", HIDDEN, "correct-horse"):
        pretty = pretty.replace(name, "***")
    assert site.log(machine).decode() == f"***\n{pretty}\n"


def test_a_file_may_hold_any_bytes(site: Site) -> None:
    """Covers a binary secret and config files with modes; a later file replaces an earlier one."""
    data = bytes(range(256)) * 3
    name = secret(site, data)
    order = site.order(
        "sha256sum <key; ~/bin/hello; cat ~/.hello",
        secrets=(Secret(name, Attachment.FILE, "workspace/key"),),
        config_files=(
            ConfigFile(".hello", "one"),
            ConfigFile("bin/hello", "#!/bin/sh\necho hello", "0755"),
            ConfigFile(".hello", "two"),
        ),
    )
    machine = site.run(order)
    assert site.log(machine).decode() == f"{hashlib.sha256(data).hexdigest()}  -\nhello\ntwo", site.result(machine)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ssm:/missing", "ParameterNotFound"),
        ("ssm:not a name;", "ssm:not a name;"),
        ("secretsmanager:missing", "ResourceNotFound"),
        ("secretsmanager:{}#other", "no such key"),
        ("secretsmanager:{}-plain#key", "not a JSON object"),
        ("vault:x", "only ssm: and secretsmanager:"),
    ],
)
def test_a_secret_that_is_not_there_is_refused_by_name(site: Site, name: str, words: str) -> None:
    """Another attempt would fail too. The reason names the secret and reveals no value."""
    secret(site, json.dumps({"KEY": HIDDEN}))
    site.client("secretsmanager").create_secret(Name=f"{site.bucket}-plain", SecretString=HIDDEN)
    name = name.format(site.bucket)
    machine = site.run(site.order("echo never", secrets=(Secret(name, Attachment.VARIABLE, "X"),)))
    result = site.result(machine)
    assert (result.outcome, result.step, result.exit_code) == (Outcome.REFUSED, Step.PULL, None), result.reason
    assert name.partition("#")[0] in result.reason
    assert words in result.reason
    assert HIDDEN.encode() not in site.everything_said(machine)


def test_secret_with_a_zero_byte_is_refused_as_a_variable(site: Site) -> None:
    """An environment variable cannot hold a zero byte; the reason names the variable."""
    name = secret(site, b"a\0b")
    result = site.result(site.run(site.order(":", secrets=(Secret(name, Attachment.VARIABLE, "X"),))))
    assert (result.outcome, result.step) == (Outcome.REFUSED, Step.SETUP)
    assert "variable X" in result.reason


def test_a_file_that_cannot_be_placed_fails_the_setup(site: Site) -> None:
    """The start script does not run, and the reason states the error."""
    order = site.order(
        "echo never", start_script="echo never", config_files=(ConfigFile("a", ""), ConfigFile("a/b", ""))
    )
    machine = site.run(order)
    result = site.result(machine)
    assert (result.outcome, result.step, result.exit_code) == (Outcome.FAILED, Step.SETUP, 1)
    assert "placing the files" in result.reason
    assert b"a/b cannot be written" in site.log(machine, "setup")
    assert b"never" not in site.log(machine, "setup") + site.log(machine)


def busy(code: str, status: int) -> ServiceError:
    return ServiceError("GetParameter", status, code, "m")


def reader(monkeypatch: pytest.MonkeyPatch, answers: Callable[[], Any], *, patience: float = 60.0) -> Secrets:
    """Return Secrets whose AWS calls return these answers and whose waits take no time."""
    now = itertools.count()
    monkeypatch.setattr("time.time", lambda: next(now))
    monkeypatch.setattr("time.sleep", lambda _: None)
    made = Secrets("us-east-1", Tools(Step.PULL, Halt(), patience, "the limit", lambda _: None))

    def call(*_: object, **__: object) -> Any:
        answer = answers()
        if isinstance(answer, Exception):
            raise answer
        return {"Parameter": {"Value": answer}}

    made.service_of = lambda *_: type("Service", (), {"call": staticmethod(call)})
    return made


def test_transient_error_of_a_secret_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Throttling, AWS's own faults and network errors are retried, not refused."""
    trouble = [
        busy("ThrottlingException", 400),
        busy("InternalServerError", 500),
        NoAnswer("no usable response from x: timed out"),
    ]
    answers = iter([*trouble, "value"])
    assert reader(monkeypatch, lambda: next(answers)).read("ssm:/x") == b"value"


def test_lasting_error_of_a_secret_loses_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pull limit ends the retries; another machine may succeed."""
    secrets = reader(monkeypatch, lambda: busy("Throttling", 400))
    with pytest.raises(Ended) as caught:
        secrets.read("ssm:/x")
    assert (caught.value.outcome, caught.value.step) == (Outcome.LOST, Step.PULL)
    assert "ssm:/x" in caught.value.reason


def test_denied_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason has AWS's message, which names the missing right."""
    with pytest.raises(Ended) as caught:
        reader(monkeypatch, lambda: busy("AccessDeniedException", 400)).read("ssm:/x")
    assert caught.value.outcome is Outcome.REFUSED
    assert "AccessDeniedException" in caught.value.reason
    assert "add ssm:GetParameter to the role" in caught.value.reason


def test_ecr_login_uses_a_token_of_the_registrys_region(aws_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's role gets a token from the registry's region; other registries get none."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_url)
    with given():
        secrets = Secrets("us-east-1", Tools(Step.PULL, Halt(), time.time() + 60, "the limit", print))
        for host in ("dkr.ecr.eu-west-1.amazonaws.com", "dkr-ecr.eu-west-1.on.aws", "dkr-ecr-fips.eu-west-1.on.aws"):
            login = secrets.registry_login(f"123456789012.{host}")
            assert login is not None
            assert login.startswith(b"AWS:")
        assert secrets.registry_login("ghcr.io") is None


@pytest.mark.parametrize("domain", ["on.aws.example.com", "example.com", "amazonaws.com.example.com", "c2s.ic.gov"])
def test_other_hosts_get_no_token_of_ecr(domain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user chooses the image's host. Only ECR may get the token, which reads every repository of the account."""
    secrets = Secrets("us-east-1", Tools(Step.PULL, Halt(), time.time() + 60, "the limit", print))
    asked: list[str] = []
    secrets.service_of = lambda _, region: asked.append(region)
    monkeypatch.setenv("PROVISION_DOMAIN", "amazonaws.com")
    assert secrets.registry_login(f"123456789012.dkr.ecr.us-east-1.{domain}") is None
    assert not asked


def test_registry_in_this_machines_partition_gets_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = Secrets("us-iso-east-1", Tools(Step.PULL, Halt(), time.time() + 60, "the limit", print))
    token = base64.b64encode(b"AWS:token").decode()
    service = SimpleNamespace(call=lambda *_: {"authorizationData": [{"authorizationToken": token}]})
    secrets.service_of = lambda *_: service
    monkeypatch.setenv("PROVISION_DOMAIN", "c2s.ic.gov")
    assert secrets.registry_login("123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov") == b"AWS:token"


@pytest.mark.parametrize("value", [b"me:se:cret", b"me:se:cret\n", b'{"username": "me", "password": "se:cret"}'])
def test_a_registry_credential_has_two_forms(value: bytes) -> None:
    """The forms are `user:password` and a JSON object with both values."""
    assert login("ssm:/x", value) == b"me:se:cret"


@pytest.mark.parametrize("value", [b"hunter2", b'{"username": "hunter2"}', b'{"a": "hunter2"}'])
def test_malformed_registry_credential_is_refused_without_its_value(value: bytes) -> None:
    """The reason names the secret but not its value."""
    with pytest.raises(Ended) as caught:
        login("ssm:/x", value)
    assert "ssm:/x" in caught.value.reason
    assert "hunter2" not in caught.value.reason


TOOL = """#!/bin/sh
echo "{name} $*; {variable}=${variable}"
for last in "$@"; do :; done
[ ! -f "$last" ] || cat "$last"
exit {code}
"""


def tools(site: Site, code: int = 0) -> tuple[str, tuple[ConfigFile, ...], dict[str, str]]:
    """Boot a machine; return its id, and files and variables that make apt-get and python3 print their arguments."""
    machine = site.boot()
    path = f"{site.folder}/machines/{machine}/home/jovyan/tools"
    files = (
        ConfigFile("tools/apt-get", TOOL.format(name="apt-get", variable="DEBIAN_FRONTEND", code=code), "0755"),
        ConfigFile("tools/python3", TOOL.format(name="python3", variable="INDEX", code=0), "0755"),
    )
    return machine, files, {"PATH": f"{path}:/usr/bin:/bin"}


def test_packages_are_installed_before_the_start_script(site: Site) -> None:
    """apt runs, then pip with the job's variables, in the setup stream, with every argument unchanged."""
    machine, files, variables = tools(site)
    index = site.parameter("index", HIDDEN)
    order = site.order(
        "echo done",
        start_script="echo start",
        config_files=files,
        environment=variables,
        secrets=(Secret(index, Attachment.VARIABLE, "INDEX"),),
        packages=Packages(("libgl1", "x=1.0*"), ("torch>=2; python_version<'4'", "$(id)"), "numpy\nscipy\n"),
    )
    site.assign(machine, order)
    site.wait_off(machine)
    folder = f"{site.folder}/machines/{machine}/run/provision"
    options = "-m pip install --no-input --disable-pip-version-check --progress-bar off"
    assert site.log(machine, "setup").decode().splitlines() == [
        "apt-get update --quiet; DEBIAN_FRONTEND=noninteractive",
        "apt-get install --quiet --yes --no-install-recommends libgl1 x=1.0*; DEBIAN_FRONTEND=noninteractive",
        f"python3 {options} torch>=2; python_version<'4' $(id) --requirement {folder}/requirements; INDEX=***",
        "numpy",
        "scipy",
        "start",
    ]
    assert site.log(machine) == b"done\n", site.result(machine).reason


def test_packages_that_cannot_be_installed_fail_the_setup(site: Site) -> None:
    """The exit code is the tool's own; neither start script nor command runs."""
    machine, files, variables = tools(site, 100)
    order = site.order(
        "echo never",
        start_script="echo never",
        config_files=files,
        environment=variables,
        packages=Packages(("x",), ("y",)),
    )
    site.assign(machine, order)
    site.wait_off(machine)
    result = site.result(machine)
    assert (result.outcome, result.step, result.exit_code) == (Outcome.FAILED, Step.SETUP, 100)
    assert "package step (apt)" in result.reason
    assert b"never" not in site.log(machine, "setup") + site.log(machine)
    assert site.get(started_key(site.box(machine))) is None


def test_pip_on_a_rehearsed_machine_does_not_change_this_computer(site: Site, tmp_path: Path) -> None:
    """pip works on the machine and does not change this computer's Python."""
    wheel = tmp_path / "made_for_a_test-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("made_for_a_test.py", "where = __file__\n")
        packed.writestr(
            "made_for_a_test-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: made_for_a_test\nVersion: 1\n"
        )
        packed.writestr(
            "made_for_a_test-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        packed.writestr("made_for_a_test-1.dist-info/RECORD", "")
    order = site.order(
        "python -c 'import made_for_a_test; print(made_for_a_test.where)'",
        packages=Packages(pip=("--no-index", str(wheel))),
    )
    machine = site.run(order)
    where = site.log(machine).decode()
    assert where.startswith(f"{site.folder}/machines/{machine}/"), site.log(machine, "setup").decode()


def test_checkpoint_variable_is_set_only_with_a_checkpoint(site: Site) -> None:
    """PROVISION_CHECKPOINT is set only if the work order has a checkpoint."""
    command = 'echo "${PROVISION_CHECKPOINT-none}"'
    assert site.log(site.run(site.order(command))) == b"none\n"
    assert site.log(site.run(site.order(command, checkpoint="s3://b/runs/1/"))) == b"s3://b/runs/1/\n"
