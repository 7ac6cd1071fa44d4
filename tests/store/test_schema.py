"""What the migrations make is what `tables.py` describes, and they make it whole or not at all."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event

from backends.errors import Unavailable
from gateway.store import engine, peers, users
from gateway.store.engine import Store
from gateway.store.tables import metadata

TABLES = sorted(metadata.tables)


def structure(database: Path, table: str) -> dict[str, Any]:
    """Return everything that SQLite itself knows of a table, but for the order in which indices were made."""
    connection = sqlite3.connect(database)

    def pragma(name: str, of: str) -> list[tuple[Any, ...]]:
        return connection.execute(f'PRAGMA {name}("{of}")').fetchall()

    indices = {row[1]: (row[2:], pragma("index_info", row[1])) for row in pragma("index_list", table)}
    (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    columns, foreign_keys = pragma("table_info", table), pragma("foreign_key_list", table)
    constraints = sorted(re.findall(r"CONSTRAINT (\w+)", sql))
    connection.close()
    own = {name: what for name, what in indices.items() if not name.startswith("sqlite_autoindex")}
    unique = sorted(str(what) for name, what in indices.items() if name.startswith("sqlite_autoindex"))
    return {
        "columns": columns,
        "foreign keys": foreign_keys,
        "indices": own,
        "unique": unique,
        "constraints": constraints,
        "autoincrement": "AUTOINCREMENT" in sql,
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A database made by the migrations, and one made from the tables."""
    directory = tmp_path_factory.mktemp("schemas")
    migrated, described = directory / "migrated.sqlite", directory / "described.sqlite"
    Store(f"sqlite:///{migrated}").close()
    made = sqlalchemy.create_engine(f"sqlite:///{described}")
    metadata.create_all(made)
    made.dispose()
    return migrated, described


def test_autogenerate_finds_nothing_to_change(store: Store) -> None:
    def differences(tx: sqlalchemy.Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(tx, opts={"compare_type": True}), metadata))

    assert store.read_sync(differences) == []


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_the_same_however_it_was_made(both: tuple[Path, Path], table: str) -> None:
    """Also in what autogenerate does not compare: AUTOINCREMENT, names of constraints, what follows a deletion."""
    migrated, described = both
    assert structure(migrated, table) == structure(described, table)


def test_there_are_no_other_tables(both: tuple[Path, Path]) -> None:
    connection = sqlite3.connect(both[0])
    found = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert found - {"alembic_version", "sqlite_sequence"} == set(TABLES)


def test_opening_again_keeps_what_is_there(database: Path) -> None:
    first = Store(f"sqlite:///{database}")
    first.run_sync(lambda tx: users.add(tx, "alice", "hash", 0))
    first.close()
    second = Store(f"sqlite:///{database}")
    assert [user.name for user in second.read_sync(users.everybody)] == ["alice"]
    second.close()


def test_a_migration_that_fails_leaves_nothing_and_is_begun_again(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's DDL is part of the transaction, whatever Alembic assumes of it."""
    make = engine._engine

    def failing(url: str) -> sqlalchemy.Engine:
        made = make(url)

        @event.listens_for(made, "before_cursor_execute", retval=True)
        def fail(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> tuple[str, Any]:
            return ("CREATE nonsense" if "CREATE TABLE sent_shares" in statement else statement), parameters

        return made

    monkeypatch.setattr(engine, "_engine", failing)
    with pytest.raises(Unavailable):
        Store(f"sqlite:///{database}")
    connection = sqlite3.connect(database)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    connection.close()
    monkeypatch.undo()
    Store(f"sqlite:///{database}").close()


def test_a_database_that_cannot_be_opened_is_an_error_of_the_system(tmp_path: Path) -> None:
    """The composition root says of an OSError what it says of every address and directory that is not there."""
    with pytest.raises(OSError, match="No such file or directory"):
        Store(f"sqlite:///{tmp_path}/nowhere/state.sqlite")


def test_a_peer_that_has_signed_before_the_kinds_were_told_apart_has_signed_with_a_tag(tmp_path: Path) -> None:
    """Migration 0009: nothing else was remembered until then."""
    database = tmp_path / "state.sqlite"
    old = engine._engine(f"sqlite:///{database}")
    engine._migrate(old, "0008")
    old.dispose()
    connection = sqlite3.connect(database)
    connection.execute(
        "INSERT INTO peers (server, failures, signs) VALUES ('old.example', 0, 1), ('new.example', 0, 0)"
    )
    connection.commit()
    connection.close()
    store = Store(f"sqlite:///{database}")
    kinds = {record.server: record.signed_as for record in store.read_sync(peers.everyone)}
    store.close()
    assert kinds == {"old.example": "rfc9421", "new.example": None}


def test_the_servers_of_contacts_from_before_are_known(tmp_path: Path) -> None:
    """Migration 0015: their servers are no strangers either."""
    database = tmp_path / "state.sqlite"
    old = engine._engine(f"sqlite:///{database}")
    engine._migrate(old, "0014")
    old.dispose()
    connection = sqlite3.connect(database)
    connection.execute("INSERT INTO users (name, password_hash, disabled, created) VALUES ('alice', 'hash', 0, 0)")
    connection.execute(
        "INSERT INTO contacts (user, address, user_id, source, verified, auto_accept, created) "
        "VALUES ('alice', 'carol@home@peer.example:8443', 'carol@home', 'imported', 0, 0, 0)"
    )
    connection.commit()
    connection.close()
    store = Store(f"sqlite:///{database}")
    strange = {
        server: store.read_sync(lambda tx, server=server: peers.is_stranger(tx, server))
        for server in ("peer.example:8443", "peer.example")
    }
    store.close()
    assert strange == {"peer.example:8443": False, "peer.example": True}
