"""HTTP by the byte: a server that says what a test wants, and a client that shows what came."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

PATIENCE = 20.0  # seconds


class Talk:
    """One connection, either side of it."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(PATIENCE)
        self._held = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def some(self) -> bytes:
        """Return what comes next, empty at the end."""
        held, self._held = self._held, b""
        return held or self.socket.recv(1 << 20)

    def give_back(self, data: bytes) -> None:
        """Have `data` come again."""
        self._held = data + self._held

    def until(self, mark: bytes) -> bytes:
        """Return everything up to and with `mark`; fails at the end of the connection."""
        while mark not in self._held:
            more = self.socket.recv(1 << 20)
            assert more, f"the connection has ended after {self._held!r}"
            self._held += more
        before, _, self._held = self._held.partition(mark)
        return before + mark

    def exactly(self, count: int) -> bytes:
        while len(self._held) < count:
            more = self.socket.recv(1 << 20)
            assert more, f"the connection has ended after {self._held!r}"
            self._held += more
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    def head(self) -> Head:
        return Head(self.until(b"\r\n\r\n"))

    def rest(self) -> bytes:
        """Return everything that comes until the other side closes; raises ConnectionResetError."""
        everything = b""
        while piece := self.some():
            everything += piece
        return everything

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()


class Head:
    """The first line and the fields of a message, as bytes and in their order."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.first, *lines = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
        self.fields = [tuple(line.split(b": ", 1)) for line in lines]

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def __getitem__(self, name: bytes) -> bytes:
        (value,) = self.all(name)
        return value

    def __contains__(self, name: bytes) -> bool:
        return bool(self.all(name))

    @property
    def status(self) -> int:
        match = re.fullmatch(rb"HTTP/1\.1 (\d{3}) .*", self.first)
        assert match, self.first
        return int(match[1])


class Scripted:
    """A server on loopback whose connections run `script`, each in a thread; what fails there is raised at the end."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.script: Callable[[Talk], None] = lambda talk: None
        self.connections = 0
        self._errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                thread = threading.Thread(target=self._run, args=(self.script, connection), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _run(self, script: Callable[[Talk], None], connection: socket.socket) -> None:
        try:
            with Talk(connection) as talk:
                script(talk)
        except (AssertionError, ValueError, KeyError) as error:
            self._errors.append(error)
        except OSError:
            """The gateway has hung up, which is its right; a test that minds looks for it."""

    def plays(self, script: Callable[[Talk], None]) -> None:
        self.script = script
        self.connections = 0

    def hang_up(self) -> None:
        """End all connections."""
        while self._open:
            with contextlib.suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        """Wait for the scripts that run and raise what has failed in them."""
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a script still waits"
        self._threads.clear()
        errors, self._errors = self._errors, []
        for error in errors:
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def call(port: int) -> Talk:
    """Return a connection of a client."""
    return Talk(socket.create_connection(("127.0.0.1", port), PATIENCE))
