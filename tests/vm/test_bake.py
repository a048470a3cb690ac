"""An AMI end to end, with only EC2 doubled: a builder boots, is set up over SSH, and its disk is kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from provisioner.faces.cli import main
from provisioner.rehearsal.machines.virtual.qemu import QemuHost
from tests.e2e.commands import settings_file
from tests.e2e.rig import Rig
from tests.engine import LOGIN, DockerEngine, shell_tree
from tests.vm.conftest import SMALL, Boot, published

pytestmark = pytest.mark.vm

#: Pulling needs a password, both for the builder and for a machine without the image.
CREDENTIAL = {"parameters": {"/registry": LOGIN}, "settings": {"registry": {"credential": "ssm:/registry"}}}


@pytest.fixture
def image(docker: DockerEngine) -> str:
    """Return the name of an image with a shell and its tools, in the private registry."""
    name = published(docker, "baked", shell_tree(docker.folder / "baked"))
    public, private = (each.rpartition(":")[2] for each in (docker.registry, docker.private_registry))
    return name.replace(public, private)


def ran(whole: Rig, image: str) -> Run:
    """Run a job that its limit ends, and assert that SIGTERM reached the command and that its exit code was kept."""
    job = "trap 'echo saved; exit 9' TERM; echo up; while :; do sleep 0.2; done"
    [done] = whole.done(whole.start(job, image=image, limits={"runtime": "6s"}, **SMALL))
    assert done.verdict is not None
    assert (done.verdict.outcome, done.verdict.exit_code) == (Outcome.TIMED_OUT, 9), done.verdict
    assert whole.log(done).startswith(b"up\n")
    assert whole.log(done).endswith(b"saved\n")
    return done


def fetched_agent(whole: Rig, run: Run) -> bool:
    [node] = whole.service.installation.store.nodes(run.id)
    calls = whole.double.calls.of("s3", "GetObject")
    return any("/agent/" in call.resource and node.instance_id in call.principal for call in calls)


def phases(whole: Rig, run: Run) -> list[str]:
    return [phase.name for phase in whole.service.runs.receipt(run.id).phases]


@pytest.mark.vm(boots=4)
def test_machine_of_a_baked_ami_needs_no_pull(
    boot: Boot,
    host: QemuHost,
    image: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The AMI has agent and image, but no trace of the builder. In the end no machine's file is left."""

    def provision(*words: str) -> str:
        code = main.run(list(words))
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    with boot(**CREDENTIAL) as whole:
        monkeypatch.setenv("PROVISION_SETTINGS", str(settings_file(whole)))
        plain = ran(whole, image)
        assert fetched_agent(whole, plain)
        assert "pull" in phases(whole, plain)

        made: dict[str, Any] = json.loads(provision("ami", "bake", "--preload", image, "--json"))
        assert (made["state"], made["agent_current"]) == ("available", True)
        [digest] = made["preloaded"]
        whole.until(lambda: whole.double.alive() == [])
        provision("ami", "use", made["id"])

        baked = ran(whole, digest)
        assert not fetched_agent(whole, baked)
        assert "pull" not in phases(whole, baked)
        assert f"preloaded: {digest} is on this machine already" in whole.log(baked, "system").decode()
        assert whole.double.alive() == []
        assert not any(host.folder(name).exists() for name in host.consoles())
        drawn = [provision("receipt", run.id, "--waterfall") for run in (plain, baked)]
    assert list((tmp_path / "machines").iterdir()) == []
    with capsys.disabled():
        print("", "plain:", drawn[0], "baked:", drawn[1], sep="\n")
