"""A peer that takes connections and never answers: its messages are answered in time, and nobody else waits."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from pairs import BOB, Pair


@pytest.fixture
def hanging() -> Iterator[str]:
    """The host[:port] of a server that accepts and then says nothing."""
    accepted: list[socket.socket] = []
    with closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as listener:

        def accept() -> None:
            while True:
                try:
                    accepted.append(listener.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"localhost:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    for channel in accepted:
        channel.close()


def test_a_share_from_a_hanging_host_is_answered_within_ten_seconds_and_not_stored(pair: Pair, hanging: str) -> None:
    sender = f"mallory@{hanging}"
    body = {
        "shareWith": pair.bobs_address,
        "name": "bait",
        "providerId": "1",
        "owner": sender,
        "sender": sender,
        "shareType": "user",
        "resourceType": "file",
        "protocol": {"name": "webdav", "options": {"sharedSecret": "not-a-secret-of-anybody"}},
    }
    begun = time.monotonic()
    reply = pair.bob.http("POST", "/ocm/shares", json.dumps(body).encode(), {"Content-Type": "application/json"})
    assert time.monotonic() - begun < 10
    assert reply.status == 503
    assert "Retry-After" in reply.headers
    assert json.loads(reply.body) == {"message": "SENDER_UNREACHABLE"}
    assert not [share for share in pair.bob.json("received", "list", "--as", "bob") if share["name"] == "bait"]


def test_a_message_to_a_hanging_host_delays_no_other(pair: Pair, hanging: str) -> None:
    pair.folder("to-both", a_txt=b"alpha")
    arguments = ("share", "create", "/home/to-both", "--as", "alice", "--with", f"mallory@{hanging}")
    stuck = threading.Thread(target=lambda: pair.alice.cli(*arguments))
    stuck.start()
    begun = time.monotonic()
    received = pair.accept(pair.share("to-both"))
    assert time.monotonic() - begun < 10
    listing = pair.bob.http("PROPFIND", pair.bobs_url(received), headers={"Depth": "1"}, user="bob", password=BOB)
    assert listing.status == 207
    stuck.join()


def test_a_received_share_whose_sender_is_down_hides_nothing_else(pair: Pair) -> None:
    pair.folder("gone", a_txt=b"alpha")
    received = pair.accept(pair.share("gone"))
    (pair.bob.data / "own.txt").write_bytes(b"own")
    pair.alice.stop()
    try:
        begun = time.monotonic()
        listing = pair.bob.http(
            "PROPFIND", "/dav/files/bob/received/", headers={"Depth": "1"}, user="bob", password=BOB
        )
        own = pair.bob.http("GET", "/dav/files/bob/home/own.txt", user="bob", password=BOB)
        assert time.monotonic() - begun < 2
        assert (listing.status, own.body) == (207, b"own")
        assert b"/received/gone/" in listing.body
        remote = pair.bob.http("GET", pair.bobs_url(received, "a.txt"), user="bob", password=BOB)
        assert remote.status == 503
        assert "Retry-After" in remote.headers
    finally:
        pair.alice.start()
    again = pair.bob.http("GET", pair.bobs_url(received, "a.txt"), user="bob", password=BOB)
    assert again.body == b"alpha"
