"""What is asked at every request is found by an index, however many rows there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, event

from backends.paths import StoragePath
from gateway.store import (
    changes,
    contacts,
    events,
    exchanged_tokens,
    invites,
    kept,
    locks,
    outbox,
    peers,
    properties,
    received_shares,
    seen_signatures,
    sent_shares,
    share_keys,
    share_requests,
    uploads,
    user_keys,
    users,
)
from gateway.store.engine import Store

SECRET = b"h" * 32
PATH = StoragePath.parse("a/b")
QUESTIONS: dict[str, Callable[[Connection], Any]] = {
    "the Share of a secret": lambda tx: sent_shares.by_secret_hash(tx, SECRET),
    "the Share of a token": lambda tx: sent_shares.get(tx, "id"),
    "the sent Share that a notification is about": lambda tx: sent_shares.by_provider_id(tx, "id", "peer.example"),
    "what was made of a Share": lambda tx: sent_shares.reshares_of(tx, "id"),
    "the open Shares with one party": lambda tx: sent_shares.open_with(tx, "peer.example", "bob@peer.example", "user"),
    "the live Shares of a server": lambda tx: received_shares.live_from(tx, "peer.example"),
    "the requests of a user": lambda tx: share_requests.of_user(tx, "alice"),
    "what a server was asked for": lambda tx: share_requests.open_to(tx, "peer.example"),
    "how much a server asks for": lambda tx: share_requests.count_from_server(tx, "peer.example"),
    "how much a user is asked for": lambda tx: share_requests.count_to_owner(tx, "alice@gateway.example"),
    "what is asked of and for somebody": lambda tx: share_requests.forget_open_with(tx, "bob@peer.example"),
    "what nobody has answered": lambda tx: share_requests.forget_unanswered(tx, 0),
    "the same by its secret": lambda tx: sent_shares.by_provider_id_and_secret(tx, "id", SECRET),
    "the Shares of an owner": lambda tx: sent_shares.of_owner(tx, "alice"),
    "the Shares below a path": lambda tx: sent_shares.within(tx, "storage", StoragePath.parse("a/b")),
    "the locks that are in the way": lambda tx: locks.near(tx, "storage", StoragePath.parse("a/b"), 0, tree=True),
    "the locks on a place": lambda tx: locks.near(tx, "storage", StoragePath.parse("a/b"), 0, tree=False),
    "whether there are locks below": lambda tx: locks.exists_below(tx, "storage", StoragePath.parse("a/b")),
    "a lock": lambda tx: locks.get(tx, "urn:uuid:x", 0),
    "how many locks somebody has": lambda tx: locks.count_of(tx, "user:alice"),
    "locks that have expired": lambda tx: locks.remove_expired(tx, 0),
    "locks on what has been removed": lambda tx: locks.remove_below(
        tx, "storage", StoragePath.parse("a"), spare_root=True
    ),
    "the dead properties of a listing": lambda tx: properties.of(
        tx, "storage", [StoragePath.parse(f"a/{number}") for number in range(3)]
    ),
    "whether there are any below": lambda tx: properties.exists_below(tx, "storage", StoragePath.parse("a")),
    "those that move along": lambda tx: properties.below(tx, "storage", StoragePath.parse("a")),
    "those of what has been removed": lambda tx: properties.remove_below(tx, "storage", StoragePath.parse("a")),
    "the received Share of a notification": lambda tx: received_shares.by_provider_id(tx, "peer.example", "id"),
    "the same by the secret alone": lambda tx: received_shares.by_provider_id_and_secret(tx, "id", SECRET),
    "the listing of /received/": lambda tx: received_shares.accepted(tx, "alice", 0),
    "the names that are taken there": lambda tx: received_shares.taken_mounts(tx, "alice"),
    "the token of a Share": lambda tx: exchanged_tokens.get(tx, "id"),
    "an invite by its token": lambda tx: invites.by_token_hash(tx, SECRET),
    "the invites of a user": lambda tx: invites.of_user(tx, "alice"),
    "a contact": lambda tx: contacts.get(tx, "alice", "bob@peer.example"),
    "an address book": lambda tx: contacts.of_user(tx, "alice"),
    "the Share of an SSH key": lambda tx: sent_shares.by_ssh_key(tx, "s-x", "SHA256:x"),
    "whether a Share still has the key": lambda tx: share_keys.exists(tx, "id", "SHA256:x"),
    "whether a user has the key": lambda tx: user_keys.exists(tx, "alice", "SHA256:x"),
    "a user's password": lambda tx: users.password_hash(tx, "alice"),
    "the live Share of an id": lambda tx: received_shares.only_live(tx, "id"),
    "whether a Share is still accepted": lambda tx: received_shares.is_accepted(tx, "id"),
    "how many Shares wait for a user": lambda tx: received_shares.count_pending(tx, "alice", "peer.example"),
    "whether a peer is a stranger": lambda tx: peers.is_stranger(tx, "peer.example"),
    "a peer": lambda tx: peers.get(tx, "peer.example"),
    "whether a signature was seen": lambda tx: seen_signatures.remember(tx, SECRET, 10, 0),
    "what is due": lambda tx: outbox.due(tx, 0, 100, ("busy.example",)),
    "when something is due": lambda tx: outbox.next_due(tx, ("busy.example",)),
    "what waits to be said about a Share": lambda tx: outbox.pending_of(tx, "sending", "id"),
    "how many messages wait": outbox.count_pending,
    "the generation of a folder": lambda tx: changes.of(tx, "storage", StoragePath.parse("a/b/c")),
    "those of its members": lambda tx: changes.of_members(tx, "storage", StoragePath.parse("a"), [b"b", b"c"]),
    "those of roots": lambda tx: changes.of_roots(tx, ["storage", "received:x"]),
    "those that answer for events": lambda tx: changes.rows(tx, "storage", [StoragePath.parse("a")]),
    "what was stored of an upload": lambda tx: uploads.find(tx, "user:alice", "storage", PATH, 10),
    "how much a principal has left": lambda tx: uploads.count(tx, "user:alice", 0),
    "whether a temporary is kept": lambda tx: uploads.is_kept(tx, "token", 0),
    "the uploads below a folder": lambda tx: uploads.below(tx, "storage", PATH),
    "a part that begins": lambda tx: uploads.claim(tx, "token", 1),
    "where a Share was kept": lambda tx: kept.of_share(tx, "id"),
    "the version of a file that was copied": lambda tx: kept.version(tx, "id", "storage", PATH),
    "what is known of the files of a Share that ends": lambda tx: kept.forget_versions(tx, "id"),
    "the history of a Share": lambda tx: events.about(tx, "id"),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=list(QUESTIONS))
def test_a_question_of_every_request_scans_no_table(store: Store, question: Callable[[Connection], Any]) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        asked.append((statement, parameters))

    def explain(tx: Connection) -> list[str]:
        event.listen(tx, "before_cursor_execute", note)
        question(tx)
        event.remove(tx, "before_cursor_execute", note)
        statements = [pair for pair in asked if pair[0].startswith(("SELECT", "UPDATE", "DELETE"))]
        assert statements
        plans = [tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", given).all() for text, given in statements]
        return [row.detail for plan in plans for row in plan]

    plan = store.run_sync(explain)
    scans = [step for step in plan if step.startswith("SCAN") and step != "SCAN CONSTANT ROW"]  # which is no table
    assert [step for step in scans if "INDEX" not in step] == [], plan
