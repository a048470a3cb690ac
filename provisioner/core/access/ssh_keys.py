"""Derive the SSH key of a run's attempt, so that no key is stored and none has to be deleted."""

import hashlib
import hmac


def seed(secret: bytes, run: str, attempt: int) -> bytes:
    """Return the 32-byte seed of the attempt's Ed25519 key (RFC 8032).

    The seed is the HMAC-SHA256 (RFC 2104) of run and attempt under the installation's secret. No seed can be computed
    from another seed.
    """
    return hmac.digest(secret, f"provision ssh {run} {attempt}".encode(), hashlib.sha256)
