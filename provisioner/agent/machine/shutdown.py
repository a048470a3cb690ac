"""Find out whether this machine is shutting down."""

from __future__ import annotations

from provisioner.agent.machine.tools import ask

#: Maximum seconds to wait for systemctl.
PATIENCE = 5.0


def shutting_down() -> bool:
    """Return whether systemd is stopping the machine's services (systemctl(1), "is-system-running").

    False if systemctl is missing or does not answer within PATIENCE seconds.
    """
    try:
        return ask(["systemctl", "is-system-running"], PATIENCE).text == "stopping"
    except OSError:
        return False
