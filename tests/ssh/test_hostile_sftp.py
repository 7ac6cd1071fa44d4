"""Packets of SFTP that no client sends: each is answered once and by the right status, or ends the session.

Nothing is stored, nothing stays open, and no memory is held for what a client only says.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from backends.errors import NotFound
from backends.memory import MemoryBackend
from backends.paths import StoragePath

from .raw_client import CHANNEL_CLOSE, CHANNEL_EOF, connected, string, u32
from .served import SshServed, wait_until
from .sftp_talk import (
    ATTRS,
    BAD_MESSAGE,
    CLOSE,
    EOF,
    EXCLUSIVE,
    EXTENDED,
    FAILURE,
    FSETSTAT,
    FSTAT,
    GREETING,
    HANDLE,
    INIT,
    LSTAT,
    MKDIR,
    NAME,
    NEW,
    NO_ATTRIBUTES,
    NO_SUCH_FILE,
    OK,
    OP_UNSUPPORTED,
    OPEN,
    OPENDIR,
    PERMISSION_DENIED,
    READ,
    READDIR,
    READING,
    READLINK,
    REALPATH,
    REMOVE,
    RENAME,
    RMDIR,
    SETSTAT,
    STAT,
    SYMLINK,
    WRITE,
    WRITING,
    Talk,
    handle,
    packet,
    u64,
)

PACKET_MAX = 256 * 1024
FILE = string("/other/file")
CONTENT = b"0123456789"
OFFSETS = (0, 1, 9, 10, 11, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1)
KINDS = (*range(1, 21), *range(101, 106), 0, 50, 200, 201, 255)


@pytest.fixture
def talk(served: SshServed, talk: Talk) -> Talk:
    """The mount `other` is in memory, and holds one file, whatever another test has made there."""
    clear(served.memory)
    with served.memory.open_write(StoragePath.parse("file")) as writer:
        writer.write(CONTENT)
        writer.commit()
    return talk


def clear(backend: MemoryBackend, folder: StoragePath = StoragePath()) -> None:  # noqa: B008 - it is never changed
    for entry in backend.scan(folder).next():
        path = folder.child(entry.name)
        if entry.is_directory:
            clear(backend, path)
        backend.remove(path)


def open_file(request: int, flags: int = READING, path: bytes = FILE) -> bytes:
    return packet(OPEN, request, path, u32(flags), NO_ATTRIBUTES)


# --- what ends a session ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (packet(STAT, 1, FILE), "a session begins with INIT, once"),
        (GREETING + GREETING, "a session begins with INIT, once"),
        (GREETING + u32(0), "a packet of 0 bytes; 1 to 262144 are allowed"),
        (GREETING + u32(PACKET_MAX + 1), "a packet of 262145 bytes; 1 to 262144 are allowed"),
        (GREETING + u32(2**32 - 1) + b"x", "a packet of 4294967295 bytes; 1 to 262144 are allowed"),
        (b"GET / HTTP/1.1\r\n\r\n", "a packet of 1195725856 bytes; 1 to 262144 are allowed"),
        (GREETING + u32(4) + bytes((STAT, 0, 0, 1)), "a packet without a request id"),
        (u32(1) + bytes((INIT,)), "a packet ends too early"),
        (GREETING + packet(READ, 1, handle(1), u64(0)), "a packet ends too early"),
        (GREETING + packet(READ, 1, handle(1), u64(0), u32(1), b"x"), "a packet is longer than what it says"),
        (GREETING + packet(WRITE, 1, handle(1), u64(0), u32(2**32 - 1), b"x"), "a string is longer than its packet"),
    ],
    ids=["early", "twice INIT", "0", "over-long", "far over-long", "HTTP", "no id", "INIT", "READ", "READ+", "WRITE"],
)
def test_what_is_no_sftp_ends_the_session(talk: Talk, said: bytes, reason: str) -> None:
    assert talk.say(said).reason == reason
    assert talk.say(*(said[i : i + 1] for i in range(len(said)))).reason == reason  # byte by byte as well


def test_a_write_that_cannot_be_read_leaves_no_file(served: SshServed, talk: Talk) -> None:
    """Its client may have sent more, and thinks that all of it has come."""
    cut = packet(WRITE, 3, handle(1), u64(1), u32(100), b"x")
    said = [open_file(1, NEW, string("/other/new")), packet(WRITE, 2, handle(1), u64(0), string("x")), cut]
    ended = talk.say(GREETING, *said, packet(CLOSE, 4, handle(1)))
    assert ended.answers[1].status == OK
    assert ended.reason
    with pytest.raises(NotFound):
        served.memory.stat(StoragePath.parse("new"))


def test_what_is_cut_is_not_done(served: SshServed, talk: Talk) -> None:
    whole = packet(REMOVE, 1, FILE)
    for size in range(len(whole)):
        assert talk.say(GREETING, whole[:size]).answers == []
    assert served.memory.stat(StoragePath.parse("file")).size == len(CONTENT)


# --- what is answered -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (packet(0, 1), OP_UNSUPPORTED),
        (packet(2, 1), OP_UNSUPPORTED),
        (packet(101, 1, u32(0)), OP_UNSUPPORTED),
        (packet(255, 1, b"x" * 100), OP_UNSUPPORTED),
        (packet(EXTENDED, 1, string("nonsense@example.org")), OP_UNSUPPORTED),
        (packet(EXTENDED, 1, string(b"\xff" * 100)), OP_UNSUPPORTED),
        (packet(EXTENDED, 1), BAD_MESSAGE),
        (packet(STAT, 1), BAD_MESSAGE),
        (packet(STAT, 1, u32(2**32 - 1) + b"x"), BAD_MESSAGE),
        (packet(STAT, 1, FILE, b"more"), BAD_MESSAGE),
        (packet(OPEN, 1, FILE, u32(1)), BAD_MESSAGE),
        (packet(OPEN, 1, FILE, u32(1), u32(0x8000_0000), u32(2**32 - 1)), BAD_MESSAGE),
        (packet(SETSTAT, 1, FILE, u32(0x8), u32(0)), BAD_MESSAGE),
        (packet(RENAME, 1, FILE), BAD_MESSAGE),
        (packet(READ, 1, handle(1), u64(0), u32(1)), FAILURE),
        (packet(READ, 1, string(b""), u64(0), u32(1)), FAILURE),
        (packet(WRITE, 1, string(b"x" * 10_000), u64(0), string(b"x")), FAILURE),
        (packet(CLOSE, 1, handle(7)), FAILURE),
        (packet(FSTAT, 1, handle(7)), FAILURE),
        (packet(READDIR, 1, handle(7)), FAILURE),
        (packet(FSETSTAT, 1, handle(7), NO_ATTRIBUTES), FAILURE),
        (packet(OPENDIR, 1, FILE), NO_SUCH_FILE),
        (open_file(1, READING, string("/other")), FAILURE),
        (open_file(1, NEW, string("/other/no/such")), NO_SUCH_FILE),
        (open_file(1, WRITING, string("/other/none")), NO_SUCH_FILE),
        (open_file(1, NEW, string("/other/none/")), NO_SUCH_FILE),
        (open_file(1, NEW, string("/other/file/")), NO_SUCH_FILE),
        (open_file(1, READING, string("/other/file/")), NO_SUCH_FILE),
        (open_file(1, NEW, string("/other/")), FAILURE),
        (open_file(1, NEW | EXCLUSIVE), FAILURE),
        (open_file(1, NEW, string("/frozen/new")), PERMISSION_DENIED),
        (open_file(1, NEW, string("/new")), PERMISSION_DENIED),
        (open_file(1, NEW, string("/received/new")), NO_SUCH_FILE),
        (packet(MKDIR, 1, string("/new"), NO_ATTRIBUTES), PERMISSION_DENIED),
        (packet(MKDIR, 1, FILE, NO_ATTRIBUTES), FAILURE),
        (packet(RMDIR, 1, FILE), NO_SUCH_FILE),
        (packet(RMDIR, 1, string("/other")), PERMISSION_DENIED),
        (packet(RMDIR, 1, string("/")), PERMISSION_DENIED),
        (packet(REMOVE, 1, string("/other")), PERMISSION_DENIED),
        (packet(RENAME, 1, string("/other"), string("/else")), PERMISSION_DENIED),
        (packet(RENAME, 1, FILE, string("/home/file")), OP_UNSUPPORTED),
        (packet(RENAME, 1, FILE, FILE), PERMISSION_DENIED),
        (packet(SYMLINK, 1, string("/etc/passwd"), string("/other/link")), OP_UNSUPPORTED),
        (packet(EXTENDED, 1, string("hardlink@openssh.com"), FILE, string("/other/link")), OP_UNSUPPORTED),
        (packet(READLINK, 1, FILE), FAILURE),
        (packet(READLINK, 1, string("/other/none")), NO_SUCH_FILE),
        (packet(SETSTAT, 1, FILE, u32(1), u64(2**64 - 1)), FAILURE),
        (packet(SETSTAT, 1, FILE, u32(1), u64(2**63 - 1)), FAILURE),
        (packet(SETSTAT, 1, FILE, u32(2), u32(0), u32(0)), OP_UNSUPPORTED),
        (packet(SETSTAT, 1, FILE, u32(4), u32(0o7777)), OP_UNSUPPORTED),
    ],
    ids=lambda value: value[:40].hex() if isinstance(value, bytes) else str(value),
)
def test_each_wrong_request_has_its_status(served: SshServed, talk: Talk, said: bytes, status: int) -> None:
    (answer, after) = talk.ask(said, packet(STAT, 2, FILE))
    assert (answer.status, answer.request) == (status, 1), answer
    assert answer.text
    assert "Error" not in answer.text
    assert (after.kind, after.size) == (ATTRS, len(CONTENT))
    assert [entry.name for entry in served.memory.scan(StoragePath()).next()] == [b"file"]


def test_handles_are_of_one_use(talk: Talk) -> None:
    """One of a folder reads no bytes, one of a file no names, and a closed one nothing."""
    answers = talk.ask(
        packet(OPENDIR, 1, string("/other")),
        packet(READ, 2, handle(1), u64(0), u32(10)),
        packet(WRITE, 3, handle(1), u64(0), string("x")),
        packet(FSETSTAT, 4, handle(1), NO_ATTRIBUTES),
        open_file(5),
        packet(READDIR, 6, handle(2)),
        packet(WRITE, 7, handle(2), u64(0), string("x")),
        packet(CLOSE, 8, handle(2)),
        packet(CLOSE, 9, handle(2)),
        packet(READ, 10, handle(2), u64(0), u32(10)),
        packet(FSTAT, 11, handle(2)),
        open_file(12, NEW),
        packet(READ, 13, handle(3), u64(0), u32(10)),
    )
    statuses = [FAILURE, FAILURE, PERMISSION_DENIED, None, FAILURE, OP_UNSUPPORTED, OK, FAILURE, FAILURE, FAILURE]
    assert [answer.status for answer in answers] == [None, *statuses, None, PERMISSION_DENIED]
    assert answers[11].data != answers[4].data  # no name comes again


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("size", [0, 1, 2**32 - 1])
def test_any_part_of_a_file_may_be_asked_for(talk: Talk, offset: int, size: int) -> None:
    _, answer = talk.ask(open_file(1), packet(READ, 2, handle(1), u64(offset), u32(size)))
    expected = CONTENT[offset : offset + size]
    assert answer.data == expected if expected else answer.status in (EOF, FAILURE)


@pytest.mark.parametrize("mount", ["other", "home"])
@pytest.mark.parametrize("offset", OFFSETS[-5:])
def test_nothing_is_written_where_no_file_reaches(served: SshServed, talk: Talk, mount: str, offset: int) -> None:
    path = string(f"/{mount}/far")
    answers = talk.ask(
        open_file(1, NEW, path),
        packet(WRITE, 2, handle(1), u64(offset), string("x")),
        packet(CLOSE, 3, handle(1)),
        packet(STAT, 4, path),
    )
    assert [answer.status for answer in answers[1:]] == [FAILURE, FAILURE, NO_SUCH_FILE], answers


@pytest.mark.parametrize("begin", OFFSETS[-4:])
@pytest.mark.parametrize("size", [0, 1, 2**64 - 1])
def test_data_are_not_copied_from_or_to_nowhere(talk: Talk, begin: int, size: int) -> None:
    copying = string("copy-data")
    answers = talk.ask(
        open_file(1),
        open_file(2, NEW, string("/other/copy")),
        packet(EXTENDED, 3, copying, handle(1), u64(begin), u64(size), handle(2), u64(0)),
        packet(EXTENDED, 4, copying, handle(1), u64(0), u64(size), handle(2), u64(begin)),
        packet(EXTENDED, 5, copying, handle(1), u64(0), u64(size), handle(1), u64(0)),
        packet(EXTENDED, 6, copying, handle(1), u64(0), u64(size), handle(9), u64(0)),
    )
    assert [answer.status for answer in answers[3:]] == [FAILURE] * 3
    assert answers[2].status in (OK, FAILURE)


# --- names ------------------------------------------------------------------------------------------------------------

OURS = (".ocm-gateway-0123456789abcdef", ".ocm-gateway-x", ".ocm-unfinished-0123456789abcdef")


@pytest.mark.parametrize(
    "path",
    [
        *("/home/a\0b", "/home/" + "a" * 256, "/home/" + "a/" * 2500, "/home/..\\..\\etc", "/home/" + "x" * 5000),
        *(f"/home/{name}" for name in OURS),
    ],
    ids=lambda path: path[:30].replace("\0", "NUL"),
)
def test_names_that_there_cannot_be(served: SshServed, talk: Talk, path: str) -> None:
    before = sorted(served.data.rglob("*"))
    there = string(path)
    answers = talk.ask(
        packet(STAT, 1, there),
        packet(LSTAT, 2, there),
        packet(OPENDIR, 3, there),
        open_file(4, READING, there),
        open_file(5, NEW, there),
        packet(MKDIR, 6, there, NO_ATTRIBUTES),
        packet(REMOVE, 7, there),
        packet(RMDIR, 8, there),
        packet(RENAME, 9, string("/home/none"), there),
        packet(SETSTAT, 10, there, u32(1), u64(0)),
    )
    refused = (NO_SUCH_FILE, FAILURE, PERMISSION_DENIED)
    assert all(answer.status in refused for answer in answers), answers
    assert sorted(served.data.rglob("*")) == before


@pytest.mark.parametrize(
    "path", ["/..", "/../../etc", "/other/../../../..", "..", "../..", "/./..//.", "", ".", "~", "~/..", "//"]
)
def test_nothing_leads_out_of_the_root(talk: Talk, path: str) -> None:
    (answer,) = talk.ask(packet(REALPATH, 1, string(path)))
    (name,) = answer.names
    assert name in (b"/", b"/etc")  # `/../../etc` is the `/etc` of this tree, in which there is none
    (listed,) = talk.ask(packet(OPEN, 1, string(path + "/../../../etc/passwd"), u32(READING), NO_ATTRIBUTES))
    assert listed.status == NO_SUCH_FILE


def test_bytes_that_are_no_text_are_a_name_like_others(talk: Talk) -> None:
    name = b"\xff\xfe \n\x1b[2J"
    path = string(b"/home/" + name)
    answers = talk.ask(
        open_file(1, NEW, path),
        packet(CLOSE, 2, handle(1)),
        packet(OPENDIR, 3, string("/home")),
        packet(READDIR, 4, handle(2)),
        packet(RENAME, 5, path, string(b"/home/\xff\xff/no")),
        packet(REMOVE, 6, path),
    )
    assert name in answers[3].names
    assert [answers[index].status for index in (1, 4, 5)] == [OK, FAILURE, OK]


def test_a_folder_of_the_longest_names_fits_into_packets(served: SshServed, talk: Talk) -> None:
    names = {b"%0255d" % number for number in range(1200)}
    (served.data / "long").mkdir()
    for name in names:
        (served.data / "long" / name.decode()).touch()
    answers = talk.ask(packet(OPENDIR, 1, string("/home/long")), *(packet(READDIR, 2, handle(1)) for _ in range(9)))
    found = [name for answer in answers[1:] if answer.kind == NAME for name in answer.names]
    assert sorted(found) == sorted(names)
    assert max(len(answer.body) for answer in answers) <= PACKET_MAX - 9


# --- much -------------------------------------------------------------------------------------------------------------


def test_handles_are_bounded(served: SshServed, talk: Talk) -> None:
    """A hundred thousand are asked for; most are refused, and one that is closed makes room for one."""
    few = Talk(served, handles=100)
    descriptors = len(open_files())
    begun = time.process_time()
    asked = [open_file(number) for number in range(10_000)]
    answers = few.ask(*asked, packet(CLOSE, 1, handle(1)), open_file(2))
    assert sum(answer.kind == HANDLE for answer in answers) == 101
    assert {answer.text for answer in answers if answer.status == FAILURE} == {
        "You have 100 files and folders open; close some"
    }
    assert time.process_time() - begun < 10
    assert len(open_files()) <= descriptors + 2


def test_a_hundred_thousand_requests_leave_room_for_others(served: SshServed, talk: Talk) -> None:
    """They are taken apart only when it is nearly their turn: a packet of 17 bytes is an object of hundreds."""
    count, one = 100_000, packet(FSTAT, 1, handle(1))

    async def hold() -> tuple[int, int, int]:
        sftp, stream, channel = talk.session()
        said = one * count
        tracemalloc.start()
        stream.feed(GREETING + open_file(0))
        for begin in range(0, len(said), 32768):
            stream.feed(said[begin : begin + 32768])
        stream.feed_eof()
        session, turns, held = asyncio.create_task(sftp.run()), 0, 0
        while not session.done():
            await asyncio.sleep(0)
            turns += 1
            if sftp._handles and tracemalloc.is_tracing():
                held, _ = tracemalloc.get_traced_memory()
                tracemalloc.stop()
        await session
        return held, turns, len(channel.sent)

    held, turns, sent = served.run(hold())
    assert sent > 30 * count
    assert 0 < held < 2 * count * len(one) + 3_000_000
    assert turns > count / 100  # of everybody else


def test_a_client_that_is_faster_than_the_storage_has_to_wait(
    served: SshServed, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk, is_released, stat = Talk(served, in_flight=1 << 17), threading.Event(), served.memory.stat

    def waiting(path: StoragePath) -> Any:
        assert is_released.wait(20)
        return stat(path)

    async def flood() -> tuple[int, int]:
        sftp, stream, channel = talk.session()
        session = asyncio.create_task(sftp.run())
        stream.feed(GREETING + packet(STAT, 1, FILE))
        fed = 0
        while not channel.paused and fed < 2 << 20:
            await asyncio.sleep(0)
            stream.feed(packet(99, 2) * 1000)
            fed += 9000
        paused = channel.paused
        is_released.set()
        stream.feed_eof()
        await session
        assert not channel.paused
        return paused, fed

    monkeypatch.setattr(served.memory, "stat", waiting)
    with structlog.testing.capture_logs():
        paused, fed = served.run(flood())
    assert paused
    assert fed < 1 << 19


# --- anything ---------------------------------------------------------------------------------------------------------

paths_of_clients = st.one_of(
    st.sampled_from(
        [b"/", b"/other", b"/other/file", b"/other/new", b"/other/dir", b"/received", b"", b"..", b"/other/dir/x"]
    ),
    st.binary(max_size=300).map(lambda name: b"/other/" + name),
    st.lists(
        st.sampled_from([b"..", b".", b"", b"other", b"home", b"file", b"a" * 255, b"\0", OURS[0].encode()]),
        max_size=30,
    ).map(b"/".join),
)
names_of_handles = st.one_of(st.integers(1, 6).map(u32), st.binary(max_size=8))
numbers = st.one_of(st.sampled_from(OFFSETS), st.integers(0, 2**64 - 1))
small = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 63, 2**31, 2**32 - 1]))
fields = st.one_of(
    paths_of_clients.map(string),
    names_of_handles.map(string),
    numbers.map(u64),
    small.map(u32),
    st.binary(max_size=40),
    st.sampled_from([b"copy-data", b"fsync@openssh.com", b"limits@openssh.com", b"posix-rename@openssh.com"]).map(
        string
    ),
)


@st.composite
def sensible(draw: st.DrawFn) -> bytes:
    """A request as clients make them, with any values."""
    request = draw(st.integers(0, 2**32 - 1))
    path, name = draw(paths_of_clients.map(string)), draw(names_of_handles.map(string))
    bodies = {
        OPEN: (path, u32(draw(st.integers(0, 63))), NO_ATTRIBUTES),
        CLOSE: (name,),
        READ: (name, u64(draw(numbers)), u32(draw(small))),
        WRITE: (name, u64(draw(numbers)), string(draw(st.binary(max_size=50)))),
        SETSTAT: (path, u32(1), u64(draw(numbers))),
        FSETSTAT: (name, u32(9), u64(draw(numbers)), u32(draw(small)), u32(draw(small))),
        OPENDIR: (path,),
        READDIR: (name,),
        REMOVE: (path,),
        MKDIR: (path, NO_ATTRIBUTES),
        RMDIR: (path,),
        RENAME: (path, draw(paths_of_clients.map(string))),
        STAT: (path,),
    }
    kind = draw(st.sampled_from(sorted(bodies)))
    return packet(kind, request, *bodies[kind])


senseless = st.builds(
    lambda kind, request, parts: packet(kind, request, *parts),
    st.sampled_from(KINDS),
    small,
    st.lists(fields, max_size=5),
)


@given(st.lists(st.one_of(sensible(), sensible(), senseless), max_size=25), st.integers(1, 5000))
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_packets_are_answered_each_once(served: SshServed, packets: list[bytes], cut: int) -> None:
    talk = Talk(served, handles=5)
    said = GREETING + b"".join(packets)
    ended = talk.say(*(said[at : at + cut] for at in range(0, len(said), cut)))
    asked = [int.from_bytes(one[5:9], "big") for one in packets]
    answered = [answer.request for answer in ended.answers]
    assert answered == asked[: len(answered)]
    assert len(answered) == len(asked) or ended.reason
    assert not [writer for writer in served.writers if writer.is_open]
    assert not served.temporaries()


@given(st.binary(max_size=2000))
@example(GREETING + u32(5) + bytes((200, 0, 0, 0, 1)))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_end_in_order(served: SshServed, said: bytes) -> None:
    Talk(served).say(GREETING, said)


def test_a_session_that_is_cut_anywhere_leaves_nothing(served: SshServed, talk: Talk) -> None:
    """Over a real channel: closed, ended or left in the middle of packets; the connection serves on."""
    said = GREETING + open_file(1, NEW, string("/home/cut")) + packet(WRITE, 2, handle(1), u64(0), string("x" * 50))
    said += packet(OPENDIR, 3, string("/home")) + packet(READDIR, 4, handle(2)) + open_file(5)
    with connected(served.ssh_port) as client:
        client.log_in("alice", served.user)
        for number, size in enumerate(range(0, len(said), 7)):
            channel = client.sftp()
            client.send_data(channel, said[:size])
            client.send(bytes(((CHANNEL_CLOSE, CHANNEL_EOF)[number % 2],)) + u32(channel))
            client.receive_until(CHANNEL_CLOSE)
            if number % 2:
                client.send(bytes((CHANNEL_CLOSE,)) + u32(channel))
        client.sftp()
        wait_until(lambda: not served.writers and len(served.ssh._running) == 1)
    assert not (served.data / "cut").exists()
    wait_until(lambda: not served.ssh._running)


def open_files() -> list[Path]:
    return [*Path("/proc/self/fd").iterdir()]


def test_single_bytes_are_put_together(served: SshServed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that wait for the storage: each packet of a channel would be an object for one byte of it."""
    is_asked, is_released, stat = threading.Event(), threading.Event(), served.memory.stat

    def waiting(path: StoragePath) -> Any:
        is_asked.set()
        assert is_released.wait(20)
        return stat(path)

    monkeypatch.setattr(served.memory, "stat", waiting)
    monkeypatch.setattr(served.ssh, "config", served.ssh.config.model_copy(update={"in_flight": 1000}))
    with connected(served.ssh_port) as client:
        client.log_in("alice", served.user)
        channel = client.sftp()
        client.send_data(channel, GREETING + packet(STAT, 1, FILE))
        assert is_asked.wait(20)
        for byte in packet(STAT, 2, string("/other/" + "x" * 200)) * 12:
            client.send_data(channel, bytes((byte,)))
        (inside,) = served.serving(client.socket)._channels.values()
        wait_until(lambda: sum(len(data) for data, _ in inside._recv_buf) > 1000)
        assert len(inside._recv_buf) < 10
        assert len(inside._session._stream._arrived) < 10
        is_released.set()
        answers = client.receive_data(231 + 12 * 50)  # VERSION, and that there is no such file
        assert b"No such file" in answers


def test_sessions_leave_no_memory(served: SshServed, talk: Talk) -> None:
    """Whose handles nobody closes, and which end in the middle of anything."""
    opened = [open_file(number) for number in range(20)] + [packet(OPENDIR, 30, string("/other"))]
    said = [GREETING, *opened, open_file(40, NEW, string("/other/left")), packet(READ, 41, handle(1), u64(0), u32(5))]

    def repeat(times: int) -> None:
        with structlog.testing.capture_logs():
            for number in range(times):
                assert not talk.say(*said, packet(STAT, 50)[: number % 9]).reason

    repeat(20)
    gc.collect()
    tracemalloc.start()
    try:
        repeat(100)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100 * 2_000  # bytes of a session; one handle alone would be as much
