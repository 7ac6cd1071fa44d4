"""Run in a child of the nursery: write rows into a state database until killed, and say each that is acknowledged."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from gateway.store import peers
from gateway.store.engine import Store

from .nursery import say


def write_for_ever(directory: str, fsync: bool = True) -> None:
    """Without `fsync` SQLite leaves it to the system when rows become durable, which a test has to notice."""
    store = Store(f"sqlite:///{Path(directory) / 'state.sqlite'}")
    if not fsync:
        store.run_sync(lambda tx: None)
        _make_careless(store)
    os.sync()
    say("ready")
    for number in itertools.count():
        name = f"{number}.example"
        store.run_sync(lambda tx: peers.put(tx, name, seen=1))  # noqa: B023 -- run before the next round
        say(name)


def _make_careless(store: Store) -> None:
    from sqlalchemy import event

    @event.listens_for(store._engine, "begin")
    def careless(connection) -> None:
        connection.exec_driver_sql("PRAGMA synchronous=OFF")
