"""One folder with very many entries: it opens at once, and neither its size nor a slow client costs memory.

`make test` does it with 100,000 entries; `make torture` with the million that the README speaks of (ENTRIES).
"""

from __future__ import annotations

import base64
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sites import Site

ENTRIES = int(os.environ.get("ENTRIES", "100000"))
FIRST_BYTE = 1.0  # seconds
GROWTH = 128 * 1024 * 1024  # bytes
FOLDERS = 1000  # of the entries; each is looked up among the generations
PASSWORD = "alice-password"
HEADERS = {"Authorization": "Basic " + base64.b64encode(f"alice:{PASSWORD}".encode()).decode(), "Depth": "1"}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A gateway in front of a folder `big`, in memory where there is enough: a disk would be measured instead."""
    shared = Path("/dev/shm")
    room = shared.is_dir() and shutil.disk_usage(shared).free > 4 << 30
    directory = Path(tempfile.mkdtemp(prefix="ocm-big-", dir=shared if room else None))
    try:
        with Site(directory) as site:
            site.add_user("alice", PASSWORD)
            fill(site.data / "big")
            assert site.http("PROPFIND", "/dav/files/alice/home/", None, HEADERS).status == 207  # the password is known
            yield site
    finally:
        subprocess.run(["rm", "-rf", directory], check=True)  # ten times as fast as shutil.rmtree


def fill(folder: Path) -> None:
    folder.mkdir()
    opened = os.open(folder, os.O_RDONLY)
    for number in range(ENTRIES - FOLDERS):
        os.mknod(f"{number:07}.bin", 0o100644, dir_fd=opened)
    for number in range(FOLDERS):
        os.mkdir(f"folder-{number}", dir_fd=opened)
    os.close(opened)


@contextmanager
def growth(site: Site) -> Iterator[list[int]]:
    """Give a list that holds, at the end, by how many bytes the gateway's resident memory grew at its highest."""
    assert site.process is not None
    status = Path(f"/proc/{site.process.pid}/statm")
    done = threading.Event()
    sizes = [resident(status)]

    def sample() -> None:
        while not done.wait(0.02):
            sizes.append(resident(status))

    sampler = threading.Thread(target=sample)
    sampler.start()
    grown: list[int] = []
    try:
        yield grown
    finally:
        done.set()
        sampler.join()
        grown.append(max(sizes) - sizes[0])


def resident(statm: Path) -> int:
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("pause", [0.0, 3.0], ids=["at full speed", "to a client that takes nothing for a while"])
def test_a_folder_of_very_many_entries_opens_at_once_and_is_streamed(site: Site, pause: float) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=120)
    with growth(site) as grown:
        begun = time.monotonic()
        connection.request("PROPFIND", "/dav/files/alice/home/big/", None, HEADERS)
        answer = connection.getresponse()
        end = answer.read(1)
        first = time.monotonic() - begun
        time.sleep(pause)
        count = 0
        while piece := answer.read1(1 << 20):
            count += (end + piece).count(b"<d:response>")
            end = piece[-11:]  # less than the whole of what is counted
        whole = time.monotonic() - begun
    connection.close()
    print(
        f"\n{ENTRIES:,} entries: first byte {first:.3f} s, all {whole:.1f} s, memory +{grown[0] / 2**20:.0f} MiB",
        file=sys.stderr,
    )
    assert count == ENTRIES + 1
    assert first < FIRST_BYTE
    assert grown[0] < GROWTH


def test_a_client_that_goes_away_in_the_middle_leaves_nothing_open(site: Site) -> None:
    assert site.process is not None
    descriptors = Path(f"/proc/{site.process.pid}/fd")

    def listing() -> bool:
        for link in descriptors.iterdir():
            with suppress(FileNotFoundError):  # closed since
                if str(link.readlink()).endswith("/data/big"):
                    return True
        return False

    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    connection.request("PROPFIND", "/dav/files/alice/home/big/", None, HEADERS)
    connection.getresponse().read(1)
    assert listing()
    connection.close()
    deadline = time.monotonic() + 20
    while listing():
        assert time.monotonic() < deadline
        time.sleep(0.05)
