"""Which signatures a peer can verify: exactly one kind for each, never two (peers.md section 6)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from gateway.ocm.cavage import ALGORITHM as RSA
from gateway.ocm.cavage import CavageKey
from gateway.ocm.discovery import Discovery
from gateway.ocm.errors import SignatureInvalid
from gateway.profiles import profile_of

Scheme = Literal["rfc9421", "cavage", "none"]


class Generation(NamedTuple):
    """What to sign with: the scheme, and the algorithm of our key."""

    scheme: Scheme
    algorithm: str  # empty where nothing is signed


def signature_for(discovery: Discovery) -> Generation:
    """Return what the peer can verify, as its discovery says."""
    # A peer may demand signatures without saying that it makes them (wire.md, Discovery: criteria).
    if "http-sig" in discovery.capabilities or "must-use-http-sig" in discovery.criteria:
        # Nextcloud gets the algorithm that it signs with itself: its PHP may lack Ed25519 (peers.md section 6).
        algorithm = profile_of(discovery).algorithm
        return Generation("rfc9421", algorithm if algorithm in ("ES256", "Ed25519") else "Ed25519")
    return Generation("cavage", RSA) if _has_cavage_key(discovery) else Generation("none", "")


def _has_cavage_key(discovery: Discovery) -> bool:
    """Tell whether the peer takes part in draft-cavage; a key that we cannot use says so as well."""
    try:
        return CavageKey.published(discovery.public_key) is not None
    except SignatureInvalid:
        return True
