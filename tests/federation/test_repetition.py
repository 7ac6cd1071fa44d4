"""A gateway that is killed after a message was delivered and before that was written down says it again: no harm."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from pairs import Pair
from sites import Site, eventually


def forget_delivery(site: Site, kind: str) -> int:
    """Put a stopped site's state back to what a kill in between would have left; return how many rows that were."""
    with closing(sqlite3.connect(site.directory / "state" / "state.sqlite")) as database, database:
        query = "UPDATE outbox SET state = 'pending', finished = NULL, attempts = 0 WHERE kind = ?"
        return database.execute(query, (kind,)).rowcount


def delivered(site: Site, kind: str) -> list[str]:
    return [row["state"] for row in site.json("outbox", "list") if row["kind"] == kind]


def test_what_is_said_again_is_taken_as_done(pair: Pair) -> None:
    pair.folder("again", a_txt=b"alpha")
    share = pair.share("again")
    pair.accept(share)
    eventually(lambda: delivered(pair.bob, "SHARE_ACCEPTED"), ["delivered"])
    before = pair.sent(share)

    for site, kind in ((pair.bob, "SHARE_ACCEPTED"), (pair.alice, "share")):
        site.kill()
        assert forget_delivery(site, kind) == 1
        site.start()
        eventually(lambda site=site, kind=kind: delivered(site, kind), ["delivered"])

    after = pair.sent(share)
    assert after["state"] == before["state"] == "accepted"
    heard = [event["action"] for event in after["events"]].count("SHARE_ACCEPTED")
    assert heard == [event["action"] for event in before["events"]].count("SHARE_ACCEPTED") == 1
    assert len([row for row in pair.bob.json("received", "list", "--as", "bob") if row["name"] == "again"]) == 1
    assert pair.received(share)["state"] == "accepted"
