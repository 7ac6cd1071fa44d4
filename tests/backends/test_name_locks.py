"""Locks on names: one holder of each at a time, and nobody waits for a name that he does not change."""

from __future__ import annotations

import threading
import time

from backends.name_locks import NameLocks


def test_a_name_has_one_holder_at_a_time() -> None:
    locks: NameLocks[str] = NameLocks()
    inside, most = 0, 0

    def change(first: str, second: str) -> None:
        nonlocal inside, most
        for _ in range(20):
            with locks.held(first, second):
                inside += 1
                most = max(most, inside)
                time.sleep(0.000_1)
                inside -= 1

    threads = [threading.Thread(target=change, args=names) for names in (("a", "b"), ("b", "a"), ("b", "b")) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (inside, most) == (0, 1)
    assert not locks._locks


def test_nobody_waits_for_another_name() -> None:
    """A folder of a bucket may take hours to be renamed."""
    locks: NameLocks[str] = NameLocks()
    done = threading.Event()

    def change_others() -> None:
        for number in range(1, 1000):
            with locks.held(str(number)):
                pass
        done.set()

    with locks.held("0"):
        threading.Thread(target=change_others, daemon=True).start()
        assert done.wait(20)
