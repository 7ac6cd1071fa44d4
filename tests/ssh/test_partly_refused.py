"""A part that is refused is missing: then nothing is committed, whatever the client makes of the refusal.

And what somebody else has made of the file meanwhile is never mixed with what a client has opened.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backends.errors import NotFound, Unavailable
from backends.local_content import LocalReader
from gateway.ssh.copying import Copying
from gateway.ssh.reading import AHEAD, Reading
from gateway.ssh.stream import Lost
from gateway.ssh.workspace import Workspace
from gateway.ssh.writing import Writing

from .raw_client import string, u32
from .served import SshServed
from .sftp_talk import (
    CLOSE,
    CREATING,
    EXTENDED,
    FAILURE,
    FSTAT,
    GREETING,
    HANDLE,
    NEW,
    NO_ATTRIBUTES,
    OK,
    OPEN,
    READ,
    READING,
    RENAME,
    WRITE,
    WRITING,
    Talk,
    handle,
    packet,
    u64,
)

PIECE = b"x" * 1000


def opened(request: int, path: str, flags: int) -> bytes:
    return packet(OPEN, request, string(path), u32(flags), NO_ATTRIBUTES)


def written(request: int, number: int, offset: int, data: bytes = PIECE) -> bytes:
    return packet(WRITE, request, handle(number), u64(offset), string(data))


@pytest.mark.parametrize("refused", [1, 2, 3])
def test_a_write_that_the_state_refuses_for_a_moment_is_not_left_out(
    served: SshServed, talk: Talk, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    calls = 0
    require = Workspace.require_writing

    async def sometimes(self: Workspace) -> None:
        nonlocal calls
        calls += 1
        if calls == refused:
            raise Unavailable("the state does not answer")
        await require(self)

    monkeypatch.setattr(Workspace, "require_writing", sometimes)
    pieces = [written(number, 1, 2000 * number) for number in range(3)]  # apart, so that each is a call of its own
    answers = talk.ask(opened(9, "/home/part", NEW), *pieces, packet(CLOSE, 8, handle(1)))
    assert [answer.status for answer in answers if answer.request == 8] == [FAILURE]
    assert not (served.data / "part").exists()


def test_data_that_are_copied_in_part_are_not_committed(
    served: SshServed, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (served.data / "source").write_bytes(bytes(3 << 20))
    read = Reading.read

    async def half(self: Reading, offset: int, size: int) -> bytes:
        if offset > 1 << 20:
            raise Unavailable("the storage does not answer")
        return await read(self, offset, size)

    monkeypatch.setattr(Reading, "read", half)
    copy = packet(EXTENDED, 3, string(b"copy-data"), handle(1), u64(0), u64(0), handle(2), u64(0))
    answers = talk.ask(
        *(opened(1, "/home/source", READING), opened(2, "/home/target", NEW), copy, packet(CLOSE, 4, handle(2)))
    )
    assert [answer.status for answer in answers[-2:]] == [FAILURE, FAILURE]
    assert not (served.data / "target").exists()


def when_opened(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    """Have somebody else do `work` as soon as a file is opened to be changed."""
    begin = Writing._begin

    def begun(self: Writing) -> None:
        begin(self)
        work()

    monkeypatch.setattr(Writing, "_begin", begun)


@pytest.mark.parametrize("flags", [WRITING, WRITING | CREATING, READING | WRITING])
@pytest.mark.parametrize("offset", [2, 8])
def test_a_change_of_a_file_that_somebody_has_replaced_meanwhile_is_refused(
    served: SshServed, talk: Talk, monkeypatch: pytest.MonkeyPatch, flags: int, offset: int
) -> None:
    file, other = served.data / "changed", served.data / "other"
    file.write_bytes(b"AAAAAAAA")
    other.write_bytes(b"BBBBBBBB")
    when_opened(monkeypatch, lambda: other.rename(file))
    answers = talk.ask(opened(1, "/home/changed", flags), written(2, 1, offset, b"xx"), packet(CLOSE, 3, handle(1)))
    assert [(answer.status, "Somebody else" in answer.text) for answer in answers[-2:]] == [(FAILURE, True)] * 2
    assert file.read_bytes() == b"BBBBBBBB"


def test_a_file_that_is_opened_to_be_changed_is_read_as_it_was(
    served: SshServed, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = served.data / "changed"
    file.write_bytes(b"AAAAAAAA")
    when_opened(monkeypatch, lambda: file.write_bytes(b"BBBBBBBB, and more"))
    answers = talk.ask(opened(1, "/home/changed", READING | WRITING), packet(READ, 2, handle(1), u64(0), u32(100)))
    assert (answers[-1].status, "Somebody else" in answers[-1].text) == (FAILURE, True)


def test_a_folder_does_not_lose_what_it_would_be_moved_into(served: SshServed, talk: Talk) -> None:
    (served.data / "outer/inner").mkdir(parents=True)
    rename = packet(
        EXTENDED, 1, string(b"posix-rename@openssh.com"), string("/home/outer"), string("/home/outer/inner")
    )
    (answer,) = [each for each in talk.ask(rename) if each.request == 1]
    assert answer.status not in (OK, None)
    assert (served.data / "outer/inner").is_dir()
    back = talk.ask(packet(RENAME, 1, string("/home/outer/inner"), string("/home/outer")))[-1]
    assert back.status not in (OK, None)


def test_many_open_files_read_no_more_ahead_than_a_session_may_hold(
    served: SshServed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalReader, "read_cached", lambda *_: None)
    (served.data / "large").write_bytes(bytes(4 << 20))
    most = 4 * AHEAD
    files = range(1, 31)
    reads = [
        packet(READ, 100 * turn + number, handle(number), u64(1000 * turn), u32(1000))
        for turn in range(3)
        for number in files
    ]
    talk = Talk(served, in_flight=most)
    ahead: list[int] = []

    async def ask() -> None:
        sftp, stream, _ = talk.session()
        stream.feed(GREETING + b"".join(opened(number, "/home/large", READING) for number in files))
        stream.feed(b"".join(reads) + packet(FSTAT, 1, handle(1)))
        drop_all = sftp._handles.drop_all

        async def look() -> None:
            ahead.append(sum(each._next is not None for each in sftp._handles._open.values()))
            await drop_all()

        sftp._handles.drop_all = look
        stream.feed_eof()
        await sftp.run()

    served.run(ask())
    assert 0 < ahead[0] <= most // AHEAD


def test_what_reads_once_reads_nothing_ahead(served: SshServed, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead: list[int] = []
    monkeypatch.setattr(LocalReader, "read_cached", lambda *_: None)
    monkeypatch.setattr(Reading, "_look_ahead", lambda _self, offset: ahead.append(offset))
    (served.data / "large").write_bytes(bytes(4 << 20))
    once = [packet(READ, number, handle(1), u64(number * 100_000), u32(1000)) for number in range(5)]
    assert talk.ask(opened(9, "/home/large", READING), *once)[0].kind == HANDLE
    assert ahead == []


def test_a_handle_that_cannot_be_released_keeps_no_other_open(
    served: SshServed, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (served.data / "kept").write_bytes(b"x")
    dropped: list[Path] = []
    drop = Reading.drop

    async def some(self: Reading) -> None:
        dropped.append(Path(str(self.path)))
        await drop(self)
        if len(dropped) == 1:
            raise NotFound("odd")

    monkeypatch.setattr(Reading, "drop", some)
    talk.ask(*(opened(number, "/home/kept", READING) for number in range(3)))
    assert len(dropped) == 3


async def test_a_copy_ends_when_its_client_is_gone(served: SshServed) -> None:
    pieces: list[int] = []

    class Endless:
        async def read(self, offset: int, size: int) -> bytes:
            pieces.append(offset)
            return bytes(10)

        async def write(self, offset: int, data: list[memoryview]) -> None:
            pass

    class Permitted:
        async def require_writing(self) -> None:
            pass

    copying: Any = Copying(Permitted(), lambda: len(pieces) == 3)  # type: ignore[arg-type]
    with pytest.raises(Lost):
        await copying.copy(Endless(), 0, 0, Endless(), 0)
    assert len(pieces) == 3
