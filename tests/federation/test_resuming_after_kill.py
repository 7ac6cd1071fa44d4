"""Uploads that outlive the gateway: after SIGKILL what was acknowledged, after SIGTERM also what was on its way."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sites import Reply, Site, eventually

PASSWORD = "correct horse"
MIB = 1 << 20
CONTENT = os.urandom(24 * MIB)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site") as site:
        site.add_user("alice", PASSWORD)
        yield site


@pytest.fixture
def big(tmp_path: Path) -> Path:
    file = tmp_path / "big"
    file.write_bytes(CONTENT)
    return file


def put(site: Site, content: bytes, content_range: str) -> Reply:
    headers = {"Content-Range": f"bytes {content_range}/{len(CONTENT)}"}
    return site.http("PUT", "/dav/files/alice/home/big", content, headers, user="alice", password=PASSWORD)


def stored(site: Site) -> int:
    told = put(site, b"", "*").headers.get("Range", "bytes=0--1")
    return int(told.removeprefix("bytes=0-")) + 1


def curl(site: Site, file: Path, *options: str) -> subprocess.Popen[str]:
    url = f"{site.url}/dav/files/alice/home/big"
    command = ["curl", "-sS", "-u", f"alice:{PASSWORD}", "-T", str(file), "-o", os.devnull, "-w", "%{http_code}"]
    return subprocess.Popen([*command, *options, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def names(site: Site) -> list[str]:
    return sorted(path.name for path in site.data.iterdir())


def arriving(site: Site) -> int:
    """Return the size of the largest file below the data that the gateway has open, with a name or without."""
    assert site.process is not None
    sizes = [0]
    for link in Path(f"/proc/{site.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(link).startswith(f"{site.data}/"):
                sizes.append(link.stat().st_size)
    return max(sizes)


def goes_on(site: Site, file: Path) -> None:
    """Let curl send the rest, and see that nothing else is left."""
    done = curl(site, file, "-C", str(stored(site)))
    assert done.communicate(timeout=60)[0] == "201"
    assert (site.data / "big").read_bytes() == CONTENT
    assert names(site) == ["big"]


def test_what_was_acknowledged_outlives_a_kill_in_the_middle_of_the_next_part(site: Site, big: Path) -> None:
    assert put(site, CONTENT[: 4 * MIB], f"0-{4 * MIB - 1}").status == 202
    client = curl(site, big, "-C", str(4 * MIB), "--limit-rate", "16M")
    (parked,) = site.data.iterdir()
    eventually(lambda: parked.stat().st_size > 6 * MIB, True)
    site.kill()
    client.communicate(timeout=60)
    site.start()
    assert stored(site) == 4 * MIB
    goes_on(site, big)


def test_what_was_not_acknowledged_leaves_nothing_after_a_kill(site: Site, big: Path) -> None:
    client = curl(site, big, "--limit-rate", "16M")
    eventually(lambda: arriving(site) >= MIB, True)
    site.kill()
    client.communicate(timeout=60)
    site.start()
    assert (stored(site), names(site)) == (0, [])


def test_a_gateway_that_is_stopped_keeps_what_is_on_its_way(site: Site, big: Path) -> None:
    """An upgrade in the middle of a long upload costs nothing but the pause."""
    client = curl(site, big, "--limit-rate", "1M")
    eventually(lambda: arriving(site) >= MIB, True)
    site.stop()
    client.communicate(timeout=60)
    site.start()
    assert stored(site) >= MIB
    goes_on(site, big)
