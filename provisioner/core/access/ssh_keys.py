"""The SSH key of a run's attempt, derived: nothing is stored for a run, and nothing is left to clean up."""

import hashlib
import hmac


def seed(secret: bytes, run: str, attempt: int) -> bytes:
    """The 32 bytes that an Ed25519 key is made of (RFC 8032), by HMAC-SHA256 (RFC 2104) from the installation's secret.

    Who knows one of them knows no other.
    """
    return hmac.digest(secret, f"provision ssh {run} {attempt}".encode(), hashlib.sha256)
