"""The power goes: what was acknowledged is on the disk, whole, and nothing else is to be seen."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from .power import cut
from .rounds import WRITER, Ledger, check

CUTS = 12
STORING = "tests.faults.storing_child:write_for_ever"


def cut_local(base: Path, seed: int, cuts: int, *, fsync: bool = True) -> Ledger:
    """Cut the power of a local backend so often and check each time."""
    choices, ledger = random.Random(seed), Ledger()

    def work(disk: Path, lines: list[str]) -> None:
        ledger.hear(lines)
        check(disk, ledger, settles=False)

    cut(base, WRITER, cuts, choices, work, seed=seed, fsync=fsync)
    return ledger


def cut_store(base: Path, seed: int, cuts: int, *, fsync: bool = True) -> int:
    """Cut the power of a state database so often; return how many rows were acknowledged and found."""
    acknowledged: list[str] = []

    def work(disk: Path, lines: list[str]) -> None:
        acknowledged.extend(lines)
        with closing(sqlite3.connect(disk / "state.sqlite")) as state:
            assert state.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            found = {name for (name,) in state.execute("SELECT server FROM peers")}
        assert found >= set(acknowledged)
        assert len(found) <= len(acknowledged) + 1

    cut(base, STORING, cuts, random.Random(seed), work, fsync=fsync)
    return len(acknowledged)


@pytest.mark.parametrize("part", range(2))
def test_acknowledged_writes_survive_a_power_cut(tmp_path: Path, seed: int, part: int) -> None:
    assert cut_local(tmp_path, seed + part, CUTS).acknowledged > CUTS


def test_acknowledged_rows_survive_a_power_cut(tmp_path: Path, seed: int) -> None:
    assert cut_store(tmp_path, seed, CUTS) > CUTS


@pytest.mark.parametrize("careless", [cut_local, cut_store])
def test_a_writer_that_leaves_out_fsync_is_found_out(tmp_path: Path, seed: int, careless) -> None:
    with pytest.raises((AssertionError, sqlite3.DatabaseError)):
        careless(tmp_path, seed, CUTS, fsync=False)
