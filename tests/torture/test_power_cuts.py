"""500 power cuts of local storage, and 100 of the state database."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..faults.test_power_cuts import cut_local, cut_store

PARTS, CUTS = 5, 100


@pytest.mark.parametrize("part", range(PARTS))
def test_local_storage(tmp_path: Path, seed: int, part: int) -> None:
    assert cut_local(tmp_path, seed + part, CUTS).acknowledged > CUTS


def test_state(tmp_path: Path, seed: int) -> None:
    assert cut_store(tmp_path, seed, CUTS) > CUTS
