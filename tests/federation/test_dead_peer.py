"""A sender that is stopped in the middle: what was seen is shown as old, nobody waits, and its return is noticed.

SIGSTOP is the worst of deaths: the kernel goes on taking connections, and nobody ever answers.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pairs import BOB, Pair
from sites import Reply, eventually

from gateway.breaker import PATIENCE
from gateway.dav.stale import WARNING

STALE = '<propfind xmlns="DAV:"><prop><getetag/><x:stale-since xmlns:x="urn:x-ocm-gateway:ns"/></prop></propfind>'
SOON = 1.0  # seconds: nobody was waited for


@contextmanager
def frozen(pair: Pair) -> Iterator[None]:
    """Stop alice's gateway without a trace on the wire."""
    assert pair.alice.process is not None
    os.kill(pair.alice.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pair.alice.process.pid, signal.SIGCONT)


class Bob:
    """Bob's requests, and how long the last one took."""

    def __init__(self, pair: Pair) -> None:
        self._site = pair.bob
        self.seconds = 0.0

    def __call__(self, method: str, target: str, body: str = "", **headers: str) -> Reply:
        begun = time.monotonic()
        reply = self._site.http(method, target, body.encode() or None, headers, user="bob", password=BOB)
        self.seconds = time.monotonic() - begun
        return reply

    def cli(self, *arguments: str) -> tuple[Any, float]:
        begun = time.monotonic()
        done = self._site.cli(*arguments)
        return done, time.monotonic() - begun


def test_a_frozen_sender_costs_one_wait_and_its_folder_is_shown_as_it_was(pair: Pair) -> None:
    pair.folder("frozen", a_txt=b"alpha", b_txt=b"beta")
    received = pair.accept(pair.share("frozen"))
    other = pair.accept(pair.share("frozen", "read", "--name", "other"))
    folder, file = pair.bobs_url(received), pair.bobs_url(received, "a.txt")
    (pair.bob.data / "own.txt").write_bytes(b"own")
    bob = Bob(pair)
    fresh = bob("PROPFIND", folder, STALE, Depth="1")
    assert (fresh.status, fresh.headers.get("Age")) == (207, None)
    _seen_is_written(bob, folder)

    with frozen(pair):
        first = bob("GET", file)
        assert bob.seconds < PATIENCE + 1.5
        assert (first.status, b"PEER_UNREACHABLE" in first.body) == (503, True)
        for _ in range(3):
            again = bob("GET", file)
            assert (again.status, bob.seconds < SOON) == (503, True), bob.seconds
            assert 1 <= int(again.headers["Retry-After"]) <= 60

        listed = bob("PROPFIND", folder, STALE, Depth="1")
        assert (listed.status, bob.seconds < SOON) == (207, True)
        assert listed.headers["Warning"] == WARNING
        assert int(listed.headers["Age"]) >= 0
        assert _etags(listed) == _etags(fresh), "no client takes it for a change"
        assert listed.body.count(b"</x:stale-since>") == 3
        assert bob("PROPFIND", file, STALE, Depth="0").headers["Warning"] == WARNING
        assert bob("PROPFIND", pair.bobs_url(other), Depth="1").status == 503, "it was never listed"
        assert bob.seconds < SOON, "one server has one breaker, however many Shares"
        assert bob("PUT", f"{folder}new.txt", "x").status in (403, 503)

        for target in ("/dav/files/bob/", "/dav/files/bob/received/"):
            assert bob("PROPFIND", target, Depth="1").status == 207
            assert bob.seconds < SOON
        assert bob("GET", "/dav/files/bob/home/own.txt").body == b"own"

        _operators_see_it(pair, bob, received)
        done, seconds = bob.cli("received", "leave", other["id"], "--as", "bob")
        assert done.returncode == 0, done.stderr
        assert seconds < 2 + SOON
        assert "could not be told yet" in done.stderr
        assert b"other" not in bob("PROPFIND", "/dav/files/bob/received/", Depth="1").body

    eventually(lambda: bob("GET", file).status, 200, 20)
    assert bob("PROPFIND", folder, STALE, Depth="1").headers.get("Warning") is None
    eventually(lambda: pair.sent({"id": _sent_id(pair, other)})["state"], "declined")
    assert pair.bob.json("peer", "show", pair.alice.server)["breaker"] == "closed"


def _seen_is_written(bob: Bob, folder: str) -> None:
    """Wait until the listing is in the state: it is written in the background."""
    path = bob._site.directory / "state" / "state.sqlite"

    def rows() -> int:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            return int(database.execute("SELECT count(*) FROM last_seen").fetchone()[0])

    eventually(lambda: rows() > 0, True)


def _etags(reply: Reply) -> list[bytes]:
    return [part.partition(b"</d:getetag>")[0] for part in reply.body.split(b"<d:getetag>")[1:]]


def _operators_see_it(pair: Pair, bob: Bob, received: dict[str, Any]) -> None:
    shown = pair.bob.json("peer", "show", pair.alice.server)
    assert shown["breaker"] in ("open", "half-open")
    assert shown["silent_since"] <= time.time()
    row = next(row for row in pair.bob.json("received", "list", "--as", "bob") if row["id"] == received["id"])
    assert row["unreachable_since"] == shown["silent_since"]
    listed, _ = bob.cli("received", "list", "--as", "bob")
    assert "last seen" in listed.stderr
    assert "unreachable since" in listed.stderr
    assert "unreachable since:" in bob.cli("received", "show", received["id"], "--as", "bob")[0].stdout


def _sent_id(pair: Pair, received: dict[str, Any]) -> str:
    shares = pair.alice.json("share", "list", "--as", "alice")
    return str(next(share["id"] for share in shares if share["provider_id"] == received["provider_id"]))
