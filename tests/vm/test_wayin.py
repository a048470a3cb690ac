"""SSH access to a virtual machine, with its own sshd, Docker's exec and the agent's spool."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.faces.cli import main
from provisioner.rehearsal.aws.faults import Effect, Rule
from provisioner.rehearsal.machines.virtual.qemu import QemuHost
from tests.e2e.commands import Command, settings_file
from tests.vm.conftest import SMALL, Boot
from tests.vm.guest import ask

pytestmark = pytest.mark.vm

Provision = Callable[..., tuple[int, bytes, str]]

#: A job that prints every line that the test puts into its file. At SIGTERM it prints a line and exits.
JOB = "trap 'echo saved; exit 9' TERM; echo up; while :; do [ ! -e say ] || { cat say; rm say; }; sleep 0.2; done"


@pytest.fixture
def provision(capfdbinary: pytest.CaptureFixture[bytes]) -> Provision:
    """Return a function that runs `provision …` in this process: exit code, standard output, standard error."""

    def run(*words: str) -> tuple[int, bytes, str]:
        code = main.run(list(words))
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return run


def test_ssh_cp_logs_and_stop_work_on_a_virtual_machine(
    boot: Boot, host: QemuHost, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provision: Provision
) -> None:
    """Commands, files and the log work with the reported host key only; `stop` reaches the command."""
    with boot(settings={"ssh": {"port": host.ssh_port, "open": True}}) as whole:
        monkeypatch.setenv("PROVISION_SETTINGS", str(settings_file(whole)))
        run = whole.start(JOB, image=image, **SMALL)
        whole.until(lambda: b"up\n" in whole.log(run))
        [machine] = whole.double.alive()
        short = run.id[:8]

        code, out, err = provision("ssh", short, "--", "nproc")
        assert (code, out) == (0, b"1\n"), err
        code, out, err = provision("ssh", short, "--", "sh", "-c", 'echo "$PROVISION_RUN_ID"; exit 9')
        assert (code, out) == (9, f"{run.id}\n".encode()), err
        code, out, err = provision("ssh", short, "--host", "--", "sh", "-c", "id -un; stat -c %a .ssh/authorized_keys")
        assert (code, out) == (0, b"root\n600\n"), err

        tree = tmp_path / "tree"
        (tree / "deep").mkdir(parents=True)
        (tree / "deep/data").write_bytes(os.urandom(500_000))
        assert provision("cp", str(tree), f"{short}:")[0] == 0
        code, _, err = provision("cp", f"{short}:tree", str(tmp_path / "back"))
        assert code == 0, err
        assert (tmp_path / "back/deep/data").read_bytes() == (tree / "deep/data").read_bytes()

        with Command(tmp_path / "commands", "logs", short, "--follow", "--direct") as logs:
            logs.until(lambda: logs.out == b"up\n")
            # Lines arrive even if the bucket refuses them.
            whole.double.faults.add(Rule(Effect.ERROR, resource="*/log/*", principal="machine", status=503))
            assert provision("ssh", short, "--", "sh", "-c", "echo news >said && mv said say")[0] == 0
            logs.until(lambda: logs.out == b"up\nnews\n")
            assert whole.log(run) == b"up\n"
            whole.double.faults.clear()

            # Give the machine other host keys than it reported, as if another server had its address.
            anew = "cd /etc/ssh && rm ssh_host_* && ssh-keygen -q -t ed25519 -N '' -f ssh_host_ed25519_key"
            assert ask(host.folder(machine.id), f"{anew} && systemctl restart ssh").code == 0
            code, _, err = provision("ssh", short, "--", "true")
            assert (code, "another host key" in err) == (69, True), err
            whole.service.runs.stop(run.id)
            [done] = whole.done(run)
            assert logs.ended() == 0, logs.err
        assert logs.out.startswith(b"up\nnews\n")
        assert logs.out.endswith(b"saved\n")
        assert done.verdict is not None
        assert (done.verdict.outcome, done.verdict.exit_code) == (Outcome.CANCELLED, 9), done.verdict
        assert whole.log(run) == logs.out
        assert whole.double.alive() == []
