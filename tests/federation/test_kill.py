"""SIGKILL at any moment of the story, to either gateway: no step that was acknowledged is lost."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from pairs import BOB, Pair
from sites import Site, eventually

T = TypeVar("T")
ROUNDS = 8  # `make torture` has more
STORY_TIME = 6.0  # seconds; roughly what the story needs undisturbed, so that kills fall everywhere in it
PATIENCE = 60.0  # seconds until a step has to succeed after a kill


class Killer(threading.Thread):
    """Kills one gateway after a moment and starts it again at once."""

    def __init__(self, site: Site, delay: float) -> None:
        super().__init__()
        self._site = site
        self._delay = delay

    def run(self) -> None:
        time.sleep(self._delay)
        self._site.kill()
        self._site.start()


def persist(step: Callable[[], T]) -> T:
    """Repeat a step, as a person would, until it is acknowledged."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return step()
        except (RuntimeError, OSError, AssertionError, subprocess.SubprocessError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_no_acknowledged_step_is_lost(pair: Pair, seed: int) -> None:
    lives_through_a_kill(pair, seed)


def lives_through_a_kill(pair: Pair, seed: int) -> None:
    """Tell the story while one of the two is killed, and find every step of it that was acknowledged."""
    rng = random.Random(seed)
    victim = rng.choice([pair.alice, pair.bob])
    killer = Killer(victim, rng.uniform(0, STORY_TIME))
    folder = pair.folder(f"round-{seed}", a_txt=b"alpha")
    killer.start()
    try:
        share = persist(lambda: _create(pair, f"round-{seed}"))
        received = persist(lambda: pair.received(share))
        persist(lambda: pair.bob.json("received", "accept", received["id"], "--as", "bob"))
        received = persist(lambda: pair.received(share))
        assert received["state"] == "accepted"
        url = pair.bobs_url(received, "b.txt")
        content = b"%d" % seed * 100_000
        persist(lambda: _put(pair, url, content))
        assert (folder / "b.txt").read_bytes() == content
        persist(lambda: pair.alice.json("share", "revoke", share["id"], "--as", "alice"))
    finally:
        killer.join()
    assert pair.sent(share)["state"] == "revoked"
    pair.bob_sees(share, "revoked")
    assert (folder / "b.txt").read_bytes() == content
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b.txt"], "debris of a killed upload"
    eventually(lambda: _pending(pair.alice) + _pending(pair.bob), [])


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_each_step_is_there_after_a_kill_at_the_moment_of_its_acknowledgement(pair: Pair, name: str) -> None:
    victim: Site = getattr(pair, name)
    folder = pair.folder(f"killing-{name}")

    def kill() -> None:
        victim.kill()
        victim.start()

    share = pair.share(f"killing-{name}", "read,write")
    kill()
    assert pair.sent(share)["state"] == "sent"
    received = pair.received(share)
    assert received["state"] == "pending"
    accepted = pair.bob.json("received", "accept", received["id"], "--as", "bob")
    kill()
    again = pair.received(share)
    assert (again["state"], again["mount"]) == ("accepted", accepted["mount"])
    pair.alice_sees(share, "accepted")
    url = pair.bobs_url(again, "b.txt")
    _put(pair, url, b"beta")
    kill()
    assert (folder / "b.txt").read_bytes() == b"beta"
    assert pair.bob.http("GET", url, user="bob", password=BOB).body == b"beta"
    assert (pair.sent(share)["state"], pair.received(share)["state"]) == ("accepted", "accepted")
    pair.alice.json("share", "revoke", share["id"], "--as", "alice")
    kill()
    assert pair.sent(share)["state"] == "revoked"
    assert pair.bob.http("GET", url, user="bob", password=BOB).status in (403, 404)
    pair.bob_sees(share, "revoked")
    eventually(lambda: _pending(pair.alice) + _pending(pair.bob), [])


def test_an_acceptance_reaches_a_sender_that_was_killed_before_it_could_hear(pair: Pair) -> None:
    """Both die: alice's before the acceptance, bob's right after it, with the message still to be delivered."""
    pair.folder("deaf", a_txt=b"alpha")
    share = pair.share("deaf")
    received = pair.received(share)
    pair.alice.kill()
    assert pair.bob.json("received", "accept", received["id"], "--as", "bob")["state"] == "accepted"
    pair.bob.kill()
    pair.alice.start()
    pair.bob.start()
    assert pair.received(share)["state"] == "accepted"
    pair.alice_sees(share, "accepted")
    url = pair.bobs_url(pair.received(share), "a.txt")
    persist(lambda: _reads(pair, url, b"alpha"))


def _create(pair: Pair, name: str) -> dict[str, Any]:
    """Share, and wait until the other side has it, as often as its gateway dies meanwhile."""
    share: dict[str, Any] = pair.alice.json(
        "share", "create", f"/home/{name}", "--as", "alice", "--with", pair.bobs_address, "--permissions", "read,write"
    )
    eventually(lambda: pair.sent(share)["state"], "sent", PATIENCE)
    return share


def _put(pair: Pair, url: str, content: bytes) -> None:
    assert pair.bob.http("PUT", url, content, user="bob", password=BOB).status in (201, 204)


def _reads(pair: Pair, url: str, content: bytes) -> None:
    assert pair.bob.http("GET", url, user="bob", password=BOB).body == content


def _pending(site: Site) -> list[Any]:
    return [message for message in site.json("outbox", "list") if message["state"] == "pending"]
