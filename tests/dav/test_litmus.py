"""litmus, the suite that WebDAV servers are judged by: all of it passes, for owners and for whom they share with."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .served import PASSWORD, WRITE, Served

# Suite -> tests in it, of litmus 0.13 as Debian has it: a suite that ends early, or skips, counts fewer.
SUITES = {"basic": 16, "copymove": 13, "props": 30, "locks": 41, "http": 4}


def on_files(served: Served) -> tuple[str, str]:
    (served.data / "users" / "alice").mkdir(parents=True, exist_ok=True)
    return "/dav/files/alice/personal/", "alice"


def on_memory(_served: Served) -> tuple[str, str]:
    return "/dav/files/alice/other/", "alice"


def on_share(served: Served) -> tuple[str, str]:
    (served.data / "judged").mkdir(exist_ok=True)
    return "/dav/ocm/", served.share("judged", WRITE).secret


@pytest.mark.parametrize("root", [on_files, on_memory, on_share])
def test_litmus_passes_whole(served: Served, tmp_path, root: Callable[[Served], tuple[str, str]]) -> None:
    path, user = root(served)
    judge(served.url(path), user, PASSWORD, tmp_path)


def judge(url: str, user: str, password: str, tmp_path: Path) -> None:
    """Let litmus judge what is at `url`."""
    done = subprocess.run(
        ["litmus", "--keep-going", url, user, password],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TESTS": " ".join(SUITES)},
    )
    assert done.returncode == 0, done.stdout
    summaries = re.findall(r"summary for `(\w+)': of (\d+) tests run: (\d+) passed, 0 failed. 100.0%", done.stdout)
    assert {suite: int(count) for suite, count, _ in summaries} == SUITES, done.stdout
    assert all(count == passed for _, count, passed in summaries)
    assert "WARNING" not in done.stdout
