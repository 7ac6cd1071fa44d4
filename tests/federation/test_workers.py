"""Two gateways of several workers each: one outbox at a time, one token exchange at a time, revocation in all."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from pairs import BOB, Pair
from sites import Site, eventually, logged
from spread import connections, leader, status

WITHIN = 1.0  # seconds
SIZE = 64 << 20  # bytes that do not fit into any buffer on their way


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    unlimited = {"enabled": False}  # who is let in no more asks on as fast as it can
    sites = [Site(tmp_path / name, workers=2, limits=unlimited, log={"format": "json"}) for name in ("alice", "bob")]
    try:
        for site in sites:
            site.start()
        pair = Pair(*sites)
        pair.add_users()
        yield pair
    finally:
        for site in sites:
            site.stop()


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def forget_token(site: Site) -> None:
    """Have the next access exchange the secret again, as after the token's five minutes."""
    with closing(sqlite3.connect(site.directory / "state" / "state.sqlite", timeout=10)) as database, database:
        database.execute("DELETE FROM exchanged_tokens")


def test_workers_that_need_a_token_at_once_exchange_the_secret_once(pair: Pair) -> None:
    """An exchange may end the token before (wire.md, Code Flow): so they would go on ending each other's."""
    pair.folder("run42", notes_txt=b"counts")
    received = pair.accept(pair.share("run42"))
    target, headers = pair.bobs_url(received, "notes.txt"), basic("bob", BOB)
    issued = len(logged(pair.alice.log, "token issued"))
    with connections(pair.bob) as each:
        assert [status(one, "GET", target, headers) for one in each.values()] == [200, 200]
        for turn in range(5):
            forget_token(pair.bob)
            begin = threading.Barrier(len(each))

            def ask(connection: http.client.HTTPConnection, begin: threading.Barrier = begin) -> int:
                begin.wait()
                return status(connection, "GET", target, headers)

            with ThreadPoolExecutor() as threads:
                assert list(threads.map(ask, each.values())) == [200, 200]
            assert len(logged(pair.alice.log, "token issued")) == issued + turn + 1


def test_each_message_arrives_once_whoever_leads_when(pair: Pair) -> None:
    names = [f"run{number}" for number in range(4)]
    for name in names:
        pair.folder(name)
    pair.bob.stop()
    arguments = ("--as", "alice", "--with", pair.bobs_address, "--json")
    with ThreadPoolExecutor() as threads:
        done = list(threads.map(lambda name: pair.alice.cli("share", "create", f"/home/{name}", *arguments), names))
    shares = [json.loads(each.stdout) for each in done]
    assert {share["state"] for share in shares} == {"pending"}
    pair.bob.start()
    for _ in range(3):
        pair.alice.json("outbox", "retry")
        os.kill(leader(pair.alice), signal.SIGKILL)
    eventually(lambda: {message["state"] for message in pair.alice.json("outbox", "list")}, {"delivered"})
    found = [share["provider_id"] for share in pair.bob.json("received", "list", "--as", "bob")]
    assert sorted(found) == sorted(share["provider_id"] for share in shares)
    for share in shares:
        pair.alice.json("share", "revoke", share["id"], "--as", "alice")
        if share is shares[1]:
            os.kill(leader(pair.alice), signal.SIGKILL)
    eventually(lambda: {share["state"] for share in pair.bob.json("received", "list", "--as", "bob")}, {"revoked"})


def test_a_revoked_share_opens_in_no_worker_after_a_second_and_its_transfers_end(pair: Pair) -> None:
    pair.folder("run42", notes_txt=b"counts", large_bin=bytes(SIZE))
    share = pair.share("run42")
    received = pair.accept(share)
    bearer = {"Authorization": f"Bearer {pair.bobs_token(received)}"}
    root = f"/dav/ocm/{share['provider_id']}"
    end = threading.Event()
    said: list[tuple[float, int]] = []

    def hammer(connection: http.client.HTTPConnection) -> None:
        while not end.is_set():
            asked = time.monotonic()
            said.append((asked, status(connection, "GET", f"{root}/notes.txt", bearer)))

    with connections(pair.alice) as each, connections(pair.alice) as others:
        for connection in others.values():
            connection.request("GET", f"{root}/large.bin", headers=bearer)
        running = [connection.getresponse() for connection in others.values()]
        assert [answer.status for answer in running] == [200, 200]
        threads = [threading.Thread(target=hammer, args=(connection,)) for connection in each.values()]
        for thread in threads:
            thread.start()
        eventually(lambda: len(said) > 100, True)
        assert {answer for _, answer in said} == {200}
        pair.alice.json("share", "revoke", share["id"], "--as", "alice")
        revoked = time.monotonic()
        eventually(lambda: {line["worker"] for line in logged(pair.alice.log, "transfer.cut")}, {0, 1}, 5)
        count = len(said)
        eventually(lambda: len(said) > count + 100 and time.monotonic() > revoked + 2 * WITHIN, True)
        end.set()
        for thread in threads:
            thread.join()
        for answer in running:
            with pytest.raises((http.client.HTTPException, OSError)):
                answer.read()
    assert {answer for asked, answer in said if asked > revoked + WITHIN} == {401}
