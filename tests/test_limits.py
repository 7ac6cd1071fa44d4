"""How often something may happen."""

from __future__ import annotations

from gateway.limits import Allowance


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
