"""`make bench` judges what it has measured."""

from __future__ import annotations

import sys

import pytest
from bench import run
from bench.run import GET_LARGE, MIB, PUT_LARGE, Work, missed

OURS = [1.0, 2.0, 4.0]  # seconds, in three rounds


def work(name: str, **ratios: float) -> Work:
    """Return what was measured where every peer took `ratio` times as long in most rounds."""
    noise = (1.0, 1.0, 0.1)
    others = {peer: [ratio * own * odd for own, odd in zip(OURS, noise, strict=True)] for peer, ratio in ratios.items()}
    return Work(name, lambda server: 0.0, {"ocm-gateway": OURS, **others})


def judge(get: float = 1.5, put: float = 1.5, peer: float = 1.5, grown: int = 5 * MIB) -> list[str]:
    works = [work(GET_LARGE, WsgiDAV=peer, rclone=get), work(PUT_LARGE, WsgiDAV=peer, rclone=put)]
    return missed(works, ["WsgiDAV", "rclone"], {GET_LARGE: MIB, PUT_LARGE: grown})


def test_what_reaches_every_target_passes() -> None:
    assert judge() == []
    assert judge(get=1.0, put=1.0, peer=1.0, grown=64 * MIB - 1) == []


def test_each_target_that_is_missed_is_named_with_what_was_measured() -> None:
    assert judge(get=0.875) == ["GET 1 GiB against rclone: 0.875, has to be at least 1.00"]
    assert judge(put=0.5) == ["PUT 1 GiB (ours with fsync) against rclone: 0.500, has to be at least 1.00"]
    assert [sentence.partition(":")[0] for sentence in judge(peer=0.75)] == [
        "GET 1 GiB against WsgiDAV",
        "PUT 1 GiB (ours with fsync) against WsgiDAV",
    ]
    assert judge(grown=64 * MIB) == ["memory during PUT 1 GiB (ours with fsync): 64.0 MiB, has to be less than 64 MiB"]


def test_what_was_not_measured_is_missed() -> None:
    assert len(missed([], ["rclone"], {})) == 4


def test_the_command_ends_with_a_status_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py"])
    monkeypatch.setattr(run.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(run, "run", lambda directory: [])
    run.main()
    monkeypatch.setattr(run, "run", lambda directory: judge(get=0.875))
    with pytest.raises(SystemExit, match="GET 1 GiB against rclone"):
        run.main()
