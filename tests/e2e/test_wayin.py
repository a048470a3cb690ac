"""SSH access to machines of runs, with a real sshd: ssh, cp, logs --direct, and refused access."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from provisioner import wiring
from provisioner.core.protocol.codec import encode
from provisioner.core.protocol.keys import report_key
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Node, Run
from provisioner.faces.cli import main
from provisioner.rehearsal.aws.faults import Effect, Rule
from provisioner.rehearsal.fakes.clock import ListJournal
from provisioner.service.installation import Installation
from tests.cli.conftest import Done
from tests.e2e.commands import PROVISION, SESSION, Command, settings_file
from tests.e2e.entered import SOMEBODY, EnteredHost
from tests.e2e.rig import Rig, rig
from tests.ports import free_ports

pytestmark = pytest.mark.ssh

SECRET = "a-secret-0123456789"

#: A job that prints its token, and then every text that the test writes to its folder.
JOB = 'echo up "$TOKEN"; while [ ! -e end ]; do [ ! -e say ] || { cat say; rm say; }; sleep 0.05; done; echo over'


@dataclass
class House:
    whole: Rig
    host: EnteredHost
    folder: Path
    output: pytest.CaptureFixture[bytes]
    installation: Installation

    def provision(self, *words: str) -> Done:
        """Run `provision …` in this process."""
        code = main.run(list(words))
        out, err = self.output.readouterr()
        return Done(code, out, err.decode())

    def running(self, **spec: Any) -> tuple[Run, Path]:
        """Start a run; return it and its working directory when its job is up."""
        run = self.whole.start(JOB, **spec)
        self.whole.until(lambda: b"up" in self.whole.log(run) and bool(self.node(run).report))
        return run, self.host.folder(self.node(run).instance_id) / "home/jovyan/workspace"

    def groups(self, run: Run) -> tuple[str, ...]:
        """Return the security groups of the run's machine."""
        launch = self.installation.store.launch(self.node(run).launch)
        assert launch
        return launch.request.template.security_groups

    def node(self, run: Run) -> Node:
        return self.whole.service.installation.store.nodes(run.id)[-1]

    def over(self, run: Run, folder: Path) -> None:
        """End the job and assert its success."""
        (folder / "end").touch()
        [done] = self.whole.done(run)
        assert done.verdict is not None
        assert done.verdict.outcome is Outcome.SUCCEEDED, done.verdict


Open = Callable[..., House]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Iterator[Open]:
    with ExitStack() as up:

        def make(**ssh: Any) -> House:
            [port] = free_ports(1)
            host = EnteredHost(tmp_path / "machines", port)
            settings = {"ssh": {"port": port, "open": True, **ssh}}
            conditions: dict[str, Any] = {"parameters": {"/token": SECRET}}
            whole = up.enter_context(rig(tmp_path / "rig", monkeypatch, host=host, settings=settings, **conditions))
            monkeypatch.setenv("PROVISION_SETTINGS", str(settings_file(whole)))
            installation = wiring.installed(whole.settings, ListJournal())
            up.callback(installation.store.close)
            return House(whole, host, tmp_path, capfdbinary, installation)

        yield make


def test_a_command_runs_beside_the_job(house: Open) -> None:
    """The command has its own output, error, input and exit code, and the job's folder and variables.

    With --host the command runs on the machine, outside the container.
    """
    up = house()
    run, folder = up.running(environment_variables={"COLOUR": "sky blue"})
    short = run.id[:8]
    done = up.provision("ssh", short, "--", "nproc")
    assert (done.code, done.out) == (0, f"{os.cpu_count()}\n".encode()), done.err
    done = up.provision("ssh", short, "--", "sh", "-c", 'echo "$COLOUR"; pwd; echo oh >&2; cat; exit 7')
    assert (done.code, done.out, done.err) == (7, b"sky blue\n/home/jovyan/workspace\n", "oh\n")
    done = up.provision("ssh", short, "--host", "--", "sh", "-c", "kill -9 $$")
    assert done.code == 137
    done = up.provision("ssh", short, "--host", "--", "pwd")
    assert done.out == b"/root\n", done.err
    words = [*PROVISION, "ssh", short, "--", "wc", "-c"]
    piped = subprocess.run(words, input=b"x" * 1_000_000, capture_output=True, check=True)
    assert piped.stdout.strip() == b"1000000"
    (up.host.folder(up.node(run).instance_id) / "tmp/no-container").touch()
    done = up.provision("ssh", short, "--", "true")
    assert (done.code, "--host" in done.last_line) == (75, True), done.err
    up.over(run, folder)
    done = up.provision("ssh", short, "--", "true")
    assert (done.code, "has no machine now" in done.last_line) == (66, True), done.err


def test_a_shell_on_a_terminal(house: Open) -> None:
    """The shell follows the window's size, Ctrl-C reaches the command, and the terminal is restored."""
    up = house()
    run, folder = up.running()
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 97, 0, 0))
    before = termios.tcgetattr(theirs)
    words = [sys.executable, "-c", SESSION, *PROVISION, "ssh", run.id[:8]]
    shown = b""

    def see(text: bytes) -> None:
        nonlocal shown
        while text not in shown:
            shown += os.read(ours, 65536)
        shown = shown.partition(text)[2]

    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.write(ours, b"echo size $(stty size)\r")
        see(b"size 31 97")
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 41, 87, 0, 0))
        process.send_signal(signal.SIGWINCH)
        os.write(ours, b'while [ "$(stty size)" != \'41 87\' ]; do sleep 0.1; done; echo now"" wide\r')
        see(b"now wide")
        program = """trap "exit 5" INT; echo wait""ing; while :; do sleep 0.1; done"""
        os.write(ours, f"sh -c '{program}'; exit $?\r".encode())
        see(b"waiting")
        os.write(ours, b"\x03")
        assert process.wait() == 5
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
    up.over(run, folder)


def test_files_and_folders_are_copied(house: Open, tmp_path: Path) -> None:
    """Files are copied both ways with modes and links.

    If the target is an existing folder, the copy goes into it. A missing path is an error.
    """
    up = house()
    run, folder = up.running()
    short = run.id[:8]
    tree = tmp_path / "tree"
    (tree / "deep/er").mkdir(parents=True)
    (tree / "deep/er/data").write_bytes(os.urandom(3_000_000))
    (tree / "tool").write_text("#!/bin/sh\n")
    (tree / "tool").chmod(0o755)
    (tree / "link").symlink_to("deep/er/data")
    done = up.provision("cp", str(tree), f"{short}:sent")
    assert done.code == 0, done.err
    assert done.last_line == "3 files, 3.0 MB"
    (folder / "sent/deep/own").write_text("stays")
    assert up.provision("cp", str(tree / "tool"), f"{short}:sent/deep").code == 0
    assert up.provision("cp", str(tree), f"{short}:").code == 0
    (tree / "tool").write_text("#!/bin/sh\necho newer\n")
    assert up.provision("cp", str(tree) + "/", f"{short}:/home/jovyan/workspace/").code == 0
    assert (folder / "tree/tool").read_text() == "#!/bin/sh\necho newer\n"

    back = tmp_path / "back"
    done = up.provision("cp", f"{short}:sent", str(back), "--json")
    assert (done.code, done.out) == (0, b'{\n  "files": 5,\n  "bytes": 3000025\n}\n'), done.err
    assert (back / "deep/er/data").read_bytes() == (tree / "deep/er/data").read_bytes()
    assert os.readlink(back / "link") == "deep/er/data"
    assert os.access(back / "tool", os.X_OK)
    assert sorted(each.name for each in (back / "deep").iterdir()) == ["er", "own", "tool"]
    assert up.provision("cp", f"{short}:sent/deep/own", str(back)).code == 0
    assert (back / "own").read_text() == "stays"
    # --host copies the machine's files; no temporary files are left.
    assert up.provision("cp", "--host", f"{short}:/etc/passwd", str(tmp_path / "passwd")).code == 0
    assert "root" in (tmp_path / "passwd").read_text()
    for words, why in (
        ((f"{short}:nowhere", str(tmp_path / "n")), "there is no nowhere"),
        ((f"{short}:sent/tool", str(tmp_path / "n/n")), "does not exist"),
        ((str(tree), f"{short}:n/n"), "does not exist"),
        ((str(tree), f"{short}:sent/tool"), "is a file"),
        ((str(tmp_path / "nowhere"), f"{short}:x"), "neither a file nor a folder"),
        ((str(tree), str(back)), "RUN:PATH"),
    ):
        done = up.provision("cp", *words)
        assert done.code in (64, 80)
        assert why in done.last_line, done.err
    assert [path.name for path in (*folder.rglob(".provision*"), *tmp_path.glob(".provision*"))] == []
    up.over(run, folder)


def test_logs_come_from_the_machine_itself(house: Open) -> None:
    """Masked lines arrive even while the bucket refuses writes, and in the end each byte has arrived exactly once."""
    up = house()
    secret = {"attachment_type": "environment_variable", "location": "TOKEN", "name": "ssm:/token"}
    run, folder = up.running(secrets=[secret])
    with Command(up.folder / "commands", "logs", run.id[:8], "--follow", "--direct") as logs:
        logs.until(lambda: logs.out == b"up ***\n")
        # The job prints the text at once.
        outage = Rule(Effect.ERROR, resource="*/log/*", principal="machine", status=503)
        up.whole.double.faults.add(outage)
        say(folder, f"first {SECRET}\n")
        logs.until(lambda: logs.out == b"up ***\nfirst ***\n")
        assert up.whole.log(run) == b"up ***\n"
        up.whole.double.faults.clear()
        many = "".join(f"line {number}\n" for number in range(200_000))
        say(folder, many)
        logs.until(lambda: logs.out.endswith(b"line 199999\n"))
        (folder / "end").touch()
        assert logs.ended() == 0, logs.err
    assert logs.out == f"up ***\nfirst ***\n{many}over\n".encode()
    up.whole.done(run)
    assert up.whole.log(run) == logs.out


def say(folder: Path, text: str) -> None:
    (folder / "saying").write_text(text)
    (folder / "saying").rename(folder / "say")


def test_direct_log_continues_from_the_bucket_after_a_lost_connection(house: Open) -> None:
    """The command prints that it now reads from the bucket, and no byte is missing or duplicated."""
    up = house()
    run, folder = up.running()
    with Command(up.folder / "commands", "logs", run.id[:8], "-f", "--direct", "--stream", "output") as logs:
        logs.until(lambda: logs.out == b"up \n")
        say(folder, "before\n")
        logs.until(lambda: b"before" in logs.out)
        up.host.cut(up.node(run).instance_id)
        logs.until(lambda: "read from the bucket instead" in logs.err)
        say(folder, "after\n")
        logs.until(lambda: b"after" in logs.out)
        (folder / "end").touch()
        assert logs.ended() == 0, logs.err
    assert logs.out == b"up \nbefore\nafter\nover\n"
    up.whole.done(run)


def test_machine_with_another_host_key_is_refused(house: Open) -> None:
    """The server's host key is not that of the machine's first report: the command prints a line and sends nothing."""
    up = house(security_groups=["sg-in"])
    run, folder = up.running()
    assert up.groups(run) == ("sg-in",)
    keys = (folder.parents[2] / "root/.ssh/authorized_keys").read_text().splitlines()
    assert keys == [SOMEBODY, up.installation.keys and up.installation.keys.public(run.id, 1)]
    node = up.node(run)
    kind, _, key = node.host_keys[0].partition(" ")
    other = (f"{kind} {key[:-4]}AAAA",)
    # The job has its machine's role and can forge reports, so the first report counts.
    assert node.report
    forged = replace(node.report, sequence=10**6, host_keys=other)
    up.installation.bucket.put(report_key(node.box, forged.sequence), encode(forged))
    up.whole.until(lambda: getattr(up.node(run).report, "sequence", 0) == forged.sequence)
    assert up.node(run).host_keys == node.host_keys
    assert up.provision("ssh", run.id[:8], "--", "true").code == 0
    up.installation.store.save([replace(up.node(run), host_keys=other)])
    done = up.provision("ssh", run.id[:8], "--", "true")
    assert (done.code, "another host key" in done.last_line) == (69, True), done.err
    with Command(up.folder / "commands", "logs", run.id[:8], "-f", "--direct") as logs:
        logs.until(lambda: "another host key" in logs.err)
        (folder / "end").touch()
        assert logs.ended() == 0
    assert logs.out == b"up \nover\n"
    up.whole.done(run)


def test_ssh_without_the_installations_secret_is_refused(house: Open) -> None:
    """Without the installation's secret, or with another one, access fails with a clear error."""
    up = house()
    run, folder = up.running()
    secret = up.whole.settings.store_path.with_suffix(".key")
    assert secret.stat().st_mode & 0o777 == 0o600
    kept = secret.read_bytes()
    secret.write_bytes(bytes(32))
    done = up.provision("ssh", run.id[:8], "--", "true")
    assert (done.code, "rejects the run's key" in done.last_line) == (69, True), done.err
    secret.unlink()
    done = up.provision("ssh", run.id[:8], "--", "true")
    assert (done.code, "control host that launched" in done.last_line) == (69, True), done.err
    secret.write_bytes(kept)
    up.over(run, folder)


def test_machines_are_closed_unless_the_settings_open_them(house: Open) -> None:
    """Without `open` a machine has no key, reported host key, security group or secret; the error names the setting."""
    up = house(open=False, security_groups=["sg-in"])
    run, folder = up.running()
    root = up.host.folder(up.node(run).instance_id)
    assert (root / "root/.ssh/authorized_keys").read_text() == SOMEBODY
    assert up.node(run).host_keys == ()
    assert up.groups(run) == ()
    for words in (("ssh", run.id, "--", "true"), ("cp", f"{run.id}:x", "y")):
        done = up.provision(*words)
        assert (done.code, "light machines" in done.last_line) == (64, True), done.err
    with Command(up.folder / "commands", "logs", run.id, "-f", "--direct") as logs:
        logs.until(lambda: "`open = true` under [ssh]" in logs.err)
        up.over(run, folder)
        assert logs.ended() == 0
    assert logs.out == b"up \nover\n"
    assert not up.whole.settings.store_path.with_suffix(".key").exists()
