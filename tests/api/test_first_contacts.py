"""A flood of messages in the names of others, from outside: refused with a code, and nobody is asked."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.first_contacts import FirstContacts

from .served import Served


def test_a_client_that_names_server_after_server_is_told_to_wait(
    fresh: Served, monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    monkeypatch.setattr(fresh.peers, "_first_contacts", FirstContacts(2, 100))
    assert fresh.post("shares", fresh.share(providerId="before")).status == 201
    fresh.peer.asked.clear()
    log.clear()
    other = f"localhost:{fresh.peer.port}"
    named = fresh.share(sender=f"carol@{other}", owner=f"carol@{other}", providerId="another")
    reply = fresh.post("shares", named)
    assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "TOO_MANY_LOOKUPS", "30")
    assert fresh.peer.asked == []
    assert [share.provider_id for share in fresh.received() if share.provider_id == "another"] == []
    (line,) = [line for line in log if line["event"] == "refused"]
    assert "federation.first_contacts" in line["reason"]
    assert fresh.post("shares", fresh.share(providerId="before")).status == 201, "it is known"
