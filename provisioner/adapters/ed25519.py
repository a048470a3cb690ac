"""Ed25519 keys in OpenSSH's forms, by `cryptography`, which the first key imports."""

from provisioner.ports.shell import Key

#: Bytes that a private key is made of (RFC 8032, section 5.1.5).
SEED = 32


def pair(seed: bytes) -> Key:
    """The key pair of these bytes, always the same."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    made = Ed25519PrivateKey.from_private_bytes(seed)
    private = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = made.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return Key(public.decode(), private)
