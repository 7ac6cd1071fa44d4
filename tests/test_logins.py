"""Guessing is slow, and nobody can lock out anybody else by it."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import pytest
import structlog

from gateway.errors import TooMany, Unproven
from gateway.limits import Limits
from gateway.logins import DELAY, Logins

OFFICE, HOME, ELSEWHERE = "192.0.2.1", "198.51.100.7", "203.0.113.9"
BOUNDS = {"logins": (5, 0.1), "secrets": (50, 1.0), "repeats": (2, 0.01)}
RIGHT = "right"


class Door:
    """Logs in whoever knows the password, and tells what was checked and for how long it waited."""

    def __init__(self, bounds: dict[str, tuple[int, float]]) -> None:
        self.now = 0.0
        self.logins = Logins(Limits(bounds, clock=lambda: self.now), self._sleep)
        self.checked: list[str] = []
        self.waited: list[float] = []

    async def _sleep(self, seconds: float) -> None:
        self.waited.append(seconds)

    async def attempt(self, password: str, user: str = "alice", client: str = OFFICE, limit: str = "logins") -> str:
        async def check() -> str:
            self.checked.append(password)
            if password != RIGHT:
                raise Unproven("ACCESS_DENIED", "wrong")
            return user

        try:
            digest = sha256(f"{user}\0{password}".encode()).digest()
            return await self.logins.attempt(limit, client, user, digest, check)
        except Unproven:
            return "wrong"
        except TooMany:
            return "later"


@pytest.fixture
def door() -> Door:
    return Door(BOUNDS)


async def test_guesses_from_one_address_are_refused_without_a_check(door: Door) -> None:
    answers = [await door.attempt(f"guess-{number}", user=f"user-{number}") for number in range(8)]
    assert answers == ["wrong"] * 5 + ["later"] * 3
    assert len(door.checked) == 5
    door.now = 10
    assert await door.attempt("guess-9") == "wrong"
    assert await door.attempt("guess-10") == "later"


async def test_the_user_logs_in_from_another_address_meanwhile(door: Door) -> None:
    for number in range(20):
        await door.attempt(f"guess-{number}")
    assert await door.attempt(RIGHT, client=HOME) == "alice"


async def test_who_has_logged_in_from_the_same_address_before_goes_on(door: Door) -> None:
    assert await door.attempt(RIGHT, user="bob") == "bob"
    for number in range(20):
        await door.attempt(f"guess-{number}")
    assert await door.attempt(RIGHT) == "later"
    assert await door.attempt(RIGHT, user="bob") == "bob"
    door.now = 10
    assert await door.attempt(RIGHT) == "alice"


async def test_a_familiar_user_may_not_guess_for_ever_either(door: Door) -> None:
    """Otherwise whoever sits in the same office could."""
    assert await door.attempt(RIGHT) == "alice"
    answers = [await door.attempt(f"guess-{number}") for number in range(8)]
    assert answers == ["wrong"] * 5 + ["later"] * 3


async def test_a_device_with_an_old_password_takes_nothing_from_its_neighbours(door: Door) -> None:
    answers = [await door.attempt("yesterday") for _ in range(50)]
    assert answers == ["wrong"] * 2 + ["later"] * 48
    assert await door.attempt(RIGHT) == "alice"
    assert await door.attempt(RIGHT, user="bob") == "bob"
    assert await door.attempt("yesterday") == "later"


async def test_guesses_from_many_addresses_slow_the_user_down_and_lock_nobody_out(door: Door) -> None:
    assert await door.attempt(RIGHT, client=HOME) == "alice"
    for number in range(20):
        assert await door.attempt(f"guess-{number}", client=f"10.0.0.{number}") == "wrong"
    assert len(door.waited) == 15
    assert set(door.waited) == {DELAY}
    door.waited.clear()
    assert await door.attempt(RIGHT, client=HOME) == "alice"
    assert door.waited == []
    assert await door.attempt(RIGHT, client=ELSEWHERE) == "alice"
    assert door.waited == [DELAY]
    assert await door.attempt(RIGHT, user="bob", client=ELSEWHERE) == "bob"
    assert len(door.waited) == 1


async def test_a_server_that_still_asks_for_ended_shares_reaches_the_others(door: Door) -> None:
    """The credential is who asks: nobody guesses 256 bits, and one address is a whole institution."""
    for number in range(20):
        for _ in range(3):
            await door.attempt(f"ended-{number}", user="", limit="secrets")
    assert await door.attempt(RIGHT, user="", limit="secrets") == ""


async def test_failures_at_the_same_time_count_each(door: Door) -> None:
    await asyncio.gather(*(door.attempt(f"guess-{number}") for number in range(10)))
    assert await door.attempt(RIGHT) == "later"


async def test_only_what_fails_counts_and_nothing_without_limits(door: Door) -> None:
    for _ in range(50):
        assert await door.attempt(RIGHT) == "alice"
    free = Door({})
    for number in range(50):
        assert await free.attempt(f"guess-{number}") == "wrong"


async def test_a_user_in_whose_name_many_fail_is_nobody_who_asks_too_often() -> None:
    """Nothing is refused then, so nothing is logged or counted as refused."""
    refused: list[str] = []
    logins = Logins(Limits({"logins": (2, 0.1)}, refused.append, clock=lambda: 0.0), _at_once)
    with structlog.testing.capture_logs() as lines:
        for number in range(10):
            await _fail(logins, f"192.0.2.{number}", "alice")
    assert (refused, lines) == ([], [])


async def test_long_names_are_not_kept() -> None:
    limits = Limits({"logins": (2, 0.1), "repeats": (2, 0.1)}, clock=lambda: 0.0)
    logins = Logins(limits, _at_once)
    await _fail(logins, OFFICE, "u" * 30_000)
    kept = [key for allowance in limits._allowances.values() for key in allowance._buckets]
    assert kept
    assert all(len(str(key)) < 200 for key in kept)


async def _at_once(_seconds: float) -> None:
    return


async def _fail(logins: Logins, client: str, user: str) -> None:
    async def check() -> None:
        raise Unproven("ACCESS_DENIED", "wrong")

    with pytest.raises(Unproven):
        await logins.attempt("logins", client, user, sha256(f"{client}{user}".encode()).digest(), check)
