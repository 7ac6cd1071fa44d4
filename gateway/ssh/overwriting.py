"""What a change from the beginning on leaves of a file: the rest, which is needed at the end only, if at all.

`scp` opens a file that is there without emptying it, writes all of its own and cuts the rest off. So what begins with
the first byte is new content, on every storage and without a copy of the old; what it turns out not to cover comes
from the file that is there.
"""

from __future__ import annotations

from backends.errors import PreconditionFailed
from backends.interface import Entry, Writer
from gateway.tree import Place

PIECE = 1 << 20  # bytes


def completed(writer: Writer, place: Place, present: Entry, end: int) -> Writer:
    """Return a Writer with what `writer` has, and behind it what the file `present` has up to the offset `end`.

    It is another one where storage writes anywhere; `writer` is closed then. Raises PreconditionFailed where the file
    is not `present` any more, and what the storage says; `writer` is as open as before.
    """
    if writer.written >= end:
        return writer
    if place.backend.features.random_write:
        return _on_a_copy(writer, place, present)
    with place.backend.open_read(place.path) as reader:
        _require_same(reader.entry, present)
        while writer.written < end:
            data = reader.read_at(writer.written, min(PIECE, end - writer.written))
            if not data:
                raise PreconditionFailed("the file has become shorter")
            writer.write(data)
    _require_same(place.backend.stat(place.path), present)
    return writer


def _on_a_copy(writer: Writer, place: Place, present: Entry) -> Writer:
    """Set what `writer` has over a private copy of the file, which storage may make without moving a byte."""
    update = place.backend.open_update(place.path)
    try:
        _require_same(place.backend.stat(place.path), present)
        for offset in range(0, writer.written, PIECE):
            update.write_at(offset, writer.read_at(offset, PIECE))
    except BaseException:
        update.abort()
        raise
    writer.abort()
    return update


def _require_same(entry: Entry, present: Entry) -> None:
    if entry.etag != present.etag:
        raise PreconditionFailed("the file is another than the one that is changed")
