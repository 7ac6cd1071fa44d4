"""A server that is silent is not waited for again and again, and one that answers is found again soon."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from parts import NOW, Clock

from gateway.breaker import FAILURES, HANG, KEPT, OPEN, PROBE_TIME, Breakers, BreakerState
from gateway.errors import PeerFailed

HOST = "peer.example"
SILENT = PeerFailed("PEER_UNREACHABLE", "peer.example:443: no answer in time")
REFUSED = PeerFailed("REFUSED_BY_PEER", "peer.example answered 500", 500)


class Place:
    """Breakers between two clocks: the time of day, and the stopwatch."""

    def __init__(self) -> None:
        self.clock, self.stopwatch = Clock(), Clock(0)
        self.breakers = Breakers(self.clock, self.stopwatch)
        self.returned: list[str] = []
        self.breakers.when_returned(self.returned.append)

    def call(self, error: BaseException | None = None, seconds: float = 0, server: str = HOST) -> bool:
        """Make a call that ends so after `seconds`; return whether it was let pass."""
        passed = False
        try:
            with self.breakers.call(server):
                passed = True
                self.stopwatch.advance(seconds)
                if error is not None:
                    raise error
        except (PeerFailed, TimeoutError, ValueError, asyncio.CancelledError):
            pass
        return passed

    def refusal(self) -> PeerFailed:
        with pytest.raises(PeerFailed) as caught:
            self.breakers.admit(HOST)
        return caught.value

    @property
    def state(self) -> BreakerState:
        return self.breakers.standing(HOST).state


@pytest.fixture
def place() -> Place:
    return Place()


def test_a_server_that_was_never_called_stands_well(place: Place) -> None:
    assert place.state is BreakerState.CLOSED
    assert place.breakers.standing(HOST).since is None


@pytest.mark.parametrize("error", [SILENT, TimeoutError()])
def test_silences_in_a_row_open_the_breaker(place: Place, error: Exception) -> None:
    for _ in range(FAILURES):
        assert place.state is BreakerState.CLOSED
        assert place.call(error)
    assert place.state is BreakerState.OPEN
    assert not place.call()


def test_one_silence_that_lasted_opens_it_alone(place: Place) -> None:
    place.call(SILENT, HANG)
    assert place.state is BreakerState.OPEN


@pytest.mark.parametrize("answer", [None, REFUSED, ValueError("an answer that makes no sense")])
def test_any_answer_ends_the_row(place: Place, answer: Exception | None) -> None:
    for _ in range(FAILURES - 1):
        place.call(SILENT)
    place.call(answer, HANG)
    place.call(SILENT)
    assert place.state is BreakerState.CLOSED


def test_a_refusal_says_why_and_when_to_come_again(place: Place) -> None:
    place.call(SILENT, HANG)
    place.clock.advance(1.5)
    refused = place.refusal()
    assert (refused.code, refused.status, refused.retry_after) == ("PEER_UNREACHABLE", None, 4)
    assert str(SILENT) in str(refused)
    assert not refused.is_final


def test_a_refusal_of_the_breaker_itself_is_no_further_silence(place: Place) -> None:
    place.call(SILENT, HANG)
    before = place.breakers.standing(HOST)
    for _ in range(10):
        assert not place.call()
    assert place.breakers.standing(HOST) == before


def test_one_probe_passes_when_the_time_is_over(place: Place) -> None:
    place.call(SILENT, HANG)
    place.clock.advance(OPEN[0])
    assert place.state is BreakerState.HALF_OPEN
    place.breakers.admit(HOST)
    assert place.refusal().retry_after == 1
    place.breakers.answered(HOST)
    assert place.state is BreakerState.CLOSED
    assert place.call()


def test_each_probe_without_answer_opens_it_for_longer(place: Place) -> None:
    place.call(SILENT, HANG)
    for seconds in (*OPEN, OPEN[-1], OPEN[-1]):
        assert place.breakers.standing(HOST).retry == int(place.clock()) + seconds
        place.clock.advance(seconds - 1)
        assert not place.call()
        place.clock.advance(1)
        assert place.call(SILENT), "one silence is enough now, however quick"
    assert place.breakers.standing(HOST).since == NOW


def test_calls_that_began_before_it_opened_do_not_make_it_longer(place: Place) -> None:
    for _ in range(20):
        place.breakers.admit(HOST)
    for _ in range(20):
        place.breakers.silent(HOST, "no answer", HANG)
    assert place.breakers.standing(HOST).retry == NOW + OPEN[0]


def test_a_probe_that_is_cancelled_leaves_its_turn_to_the_next(place: Place) -> None:
    place.call(SILENT, HANG)
    place.clock.advance(OPEN[0])
    assert place.call(asyncio.CancelledError())
    assert place.state is BreakerState.HALF_OPEN
    assert place.call()


def test_a_probe_that_nobody_reports_on_blocks_nothing_for_ever(place: Place) -> None:
    place.call(SILENT, HANG)
    place.clock.advance(OPEN[0])
    place.breakers.admit(HOST)
    place.stopwatch.advance(PROBE_TIME - 1)
    assert not place.call()
    place.stopwatch.advance(1)
    assert place.call()


def test_of_many_threads_one_is_the_probe(place: Place) -> None:
    place.call(SILENT, HANG)
    place.clock.advance(OPEN[0])
    passed: list[int] = []

    def ask(number: int) -> None:
        try:
            place.breakers.admit(HOST)
        except PeerFailed:
            return
        passed.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 1


def test_one_server_is_not_taken_for_another(place: Place) -> None:
    place.call(SILENT, HANG)
    assert place.call(server="other.example")
    assert place.call(server=f"{HOST}:8443")


def test_a_return_is_told_once(place: Place) -> None:
    place.call(SILENT, HANG)
    place.clock.advance(OPEN[0])
    place.call()
    place.call()
    assert place.returned == [HOST]


def test_a_single_failure_makes_no_return(place: Place) -> None:
    place.call(SILENT)
    place.call()
    assert place.returned == []


def test_a_forgotten_server_is_asked_at_once(place: Place) -> None:
    place.call(SILENT, HANG)
    place.breakers.forget(HOST)
    assert place.call()


def test_hosts_that_strangers_name_take_little_memory(place: Place) -> None:
    for number in range(KEPT + 50):
        place.call(SILENT, HANG, f"x{number}.invalid")
    assert sum(place.breakers.count().values()) == KEPT
    assert place.call(server="x0.invalid"), "the one that failed longest ago is forgotten"


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda place: None, (0, 0, 0)),
        (lambda place: place.call(SILENT), (1, 0, 0)),
        (lambda place: place.call(SILENT, HANG), (0, 1, 0)),
        (lambda place: (place.call(SILENT, HANG), place.clock.advance(OPEN[0])), (0, 0, 1)),
    ],
)
def test_servers_are_counted_by_state(
    place: Place, prepare: Callable[[Place], object], expected: tuple[int, int, int]
) -> None:
    prepare(place)
    assert tuple(place.breakers.count()[state] for state in BreakerState) == expected
