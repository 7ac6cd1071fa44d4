"""What a writer has said, and so what may be there once it is dead; and rounds of killing."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from pathlib import Path

from backends.linux import Abilities
from backends.local import LocalBackend

from . import trees
from .nursery import Nursery

WRITER = "tests.faults.writing_child:write_for_ever"
LINES, PAUSE = 24, 0.004  # a writer is killed up to so many seconds after up to so many lines


class Ledger:
    """The one tree that has to be there, or two while an operation is under way."""

    def __init__(self) -> None:
        self.tree: trees.Tree = {}
        self.under_way: trees.Operation | None = None
        self.acknowledged = 0  # operations that have changed something
        self.interrupted = 0  # of those, killed before they were acknowledged

    def hear(self, lines: Iterable[str]) -> None:
        """Take down what was said; fails when an operation ended otherwise than it had to."""
        for line in lines:
            match line.split():
                case ["begin", *operation]:
                    self.under_way = tuple(operation)
                case [outcome, *reason]:
                    assert self.under_way is not None
                    expected = trees.after(self.tree, self.under_way)
                    assert (outcome == "done") == (expected is not None), (self.under_way, outcome, reason, self.tree)
                    self.tree = self.tree if expected is None else expected
                    self.acknowledged += expected is not None
                    self.under_way = None

    def possible(self, *, one_step: bool) -> list[trees.Tree]:
        """Return the trees that may be there: without what was under way, and with it.

        Where a kernel cannot rename to a free name in one step, both names may be there: a link and an unlink.
        """
        found = [self.tree]
        expected = trees.after(self.tree, self.under_way) if self.under_way else None
        if expected is not None:
            found.append(expected)
            if not one_step and self.under_way[0] == "rename":
                found.append({**self.tree, **expected})
        return found

    def settle(self, found: trees.Tree) -> None:
        """What has survived once must go on doing so."""
        self.interrupted += bool(self.under_way and trees.after(self.tree, self.under_way) is not None)
        self.tree, self.under_way = found, None


def check(base: Path, ledger: Ledger, *, modern: bool = True, settles: bool = True) -> None:
    """Start anew below `base`, and see that everything acknowledged is there, whole, and nothing else at all.

    Without `settles` the writer lives on: what was under way may still come to an end.
    """
    backend = LocalBackend(base / "root", base / "journals", abilities=Abilities(*[modern] * 3))
    backend.sweep()
    found = trees.seen(backend)
    backend.close()
    assert found in ledger.possible(one_step=modern), (ledger.under_way, ledger.tree)
    names = {str(path.relative_to(base / "root")) for path in (base / "root").rglob("*")}
    assert names == found.keys(), "debris"
    assert os.listdir(base / "journals") == []
    if settles:
        ledger.settle(found)


def killed(base: Path, seed: int, kills: int, *, modern: bool) -> Ledger:
    """Kill so many writers, each at a random moment, and check after each; return what they have said in all."""
    (base / "root").mkdir()
    (base / "journals").mkdir()
    choices, ledger = random.Random(seed), Ledger()
    with Nursery(WRITER) as nursery:
        for _ in range(kills):
            child = nursery.fork(directory=str(base), seed=choices.randrange(1 << 32), modern=modern)
            assert nursery.line() == "ready"
            ledger.hear(nursery.line() for _ in range(choices.randrange(LINES)))
            ledger.hear(nursery.kill(child, choices.uniform(0, PAUSE)))
            check(base, ledger, modern=modern)
    return ledger
