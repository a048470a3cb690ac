"""The contract for SSH keys of machines: each attempt of a run has one key pair, which never changes."""

from typing import Protocol

from provisioner.ports.shell import Key


class Keys(Protocol):
    """Derives all keys of an installation from one secret, which stays on the control host."""

    def public(self, run: str, attempt: int) -> str:
        """Return the public key, as a line of authorized_keys. Makes the secret if it does not exist."""

    def key(self, run: str, attempt: int) -> Key:
        """Return the key pair; raises Misconfigured if the secret is missing."""
