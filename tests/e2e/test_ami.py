"""AMIs end to end: real commands, a real sshd and the unchanged scripts, in a sandbox."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.cloud.machines import ENDING
from provisioner.faces.cli import main
from tests.e2e.commands import Command, settings_file
from tests.e2e.rig import Rig, rig
from tests.e2e.sandbox import SandboxHost
from tests.ports import free_ports

pytestmark = pytest.mark.ssh

DIGEST = "@sha256:" + "5" * 64


@dataclass
class Kitchen:
    whole: Rig
    host: SandboxHost
    output: pytest.CaptureFixture[str]

    def run(self, *words: str) -> tuple[int, str, str]:
        """Run `provision ami …`; return exit code, standard output and standard error."""
        code = main.run(["ami", *words])
        return code, *self.output.readouterr()

    def json(self, *words: str) -> Any:
        code, out, err = self.run(*words, "--json")
        assert code == 0, err
        return json.loads(out)

    def builders(self) -> list[str]:
        """Return the machines that are not ending."""
        return [one.id for one in self.whole.double.alive() if one.state not in ENDING]


Raise = Callable[..., Kitchen]


@pytest.fixture
def kitchen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Raise]:
    with ExitStack() as up:

        def make(**options: bool) -> Kitchen:
            [port] = free_ports(1)
            host = SandboxHost(tmp_path / "machines", port, **options)
            whole = up.enter_context(rig(tmp_path, monkeypatch, host=host, settings={"ssh": {"port": port}}))
            monkeypatch.setenv("PROVISION_SETTINGS", str(settings_file(whole)))
            return Kitchen(whole, host, capsys)

        yield make


def test_next_machine_boots_from_the_baked_ami(kitchen: Raise) -> None:
    """After bake and use, a run finds the agent in the AMI, which has no trace of the builder."""
    up = kitchen()
    code, out, err = up.run("bake", "--preload", "job:1", "--json")
    assert code == 0, err
    made = json.loads(out)
    assert (made["state"], made["preloaded"]) == ("available", [f"job{DIGEST}"])
    assert (made["agent_current"], made["in_use"]) == (True, False)
    for words in ("prepare", "| pulling job:1", f"| preloaded job{DIGEST}", "| clean: removed", "is available"):
        assert words in err
    assert up.builders() == []
    kept = up.host.kept
    assert kept.keys() >= {f"opt/provision/agent-{made['agent']}.zip", "opt/provision/preloaded"}
    assert kept.keys() >= {"etc/systemd/system/provision-boot-fuse.service"}
    mine = ("ssh_host", "authorized_keys", "provision-bake", "var/lib/cloud")
    assert [name for name in kept if any(word in name for word in mine)] == []
    assert (kept["etc/machine-id"], kept["var/log/cloud-init.log"]) == (0, 0)
    assert up.json("use", made["id"])["in_use"]
    assert up.json("list") == [made | {"in_use": True}]
    # This service was started before the bake.
    run = up.whole.start("true")
    [done] = up.whole.done(run)
    assert done.verdict is not None
    assert done.verdict.outcome == "succeeded"
    [node] = up.whole.service.installation.store.nodes(run.id)
    fetched = [call for call in up.whole.double.calls.of("s3", "GetObject") if "/agent/" in call.resource]
    assert [call for call in fetched if node.instance_id in call.principal] == []
    assert up.whole.double.calls.unimplemented == []


def test_a_step_that_fails_is_shown_and_the_builder_ends(kitchen: Raise) -> None:
    """The error shows the step's output, name and exit code; no AMI or machine is left."""
    up = kitchen()
    code, _, err = up.run("bake", "--preload", "never")
    assert (code, "pull access denied for never" in err) == (80, True)
    assert err.splitlines()[-1] == "provision: the step preload exited with 1; what it printed is above"
    assert up.builders() == []
    assert up.json("list") == []


def test_an_interrupted_bake_leaves_no_machine(kitchen: Raise) -> None:
    """The builder ends even in the middle of a pull, and a second signal does not stop the cleanup."""
    up = kitchen()
    with Command(up.whole.folder / "commands", "ami", "bake", "--preload", "slow") as command:
        command.until(lambda: "pulling slow" in command.err)
        assert len(up.builders()) == 1
        command.signal(signal.SIGINT)
        command.signal(signal.SIGTERM)
        assert command.ended() == 130
    assert "no AMI was made" in command.last_line
    assert up.builders() == []
    assert up.json("list") == []


def test_builder_with_another_host_key_gets_no_commands(kitchen: Raise) -> None:
    """The server at the address has another host key than the console printed: nothing is sent to it."""
    up = kitchen(impostor=True)
    code, _, err = up.run("bake")
    assert code == 69
    assert "host key" in err.splitlines()[-1].lower()
    assert up.builders() == []


def test_ami_in_use_is_not_deleted(kitchen: Raise) -> None:
    """The AMI can be deleted, with its snapshots, once new launches use another one."""
    up = kitchen()
    code, out, _ = up.run("bake", "--name", "mine")
    id = out.split()[0]
    assert (code, out) == (0, f"{id} (mine) is made; use it for new launches: provision ami use {id}\n")
    assert up.run("use", "mine")[1].startswith(f"new launches use {id};")
    code, _, err = up.run("delete", "mine")
    assert (code, "provision ami use" in err) == (73, True)
    assert up.run("list")[1].splitlines()[1].startswith(f"* {id}  mine")
    assert up.run("use", "default")[1].endswith("the AMI of the settings\n")
    assert up.run("delete", id[:10])[1] == f"{id} and its snapshots are deleted\n"
    assert up.whole.double.images() == ((), ())
    assert up.run("delete", "mine")[0] == 66
