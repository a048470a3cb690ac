"""Implement the `Connection` port with asyncssh, which the first connection imports.

The event loop of each connection runs in a thread of its own, so that callers can block.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import shlex
import threading
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from provisioner.core.errors import Misconfigured, Transient
from provisioner.ports.connection import Terminal
from provisioner.ports.shell import Host, Key

T = TypeVar("T")

#: Seconds between two keepalive messages, and how many may stay unanswered: a lost machine is detected in a minute.
KEEPALIVE, MISSED = 15, 3

#: Maximum number of bytes that are read at once.
CHUNK = 65536

#: How many of the last bytes of standard error are kept. They may contain the reason why a command failed.
LAST_WORDS = 2000


class AsyncSsh:
    def connect(self, host: Host, key: Key, timeout: float) -> SshConnection:
        loop = _Loop(f"{host.user}@{host.address}, port {host.port}")
        try:
            return SshConnection(loop, loop.do(_connect(host, key, timeout)))
        except BaseException:
            loop.close()
            raise


async def _connect(host: Host, key: Key, timeout: float) -> Any:
    import asyncssh

    known = []
    for line in host.keys:
        # If asyncssh does not support a type of key, the machine cannot present a key of that type either.
        with contextlib.suppress(asyncssh.KeyImportError):
            known.append(asyncssh.import_public_key(line))
    return await asyncssh.connect(
        host.address,
        host.port,
        username=host.user,
        client_keys=[asyncssh.import_private_key(key.private)],
        known_hosts=(known, [], []),
        # The user's own SSH configuration and keys are not used, and not shown to the machine.
        config=None,
        agent_path=None,
        x509_trusted_certs=None,
        preferred_auth="publickey",
        gss_host=None,
        connect_timeout=timeout,
        login_timeout=timeout,
        keepalive_interval=KEEPALIVE,
        keepalive_count_max=MISSED,
        compression_algs=None,
    )


class _Loop:
    """An event loop in a thread; `do` runs a coroutine there and waits for it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def do(self, deed: Coroutine[Any, Any, T]) -> T:
        with _told(self._name):
            try:
                return asyncio.run_coroutine_threadsafe(deed, self.loop).result()
            except concurrent.futures.CancelledError:
                raise Transient(f"{self._name}: this process has closed the connection") from None

    def close(self) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()


class SshConnection:
    def __init__(self, loop: _Loop, connection: Any) -> None:
        self._loop, self._connection = loop, connection

    def start(self, words: Sequence[str], terminal: Terminal | None = None) -> SshProcess:
        shown = {"term_type": terminal.kind, "term_size": terminal.size} if terminal else {}
        command = shlex.join(words)

        async def begin() -> Any:
            return await self._connection.create_process(command or None, encoding=None, **shown)

        return SshProcess(self._loop, self._loop.do(begin()), command)

    def close(self) -> None:
        if self._loop.loop.is_closed():
            return
        try:
            self._loop.do(self._hang_up())
        except (Transient, Misconfigured):
            pass  # The connection was lost already.
        self._loop.close()

    async def _hang_up(self) -> None:
        self._connection.abort()
        await self._connection.wait_closed()
        waiting = asyncio.all_tasks() - {asyncio.current_task()}
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


class SshProcess:
    def __init__(self, loop: _Loop, process: Any, command: str) -> None:
        self._loop, self._process, self._command = loop, process, command

    def read(self, size: int, timeout: float | None = None) -> bytes | None:
        return self._loop.do(_within(self._process.stdout.read(size), timeout))

    def write(self, data: bytes) -> None:
        async def write() -> None:
            self._process.stdin.write(data)
            await self._process.stdin.drain()

        self._loop.do(write())

    def finish(self) -> None:
        async def finish() -> None:
            self._process.stdin.write_eof()

        self._loop.do(finish())

    def resize(self, size: tuple[int, int]) -> None:
        self._loop.loop.call_soon_threadsafe(lambda: self._process.change_terminal_size(*size))

    def attach(self, stdin: int, stdout: int, stderr: int) -> int:
        # A daemon thread, because it may wait for input for ever: it ends with this process.
        threading.Thread(target=self._take, args=(stdin,), daemon=True).start()
        errors = threading.Thread(target=self._complain, args=(stderr,), daemon=True)
        errors.start()
        self._carry(self._process.stdout, stdout)
        errors.join()
        return self.wait()[0]

    def _take(self, stdin: int) -> None:
        try:
            while data := os.read(stdin, CHUNK):
                self.write(data)
            self.finish()
        except (Transient, OSError):
            pass  # The command or the connection has ended: `attach` reports that.

    def _complain(self, stderr: int) -> None:
        try:
            self._carry(self._process.stderr, stderr)
        except (Transient, OSError):
            pass  # As in `_take`.

    def _carry(self, reader: Any, to: int) -> None:
        while data := self._loop.do(reader.read(CHUNK)):
            while data:
                data = data[os.write(to, data) :]

    def wait(self) -> tuple[int, str]:
        async def wait() -> tuple[int | None, bytes]:
            words = b""
            while data := await self._process.stderr.read(CHUNK):
                words = (words + data)[-LAST_WORDS:]
            await self._process.wait_closed()
            return self._process.returncode, words

        code, words = self._loop.do(wait())
        if code is None:
            raise Transient(f"the connection was lost while the command ran ({self._command[:60]})")
        return code if code >= 0 else 128 - code, words.decode(errors="replace").strip()


async def _within(reading: Coroutine[Any, Any, bytes], timeout: float | None) -> bytes | None:
    try:
        return await asyncio.wait_for(reading, timeout)
    except TimeoutError:
        return None


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Raise Misconfigured or Transient for the errors of asyncssh and of the network."""
    import asyncssh

    try:
        yield
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
        raise Misconfigured(
            f"{name}: the SSH server has another host key than the machine reported: it is another host, or the "
            "machine has new keys. Nothing was sent"
        ) from error
    except asyncssh.PermissionDenied as error:
        raise Misconfigured(
            f"{name}: sshd rejects the run's key: use the control host that launched the machine, and check "
            "PermitRootLogin in the machine's sshd_config"
        ) from error
    except (asyncssh.Error, OSError, EOFError) as error:
        raise Transient(f"{name}: {error or type(error).__name__}") from error
