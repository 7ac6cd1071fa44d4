"""A sender's server that means harm: it holds no thread for ever, and nothing is kept that nobody asked for."""

from __future__ import annotations

import base64
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import paramiko
import pytest
from faults.disks import MIB
from sftp_servers import make_key

from backends.errors import Unavailable
from backends.sftp import Guest, SFTPBackend
from backends.sftp.guests import WINDOW
from backends.sftp.session import BEST_DATA, BROKEN, LIMITS
from backends.sftp_packets import VERSION_SPOKEN, Attributes, Fields, Status, Type, string, u32, u64

from .conformance.actions import ROOT, get, names, path

Answering = Callable[[int, Fields], bytes]  # the number of a request and its fields -> what is sent

SIZE = 4 * BEST_DATA  # of every file, which is all zeros
FILE = Attributes(size=SIZE, mode=stat.S_IFREG | 0o644, modified=1).to_bytes()
DIRECTORY = Attributes(mode=stat.S_IFDIR | 0o755, modified=1).to_bytes()
LINK = Attributes(mode=stat.S_IFLNK | 0o777).to_bytes()


def packet(kind: Type, number: int, *fields: bytes) -> bytes:
    return string(bytes((kind,)) + u32(number) + b"".join(fields))


def status(code: Status) -> Answering:
    return lambda number, _: packet(Type.STATUS, number, u32(code), string(b""), string(b""))


def describe(number: int, asked: Fields) -> bytes:
    return packet(Type.ATTRS, number, DIRECTORY if asked.string() == b"/" else FILE)


def give_handle(number: int, _: Fields) -> bytes:
    return packet(Type.HANDLE, number, string(b"handle"))


def read(number: int, asked: Fields, more: int = 0) -> bytes:
    asked.string(), asked.u64()
    return packet(Type.DATA, number, string(bytes(asked.u32() + more)))


def say_limits(number: int, _: Fields) -> bytes:
    return packet(Type.EXTENDED_REPLY, number, *map(u64, (0, BEST_DATA, BEST_DATA, 0)))


HONEST: dict[int, Answering] = {
    Type.REALPATH: lambda number, asked: packet(Type.NAME, number, u32(1), string(asked.string()), string(b""), FILE),
    Type.STAT: describe,
    Type.LSTAT: describe,
    Type.FSTAT: describe,
    Type.OPEN: give_handle,
    Type.OPENDIR: give_handle,
    Type.READ: read,
    Type.READDIR: status(Status.EOF),
    Type.EXTENDED: say_limits,
}


class Hostile(paramiko.ServerInterface):
    """A server that lets everybody in, and gives honest answers but to those kinds of requests that `odd` names."""

    def __init__(self, odd: Mapping[int, Answering], channels: list[paramiko.Channel]) -> None:
        """Note in `channels` each that SFTP is spoken on."""
        self._answers = HONEST | odd
        self._channels = channels

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        self._channels.append(channel)
        threading.Thread(target=self._speak, args=(channel,), daemon=True).start()
        return True

    def _speak(self, channel: paramiko.Channel) -> None:
        with suppress(*BROKEN), channel.makefile("rb") as requests:
            while size := requests.read(4):
                channel.sendall(self._answer(requests.read(int.from_bytes(size, "big"))))

    def _answer(self, request: bytes) -> bytes:
        asked = Fields(request, 1)
        number = asked.u32()
        if request[0] == Type.INIT:
            return string(bytes((Type.VERSION,)) + u32(VERSION_SPOKEN) + string(LIMITS) + string(b"1"))
        return self._answers.get(request[0], status(Status.OK))(number, asked)


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    return ours, theirs


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key of the server, and of its guest."""
    return make_key(tmp_path_factory.mktemp("hostile") / "key")


@pytest.fixture
def channels() -> list[paramiko.Channel]:
    """The server's ends of the sessions that were begun, the newest last."""
    return []


@pytest.fixture
def guest(key: Path, channels: list[paramiko.Channel], tmp_path: Path) -> Iterator[Callable[..., SFTPBackend]]:
    """Make the storage of a guest at a new server that answers as `odd` says."""
    with ExitStack() as stack:

        def make(odd: Mapping[int, Answering], connections: int = 4, **changes: Any) -> SFTPBackend:
            def dial() -> socket.socket:
                ours, theirs = connected()
                server = paramiko.Transport(theirs)
                stack.callback(server.close)
                server.add_server_key(paramiko.Ed25519Key.from_private_key_file(str(key)))
                server.start_server(threading.Event(), Hostile(odd, channels))
                return ours

            host_key = base64.b64decode(key.with_name("key.pub").read_text().split()[1])
            values = {"name": "lab", "address": "u@h", "user": "u", "private_key": key.read_text, "host_key": host_key}
            one = Guest(**{"dial": dial} | values | changes)
            made = SFTPBackend(one, "/", tmp_path / "journals", connections=connections)
            return stack.enter_context(closing(made))

        yield make


@pytest.mark.timeout(20)
def test_more_bytes_than_were_asked_for_are_refused(guest: Callable[..., SFTPBackend]) -> None:
    """Also in the middle of what is read, where they would never come to an end, and where a content is copied."""
    backend = guest({Type.READ: partial(read, more=10)})
    with backend.open_read(path("file")) as reader, pytest.raises(Unavailable, match="more bytes than"):
        reader.read_at(0, SIZE)
    with backend.open_update(path("file")) as writer, pytest.raises(Unavailable, match="more bytes than"):
        writer.read_at(0, SIZE)


@pytest.mark.parametrize(
    "answers",
    [
        lambda number: (number + 1000, number),  # nobody's before the one that is waited for
        lambda number: (number, number),
        lambda number: (number - 1, number),  # one that has been answered long ago
    ],
    ids=["unknown", "twice", "again"],
)
def test_answers_that_nobody_waits_for_end_the_connection(
    guest: Callable[..., SFTPBackend], answers: Callable[[int], tuple[int, ...]]
) -> None:
    """They would be kept for ever, each as large as its sender likes."""

    def flood(number: int, asked: Fields) -> bytes:
        handle = asked.string()
        return b"".join(describe(one, Fields(string(handle))) for one in answers(number))

    backend = guest({Type.FSTAT: flood})
    with pytest.raises(Unavailable, match="nobody waits for"):
        get(backend, "file")


def entries(count: int, name: bytes, what: bytes = DIRECTORY) -> Answering:
    entry = string(name) + string(b"") + what
    return lambda number, _: packet(Type.NAME, number, u32(count), count * entry)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("count", "name"), [(0, b""), (100, b"."), (100, b".ocm-guest-x")])
def test_a_list_that_shows_nothing_does_not_go_on_for_ever(
    guest: Callable[..., SFTPBackend], count: int, name: bytes
) -> None:
    with pytest.raises(Unavailable, match=r"nothing to show within 0\.5 s"):
        names(guest({Type.READDIR: entries(count, name)}, patience=0.5))


@pytest.mark.timeout(20)
def test_names_that_come_slowly_are_shown_before_there_are_enough(guest: Callable[..., SFTPBackend]) -> None:
    """A thread is not held until there is a whole batch of them."""

    def name_slowly(number: int, asked: Fields) -> bytes:
        time.sleep(0.05)
        return entries(1, b"folder")(number, asked)

    with guest({Type.READDIR: name_slowly}, patience=0.5).scan(ROOT) as scan:
        assert {entry.name for entry in scan.next()} == {b"folder"}


@pytest.mark.timeout(20)
def test_more_links_than_fit_in_a_batch_are_not_looked_through_at_once(guest: Callable[..., SFTPBackend]) -> None:
    """An answer has room for tens of thousands, each with three questions of our own."""
    with guest({Type.READDIR: entries(40_000, b"link", LINK)}).scan(ROOT, 100) as scan:
        assert [entry.name for entry in scan.next()] == [b"link"] * 100


@pytest.mark.parametrize("send", [paramiko.Channel.sendall, paramiko.Channel.sendall_stderr])
def test_what_is_sent_beyond_the_window_ends_the_connection(
    guest: Callable[..., SFTPBackend], channels: list[paramiko.Channel], send: Callable[[paramiko.Channel, bytes], None]
) -> None:
    """A guest takes a few MiB that nobody reads, whether its server keeps to that or not."""
    backend = guest({}, connections=1)
    backend.stat(ROOT)
    (channel,) = channels
    assert channel.out_window_size <= 8 * MIB
    channel.out_window_size = 24 * MIB
    with pytest.raises(BROKEN):
        send(channel, bytes(24 * MIB))
    assert backend.stat(ROOT).is_directory, "by another connection"


def test_a_packet_that_is_too_long_is_not_waited_for(guest: Callable[..., SFTPBackend]) -> None:
    """Also from a server that has not shown its key yet."""
    ours, theirs = connected()
    with theirs:
        theirs.sendall(b"SSH-2.0-hostile\r\n" + u32(0x7FFF_FFFC) + bytes(MIB))
        with pytest.raises(Unavailable, match="packets that are too long"):
            guest({}, dial=lambda: ours, beginning=2.0).stat(ROOT)


def test_readers_that_stay_behind_hold_up_no_write(guest: Callable[..., SFTPBackend]) -> None:
    """What was read ahead for them leaves room on the way for other answers, however many they are."""
    backend = guest({}, patience=5.0, connections=1)
    with ExitStack() as stack:
        readers = [stack.enter_context(backend.open_read(path("file"))) for _ in range(40)]
        writer = stack.enter_context(backend.open_write(path("new")))
        for offset in (0, BEST_DATA):
            for reader in readers:
                reader.read_at(offset, BEST_DATA)
        writer.write(bytes(WINDOW))
