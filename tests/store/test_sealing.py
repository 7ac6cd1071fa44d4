"""Secrets at rest open with their own key for what they belong to, and key files are private and made once."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.sealing import Sealer, key_file, secret_hash

KEY = b"k" * 32


@pytest.fixture
def no_mask() -> Iterator[None]:
    """The mask of an ordinary login, under which files are readable by everybody."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_a_secret_opens_with_its_key_and_context() -> None:
    sealed = Sealer(KEY).seal("s3cret-ü", "share-1")
    assert b"s3cret" not in sealed
    assert Sealer(KEY).open(sealed, "share-1") == "s3cret-ü"


def test_the_same_secret_is_sealed_differently_each_time() -> None:
    sealer = Sealer(KEY)
    assert len({sealer.seal("secret", "share-1") for _ in range(100)}) == 100


@pytest.mark.parametrize("cut", [0, 1, 11, 12, 13, 27])
def test_what_is_cut_short_does_not_open(cut: int) -> None:
    with pytest.raises(ValueError):
        Sealer(KEY).open(Sealer(KEY).seal("secret", "share-1")[:cut], "share-1")


def test_another_context_another_key_or_another_byte_does_not_open() -> None:
    sealed = Sealer(KEY).seal("secret", "share-1")
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for sealer, value, context in (
        (Sealer(KEY), sealed, "share-2"),
        (Sealer(b"j" * 32), sealed, "share-1"),
        (Sealer(KEY), changed, "share-1"),
    ):
        with pytest.raises(ValueError, match="does not open"):
            sealer.open(value, context)


def test_a_sealer_shows_nothing_of_its_key() -> None:
    assert repr(Sealer(KEY)) == str(Sealer(KEY)) == "Sealer(***)"


def test_a_secret_is_looked_up_by_its_sha256() -> None:
    assert secret_hash("abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert secret_hash("\ud800") != secret_hash("?")


def test_a_key_file_is_made_once_and_private(tmp_path: Path, no_mask: None) -> None:
    path = tmp_path / "keys" / "state.key"
    assert key_file(path, lambda: b"first") == b"first"
    assert key_file(path, lambda: b"second") == b"first"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["state.key"]


def test_a_key_that_cannot_be_made_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> bytes:
        raise OSError("no entropy")

    path = tmp_path / "keys" / "state.key"
    with pytest.raises(OSError, match="no entropy"):
        key_file(path, fail)
    assert list(path.parent.iterdir()) == []


def test_threads_that_start_at_once_get_one_key(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "state.key"
    barrier, got = threading.Barrier(8), []

    def start() -> None:
        barrier.wait()
        got.append(key_file(path, lambda: os.urandom(32)))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(got) == {path.read_bytes()}
    assert len(got) == 8


def test_processes_that_start_at_once_get_one_key(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "state.key"
    program = (
        "import os, sys, pathlib, time; from gateway.store.sealing import key_file\n"
        "sys.stdin.readline(); print(key_file(pathlib.Path(sys.argv[1]), lambda: os.urandom(32)).hex())"
    )
    arguments = [sys.executable, "-c", program, str(path)]
    children = [subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    printed = {child.communicate(timeout=30)[0].strip() for child in children}
    assert printed == {path.read_bytes().hex()}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
