"""Secrets in a real container: the job's, the registry's and the repository's are found nowhere outside the job."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Run
from provisioner.core.run.states import State
from provisioner.rehearsal.machines.light import LightHost
from tests.agent.private_git import certificate, https_server
from tests.e2e.echo import echo
from tests.e2e.processes import Watch
from tests.e2e.rig import Rig, rig
from tests.engine import LOGIN, engine, shell_tree
from tests.support.repositories import repository
from tests.support.secrets import KEY, TOKEN, VALUES, WILD, everything, found

pytestmark = [pytest.mark.docker, pytest.mark.ssh]

GIT = "git-0123456789+/token="
EVERY = (*VALUES, GIT, LOGIN, LOGIN.partition(":")[2])

#: A command that prints its secrets and runs until it is stopped.
COMMAND = """
printf '%s\\n' "$TOKEN" "$WILD"; cat "$HOME/.ssh/key" file; base64 "$HOME/.ssh/key"; echo told
trap 'exit 0' TERM
while :; do sleep 0.1; done
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, Run, Run, dict[str, bytes]]]:
    """Yield a job's run, a run whose registry answers with secrets, and all data observed for both."""
    folder = tmp_path_factory.mktemp("container")
    scenario: dict[str, Any] = {
        "parameters": {"/team/token": TOKEN, "/team/registry": LOGIN, "/team/git": GIT},
        "secrets": {"wild": json.dumps({"value": WILD}), "key": KEY},
    }
    secrets = [
        {"attachment_type": "environment_variable", "location": "TOKEN", "name": "ssm:/team/token"},
        {"attachment_type": "environment_variable", "location": "WILD", "name": "secretsmanager:wild#value"},
        {"attachment_type": "file", "location": ".ssh/key", "name": "secretsmanager:key"},
    ]
    recipe: dict[str, Any] = {"secrets": secrets, "registry": {"credential": "ssm:/team/registry"}}
    refusal = json.dumps({"errors": [{"code": "DENIED", "message": f"Bearer {TOKEN} and {LOGIN} are wrong"}]})
    repository(folder / "repositories/code")
    pem = certificate(folder)
    with (
        engine() as made,
        https_server(folder / "repositories", pem, f"x-access-token:{GIT}") as git,
        echo(refusal.encode(), "application/json") as liar,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("DOCKER_HOST", made.host)
        image = made.publish("job", shell_tree(folder / "tree"), "ENV HOME=/home/jovyan")
        host = LightHost(folder / "machines", docker=True, environment=lambda _: {"GIT_SSL_CAINFO": str(pem)})
        with (
            rig(folder / "rig", patch, host=host, rehearsal={"engine": "container"}, **scenario) as whole,
            Watch() as watch,
        ):
            job = whole.start(
                COMMAND,
                image=image.replace(made.registry, made.private_registry),
                git={"credential": "ssm:/team/git"},
                git_repositories=[{"url": f"{git.url}/code"}],
                **recipe,
            )
            refused = whole.start("true", image=f"{liar.removeprefix('http://')}/x:1", **recipe)
            whole.until(lambda: whole.service.runs.record(job.id).state is State.RUNNING and b"told" in whole.log(job))
            [container] = made.docker("ps", "--quiet").split()
            places = {"docker inspect": made.docker("inspect", container).encode()}
            places["docker ps"] = made.docker("ps", "--no-trunc").encode()
            places |= {
                f"docker's {path}": path.read_bytes()
                for path in (made.folder / "data/containers").rglob("*")
                if path.is_file()
            }
            places |= {f"before {name}": data for name, data in everything(whole, job).items()}
            whole.service.runs.stop(job.id)
            job, refused = whole.done(job, refused)
            places |= {f"process {number}": line for number, line in enumerate(watch.lines)}
            yield whole, job, refused, places | everything(whole, job, refused)


def test_job_in_a_container_printed_its_masked_secrets(told: tuple[Rig, Run, Run, dict[str, bytes]]) -> None:
    """Registry and repository accepted the credentials; the job and the false registry printed secrets."""
    whole, job, refused, _ = told
    assert job.verdict is not None
    assert (job.verdict.outcome, job.verdict.exit_code) == (Outcome.CANCELLED, 0), job.verdict
    assert whole.log(job).startswith(b"***\n***\n***")
    assert b"code" in whole.log(job)
    assert refused.verdict is not None
    assert (refused.verdict.outcome, refused.verdict.step) == (Outcome.REFUSED, Step.PULL), refused.verdict
    assert "Bearer *** and ***" in refused.verdict.reason


@pytest.mark.parametrize("value", EVERY, ids=["token", "wild", "key", "git", "login", "password"])
def test_container_secrets_are_found_nowhere_outside_the_job(
    told: tuple[Rig, Run, Run, dict[str, bytes]], value: str
) -> None:
    """Searches `docker inspect`, the engine's files, process arguments and all other data."""
    _, _, _, places = told
    assert any(b"docker" in line for name, line in places.items() if name.startswith("process"))
    assert any(b"git" in line for name, line in places.items() if name.startswith("process"))
    assert found(places, value) == []
