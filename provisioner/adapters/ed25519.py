"""Make Ed25519 keys in OpenSSH's formats, with `cryptography`, which is imported for the first key."""

from provisioner.ports.shell import Key

#: Bytes of the seed of a private key (RFC 8032, section 5.1.5).
SEED = 32


def pair(seed: bytes) -> Key:
    """Return the key pair of this seed: equal seeds give equal pairs."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    made = Ed25519PrivateKey.from_private_bytes(seed)
    private = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = made.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return Key(public.decode(), private)
