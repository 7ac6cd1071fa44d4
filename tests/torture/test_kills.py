"""10,000 kills of a child that drives local storage, 500 of the whole gateway, 100 of one of two that federate."""

from __future__ import annotations

from pathlib import Path

import pytest
from pairs import Pair

from ..faults import disks
from ..faults.gateway_rounds import killed as killed_gateways
from ..faults.rounds import killed
from ..federation.conftest import pair
from ..federation.test_kill import lives_through_a_kill

__all__ = ["pair"]

PARTS, KILLS, GATEWAY_KILLS, FEDERATION_KILLS = 20, 500, 25, 100


@pytest.mark.parametrize("part", range(PARTS))
def test_local_storage(tmp_path: Path, seed: int, part: int) -> None:
    """A quarter of them without what a modern kernel can do."""
    with disks.tmpfs(tmp_path / "disk") as disk:
        ledger = killed(disk, seed + part, KILLS, modern=part % 4 > 0)
    assert ledger.acknowledged > KILLS
    assert ledger.interrupted > KILLS / 20


@pytest.mark.parametrize("part", range(PARTS))
def test_whole_gateways(tmp_path: Path, seed: int, part: int) -> None:
    workers = killed_gateways(tmp_path, seed + part, GATEWAY_KILLS)
    assert sum(worker.answered for worker in workers) > GATEWAY_KILLS
    assert sum(worker.interrupted for worker in workers) > GATEWAY_KILLS


@pytest.mark.parametrize("round_", range(FEDERATION_KILLS))
def test_two_that_federate(pair: Pair, seed: int, round_: int) -> None:
    lives_through_a_kill(pair, seed + round_)
