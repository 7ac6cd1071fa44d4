"""Bytes pass through: a gateway holds little of a file, whichever way it goes and however many gateways it passes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from memory import memory_growth
from pairs import ALICE, BOB, Pair

MIB = 1024 * 1024
SIZE = 256 * MIB
LIMIT = 64 * MIB


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("large") / "large"
    with file.open("wb") as sparse:
        sparse.truncate(SIZE)
    return file


@pytest.fixture(scope="module")
def doors(pair: Pair, large: Path) -> dict[str, tuple[str, ...]]:
    """Arguments of curl for one folder: at alice's own site, and as a received Share at bob's."""
    folder = pair.folder("memory")
    with (folder / "large").open("wb") as sparse:
        sparse.truncate(SIZE)
    received = pair.accept(pair.share("memory", "read,write"))
    doors = {
        "own": ("--user", f"alice:{ALICE}", f"{pair.alice.url}/dav/files/alice/home/memory/"),
        "received": ("--user", f"bob:{BOB}", pair.bob.url + pair.bobs_url(received)),
    }
    for arguments in doors.values():  # so that no password is checked while memory is measured: argon2id takes 64 MiB
        curl("--request", "PROPFIND", "--header", "Depth: 1", *arguments)
    return doors


def curl(*arguments: str) -> int:
    """Return how many bytes went either way."""
    command = ("curl", "--silent", "--show-error", "--fail", "--output", "/dev/null", *arguments)
    command += ("--write-out", "%{size_download} %{size_upload}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return max(int(size) for size in done.stdout.split())


@pytest.mark.parametrize("door", ["own", "received"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_memory_does_not_grow_with_the_file(
    pair: Pair, doors: dict[str, tuple[str, ...]], large: Path, door: str, method: str
) -> None:
    *credential, folder = doors[door]
    target = f"{folder}{'large' if method == 'GET' else door}"
    upload = ("--upload-file", str(large)) if method == "PUT" else ()
    processes = [site.process.pid for site in (pair.alice, pair.bob) if site.process]
    passed: list[int] = []
    growth = memory_growth(processes, lambda: passed.append(curl(*credential, *upload, target)))
    assert passed == [SIZE]
    assert len(growth) == 2
    assert max(growth) < LIMIT, [f"{size / MIB:.0f} MiB" for size in growth]
    if method == "PUT":
        assert (pair.alice.data / "memory" / door).stat().st_size == SIZE
