"""Lists of servers, from outside: who is refused learns so at once, is not asked back, and leaves one line."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config import FederationConfig

from .served import FORM, SECRET, Served


@pytest.mark.parametrize(
    "lists", [{"denylist": ["127.0.0.1"]}, {"allowlist": [".example.org"]}], ids=["denied", "unlisted"]
)
def test_a_server_that_may_not_come_in_is_refused_everywhere(
    fresh: Served, monkeypatch: pytest.MonkeyPatch, log: list[Any], lists: dict[str, Any]
) -> None:
    name = next(iter(lists))
    fresh.put_sent(f"sent-{name}")
    fresh.put_received(f"received-{name}", state="accepted", mount=f"received-{name}")
    monkeypatch.setattr(fresh.trust, "_lists", FederationConfig.model_validate(lists))
    stored = len(fresh.received())
    unshared = {
        "notificationType": "SHARE_UNSHARED",
        "resourceType": "folder",
        "providerId": f"received-{name}",
        "notification": {"sharedSecret": f"{SECRET}-received-{name}"},
    }
    for signed in (True, False):
        for path, payload in (("shares", fresh.share(providerId=f"new-{name}")), ("notifications", unshared)):
            reply = fresh.post(path, payload, signed=signed)
            assert (reply.status, reply.code) == (403, "UNTRUSTED_PROVIDER"), path
        code = f"grant_type=authorization_code&client_id={fresh.peer.server}&code={SECRET}-sent-{name}".encode()
        reply = fresh.post("token", code, signed=signed, kind=FORM)
        assert (reply.status, reply.code) == (400, "unauthorized_client")
    assert fresh.peer.asked == []
    assert len(fresh.received()) == stored
    assert fresh.state_of(f"received-{name}") == "accepted"
    reasons = [line["reason"] for line in log if line["event"] == "refused"]
    assert len(reasons) == 6
    assert all(f"federation.{name}" in reason for reason in reasons)
