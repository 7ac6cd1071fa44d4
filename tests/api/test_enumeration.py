"""Nobody learns from the OCM API or the WebDAV door which users there are: not by the answer, nor by what it takes.

What is compared here is the work: the statements of SQL. tests/torture/test_timing.py compares the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from gateway.store import users

from .served import FORM, SECRET, SERVER, Reply, Served


@contextmanager
def statements(served: Served) -> Iterator[list[str]]:
    """Note what is asked of the database."""
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append(statement)

    event.listen(served.store._engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(served.store._engine, "before_cursor_execute", note)


def seen(reply: Reply) -> tuple[int, bytes, dict[str, str]]:
    """Return all of an answer but its time."""
    return reply.status, reply.body, {name: value for name, value in reply.headers.items() if name != "date"}


@pytest.fixture
def disabled(served: Served) -> Iterator[str]:
    served.store.run_sync(lambda tx: users.set_disabled(tx, "bob", True))
    yield "bob"
    served.store.run_sync(lambda tx: users.set_disabled(tx, "bob", False))


def test_a_share_for_an_unknown_and_for_a_disabled_user_is_refused_alike(fresh: Served, disabled: str) -> None:
    fresh.post("shares", fresh.share(providerId="first"))  # the peer is known from here on
    answers = []
    for name in (disabled, "nobody", "no one", "Alice"):
        with statements(fresh) as asked:
            reply = fresh.post("shares", fresh.share(shareWith=f"{name}@{SERVER}", providerId="asked"))
        answers.append((seen(reply), tuple(asked)))
    assert len(set(map(repr, answers))) == 1, answers
    assert answers[0][0][0] == 400
    assert b"RECIPIENT_NOT_FOUND" in answers[0][0][1]


def test_a_code_that_opens_nothing_is_refused_alike_whatever_it_has_been(fresh: Served) -> None:
    """Never known, or of a Share that has ended and whose secret is wiped."""
    fresh.put_sent("wiped", state="revoked")
    fresh.store.run_sync(lambda tx: tx.exec_driver_sql("UPDATE sent_shares SET secret_hash = NULL WHERE id = 'wiped'"))
    answers = []
    for code in (f"{SECRET}-wiped", f"{SECRET}-never", "x"):
        with statements(fresh) as asked:
            form = f"grant_type=authorization_code&client_id={fresh.peer.server}&code={code}".encode()
            reply = fresh.post("token", form, kind=FORM)
        answers.append((seen(reply), tuple(asked)))
    assert len(set(map(repr, answers))) == 1, answers
    assert (answers[0][0][0], answers[0][0][1]) == (400, b'{"error": "invalid_grant"}')


def test_a_notification_about_any_share_is_refused_alike_without_proof(fresh: Served) -> None:
    """Whoever guesses an id learns nothing."""
    fresh.put_received("guessable")
    answers = [
        seen(
            fresh.post(
                "notifications",
                {
                    "notificationType": "SHARE_UNSHARED",
                    "resourceType": "folder",
                    "senderDomain": fresh.peer.server,
                    "providerId": provider_id,
                    "notification": {},
                },
                signed=False,
            )
        )
        for provider_id in ("guessable", "not-there")
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 401
