"""Messages are delivered at least once, in order per Share, with patience, and no peer delays another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from parts import NOW, Clock, new_store, until
from sqlalchemy import Connection

from backends.errors import Unavailable
from gateway import outbox as module
from gateway.errors import NotAllowed, PeerFailed
from gateway.outbox import AT_ONCE, BACK_OFF, GIVE_UP, Outbox
from gateway.store import events, outbox, users
from gateway.store.engine import Store
from gateway.store.outbox import Message

NO_ANSWER = PeerFailed("PEER_UNREACHABLE", "peer.example: no answer in time")


def answered(status: int) -> PeerFailed:
    return PeerFailed("REFUSED_BY_PEER", f"peer.example answered {status}", status)


class Peer:
    """What deliveries meet: by server what happens, and the order in which it did."""

    def __init__(self) -> None:
        self.met: list[tuple[str, str, str]] = []
        self.ended: list[Message] = []
        self.behaves: dict[str, Callable[[Message], Awaitable[None]]] = {}
        self.fails: dict[str, Exception] = {}

    async def deliver(self, message: Message) -> None:
        self.met.append((message.server, message.share, message.kind))
        if message.server in self.behaves:
            await self.behaves[message.server](message)
        if failure := self.fails.get(message.share) or self.fails.get(message.server):
            raise failure

    def finished(self, _tx: Connection, message: Message) -> None:
        self.ended.append(message)

    def count(self, share: str) -> int:
        return sum(met[1] == share for met in self.met)


class Place:
    """A worker over a real state, with a clock that is turned by hand."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = Clock()
        self.peer = Peer()
        self.worker = self.another()

    def another(self) -> Outbox:
        """Return a worker on the same state, as after a restart."""
        worker = Outbox(self.store, self.clock)
        worker.register("sending", self.peer.deliver, self.peer.finished)
        return worker

    def add(self, share: str = "one", server: str = "peer.example", kind: str = "share") -> int:
        now = int(self.clock())
        return self.store.run_sync(
            lambda tx: outbox.add(tx, server=server, kind=kind, role="sending", share=share, now=now)
        )

    def get(self, message_id: int) -> Message:
        found = self.store.read_sync(lambda tx: outbox.get(tx, message_id))
        assert found is not None
        return found

    def state(self, message_id: int) -> str:
        return self.get(message_id).state

    async def turn(self, seconds: float) -> None:
        """Let time pass, once the worker has recorded what was before, and let it see what that has made due."""
        if not self.peer.behaves:
            await until(lambda: not self.worker._busy)
        self.clock.advance(seconds)
        self.worker.kick()
        await asyncio.sleep(0.05)

    async def attempts(self, message_id: int, wanted: int) -> None:
        await until(lambda: self.get(message_id).attempts == wanted)


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
async def place(tmp_path: Path, log: list[Any]) -> AsyncIterator[Place]:
    store = new_store(tmp_path)
    place = Place(store)
    yield place
    await place.worker.stop()
    store.close()


async def test_a_message_is_delivered_and_its_end_recorded(place: Place) -> None:
    place.worker.start()
    message_id = place.add()
    message = await place.worker.attempted(message_id, 5)
    assert (message.state, message.attempts, message.last_error, message.finished) == ("delivered", 1, None, NOW)
    assert [ended.id for ended in place.peer.ended] == [message_id]
    (event,) = place.store.read_sync(lambda tx: events.about(tx, "one"))
    assert (event.actor, event.action, event.detail) == ("peer.example", "share delivered", {})
    await place.turn(10**6)
    assert place.peer.met == [("peer.example", "one", "share")]


async def test_what_was_written_before_the_start_is_delivered_too(place: Place) -> None:
    message_id = place.add()
    place.worker.start()
    await until(lambda: place.state(message_id) == "delivered")


async def test_back_off_grows_and_stays_at_its_longest(place: Place) -> None:
    place.peer.fails["peer.example"] = NO_ANSWER
    place.worker.start()
    message_id = place.add()
    message = await place.worker.attempted(message_id, 5)
    for attempt, pause in enumerate((*BACK_OFF, BACK_OFF[-1], BACK_OFF[-1]), 1):
        message = place.get(message_id)
        assert (message.state, message.attempts) == ("pending", attempt)
        assert message.next_attempt == int(place.clock()) + pause
        assert message.last_error == str(NO_ANSWER)
        await place.turn(pause - 1)
        assert place.peer.count("one") == attempt
        await place.turn(1)
        await place.attempts(message_id, attempt + 1)


async def test_a_peer_that_answers_again_gets_its_message(place: Place) -> None:
    place.peer.fails["peer.example"] = NO_ANSWER
    place.worker.start()
    message_id = place.add()
    await place.worker.attempted(message_id, 5)
    place.peer.fails.clear()
    await place.turn(BACK_OFF[0])
    await until(lambda: place.state(message_id) == "delivered")


async def test_the_worker_wakes_by_itself_when_something_becomes_due(place: Place) -> None:
    place.peer.fails["peer.example"] = NO_ANSWER
    place.worker.start()
    message_id = place.add()
    await place.worker.attempted(message_id, 5)
    place.peer.fails.clear()
    place.clock.advance(BACK_OFF[0] - 0.05)
    place.worker.kick()
    await asyncio.sleep(0.02)
    assert place.state(message_id) == "pending"
    place.clock.advance(0.1)
    await until(lambda: place.state(message_id) == "delivered")


async def test_the_messages_of_a_share_arrive_in_order_whatever_fails(place: Place) -> None:
    place.peer.fails["one"] = NO_ANSWER
    place.worker.start()
    first = place.add(kind="share")
    await place.worker.attempted(first, 5)
    second, third = place.add(kind="SHARE_CHANGE_PERMISSION"), place.add(kind="SHARE_UNSHARED")
    place.worker.kick()
    await place.turn(BACK_OFF[0] - 1)
    assert {kind for _, _, kind in place.peer.met} == {"share"}
    place.peer.fails.clear()
    await place.turn(1)
    await until(lambda: place.state(third) == "delivered")
    assert [kind for _, _, kind in place.peer.met[1:]] == ["share", "SHARE_CHANGE_PERMISSION", "SHARE_UNSHARED"]
    assert place.state(second) == "delivered"


async def test_a_message_behind_one_that_is_postponed_does_not_make_the_worker_spin(place: Place) -> None:
    place.peer.fails["peer.example"] = NO_ANSWER
    place.worker.start()
    await place.worker.attempted(place.add(), 5)
    place.add(kind="SHARE_UNSHARED")
    place.worker.kick()
    looked: list[int] = []
    start_due = place.worker._start_due

    async def counted() -> None:
        looked.append(1)
        await start_due()

    place.worker._start_due = counted  # counts how often the worker looks
    await asyncio.sleep(0.5)
    assert len(looked) <= 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 501])
async def test_a_peer_that_has_said_no_is_not_asked_again(place: Place, status: int) -> None:
    place.peer.fails["peer.example"] = answered(status)
    place.worker.start()
    message = await place.worker.attempted(place.add(), 5)
    assert (message.state, message.last_error) == ("failed", f"peer.example answered {status}")
    assert [ended.id for ended in place.peer.ended] == [message.id]
    (event,) = place.store.read_sync(lambda tx: events.about(tx, "one"))
    assert (event.action, event.detail) == ("share failed", {"reason": f"peer.example answered {status}"})
    await place.turn(10**6)
    assert place.peer.count("one") == 1


@pytest.mark.parametrize("status", [302, 408, 425, 429, 500, 502, 503, 504])
async def test_a_peer_that_cannot_answer_now_is_asked_again(place: Place, status: int) -> None:
    place.peer.fails["peer.example"] = answered(status)
    place.worker.start()
    message_id = place.add()
    assert (await place.worker.attempted(message_id, 5)).state == "pending"
    place.peer.fails.clear()
    await place.turn(BACK_OFF[0])
    await until(lambda: place.state(message_id) == "delivered")


async def test_a_silent_server_costs_one_attempt_per_back_off_however_much_waits_for_it(place: Place) -> None:
    place.peer.fails["peer.example"] = NO_ANSWER
    ids = [place.add(str(number)) for number in range(20)]

    def all_wait_until(moment: int) -> bool:
        return min(place.get(message_id).next_attempt for message_id in ids) == moment

    place.worker.start()
    for number, pause in enumerate(BACK_OFF[:6], 1):
        await until(lambda pause=pause: all_wait_until(int(place.clock()) + pause))
        assert len(place.peer.met) == number
        await place.turn(pause - 1)
        assert len(place.peer.met) == number
        if number == 6:
            place.peer.fails.clear()
        await place.turn(1)
    await until(lambda: all(place.state(message_id) == "delivered" for message_id in ids))


async def test_a_refusal_for_one_share_does_not_hold_back_the_others_of_its_server(place: Place) -> None:
    place.peer.fails["one"] = answered(503)
    one, two = place.add("one"), place.add("two")
    place.worker.start()
    await until(lambda: place.state(two) == "delivered")
    assert place.state(one) == "pending"


async def test_a_message_that_makes_its_server_fall_silent_does_not_starve_the_others(place: Place) -> None:
    """A peer that crashes on one body closes the connection without an answer, each time."""
    place.peer.fails["poison"] = NO_ANSWER
    poison = place.add("poison")
    others = [place.add(str(number)) for number in range(3)]
    place.worker.start()
    await place.attempts(poison, 1)
    await place.turn(BACK_OFF[0])
    await until(lambda: all(place.state(message_id) == "delivered" for message_id in others))
    assert place.state(poison) == "pending"


async def test_a_hung_peer_delays_nobody_else(place: Place) -> None:
    hanging = asyncio.Event()
    place.peer.behaves["hung.example"] = lambda _message: _forever(hanging)
    place.worker.start()
    hung = place.add("hung", "hung.example")
    place.worker.kick()
    await asyncio.wait_for(hanging.wait(), 5)
    begun = time.monotonic()
    message = await place.worker.attempted(place.add("other", "other.example"), 5)
    assert message.state == "delivered"
    assert time.monotonic() - begun < 2
    assert place.state(hung) == "pending"


async def _forever(begun: asyncio.Event) -> None:
    begun.set()
    await asyncio.sleep(3600)


async def test_as_many_servers_as_allowed_are_talked_to_at_once_and_the_worker_rests_meanwhile(place: Place) -> None:
    let_go = asyncio.Event()

    async def wait(_message: Message) -> None:
        await let_go.wait()

    servers = [f"{number}.example" for number in range(AT_ONCE + 3)]
    place.peer.behaves = dict.fromkeys(servers, wait)
    ids = [place.add(server, server) for server in servers]
    place.worker.start()
    await until(lambda: len(place.peer.met) == AT_ONCE)
    looked: list[int] = []
    pause = place.worker._pause

    async def counted() -> float:
        looked.append(1)
        return await pause()

    place.worker._pause = counted  # counts how often the worker looks
    await asyncio.sleep(0.4)
    assert len(place.peer.met) == AT_ONCE
    assert len(looked) <= 1
    let_go.set()
    await until(lambda: all(place.state(message_id) == "delivered" for message_id in ids))


async def test_a_crash_between_delivery_and_its_record_delivers_again(place: Place) -> None:
    """What cannot be recorded did not happen, as far as the state knows: the receiver sees the message twice."""
    message_id = place.add()
    recorded = place.store.run

    async def crash(_work: object) -> None:
        await asyncio.sleep(3600)

    place.store.run = crash  # the process dies before the commit
    place.worker.start()
    await until(lambda: place.peer.count("one") == 1)
    await place.worker.stop()
    place.store.run = recorded  # and comes back
    assert (place.state(message_id), place.get(message_id).attempts) == ("pending", 0)
    place.worker = place.another()
    place.worker.start()
    await until(lambda: place.state(message_id) == "delivered")
    assert place.peer.count("one") == 2


async def test_a_state_that_records_nothing_does_not_make_a_peer_get_its_message_again_and_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    monkeypatch.setattr(module, "STATE_PAUSE", 0.3)
    message_id = place.add()
    recorded = place.store.run

    async def full(_work: object) -> None:
        raise Unavailable("database or disk is full")

    place.store.run = full  # reads still work
    place.worker.start()
    await asyncio.sleep(0.2)
    assert place.peer.count("one") == 1
    assert any("cannot record" in line["event"] for line in log)
    place.store.run = recorded  # there is room again
    await until(lambda: place.state(message_id) == "delivered")
    assert place.peer.count("one") <= 3


async def test_a_state_that_cannot_be_read_is_read_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    monkeypatch.setattr(module, "STATE_PAUSE", 0.05)
    read, failures = place.store.read, [Unavailable("disk I/O error"), KeyError("an error of ours")]

    async def failing(work: Any) -> Any:
        if failures:
            raise failures.pop()
        return await read(work)

    place.store.read = failing  # twice
    message_id = place.add()
    place.worker.start()
    await until(lambda: place.state(message_id) == "delivered")
    assert failures == []
    assert len([line for line in log if line["log_level"] in ("warning", "error")]) == 2


async def test_stopping_during_a_delivery_keeps_the_message(place: Place) -> None:
    hanging = asyncio.Event()
    place.peer.behaves["peer.example"] = lambda _message: _forever(hanging)
    message_id = place.add()
    place.worker.start()
    await asyncio.wait_for(hanging.wait(), 5)
    await asyncio.wait_for(place.worker.stop(), 2)
    assert (place.state(message_id), place.get(message_id).attempts) == ("pending", 0)
    assert place.peer.ended == []
    place.peer.behaves.clear()
    place.worker = place.another()
    place.worker.start()
    await until(lambda: place.state(message_id) == "delivered")


async def test_a_worker_that_was_never_started_stops(place: Place) -> None:
    await place.worker.stop()


async def test_attempted_returns_at_the_first_attempt_also_when_it_fails(place: Place) -> None:
    place.peer.fails["peer.example"] = NO_ANSWER
    place.worker.start()
    begun = time.monotonic()
    message = await place.worker.attempted(place.add(), 10)
    assert (message.attempts, message.state, message.last_error) == (1, "pending", str(NO_ANSWER))
    assert time.monotonic() - begun < 3


async def test_attempted_returns_at_its_time_out_and_the_delivery_goes_on(place: Place) -> None:
    let_go = asyncio.Event()

    async def wait(_message: Message) -> None:
        await let_go.wait()

    place.peer.behaves["peer.example"] = wait
    place.worker.start()
    message_id = place.add()
    begun = time.monotonic()
    message = await place.worker.attempted(message_id, 0.2)
    assert 0.15 < time.monotonic() - begun < 2
    assert (message.attempts, message.state) == (0, "pending")
    let_go.set()
    assert (await place.worker.attempted(message_id, 5)).state == "delivered"


async def test_attempted_returns_at_once_for_what_has_ended(place: Place) -> None:
    message_id = place.add()
    place.store.run_sync(lambda tx: outbox.finish(tx, message_id, "dropped", "revoked", NOW))
    assert (await place.worker.attempted(message_id, 10)).state == "dropped"


async def test_many_wait_for_their_own_message(place: Place) -> None:
    place.worker.start()
    ids = [place.add(str(number), f"{number % 3}.example") for number in range(30)]
    messages = await asyncio.gather(*(place.worker.attempted(message_id, 10) for message_id in ids))
    assert [message.id for message in messages] == ids
    assert {message.state for message in messages} == {"delivered"}


async def test_a_message_that_was_dropped_meanwhile_is_not_sent(place: Place) -> None:
    """It was read as due before its Share was revoked."""
    let_go = asyncio.Event()

    async def wait(message: Message) -> None:
        if message.share == "first":
            await let_go.wait()

    place.peer.behaves["peer.example"] = wait
    first, second = place.add("first"), place.add("second")
    place.worker.start()
    await until(lambda: place.peer.count("first") == 1)
    place.store.run_sync(lambda tx: outbox.finish(tx, second, "dropped", "the Share was revoked", NOW))
    let_go.set()
    await until(lambda: place.state(first) == "delivered")
    await asyncio.sleep(0.05)
    assert place.peer.count("second") == 0


async def test_a_message_that_is_dropped_while_it_is_delivered_stays_dropped(place: Place) -> None:
    let_go = asyncio.Event()

    async def wait(_message: Message) -> None:
        await let_go.wait()

    place.peer.behaves["peer.example"] = wait
    message_id = place.add()
    place.worker.start()
    await until(lambda: place.peer.count("one") == 1)
    place.store.run_sync(lambda tx: outbox.finish(tx, message_id, "dropped", "the Share was revoked", NOW))
    let_go.set()
    await asyncio.sleep(0.1)
    assert place.state(message_id) == "dropped"
    assert place.peer.ended == []


@pytest.mark.parametrize("failure", [KeyError("a bug"), AssertionError("another"), TimeoutError()])
async def test_an_error_of_ours_is_logged_and_the_message_tried_again(
    place: Place, log: list[Any], failure: Exception
) -> None:
    place.peer.fails["peer.example"] = failure
    place.worker.start()
    message_id = place.add()
    message = await place.worker.attempted(message_id, 5)
    assert (message.state, message.attempts) == ("pending", 1)
    assert message.last_error == "an error of this gateway's own; its log has the details"
    (line,) = [line for line in log if line["log_level"] == "error"]
    assert line["exc_info"]
    assert line["message"] == message_id
    place.peer.fails.clear()
    await place.turn(BACK_OFF[0])
    await until(lambda: place.state(message_id) == "delivered")


async def test_an_error_of_ours_in_what_follows_a_delivery_is_tried_again_with_patience(
    place: Place, log: list[Any]
) -> None:
    broken = True

    def finished(_tx: Connection, _message: Message) -> None:
        if broken:
            raise KeyError("a bug")

    place.worker.register("sending", place.peer.deliver, finished)
    place.worker.start()
    message_id = place.add()
    message = await place.worker.attempted(message_id, 5)
    assert (message.state, message.next_attempt) == ("pending", NOW + BACK_OFF[0])
    assert [line for line in log if line["log_level"] == "error"]
    broken = False
    await place.turn(BACK_OFF[0])
    await until(lambda: place.state(message_id) == "delivered")


async def test_what_follows_a_delivery_is_in_the_transaction_of_its_record(place: Place) -> None:
    def finished(tx: Connection, message: Message) -> None:
        users.add(tx, message.share, "hash", 0)

    place.worker.register("sending", place.peer.deliver, finished)
    place.worker.start()
    await place.worker.attempted(place.add("carol"), 5)
    assert [user.name for user in place.store.read_sync(users.everybody)] == ["carol"]


async def test_a_message_of_a_role_that_nobody_has_harms_no_other(place: Place, log: list[Any]) -> None:
    stray = place.store.run_sync(
        lambda tx: outbox.add(tx, server="peer.example", kind="share", role="inviting", share="stray", now=NOW)
    )
    other = place.add()
    place.worker.start()
    await until(lambda: place.state(other) == "delivered")
    assert place.state(stray) == "pending"


@pytest.mark.parametrize("failure", [NO_ANSWER, NotAllowed("UNTRUSTED_PROVIDER", "blocked"), KeyError("a bug")])
async def test_a_message_is_given_up_after_a_week(place: Place, failure: Exception) -> None:
    place.peer.fails["peer.example"] = failure
    place.worker.start()
    message_id = place.add()
    await place.worker.attempted(message_id, 5)
    await place.turn(GIVE_UP - 1)
    await place.attempts(message_id, 2)
    assert place.state(message_id) == "pending"
    await place.turn(BACK_OFF[1] + 1)
    await until(lambda: place.state(message_id) == "failed")
    assert [ended.id for ended in place.peer.ended] == [message_id]


async def test_retry_makes_what_waits_due_now(place: Place) -> None:
    place.peer.fails["peer.example"] = NO_ANSWER
    place.worker.start()
    one, two = place.add("one"), place.add("two", "peer.example")
    await place.worker.attempted(one, 5)
    place.peer.fails.clear()
    assert len(await place.worker.retry(one)) == 1
    await until(lambda: place.state(one) == "delivered")
    assert len(await place.worker.retry()) == 1
    await until(lambda: place.state(two) == "delivered")
    assert len(await place.worker.retry()) == 0
    assert [message.id for message in await place.worker.everything()] == [one, two]


# --- a server that returns ------------------------------------------------------------------------------------------


async def test_after_days_of_silence_each_message_is_delivered_once_and_in_order(place: Place) -> None:
    """72 hours and more; GIVE_UP is later than that."""
    place.peer.fails["peer.example"] = NO_ANSWER
    kinds = ("share", "SHARE_CHANGE_PERMISSION", "SHARE_UNSHARED")
    ids = [place.add(f"share-{number}", kind=kind) for number in range(10) for kind in kinds]
    place.worker.start()
    await until(lambda: place.peer.met)
    for _ in range(74):
        await place.turn(3600)
    assert GIVE_UP > 3600 * 74
    assert {place.state(message_id) for message_id in ids} == {"pending"}
    place.peer.fails.clear()
    place.peer.met.clear()
    await place.turn(BACK_OFF[-1])
    await until(lambda: all(place.state(message_id) == "delivered" for message_id in ids))
    for number in range(10):
        assert [kind for _, share, kind in place.peer.met if share == f"share-{number}"] == list(kinds)
    assert len(place.peer.met) == len(ids)


async def test_the_first_answer_after_a_silence_brings_everything_that_waits_for_the_server(place: Place) -> None:
    """Who returns before the next attempt is due, and takes one new message, gets the others with it."""
    place.peer.fails["peer.example"] = NO_ANSWER
    old = [place.add(str(number)) for number in range(5)]
    place.worker.start()
    for number in range(6):
        await until(lambda number=number: len(place.peer.met) > number)
        await place.turn(BACK_OFF[number])
    await until(lambda: min(place.get(message_id).next_attempt for message_id in old) > place.clock() + 60)
    place.peer.fails.clear()
    new = place.add("new")
    place.worker.kick()
    await until(lambda: all(place.state(message_id) == "delivered" for message_id in (*old, new)))


async def test_a_return_that_somebody_else_has_seen_brings_them_too_but_not_again_and_again(place: Place) -> None:
    place.peer.fails["peer.example"] = NO_ANSWER
    waiting, other = place.add("one"), place.add("two", server="other.example")
    place.peer.fails["other.example"] = NO_ANSWER
    place.worker.start()
    await place.attempts(waiting, 1)
    await place.attempts(other, 1)
    place.worker.returned("peer.example")
    await place.attempts(waiting, 2)
    place.worker.returned("peer.example")
    await asyncio.sleep(0.1)
    assert (place.get(waiting).attempts, place.get(other).attempts) == (2, 1)
    place.clock.advance(module.HURRY_AGAIN)
    place.worker.returned("peer.example")
    await place.attempts(waiting, 3)


async def test_a_silence_from_before_a_return_holds_nothing_back(place: Place) -> None:
    async def return_and_fail(message: Message) -> None:
        if message.share == "one":
            place.worker.returned("peer.example")
            raise NO_ANSWER

    place.peer.behaves["peer.example"] = return_and_fail
    place.add("one")
    other = place.add("two")
    place.worker.start()
    await until(lambda: place.state(other) == "delivered")


async def test_messages_of_several_shares_go_to_one_server_together_and_those_of_a_share_do_not(place: Place) -> None:
    running: list[str] = []
    most = 0

    async def slow(message: Message) -> None:
        nonlocal most
        assert message.share not in running
        running.append(message.share)
        most = max(most, len(running))
        await asyncio.sleep(0.01)
        running.remove(message.share)

    place.peer.behaves["peer.example"] = slow
    ids = [place.add(str(number % 30)) for number in range(60)]
    place.worker.start()
    await until(lambda: all(place.state(message_id) == "delivered" for message_id in ids))
    assert most == module.LANES


async def test_a_server_that_falls_silent_meanwhile_gets_no_more_than_what_was_on_its_way(place: Place) -> None:
    async def fall_silent(message: Message) -> None:
        if message.share != "0":
            await asyncio.sleep(0.02)
            raise NO_ANSWER

    place.peer.behaves["peer.example"] = fall_silent
    ids = [place.add(str(number)) for number in range(50)]
    place.worker.start()
    await until(lambda: place.state(ids[0]) == "delivered")
    await until(lambda: not place.worker._busy)
    assert len(place.peer.met) == 1 + module.LANES
    assert max(place.get(message_id).next_attempt for message_id in ids[1:]) == NOW + BACK_OFF[0], "one silence, not 8"


async def test_thousands_for_one_server_keep_no_other_waiting(place: Place) -> None:
    async def busy(_message: Message) -> None:
        await asyncio.sleep(0.02)

    place.peer.behaves["peer.example"] = busy
    now = int(place.clock())

    def work(tx: Connection) -> None:
        for number in range(2000):
            outbox.add(tx, server="peer.example", kind="share", role="sending", share=str(number), now=now)

    place.store.run_sync(work)
    place.worker.start()
    await until(lambda: len(place.peer.met) > 10)
    begun = time.monotonic()
    message = await place.worker.attempted(place.add("x", server="other.example"), 5)
    assert message.state == "delivered"
    assert time.monotonic() - begun < 1
