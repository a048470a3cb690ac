"""Implement the `Shell` port with paramiko, which the first connection imports."""

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

#: Seconds between two keepalive messages. They detect a lost machine, and keep the connection alive during a command.
KEEPALIVE = 15

#: Seconds between two checks whether a command that prints nothing has ended or exceeds its time limit.
LOOK = 0.2

#: Maximum number of bytes of output that are read at once.
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
            # If paramiko does not support a type of key, the machine cannot present a key of that type either.
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
                    # The user's own keys are not shown to the machine.
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
        #: Opened for the first file and kept: each SFTP session is a process on the machine.
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
                    # A background process of the command may keep the stream open.
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
            raise Transient(f"{self._name}: the connection was lost while the command ran")
        return int(code)

    def close(self) -> None:
        self._client.close()


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Raise Misconfigured or Transient for the errors of paramiko and of the network."""
    import paramiko

    try:
        yield
    except (paramiko.BadHostKeyException, paramiko.AuthenticationException) as error:
        raise Misconfigured(f"{name}: {error}") from error
    except paramiko.SSHException as error:
        if "not found in known_hosts" in str(error):
            raise Misconfigured(f"{name} has none of the expected host keys; nothing was sent") from error
        raise Transient(f"{name}: {error}") from error
    except (OSError, EOFError, socket.gaierror) as error:
        raise Transient(f"{name}: {error or type(error).__name__}") from error
