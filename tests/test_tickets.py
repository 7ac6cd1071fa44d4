"""What has been given out is known again, for what it was given out for, for a while."""

from __future__ import annotations

import pytest

from gateway.tickets import Tickets

KEY = b"k" * 32


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_ticket_is_good_for_one_purpose_until_its_end_and_in_every_process() -> None:
    clock = Clock()
    ticket = Tickets(KEY, clock).issue("form a", 60)
    other = Tickets(KEY, clock)
    assert other.accepts(ticket, "form a")
    assert not other.accepts(ticket, "form b")
    assert not Tickets(b"l" * 32, clock).accepts(ticket, "form a")
    clock.now = 1059.9
    assert other.accepts(ticket, "form a")
    clock.now = 1060
    assert not other.accepts(ticket, "form a")


@pytest.mark.parametrize("ticket", ["", ".", "2000", "2000.", "2000.00", "2000.\udce9", "\udce9.é", "x" * 10_000])
def test_what_nobody_has_issued_is_refused(ticket: str) -> None:
    assert not Tickets(KEY, Clock()).accepts(ticket, "form \udce9")
