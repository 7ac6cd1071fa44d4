"""What the tests of the protocol core share: the draft's vector, keys, and a share as the draft's example has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings

from gateway.ocm.keys import JWKSet, SigningKey, jwks_document

settings.register_profile("gateway", deadline=None, max_examples=40, database=None)
settings.load_profile("gateway")

VECTORS = Path(__file__).parents[1] / "vectors" / "draft-07-appendix-b.json"


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    """The test vectors of draft-07, Appendix B and section Code Flow."""
    return json.loads(VECTORS.read_text())


@pytest.fixture(scope="session")
def ed25519() -> SigningKey:
    return SigningKey.from_private(Ed25519PrivateKey.generate(), "https://sender.example/ocm#ed25519-1")


@pytest.fixture(scope="session")
def es256() -> SigningKey:
    return SigningKey.from_private(ec.generate_private_key(ec.SECP256R1()), "https://sender.example/ocm#es256-1")


@pytest.fixture(scope="session")
def published(ed25519: SigningKey, es256: SigningKey) -> JWKSet:
    """Both keys, as a peer sees them."""
    return JWKSet.parse(jwks_document([ed25519, es256]))


@pytest.fixture(scope="session")
def share() -> Callable[..., dict[str, Any]]:
    """Makes the body of a valid Share Creation Notification, with the members given changed; None takes one out."""

    def make(**changes: Any) -> dict[str, Any]:
        body: dict[str, Any] = {
            "shareWith": "marie@receiver.example.org",
            "name": "spec.yaml",
            "providerId": "7c084226-d9a1-11e6-bf26-cec0c932ce01",
            "owner": "einstein@sender.example.org",
            "sender": "einstein@sender.example.org",
            "shareType": "user",
            "resourceType": "file",
            "protocol": {
                "name": "multi",
                "webdav": {"uri": "spec.yaml", "sharedSecret": "hfiuhworzwnur98d3wjiwhr", "permissions": ["read"]},
            },
        }
        return {name: value for name, value in (body | changes).items() if value is not None}

    return make
