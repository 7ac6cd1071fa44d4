"""SIGKILL at 1,000 random moments of a loop of uploads, renames, copies and removals on local storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import disks
from .rounds import killed

KILLS = 125  # in each of eight


@pytest.mark.parametrize("part", range(6))
def test_what_was_acknowledged_is_there_and_nothing_else(tmp_path: Path, seed: int, part: int) -> None:
    """In memory, where an fsync takes no time, so that kills fall everywhere and not into fsync alone."""
    with disks.tmpfs(tmp_path / "disk") as disk:
        ledger = killed(disk, seed + part, KILLS, modern=part < 4)
        assert ledger.acknowledged > KILLS
        assert ledger.interrupted > KILLS / 20


@pytest.mark.parametrize("modern", [True, False])
def test_the_same_on_a_disk(tmp_path: Path, seed: int, modern: bool) -> None:
    ledger = killed(tmp_path, seed, KILLS, modern=modern)
    assert ledger.acknowledged > KILLS
    assert ledger.interrupted > KILLS / 20
