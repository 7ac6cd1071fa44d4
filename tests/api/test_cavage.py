"""Nextcloud 31 to 34 at the door: they sign by draft-cavage, with the RSA key that their discovery shows."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.ocm.cavage import CavageKey

from .served import BASE, ORIGIN, SECRET, Served


def share_of(served: Served, **changes: Any) -> bytes:
    """Return the body that Nextcloud sends (peers.md section 2a)."""
    options = {"sharedSecret": SECRET, "permissions": "{http://open-cloud-mesh.org/ns}share-permissions"}
    body = served.share(resourceType="file", **changes) | {"protocol": {"name": "webdav", "options": options}}
    return json.dumps(body).encode()


def test_our_discovery_shows_the_key_that_signs_at_this_moment(fresh: Served) -> None:
    """It is named after our host, as Nextcloud demands, and both change together."""
    keys = fresh.peers._signing.keys
    for _ in range(2):
        published = CavageKey.published(fresh.request("GET", "/ocm-provider/").json["publicKey"])
        assert published is not None
        assert published.key_id == keys.cavage_key().kid
        assert published.key_id.startswith(f"{ORIGIN}/ocm#rsa-sha512-")
        keys.rotate()


def test_a_share_is_taken_with_the_signature_as_its_evidence(fresh: Served) -> None:
    """The path is the one that arrived, below the path of our public URL."""
    fresh.peer.become_nextcloud()
    message = fresh.peer.cavage_message(f"{BASE}/ocm/shares", share_of(fresh), to=ORIGIN)
    assert fresh.send(message).status == 201
    assert fresh.received()[0].evidence == "cavage"
    unsigned = fresh.request("POST", f"{BASE}/ocm/shares", share_of(fresh, providerId="2"))
    assert (unsigned.status, unsigned.code) == (401, "SIGNATURE_REQUIRED")


@pytest.mark.parametrize("path", ["shares", "notifications", "token"])
def test_a_header_that_is_none_is_a_bad_request(fresh: Served, path: str) -> None:
    fresh.peer.become_nextcloud()
    fresh.put_sent(f"garbled-{path}")
    told = {"notificationType": "SHARE_UNSHARED", "resourceType": "file", "providerId": "any", "notification": {}}
    told["senderDomain"] = fresh.peer.server
    exchange = {"grant_type": "authorization_code", "code": f"{SECRET}-garbled-{path}"}
    body = {"shares": share_of(fresh), "notifications": json.dumps(told), "token": json.dumps(exchange)}[path]
    message = fresh.peer.cavage_message(f"{BASE}/ocm/{path}", body if isinstance(body, bytes) else body.encode())
    garbled = replace(message, headers=(*message.headers[:-1], ("Signature", "keyId=home-made")))
    reply = fresh.send(replace(garbled, target_uri=f"{ORIGIN}{BASE}/ocm/{path}"))
    assert reply.status == 400
    assert reply.code == ("invalid_request" if path == "token" else "SIGNATURE_MALFORMED")


def test_a_notification_is_bound_to_the_host_of_the_key(fresh: Served) -> None:
    """A signature alone is enough to speak about one's own Share; Nextcloud sends no senderDomain."""
    fresh.peer.become_nextcloud()
    fresh.put_received("shared-by-peer", state="accepted")
    told = {"notificationType": "SHARE_UNSHARED", "resourceType": "file", "providerId": "shared-by-peer"}
    body = json.dumps(told | {"notification": {"sharedSecret": f"{SECRET}-shared-by-peer"}}).encode()
    foreign = replace(fresh.peer.keys.cavage_key(), kid="https://evil.example/ocm#rsa-sha512-1")
    message = fresh.peer.cavage_message(f"{BASE}/ocm/notifications", body, to=ORIGIN, key=foreign)
    assert fresh.send(message).code == "KEYID_MISMATCH"
    assert fresh.state_of("shared-by-peer") == "accepted"
    message = fresh.peer.cavage_message(f"{BASE}/ocm/notifications", body, to=ORIGIN)
    assert fresh.send(message).status == 201
    assert fresh.state_of("shared-by-peer") == "revoked"
