"""SSH public keys, made in a moment, as values and as lines of authorized_keys."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.ocm.ssh_keys import PublicKey, parse_public_key


def new_key() -> PublicKey:
    """Return a key that nobody has seen before."""
    public = Ed25519PrivateKey.generate().public_key()
    return parse_public_key(public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())
