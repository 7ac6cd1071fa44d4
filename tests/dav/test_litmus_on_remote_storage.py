"""litmus through a gateway whose files are another server's: what that one lacks, the gateway makes up for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sites import Site

from tests.backends.grid import xrootd
from tests.backends.webdav_servers import PASSWORD, USER, rclone_webdav

from .test_litmus import judge

ALICE = "alice-password"


@contextmanager
def on_rclone(rclone: str, place: Path) -> Iterator[dict[str, Any]]:
    """A server that takes what was cut off for complete."""
    (place / "password").write_text(PASSWORD)
    with rclone_webdav(rclone, place) as url:
        yield {"url": url, "user": USER, "password_file": str(place / "password")}


@contextmanager
def on_xrootd(_rclone: str, _place: Path) -> Iterator[dict[str, Any]]:
    """A grid storage element, which knows neither COPY nor properties nor locks."""
    with xrootd() as (url, grid):
        files = {"ca_path": grid.place / "ca", "client_certificate_file": grid.place / "proxy.pem"}
        yield {"url": url, **{key: str(path) for key, path in files.items()}}


@pytest.mark.parametrize("served_on", [on_rclone, on_xrootd])
def test_litmus_passes_whole(served_on: Callable[..., Any], rclone: str, tmp_path: Path) -> None:
    mount = {"name": "home", "backend": "remote", "rights": "write"}
    with served_on(rclone, tmp_path) as keys:
        backends = {"remote": {"type": "webdav", **keys}}
        with Site(tmp_path / "site", backends=backends, mounts=[mount]) as site:
            site.add_user("alice", ALICE)
            judge(f"{site.url}/dav/files/alice/home/", "alice", ALICE, tmp_path)
