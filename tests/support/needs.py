"""What a test needs of the computer, and how to get it."""

import pytest


def bubblewrap(*, works: bool, proves: str) -> None:
    """Skip the test if bubblewrap does not work. The summary then names the claim that was not proven."""
    if not works:
        pytest.skip(f"not proven: {proves}. Needs bubblewrap and user namespaces: apt-get install bubblewrap")
