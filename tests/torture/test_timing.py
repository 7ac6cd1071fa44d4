"""The time of a refusal does not tell whether the user exists.

Many interleaved pairs are judged by how often one is slower. If both take equally long, either is that in half of the
pairs; the bounds are four standard deviations from there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from api.served import SERVER
from api.served import Served as Api
from dav.served import Served as Dav
from dav.served import basic

from gateway.store import users

PASSWORD_PAIRS = 150  # each is two runs of argon2id, as expensive as in earnest
SHARE_PAIRS = 1500


def slower(first: Callable[[int], object], second: Callable[[int], object], pairs: int) -> float:
    """Return in which part of `pairs` the first took longer; the order alternates."""

    def seconds(ask: Callable[[int], object], number: int) -> float:
        begun = time.perf_counter()
        ask(number)
        return time.perf_counter() - begun

    count = 0
    for number in range(pairs):
        if number % 2:
            one, other = seconds(first, number), seconds(second, number)
        else:
            other, one = seconds(second, number), seconds(first, number)
        count += one > other
    return count / pairs


def require_chance(part: float, pairs: int) -> None:
    assert abs(part - 0.5) < 4 * 0.5 / math.sqrt(pairs), f"the first was slower in {part:.0%} of {pairs} pairs"


def test_a_wrong_password_and_an_unknown_user(tmp_path: Path) -> None:
    with Dav(tmp_path) as door:
        hashed = door.run(door._passwords.hash("correct horse"))
        door.store.run_sync(lambda tx: users.set_password_hash(tx, "alice", hashed))

        def ask(user: str) -> Callable[[int], object]:
            return lambda number: door.request("PROPFIND", "/dav/files/x/", headers=basic(user, f"guess-{number}"))

        require_chance(slower(ask("alice"), ask("nobody"), PASSWORD_PAIRS), PASSWORD_PAIRS)


def test_a_share_for_a_disabled_and_for_an_unknown_user(tmp_path: Path) -> None:
    door = Api(tmp_path)
    try:
        door.store.run_sync(lambda tx: users.set_disabled(tx, "bob", True))

        def ask(user: str) -> Callable[[int], object]:
            return lambda number: door.post("shares", door.share(shareWith=f"{user}@{SERVER}", providerId=f"{number}"))

        require_chance(slower(ask("bob"), ask("eve"), SHARE_PAIRS), SHARE_PAIRS)
    finally:
        door.close()


def test_a_difference_would_be_found() -> None:
    part = slower(lambda _: time.sleep(0.0012), lambda _: time.sleep(0.0010), PASSWORD_PAIRS)
    assert part - 0.5 >= 4 * 0.5 / math.sqrt(PASSWORD_PAIRS)
