"""A state database of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from parts import new_store

from gateway.store import users
from gateway.store.engine import Store


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
def store(database: Path) -> Iterator[Store]:
    """An open store with the users alice and bob."""
    opened = new_store(database.parent)
    opened.run_sync(lambda tx: [users.add(tx, name, "hash", 0) for name in ("alice", "bob")])
    yield opened
    opened.close()
