"""Two sites that have closed every less secure way, and rotate their keys meanwhile: the whole story takes place."""

from __future__ import annotations

import json
from pathlib import Path

from pairs import BOB, Pair
from sites import Site

from gateway.ocm.cavage import CavageKey

CLOSED = {
    "federation": {
        "allow_http": ["localhost"],
        "allow_networks": ["127.0.0.0/8", "::1/128"],
        "legacy": {"basic": "deny", "bearer_secret": "deny", "unsigned": "deny", "cavage": ["nc.example"]},
    }
}


def test_signed_messages_and_exchanged_tokens_are_all_that_our_own_kind_needs(tmp_path: Path) -> None:
    with Site(tmp_path / "alice", **CLOSED) as alice, Site(tmp_path / "bob", **CLOSED) as bob:
        pair = Pair(alice, bob)
        pair.add_users()
        for name in ("before", "after"):
            pair.folder(name, a_txt=b"alpha")
            share = pair.share(name)
            assert share["requirements"] == ["must-exchange-token"]
            url = pair.bobs_url(pair.accept(share))
            assert bob.http("GET", url + "a.txt", user="bob", password=BOB).body == b"alpha"
            shown = CavageKey.published(json.loads(alice.http("GET", "/.well-known/ocm").body)["publicKey"])
            signing = [key["kid"] for key in alice.json("keys", "list") if key["signs"] and key["alg"] == "rsa-sha512"]
            assert shown is not None
            assert signing == [shown.key_id]
            for site in (alice, bob):
                site.json("keys", "rotate")
        assert len(alice.json("keys", "list")) == 9
        peer = alice.json("peer", "show", bob.server)
        assert (peer["signed_as"], peer["legacy_used"], peer["refused"]) == ("rfc9421", {}, None)
