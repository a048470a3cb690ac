"""Derive the SSH keys of runs from a secret, in a file that only its owner may read."""

import os
import secrets
from pathlib import Path

from provisioner.adapters import private
from provisioner.adapters.ed25519 import pair
from provisioner.core.access.ssh_keys import seed
from provisioner.core.errors import Misconfigured
from provisioner.ports.shell import Key

#: Bytes of the secret: the length of the hash's output (RFC 2104, section 3).
SIZE = 32


class DerivedKeys:
    def __init__(self, file: Path) -> None:
        self._file = file

    def public(self, run: str, attempt: int) -> str:
        if not self._file.exists():
            self._make()
        return self.key(run, attempt).public

    def key(self, run: str, attempt: int) -> Key:
        return pair(seed(self._secret(), run, attempt))

    def _secret(self) -> bytes:
        try:
            found = self._file.read_bytes()
        except FileNotFoundError:
            raise Misconfigured(
                f"{self._file}, the secret of the SSH keys, is missing: run this command on the control host that "
                "launched the machines"
            ) from None
        except OSError as error:
            raise Misconfigured(f"{self._file} cannot be read: {error.strerror}") from error
        if len(found) != SIZE:
            raise Misconfigured(
                f"{self._file} has {len(found)} bytes; a secret of SSH keys has {SIZE}: restore it from a backup"
            )
        return found

    def _make(self) -> None:
        """Write a new secret, completely or not at all; if another process has written one first, keep that file."""
        private.make_folder(self._file.parent)
        part = self._file.with_name(f"{self._file.name}.{secrets.token_hex(4)}")
        try:
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(SIZE))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(part, self._file)
            except FileExistsError:
                pass
        finally:
            part.unlink(missing_ok=True)
