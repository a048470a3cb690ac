"""Find out whether this machine is shutting down."""

from __future__ import annotations

import subprocess

#: Maximum seconds to wait for systemctl.
PATIENCE = 5.0


def shutting_down() -> bool:
    """Return whether systemd is stopping the machine's services (systemctl(1), "is-system-running").

    False if systemctl is missing or does not answer within PATIENCE seconds.
    """
    command = ["systemctl", "is-system-running"]
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.stdout.strip() == "stopping"
