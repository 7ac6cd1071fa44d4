"""Clients that take nothing, and storage that takes nothing: neither holds much memory, and neither delays others."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from statistics import median
from typing import Any

import paramiko
import pytest

from gateway.ssh.login import WINDOW
from gateway.ssh.stream import TOGETHER

from ..dav.served import READ, WRITE
from ..memory import memory_growth
from .clients import paramiko_sftp, transport, until
from .flooding_client import PIECE, REQUESTS, packet, received, string
from .served import SshServed

MIB = 1 << 20
SMALL = os.urandom(MIB)
IN_FLIGHT = 2 * MIB
FLOODS = 2  # such clients
MOST = 4 * MIB  # bytes that one such client may hold: what waits in its channel, in its connection, and what was read
QUICK = 1.0  # seconds for a small request of somebody else meanwhile: it takes milliseconds, also on a busy machine


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServed]:
    with SshServed(tmp_path_factory.mktemp("ssh"), ssh={"in_flight": IN_FLIGHT}) as served:
        (served.data / "shared").mkdir()
        with (served.data / "shared/big").open("wb") as file:
            file.truncate(REQUESTS * PIECE)
        (served.data / "shared/small").write_bytes(SMALL)
        yield served


@contextmanager
def flood(served: SshServed, login: str, window: int) -> Iterator[subprocess.Popen[bytes]]:
    """Have a client that has asked for everything."""
    facts = (served.ssh_port, login, served.key_of(login), "/big", window)
    command = [sys.executable, "-m", "tests.ssh.flooding_client", *map(str, facts)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"asked\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("stopped", [False, True], ids=["reads nothing", "is stopped"])
def test_a_client_that_takes_nothing_holds_little_and_delays_nobody(served: SshServed, stopped: bool) -> None:
    login = served.login("shared", READ)
    times: list[float] = []

    def work() -> None:
        with ExitStack() as stack:
            for _ in range(FLOODS):
                process = stack.enter_context(flood(served, login, window=MIB if not stopped else REQUESTS * PIECE))
                if stopped:
                    process.send_signal(signal.SIGSTOP)
            with paramiko_sftp(served, login) as other:
                for _ in range(20):
                    begun = time.monotonic()
                    assert sorted(other.listdir()) == ["big", "small"]
                    times.append(time.monotonic() - begun)
                with other.open("small") as file:
                    assert file.read() == SMALL

    with paramiko_sftp(served, login) as warm:
        warm.listdir()
    (growth,) = memory_growth([os.getpid()], work)
    assert growth < FLOODS * MOST + 8 * MIB
    assert median(times) < QUICK


class Reluctant:
    """Storage that takes one WRITE for each permit that a test gives."""

    def __init__(self, served: SshServed, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0  # WRITEs that were given to it
        self._permits = threading.Semaphore(0)
        self._opens = served.local.open_write
        monkeypatch.setattr(served.local, "open_write", self._open)

    def permit(self, count: int) -> None:
        self._permits.release(count)

    def _open(self, *arguments: Any, **options: Any) -> Any:
        writer = self._opens(*arguments, **options)
        writer.write, writer.write_at = self._waiting(writer.write), self._waiting(writer.write_at)
        return writer

    def _waiting(self, write: Callable[..., None]) -> Callable[..., None]:
        def wait_and_write(*arguments: Any) -> None:
            self.asked += 1
            assert self._permits.acquire(timeout=60)
            write(*arguments)

        return wait_and_write


@pytest.fixture
def storage(served: SshServed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reluctant]:
    reluctant = Reluctant(served, monkeypatch)
    yield reluctant
    reluctant.permit(1_000_000)
    until(lambda: not served.writers)
    assert sorted(path.name for path in (served.data / "shared").iterdir()) == ["big", "small"]


@pytest.mark.parametrize("sessions", [1, 4])
def test_storage_that_takes_little_makes_clients_wait_and_nobody_else(
    served: SshServed, storage: Reluctant, sessions: int
) -> None:
    login, taken = served.login("shared", WRITE), 6
    with transport(served, login) as connection:
        serving = served.serving(connection.sock)
        senders = [Sender(connection, f"new{number}") for number in range(sessions)]

        def is_full(taken: int) -> bool:
            """Send what can be sent; tell whether storage wants a permit, and the door takes nothing more."""
            for sender in senders:
                sender.send()
            is_stopped = all(channel._recv_paused for channel in serving._channels.values())
            return storage.asked > taken and is_stopped and all(sender.is_full for sender in senders)

        for one in range(taken):
            storage.permit(1)
            until(partial(is_full, one + 1))
        waiting = sum(sender.sent for sender in senders) - taken * PIECE
        assert waiting <= IN_FLIGHT + sessions * (WINDOW + 2 * TOGETHER)
        with paramiko_sftp(served) as other:
            assert other.listdir("/other") == [], "which is another storage"


class Sender:
    """A session of SFTP that sends one WRITE after the other, as much as it may, and waits for no answer."""

    def __init__(self, connection: paramiko.Transport, name: str) -> None:
        self.sent = 0  # bytes
        self._channel = connection.open_session(window_size=MIB)
        self._channel.invoke_subsystem("sftp")
        self._channel.sendall(packet(1, b"\0\0\0\3"))
        received(self._channel)
        self._channel.sendall(packet(3, b"\0\0\0\0", string(name.encode()), b"\0\0\0\x1a\0\0\0\0"))
        handle = received(self._channel)[5:]
        self._write = memoryview(packet(6, b"\0\0\0\1", handle, bytes(8), string(bytes(PIECE))))
        self._channel.setblocking(False)

    @property
    def is_full(self) -> bool:
        """Tell whether the door lets it send nothing more now."""
        return self._channel.out_window_size == 0

    def send(self) -> None:
        with suppress(socket.timeout):
            while True:
                self.sent += self._channel.send(self._write[self.sent % len(self._write) :])
