"""Parts of a gateway for tests in one process: rows, a clock that is turned by hand, quick passwords, waiting."""

from __future__ import annotations

import asyncio
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from backends.paths import StoragePath
from gateway.ocm.shares import Permission
from gateway.store import engine
from gateway.store.engine import Store
from gateway.store.received_shares import ReceivedShare
from gateway.store.sent_shares import SentShare

NOW = 1_800_000_000
READ = frozenset({Permission.READ})
WRITE = frozenset({Permission.READ, Permission.WRITE})
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@functools.cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "state.sqlite"
        Store(f"sqlite:///{path}").close()
        return path.read_bytes()


def new_store(directory: Path) -> Store:
    """Open a state database of its own in `directory`; a process of tests makes the schema once."""
    path = directory / "state.sqlite"
    path.write_bytes(_template())
    path.chmod(0o600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_migrate", lambda _engine: None)  # done already
        return Store(f"sqlite:///{path}")


class Clock:
    """The time, as the test says."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def sent(share_id: str = "share-1", **changes: Any) -> SentShare:
    """Return a Share of alice's with bob, accepted, on the folder `data`."""
    values: dict[str, Any] = {
        "id": share_id,
        "provider_id": share_id,
        "owner": "alice",
        "share_with": "bob@peer.example",
        "server": "peer.example",
        "name": "data",
        "resource_type": "folder",
        "share_type": "user",
        "permissions": READ,
        "requires_exchange": False,
        "offered_type": None,
        "mount": "home",
        "backend": "storage",
        "path": StoragePath.parse("data"),
        "identity": None,
        "expiration": None,
        "state": "accepted",
        "recipient_display_name": None,
        "created": NOW,
        "updated": NOW,
    }
    return SentShare(**(values | changes))


def received(share_id: str = "received-1", **changes: Any) -> ReceivedShare:
    """Return a Share of carol's at peer.example that alice has not answered yet."""
    values: dict[str, Any] = {
        "id": share_id,
        "user": "alice",
        "server": "peer.example",
        "provider_id": "provided-1",
        "owner": "carol@peer.example",
        "sender": "carol@peer.example",
        "owner_display_name": None,
        "sender_display_name": "Carol",
        "share_with": "alice@gateway.example",
        "name": "data",
        "description": None,
        "resource_type": "folder",
        "share_type": "user",
        "permissions": READ,
        "requires_exchange": False,
        "uri": "remote-1",
        "encrypted": False,
        "expiration": None,
        "state": "pending",
        "mount": None,
        "evidence": "rfc9421",
        "payload_digest": "digest-1",
        "access": None,
        "root_kind": None,
        "root_size": None,
        "root_modified": None,
        "root_etag": None,
        "probed": None,
        "created": NOW,
        "updated": NOW,
    }
    return ReceivedShare(**(values | changes))


def offer(protocols: dict[str, Any], by: str = "carol@peer.example", **changes: Any) -> dict[str, Any]:
    """Return a Share Creation Notification as the server of its sender writes it: for alice, of a folder.

    A change to None takes a member out.
    """
    body: dict[str, Any] = {
        "shareWith": "alice@gateway.example",
        "name": "data",
        "providerId": "provided-1",
        "owner": by,
        "sender": by,
        "shareType": "user",
        "resourceType": "folder",
        "protocol": {"name": "multi"} | protocols,
    } | changes
    return {key: value for key, value in body.items() if value is not None}


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Give the loop time until `condition` holds; fails when it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.005)
