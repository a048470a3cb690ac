"""Programs that a test needs on this computer, and how to install them."""

import pytest


def bubblewrap(*, works: bool, proves: str) -> None:
    """Skip the test if bubblewrap does not work; the summary then names the unproven claim."""
    if not works:
        pytest.skip(f"not proven: {proves}. Needs bubblewrap and user namespaces: apt-get install bubblewrap")
