"""Work that is wanted by many threads at once: done once, and its end is everybody's."""

from __future__ import annotations

import threading

import pytest
from sites import eventually

from backends.errors import Unavailable
from backends.shared_call import SharedCall

THREADS = 6


class Asked:
    """Work that waits for its permission, and is known from then on if it went well."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.shared: SharedCall[int] = SharedCall()
        self.go_on = threading.Event()
        self.runs = 0
        self.looks = 0
        self.known: int | None = None
        self.failure = failure
        self.outcomes: list[object] = []

    def _known(self) -> int | None:
        self.looks += 1
        return self.known

    def _work(self) -> int:
        self.runs += 1
        assert self.go_on.wait(20)
        if self.failure is not None:
            raise self.failure
        self.known = self.runs
        return self.known

    def ask(self) -> None:
        try:
            self.outcomes.append(self.shared.result(self._known, self._work))
        except Unavailable as error:
            self.outcomes.append(error)

    def ask_at_once(self) -> list[object]:
        """Let many ask while the work lasts, and return what each got."""
        threads = [threading.Thread(target=self.ask) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        eventually(lambda: self.looks, THREADS)
        self.go_on.set()
        for thread in threads:
            thread.join(20)
        return self.outcomes


def test_all_get_what_one_has_found() -> None:
    asked = Asked()
    assert asked.ask_at_once() == [1] * THREADS
    asked.ask()
    assert asked.outcomes[-1] == 1
    assert asked.runs == 1


@pytest.mark.parametrize("again", [False, True])
def test_all_get_its_failure_and_the_next_one_tries_again(again: bool) -> None:
    failure = Unavailable("away")
    asked = Asked(failure)
    assert asked.ask_at_once() == [failure] * THREADS
    assert asked.runs == 1
    asked.failure = failure if again else None
    asked.ask()
    assert asked.outcomes[-1] == (failure if again else 2)
    assert asked.runs == 2
