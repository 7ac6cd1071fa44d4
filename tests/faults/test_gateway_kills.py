"""SIGKILL to the whole gateway, 50 times, under PUT, MKCOL, COPY, MOVE and DELETE of three clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from .gateway_rounds import killed

KILLS = 10  # in each of five


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(5))
def test_what_was_answered_is_there_after_a_restart(tmp_path: Path, seed: int, part: int) -> None:
    workers = killed(tmp_path, seed + part, KILLS)
    assert sum(worker.answered for worker in workers) > KILLS
    assert sum(worker.interrupted for worker in workers) > KILLS
