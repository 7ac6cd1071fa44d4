"""How often something may happen, and what is said to whoever asks too often."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from gateway.errors import TooMany
from gateway.limits import Allowance, Limits


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_and_then_the_rate_holds() -> None:
    clock = Clock()
    allowance = Allowance(burst=3, rate=2, clock=clock)
    assert [allowance.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now = 0.5
    assert allowance.take("a") == 0
    assert allowance.take("a") == 0.5
    clock.now = 100
    assert [allowance.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_each_key_has_a_bucket_of_its_own() -> None:
    allowance = Allowance(burst=1, rate=1, clock=Clock())
    assert (allowance.take("a"), allowance.take("b"), allowance.take("a")) == (0, 0, 1)


def test_the_number_of_remembered_keys_is_bounded() -> None:
    allowance = Allowance(burst=1, rate=1, keys=2, clock=Clock())
    for key in ("a", "b", "c"):
        assert allowance.take(key) == 0
    assert allowance.take("c") > 0
    assert allowance.take("a") == 0  # forgotten, so it begins anew


def test_asking_how_long_takes_nothing() -> None:
    clock = Clock()
    allowance = Allowance(burst=1, rate=2, clock=clock)
    assert [allowance.wait("a") for _ in range(3)] == [0, 0, 0]
    assert allowance.take("a") == 0
    assert [allowance.wait("a") for _ in range(3)] == [0.5, 0.5, 0.5]
    clock.now = 0.5
    assert allowance.wait("a") == 0


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as logged:
        yield logged


def test_a_limit_that_is_passed_says_when_to_come_again(lines: list[Any]) -> None:
    counted: list[str] = []
    limits = Limits({"pages": (2, 0.25), "token": (1, 1)}, counted.append, Clock())
    for _ in range(2):
        limits.take("pages", "192.0.2.1")
    with pytest.raises(TooMany) as refused:
        limits.take("pages", "192.0.2.1")
    assert (refused.value.code, refused.value.retry_after) == ("TOO_MANY_REQUESTS", 4)
    with pytest.raises(TooMany):
        limits.require("pages", "192.0.2.1")
    limits.take("token", "192.0.2.1")
    limits.take("pages", "192.0.2.2")
    assert counted == ["pages", "pages"]


def test_a_burst_of_refusals_is_one_line_that_tells_what_to_do(lines: list[Any]) -> None:
    clock = Clock()
    limits = Limits({"logins": (1, 0.001)}, clock=clock)
    limits.take("logins", ("192.0.2.1", "a-credential"))
    for second in range(100):
        clock.now = second
        with pytest.raises(TooMany):
            limits.take("logins", ("192.0.2.1", "a-credential"))
    assert [(line["event"], line["limit"], line["client"]) for line in lines] == [
        ("limited", "logins", "192.0.2.1")
    ] * 2
    assert "limits.logins" in lines[0]["hint"]
    assert "a-credential" not in repr(lines)


def test_what_has_no_row_is_not_limited() -> None:
    limits = Limits({})
    for _ in range(1000):
        limits.take("pages", "192.0.2.1")
        limits.require("pages", "192.0.2.1")
