"""Many sessions at once share the event loop: nobody has it for long, and nobody is forgotten."""

from __future__ import annotations

import asyncio

import pytest

from gateway.ssh.pacing import AT_ONCE, Entrance, Pacer


class Sending:
    """A channel with so many bytes to send; `turns` are the rounds of the loop in which it was asked."""

    def __init__(self, left: int, round_of_loop: list[int]) -> None:
        self.left = left
        self.turns: list[int] = []
        self._round = round_of_loop

    def send_some(self, most: int) -> int:
        sent = min(most, self.left)
        self.left -= sent
        if sent:
            self.turns.append(self._round[0])
        return sent


@pytest.fixture
async def now() -> list[int]:
    """The number of the loop's round."""
    number = [0]

    def count() -> None:
        number[0] += 1
        asyncio.get_running_loop().call_soon(count)

    count()
    return number


async def rounds(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_one_alone_sends_at_once(now: list[int]) -> None:
    pacer, one = Pacer(), Sending(AT_ONCE - 1, now)
    pacer.ask(one)
    assert one.left == 0


async def test_each_of_many_has_its_turn_and_no_round_lasts_long(now: list[int]) -> None:
    pacer, many = Pacer(), [Sending(3 * AT_ONCE, now) for _ in range(50)]
    for one in many:
        pacer.ask(one)
    await rounds(200)
    assert [one.left for one in many] == [0] * 50
    each = [turn for one in many for turn in one.turns]
    assert max(each.count(turn) for turn in set(each)) <= 2, "in one round"
    first = [one.turns[0] for one in many]
    others = many[1:]  # the first was alone when it began
    assert max(first) <= min(one.turns[1] for one in others), "nobody has a second turn before everybody's first"


async def test_who_has_more_than_fits_is_asked_again_without_asking(now: list[int]) -> None:
    pacer, one = Pacer(), Sending(10 * AT_ONCE + 1, now)
    pacer.ask(one)
    await rounds(30)
    assert one.left == 0


async def test_one_that_fails_keeps_no_other_waiting(now: list[int]) -> None:
    class Failing:
        def send_some(self, most: int) -> int:
            raise ConnectionError("gone")

    pacer, other = Pacer(), Sending(4 * AT_ONCE, now)
    with pytest.raises(ConnectionError):
        pacer.ask(Failing())
    pacer.ask(other)
    await rounds(10)
    assert other.left == 0


async def test_what_comes_before_a_log_in_is_taken_one_at_a_time(now: list[int]) -> None:
    entrance, taken = Entrance(), []
    for number in range(5):
        entrance.wait(lambda number=number: taken.append((number, now[0])))
    await rounds(10)
    assert [number for number, _ in taken] == [0, 1, 2, 3, 4]
    assert len({turn for _, turn in taken}) == 5


async def test_a_failure_at_the_entrance_keeps_no_other_out(now: list[int]) -> None:
    lost: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: lost.append(context))
    entrance, taken = Entrance(), []

    def fail() -> None:
        raise ConnectionError("gone")

    entrance.wait(fail)
    entrance.wait(lambda: taken.append(1))
    await rounds(5)
    assert (taken, len(lost)) == ([1], 1)
