"""`make bench` judges what it has measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from bench import federation_speed, run
from bench.crowd import Crowd
from bench.federation_speed import Flow, Round
from bench.run import missed
from bench.work import MIB, Work, table

OURS = [1.0, 2.0, 4.0]  # seconds, in three rounds
SERVER: Any = None


def work(targets: dict[str, float], grown: int = 0, **ratios: float) -> Work:
    """Return what was measured where every peer took `ratio` times as long in most rounds."""
    noise = (1.0, 1.0, 0.1)
    others = {peer: [ratio * own * odd for own, odd in zip(OURS, noise, strict=True)] for peer, ratio in ratios.items()}
    seconds = {"own": OURS, "A/A": OURS, **others}
    return Work("GET 1 GiB", lambda server: 0.0, SERVER, (), targets, bounded=True, grown=grown, seconds=seconds)


def judge(nginx: float = 1.5, grown: int = 5 * MIB, resident: int = 100 * MIB, listing: float = 0.05) -> list[str]:
    measured = [work({"nginx": 1.25, "rclone": 1.0}, grown, nginx=nginx, rclone=1.0, Apache=0.5)]
    return list(missed(measured, Crowd(500, 100 * 1024, resident, listing)))


def test_what_reaches_every_target_passes() -> None:
    assert judge() == []
    assert judge(nginx=1.25, grown=64 * MIB - 1, resident=200 * MIB, listing=0.1) == []


def test_each_target_that_is_missed_is_named_with_what_was_measured() -> None:
    assert judge(nginx=0.875) == ["GET 1 GiB against nginx: 0.875, has to be at least 1.25"]
    assert judge(grown=64 * MIB) == ["memory during GET 1 GiB: 64.0 MiB, has to be less than 64 MiB"]
    assert judge(resident=201 * MIB) == ["memory with slow downloads: 201 MiB, has to be at most 200"]
    assert judge(listing=0.2) == ["a listing beside slow downloads: 0.200 s, has to be at most 0.1 s"]


def test_a_row_shows_ratios_beside_their_targets() -> None:
    row = work({"nginx": 1.2}, nginx=1.5, rclone=2.0).row(["rclone", "Apache", "nginx"])
    assert row == "| GET 1 GiB | 2.00 |  | 1.50 (≥ 1.20) | 1.00 | 2.000 s |"


def test_a_target_without_a_measurement_is_an_error() -> None:
    with pytest.raises(KeyError):
        list(missed([work({"nginx": 1.0})], None))


def test_the_table_names_the_memory_below_the_ratios() -> None:
    lines = table([work({}, 5 * MIB, boto3=0.9)], ["boto3"]).splitlines()
    assert lines[0] == "| work | boto3 | A/A | ours |"
    assert lines[2:] == ["| GET 1 GiB | 0.90 | 1.00 | 2.000 s |", "", "Resident memory grew by 5 MiB during GET 1 GiB."]


def test_the_command_ends_with_a_status_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py"])
    monkeypatch.setattr(run.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(run, "run", lambda directory, memory: [])
    run.main()
    monkeypatch.setattr(run, "run", lambda directory, memory: judge(nginx=0.875))
    with pytest.raises(SystemExit, match="GET 1 GiB against nginx"):
        run.main()


def flow(rate: float = 400.0, slowest: float = 0.2) -> Flow:
    """Return what was measured of token exchanges, in three rounds of which one was disturbed."""
    return Flow("token exchanges", 300, (Round(rate, slowest), Round(rate, slowest), Round(rate / 9, slowest * 9)))


def test_messages_of_peers_have_targets_of_their_own() -> None:
    assert list(federation_speed.missed([flow(), flow(rate=300, slowest=0.25)])) == []
    assert list(federation_speed.missed([flow(rate=299)])) == [
        "token exchanges: 299 per second, have to be at least 300"
    ]
    assert list(federation_speed.missed([flow(slowest=0.251)])) == [
        "token exchanges: 99 of 100 within 251 ms, have to be within 250"
    ]
    row = federation_speed.table([flow()]).splitlines()[-1]
    assert row == "| token exchanges | 400 (≥ 300) | 200 ms (≤ 250) |"


def test_a_short_run_measures_answers_that_were_successes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is looked at: a gateway that refuses quickly would fail here."""
    monkeypatch.setattr(federation_speed, "REQUESTS", 60)
    flows = federation_speed.measure(tmp_path / "federation", rounds=1)
    assert [flow.least for flow in flows] == [200, 300]
    assert all(flow.rate > 0 and 0 < flow.slowest < 60 for flow in flows)
