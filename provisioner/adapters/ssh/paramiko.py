"""SSH as the `Shell` port, by paramiko, which the first connection imports."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from provisioner.adapters.ed25519 import SEED, pair
from provisioner.core.errors import Misconfigured, Transient
from provisioner.ports.shell import Host, Key

#: Seconds between two signs of life: a machine that is gone is noticed, a busy one is left alone.
KEEPALIVE = 15

#: How often a command's end and its time limit are looked at while it prints nothing, in seconds.
LOOK = 0.2

#: Bytes of output at once.
CHUNK = 32768


class Ssh:
    def key(self) -> Key:
        return pair(os.urandom(SEED))

    def connect(self, host: Host, key: Key, timeout: float) -> SshSession:
        import paramiko

        client = paramiko.SSHClient()
        name = host.address if host.port == 22 else f"[{host.address}]:{host.port}"
        for line in host.keys:
            kind, _, encoded = line.partition(" ")
            # A kind that paramiko does not speak is one it cannot be shown either.
            with contextlib.suppress(paramiko.SSHException, paramiko.pkey.UnknownKeyType, ValueError):
                known = paramiko.PKey.from_type_string(kind, base64.b64decode(encoded))
                client.get_host_keys().add(name, kind, known)
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        try:
            with _told(f"{host.user}@{name}"):
                client.connect(
                    host.address,
                    host.port,
                    host.user,
                    pkey=paramiko.Ed25519Key(file_obj=io.StringIO(key.private.decode())),
                    timeout=timeout,
                    banner_timeout=timeout,
                    auth_timeout=timeout,
                    # Nothing of the person at this computer is shown to the machine.
                    allow_agent=False,
                    look_for_keys=False,
                )
                transport = client.get_transport()
                assert transport is not None, "a connected client has a transport"
                transport.set_keepalive(KEEPALIVE)
        except BaseException:
            client.close()
            raise
        return SshSession(client, f"{host.user}@{name}")


class SshSession:
    def __init__(self, client: Any, name: str) -> None:
        self._client, self._name = client, name
        #: Opened for the first file: over there each is a process.
        self._sftp: Any = None

    def put(self, path: str, data: bytes) -> None:
        with _told(self._name):
            self._sftp = self._sftp or self._client.open_sftp()
            self._sftp.putfo(io.BytesIO(data), path, len(data))

    def run(self, command: str, output: Callable[[bytes], None], timeout: float) -> int:
        deadline = time.monotonic() + timeout
        with _told(self._name):
            channel = self._client.get_transport().open_session(timeout=timeout)
        with contextlib.closing(channel):
            with _told(self._name):
                channel.set_combine_stderr(True)
                channel.settimeout(LOOK)
                channel.exec_command(command)
            while True:
                if time.monotonic() > deadline:
                    raise Transient(f"{self._name}: {command!r} takes more than {timeout:.0f} s")
                try:
                    data = channel.recv(CHUNK)
                except TimeoutError:
                    # What the command left in the background may hold the stream open.
                    if channel.exit_status_ready() and not channel.recv_ready():
                        break
                    continue
                if not data:
                    break
                output(data)
            return self._exit_code(channel, deadline)

    def _exit_code(self, channel: Any, deadline: float) -> int:
        while not channel.exit_status_ready():
            if time.monotonic() > deadline or channel.closed or not self._client.get_transport().is_active():
                break
            time.sleep(LOOK)
        code = channel.recv_exit_status() if channel.exit_status_ready() else -1
        if code < 0:
            raise Transient(f"{self._name}: the connection ended before the command did")
        return int(code)

    def close(self) -> None:
        self._client.close()


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """What paramiko and the network raise, as what the caller should do about it."""
    import paramiko

    try:
        yield
    except (paramiko.BadHostKeyException, paramiko.AuthenticationException) as error:
        raise Misconfigured(f"{name}: {error}") from error
    except paramiko.SSHException as error:
        if "not found in known_hosts" in str(error):
            raise Misconfigured(f"{name} shows none of the host keys that it should have") from error
        raise Transient(f"{name}: {error}") from error
    except (OSError, EOFError, socket.gaierror) as error:
        raise Transient(f"{name}: {error or type(error).__name__}") from error
