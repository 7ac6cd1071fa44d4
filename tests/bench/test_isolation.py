"""What `make bench` makes of dead servers and of a backlog."""

from __future__ import annotations

import select
import socket
from functools import partial

import pytest
from bench.beside import ROUNDS, Isolation, compare
from bench.isolation import Backlog, missed, table
from bench.link import link_to

GOOD = Backlog(seconds=300.0, others=5.0, in_order=True)


def apart(*dead: float, again: tuple[float, ...] = (1.0, 1.0, 9.0)) -> list[Isolation]:
    return [Isolation("two servers", dead, again, 12.0)]


@pytest.mark.parametrize("dead", [(1.05, 1.05, 9.0), (0.8, 0.9, 0.7)])
def test_what_is_within_the_noise_passes(dead: tuple[float, ...]) -> None:
    assert list(missed(apart(*dead), GOOD)) == []


def test_a_noisy_run_is_compared_with_its_own_noise() -> None:
    assert list(missed(apart(1.2, 1.2, 1.2, again=(1.15, 1.15, 1.15)), GOOD)) == []


@pytest.mark.parametrize("again", [(1.0, 1.0, 1.0), (0.5, 0.5, 0.5)])
def test_what_dead_servers_cost_is_named(again: tuple[float, ...]) -> None:
    """A/A below 1 allows no less than 1.05, and excuses nothing."""
    found = list(missed(apart(1.06, 1.06, 1.06, again=again), GOOD))
    assert found == ["two servers: p99 is 1.06 times as long, may be 1.05 times"]


@pytest.mark.parametrize(
    ("late", "says"),
    [
        (Backlog(301.0, 1.0, True), "10,000 messages took 301 s, may take 300 s"),
        (Backlog(60.0, 5.1, True), "messages to others took 5.1 s beside them, may take 5 s"),
        (Backlog(60.0, 1.0, False), "messages of a Share arrived twice or out of order"),
    ],
)
def test_a_backlog_that_is_late_or_out_of_order_is_named(late: Backlog, says: str) -> None:
    assert list(missed(apart(1.0, 1.0, 1.0), late)) == [says]


def test_the_table_shows_ratios_beside_the_noise() -> None:
    text = table(apart(1.04, 1.04, 1.04), Backlog(61.9, 0.69, True))
    assert "| two servers | 1.04 | 1.00 | 12.0 ms |" in text
    assert "delivered in 62 s, each once" in text


def test_a_machine_that_gets_slower_favours_neither() -> None:
    """Each measurement takes a little longer than the one before, whatever it is of."""
    taken: list[str] = []

    def measure(what: str) -> float:
        taken.append(what)
        return 1.1 ** len(taken)

    found = compare("none", partial(measure, "well"), partial(measure, "dead"))
    assert taken == ["well", "dead"] + ["well", "dead", "well"] * ROUNDS
    assert {round(ratio, 6) for ratio in found.dead} == {1.1, round(1 / 1.1, 6)}
    assert {round(ratio, 6) for ratio in found.again} == {1.21, round(1 / 1.21, 6)}


def test_what_is_slower_beside_dead_ones_is_seen() -> None:
    found = compare("some", lambda: 0.01, lambda: 0.02)
    assert (found.ratio, found.noise, found.milliseconds) == (2.0, 1.0, 10.0)


def test_a_link_of_its_own_process_stalls_what_is_open_and_what_is_new() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, link_to(server.getsockname()[1]) as link:
        near = socket.create_connection(("127.0.0.1", link.port), timeout=20)
        far, _ = server.accept()
        with near, far:
            far.settimeout(20)
            near.sendall(b"1")
            assert far.recv(9) == b"1"
            link.stall()
            near.sendall(b"2")
            with socket.create_connection(("127.0.0.1", link.port), timeout=20) as later:
                later.sendall(b"3")
                newer, _ = server.accept()
                with newer:
                    assert not select.select([far, newer], [], [], 0.1)[0]
                    link.flow()
                    assert (far.recv(9), newer.recv(9)) == (b"2", b"3")
