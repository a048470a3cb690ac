"""Programs and rights that a test needs on this computer, and how to install them."""

import subprocess

import pytest


def bubblewrap(*, works: bool, proves: str) -> None:
    """Skip the test if bubblewrap does not work; the summary then names the unproven claim."""
    if not works:
        pytest.skip(f"not proven: {proves}. Needs bubblewrap and user namespaces: apt-get install bubblewrap")


#: Makes what a light machine's own network consists of, in a network that is gone afterwards.
NETWORK = "unshare --net sh -c 'ip link add made type bridge && iptables -t nat -S && bwrap --ro-bind / / true'"


def networks(*, proves: str) -> None:
    """Skip the test if light machines cannot have their own networks; the summary then names the unproven claim."""
    if subprocess.run(["sh", "-c", NETWORK], capture_output=True, check=False).returncode:
        pytest.skip(f"not proven: {proves}. Needs root: apt-get install bubblewrap iproute2 iptables util-linux")
