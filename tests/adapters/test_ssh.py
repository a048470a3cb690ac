"""SSH against a real sshd: host keys, output, exit codes and lost connections."""

import getpass
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.adapters.ssh.paramiko import Ssh
from provisioner.core import errors
from provisioner.core.cloud.host_keys import BEGIN, END, host_keys
from provisioner.ports.shell import Host, Key, Session
from tests.agent.private_git import SshServer, ssh_server

pytestmark = pytest.mark.ssh


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("ssh") / "server") as made:
        yield made


def host(server: SshServer, key: str = "") -> Host:
    return Host("127.0.0.1", server.port, getpass.getuser(), (key or server.host_key,))


@pytest.fixture
def session(server: SshServer) -> Iterator[Session]:
    made = Ssh().connect(host(server), Key("", server.key.encode()), 20)
    yield made
    made.close()


def test_a_command_gives_its_output_and_exit_code(session: Session) -> None:
    """Output has both streams as they were written."""
    heard = bytearray()
    assert session.run("echo out; echo err >&2; exit 3", heard.extend, 20) == 3
    assert sorted(heard.split()) == [b"err", b"out"]
    assert session.run("true", heard.extend, 20) == 0


def test_output_comes_as_it_is_written(session: Session) -> None:
    """The callback gets the first line before the command ends: the command waits for the test to read it."""
    heard, pipe = bytearray(), f"/tmp/provision-test-{os.getpid()}-{threading.get_ident()}"
    os.mkfifo(pipe)

    def hear(data: bytes) -> None:
        heard.extend(data)
        if b"first" in data:
            Path(pipe).write_text("go on\n")

    try:
        assert session.run(f"echo first; cat {pipe}", hear, 20) == 0
    finally:
        os.unlink(pipe)
    assert bytes(heard) == b"first\ngo on\n"


def test_a_megabyte_comes_whole(session: Session) -> None:
    """Output may arrive in pieces of any size."""
    heard = bytearray()
    assert session.run("head -c 1000000 /dev/zero | tr '\\0' x", heard.extend, 60) == 0
    assert heard == b"x" * 1_000_000


def test_files_are_put_whole(session: Session, tmp_path: Path) -> None:
    """put() writes any bytes and replaces an existing file."""
    target = tmp_path / "file"
    target.write_bytes(b"something longer than what comes")
    session.put(str(target), bytes(range(256)) * 500)
    assert target.read_bytes() == bytes(range(256)) * 500


def test_background_process_does_not_block_run(session: Session) -> None:
    """A background process that keeps the streams open does not block run()."""
    heard = bytearray()
    assert session.run("sleep 30 & echo $!", heard.extend, 20) == 0
    os.kill(int(heard), signal.SIGKILL)


def test_a_command_that_takes_too_long_is_given_up(session: Session) -> None:
    """The error states the time limit."""
    heard = bytearray()
    with pytest.raises(errors.Transient, match="more than 1 s"):
        session.run("echo $$; exec sleep 60", heard.extend, 1)
    os.kill(int(heard), signal.SIGKILL)


def test_lost_connection_is_transient_not_an_exit_code(session: Session) -> None:
    """The command may have finished or not, so no exit code is reported."""
    with pytest.raises(errors.Transient, match="lost while the command ran"):
        session.run("kill -9 $PPID", lambda _: None, 20)


def test_a_wrong_host_key_is_refused(server: SshServer) -> None:
    """An unknown host key is never trusted on first use, and the client's key is not offered."""
    other = Ssh().key().public
    with pytest.raises(errors.Misconfigured, match="does not match"):
        Ssh().connect(host(server, other), Key("", server.key.encode()), 20)


def test_a_host_without_a_key_that_we_know_is_refused(server: SshServer) -> None:
    """The known keys are invalid, or of kinds that the server does not offer."""
    for key in ("ssh-newest AAAA", "ssh-rsa AAAA"):
        with pytest.raises(errors.Misconfigured, match="none of the expected host keys"):
            Ssh().connect(host(server, key), Key("", server.key.encode()), 20)


def test_unknown_client_key_fails_authentication(server: SshServer) -> None:
    """A new key that the server does not know fails authentication."""
    with pytest.raises(errors.Misconfigured, match=r"[Aa]uthentication"):
        Ssh().connect(host(server), Ssh().key(), 20)


def test_silent_or_closed_port_is_transient() -> None:
    """A port without a listener, and a listener that never answers, are transient errors."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with pytest.raises(errors.Transient):
            Ssh().connect(Host("127.0.0.1", port, "me", ()), Ssh().key(), 1)
    with pytest.raises(errors.Transient):
        Ssh().connect(Host("127.0.0.1", port, "me", ()), Ssh().key(), 1)


def test_a_private_key_is_not_shown() -> None:
    """A key's repr hides the private half, and each key is different."""
    first, second = Ssh().key(), Ssh().key()
    assert first.private != second.private
    assert "PRIVATE" not in repr(first)
    assert first.public.startswith("ssh-ed25519 ")


def test_host_keys_are_read_from_the_consoles_last_block(server: SshServer) -> None:
    """The keys of the last complete block are returned, whatever precedes each line; an incomplete block gives none."""
    block = f"[ 9.1] cloud-init[7]: {BEGIN}\r\n[ 9.1] cloud-init[7]: {server.host_key} root@ip-10-0-0-1\r\n{END}\r\n"
    old = f"{BEGIN}\nssh-rsa AAAAold root@old\n{END}\n"
    assert host_keys(f"boot\n{old}more\n{block}login: ") == (server.host_key,)
    assert host_keys(block.partition(END)[0]) == ()
    assert host_keys("") == ()
