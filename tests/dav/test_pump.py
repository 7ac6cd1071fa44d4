"""What is read of a file while a client is slow."""

from __future__ import annotations

import os

from backends.interface import Entry, Kind, Reader
from backends.local import LocalBackend
from backends.paths import StoragePath
from backends.pool import Pool
from gateway.dav.conditions import ByteRange
from gateway.dav.stream import Outlet, pump

SIZE = 5_000_000


class Remote(Reader):
    """A file at a peer, which notes where it was read."""

    def __init__(self, content: bytes) -> None:
        self.entry = Entry(b"file", Kind.FILE, len(content), 0, "etag")
        self.offsets: list[int] = []
        self._content = content

    def read_at(self, offset: int, size: int) -> bytes:
        self.offsets.append(offset)
        return self._content[offset : offset + size]

    def close(self) -> None:
        self._content = b""


class Slow(Outlet):
    """Takes some bytes of each piece and then none for a while."""

    piece_max = 1 << 20

    def __init__(self) -> None:
        self.taken = bytearray()

    async def send(self, piece) -> int:
        some = bytes(piece[:300_000])
        self.taken += some
        return len(some)

    def abort(self) -> None:
        self.taken.clear()


async def test_a_peer_is_read_forwards_only_however_slow_the_client_is():
    content = os.urandom(SIZE)
    reader, outlet, pool = Remote(content), Slow(), Pool("peer")
    await pump(reader, pool, ByteRange(0, SIZE), outlet)
    pool.close()
    assert bytes(outlet.taken) == content
    assert reader.offsets == list(range(0, SIZE, 1 << 20))


async def test_a_cache_that_answers_with_nothing_before_the_end_is_not_the_end(tmp_path, monkeypatch):
    content = os.urandom(SIZE)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").write_bytes(content)
    backend, outlet, pool = LocalBackend(tmp_path / "root", tmp_path / "journals"), Slow(), Pool("disk")
    monkeypatch.setattr(os, "preadv", lambda *_: 0)
    with backend.open_read(StoragePath.parse("file")) as reader:
        await pump(reader, pool, ByteRange(0, SIZE), outlet)
    pool.close()
    backend.close()
    assert bytes(outlet.taken) == content
