"""Rows of messages: in order per Share, apart per server, and ended once."""

from __future__ import annotations

from typing import Any

from parts import NOW

from gateway.store import outbox
from gateway.store.engine import Store
from gateway.store.outbox import Message


def add(store: Store, share: str = "one", server: str = "peer.example", **changes: Any) -> int:
    values: dict[str, Any] = {"kind": "share", "role": "sending", "now": NOW} | changes
    return store.run_sync(lambda tx: outbox.add(tx, server=server, share=share, **values))


def due(store: Store, now: int = NOW, limit: int = 100, busy: tuple[str, ...] = ()) -> list[int]:
    return [message.id for message in store.read_sync(lambda tx: outbox.due(tx, now, limit, busy))]


def next_due(store: Store, *busy: str) -> int | None:
    return store.read_sync(lambda tx: outbox.next_due(tx, busy))


def get(store: Store, message_id: int) -> Message:
    found = store.read_sync(lambda tx: outbox.get(tx, message_id))
    assert found is not None
    return found


def finish(store: Store, message_id: int, state: str = "delivered", error: str | None = None) -> None:
    store.run_sync(lambda tx: outbox.finish(tx, message_id, state, error, NOW + 1))


def test_a_message_is_due_when_it_is_written(store: Store) -> None:
    message_id = add(store)
    assert due(store, NOW - 1) == []
    assert due(store) == [message_id]
    assert next_due(store) == NOW
    expected = Message(
        message_id, "peer.example", "share", "sending", "one", "pending", 0, NOW, None, created=NOW, finished=None
    )
    assert get(store, message_id) == expected


def test_an_empty_outbox_is_never_due(store: Store) -> None:
    assert due(store) == []
    assert next_due(store) is None
    assert store.read_sync(lambda tx: outbox.get(tx, 1)) is None


def test_the_messages_of_one_share_go_one_after_the_other(store: Store) -> None:
    first, second, third = add(store), add(store), add(store)
    assert due(store) == [first]
    finish(store, first)
    assert due(store) == [second]
    finish(store, second, "failed", "no")
    assert due(store) == [third]


def test_a_later_message_waits_for_one_that_is_postponed_and_nobody_is_woken_for_it(store: Store) -> None:
    """A worker that were told that something is due, and found nothing, would spin."""
    first = add(store)
    store.run_sync(lambda tx: outbox.postpone(tx, first, "no answer", NOW + 60))
    add(store)
    assert due(store) == []
    assert next_due(store) == NOW + 60


def test_the_two_roles_have_shares_of_their_own(store: Store) -> None:
    sending, receiving = add(store, "one"), add(store, "one", role="receiving")
    assert due(store) == [sending, receiving]
    assert [message.id for message in store.read_sync(lambda tx: outbox.pending_of(tx, "receiving", "one"))] == [
        receiving
    ]


def test_nothing_is_due_for_servers_that_are_busy(store: Store) -> None:
    one, two = add(store, "one", "one.example"), add(store, "two", "two.example", now=NOW + 1)
    assert due(store, NOW + 1, busy=("one.example",)) == [two]
    assert due(store, NOW + 1, busy=("one.example", "two.example")) == []
    assert next_due(store, "one.example") == NOW + 1
    assert next_due(store, "one.example", "two.example") is None
    assert due(store, NOW + 1) == [one, two]


def test_the_limit_is_kept_and_the_oldest_come_first(store: Store) -> None:
    later = add(store, "later", now=NOW - 1)
    earlier = add(store, "earlier", now=NOW - 2)
    add(store, "third")
    assert due(store, limit=2) == [earlier, later]


def test_of_those_due_together_what_was_tried_least_goes_first(store: Store) -> None:
    """So a message that makes its server fall silent does not keep the others back for ever."""
    tried, fresh = add(store, "tried"), add(store, "fresh")
    store.run_sync(lambda tx: outbox.postpone(tx, tried, "no answer", NOW + 2))
    store.run_sync(lambda tx: outbox.hold(tx, "peer.example", NOW + 2))
    assert due(store, NOW + 2) == [fresh, tried]


def test_a_server_is_held_as_a_whole_and_others_are_not(store: Store) -> None:
    one, other, elsewhere = add(store, "one"), add(store, "two"), add(store, "three", "two.example")
    store.run_sync(lambda tx: outbox.postpone(tx, one, "no answer", NOW + 60))
    store.run_sync(lambda tx: outbox.hold(tx, "peer.example", NOW + 5))
    assert due(store) == [elsewhere]
    assert due(store, NOW + 5) == [elsewhere, other]
    assert get(store, one).next_attempt == NOW + 60
    assert (get(store, one).attempts, get(store, one).last_error) == (1, "no answer")
    assert (get(store, other).attempts, get(store, other).last_error) == (0, None)


def test_an_ended_message_does_not_change_any_more(store: Store) -> None:
    message_id = add(store)
    finish(store, message_id, "dropped", "the Share was revoked")
    finish(store, message_id, "delivered")
    store.run_sync(lambda tx: outbox.postpone(tx, message_id, "late", NOW + 99))
    ended = get(store, message_id)
    assert (ended.state, ended.last_error, ended.finished, ended.attempts) == (
        "dropped",
        "the Share was revoked",
        NOW + 1,
        1,
    )
    assert due(store, NOW + 1000) == []


def test_hurry_makes_one_due_with_those_that_it_waits_for(store: Store) -> None:
    one, two, three, other = add(store), add(store), add(store), add(store, "other")
    for message_id in (one, two, three, other):
        store.run_sync(lambda tx, message_id=message_id: outbox.postpone(tx, message_id, "no answer", NOW + 60))
    assert len(store.run_sync(lambda tx: outbox.hurry(tx, NOW, two))) == 2
    assert due(store) == [one]
    finish(store, one)
    assert due(store) == [two]
    finish(store, two)
    assert due(store) == []


def test_hurry_makes_those_of_a_server_due_or_all(store: Store) -> None:
    ids = [add(store, "one", "one.example"), add(store, "two", "two.example"), add(store, "three", "two.example")]
    ended = add(store, "four")
    finish(store, ended)
    for message_id in ids:
        store.run_sync(lambda tx, message_id=message_id: outbox.postpone(tx, message_id, "no answer", NOW + 60))
    assert len(store.run_sync(lambda tx: outbox.hurry(tx, NOW, server="two.example"))) == 2
    assert due(store) == ids[1:]
    assert len(store.run_sync(lambda tx: outbox.hurry(tx, NOW))) == 3
    assert due(store) == ids
    assert len(store.run_sync(lambda tx: outbox.hurry(tx, NOW, 999))) == 0
    assert len(store.run_sync(lambda tx: outbox.hurry(tx, NOW, ended))) == 0


def test_what_waits_is_counted_and_what_was_said_is_listed_oldest_first(store: Store) -> None:
    ids = [add(store, str(number)) for number in range(4)]
    finish(store, ids[0])
    assert store.read_sync(outbox.count_pending) == 3
    assert [message.id for message in store.read_sync(outbox.everything)] == ids
    assert [message.id for message in store.read_sync(lambda tx: outbox.everything(tx, 2))] == ids[2:]


def test_an_id_is_never_used_again(store: Store) -> None:
    """Somebody may still wait for the first attempt at a message that is gone."""
    first = add(store)
    store.run_sync(lambda tx: tx.execute(outbox.outbox.delete()))
    assert add(store) > first
