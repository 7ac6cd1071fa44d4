"""Unfinished uploads end in a day, whatever has become of their storage in the configuration meanwhile."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from sites import Site, eventually

PASSWORD = "correct horse"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site that was stopped with two unfinished uploads, of which one has expired."""
    site = Site(tmp_path / "site")
    with site:
        site.add_user("alice", PASSWORD)
        (site.data / "folder").mkdir(mode=0o700)
        for name in ("folder/expired", "folder/fresh"):
            part = {"Content-Range": "bytes 0-3/8"}
            target = f"/dav/files/alice/home/{name}"
            assert site.http("PUT", target, b"half", part, user="alice", password=PASSWORD).status == 202
    with closing(sqlite3.connect(site.directory / "state/state.sqlite")) as state, state:
        state.execute("UPDATE uploads SET expires = 1 WHERE path = ?", (b"folder/expired",))
    yield site
    site.stop()
    assert "Traceback" not in site.log.read_text()


def configure(site: Site, **sections: Any) -> None:
    site.config.write_text(yaml.safe_dump(yaml.safe_load(site.config.read_text()) | sections))


def left(site: Site) -> tuple[list[bytes], int]:
    """Return the paths of the rows, and how many files are parked."""
    with closing(sqlite3.connect(f"file:{site.directory}/state/state.sqlite?mode=ro", uri=True)) as state:
        rows = [path for (path,) in state.execute("SELECT path FROM uploads ORDER BY path")]
    return rows, len(list((site.data / "folder").glob(".ocm-gateway-*")))


def test_where_files_belong_to_users_now(site: Site) -> None:
    """Nothing is resumed there; what was parked before, in a folder that is one user's by now, goes all the same."""
    assert left(site) == ([b"folder/expired", b"folder/fresh"], 2)
    os.chown(site.data / "folder", 70_001, 70_001)
    configure(site, backends={"storage": {"type": "local", "root": str(site.data), "ownership": {"mode": "map"}}})
    site.start()
    eventually(lambda: left(site), ([b"folder/fresh"], 1))


def test_where_the_storage_is_not_configured_any_more(site: Site) -> None:
    backends = yaml.safe_load(site.config.read_text())["backends"]
    mounts = yaml.safe_load(site.config.read_text())["mounts"]
    configure(site, backends={}, mounts=[])
    site.start()
    eventually(lambda: left(site), ([b"folder/fresh"], 2))
    site.stop()
    configure(site, backends=backends, mounts=mounts)
    parked = list((site.data / "folder").glob(".ocm-gateway-*"))
    for file in parked:
        os.utime(file, (1, 1))
    site.start()
    listing = site.http(
        "PROPFIND", "/dav/files/alice/home/folder/", None, {"Depth": "1"}, user="alice", password=PASSWORD
    )
    assert listing.status == 207
    assert left(site) == ([b"folder/fresh"], 1), "what nobody keeps any more is debris"
