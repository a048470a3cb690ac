"""The contract with what opens the machines of runs: one key pair for each attempt, always the same."""

from typing import Protocol

from provisioner.ports.shell import Key


class Keys(Protocol):
    """All of an installation's derive from one secret, which stays on the control host."""

    def public(self, run: str, attempt: int) -> str:
        """The public half, as a line of authorized_keys; the secret is made where there is none yet."""

    def key(self, run: str, attempt: int) -> Key:
        """The pair; raises Misconfigured where the secret is not."""
