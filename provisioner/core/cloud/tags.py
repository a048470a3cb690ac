"""Tags that every machine has from its creation. Never rename them: machines that are alive have the old names."""

from collections.abc import Mapping

INSTALLATION_TAG = "provision:installation"
LAUNCH_TAG = "provision:launch"
LIFETIME_TAG = "provision:lifetime"
OWNER_TAG = "provision:owner"
JOB_TAG = "provision:job"


def lifetime_of(tags: Mapping[str, str]) -> float | None:
    """Return the seconds that a machine may exist; None if the tag is missing or not a number."""
    text = tags.get(LIFETIME_TAG, "")
    return float(text) if text.isascii() and text.isdigit() else None
