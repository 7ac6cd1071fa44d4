"""`make demo ONCE=1` tells the whole story, and says so when it did not go as it should."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).with_name("demo.py")
STEPS = (
    *("start", "discovery", "shares", "verified", "accepts", "access token"),
    *("lists", "reads", "writes", "sftp", "revokes", "refused"),
)


def demo(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DEMO)],
        env={**os.environ, "ONCE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=110,
    )


def steps(output: str) -> dict[int, str]:
    """Return what stands under the heading of each step, the heading included."""
    parts = re.split(r"^(\d+)\. ", output, flags=re.MULTILINE)
    return dict(zip(map(int, parts[1::2]), parts[2::2], strict=True))


def test_every_step_is_shown_with_the_command_that_did_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("demo")
    done = demo(TMPDIR=str(directory))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    told = steps(done.stdout)
    assert list(told) == list(range(1, len(STEPS) + 1))
    for word, (number, text) in zip(STEPS, told.items(), strict=True):
        heading = text.partition("\n")[0]
        assert word in heading.lower(), heading
        assert re.search(r"^\$ (ocm-gateway|curl|grep|sftp) ", text, re.MULTILINE), f"{number} has no command"
    assert "All twelve steps went as they should." in told[len(STEPS)]
    assert list(directory.iterdir()) == [], "left behind"


def test_a_gateway_that_does_not_start_is_a_failed_first_step(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)  # no Unix socket can be bound below a path as long as this, unix(7)
    deep.mkdir()
    done = demo(TMPDIR=str(deep))
    assert done.returncode == 1
    assert "This step failed: 1. Two sites start" in done.stdout
    assert "the gateway did not start" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "All twelve" not in done.stdout
    assert list(deep.iterdir()) == [], "left behind"


def test_a_step_that_fails_is_named_and_ends_the_story(tmp_path: Path) -> None:
    """On this machine curl cannot PUT."""
    curl = tmp_path / "curl"
    curl.write_text(f'#!/bin/sh\ncase "$*" in *\'--request PUT\'*) exit 7 ;; esac\nexec {shutil.which("curl")} "$@"\n')
    curl.chmod(0o755)
    done = demo(PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1
    told, _, failed = done.stdout.partition("This step failed: ")
    assert list(steps(told)) == list(range(1, 10))
    assert failed.startswith("9. Bob writes a file back.")
    assert "`curl` ended with status 7" in failed
    assert "All twelve" not in done.stdout
