"""The notification protocol of the service manager: what is said, to whom, and that silence is no harm."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from gateway import systemd


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(path)
        channel.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield channel


def test_the_manager_is_told(manager: socket.socket) -> None:
    systemd.notify("READY=1")
    assert manager.recv(100) == b"READY=1"


def test_an_abstract_address_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"ocm-gateway-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(f"\0{name}")
        channel.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        systemd.notify("READY=1")
        assert channel.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", [None, "", "/nowhere/notify", "@nobody-listens-here", "/" + "x" * 200])
def test_nobody_there_is_no_error(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    """As in a container that has inherited the variable of its parent."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    with structlog.testing.capture_logs() as lines:
        systemd.notify("READY=1")
    assert len(lines) == bool(address)


def test_a_manager_that_does_not_read_stops_nothing(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "SEND_TIME", 0.05)
    begun = time.monotonic()
    with structlog.testing.capture_logs() as lines:
        for _ in range(600):
            systemd.notify("WATCHDOG=1" + " " * 1000)
            if lines:
                break
    assert lines, "the queue is full at some time"
    assert time.monotonic() - begun < 5


async def test_the_watchdog_is_fed_three_times_in_its_time(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "150000")
    feeding = asyncio.create_task(systemd.keep_alive())
    begun = time.monotonic()
    for _ in range(4):
        assert await asyncio.to_thread(manager.recv, 100) == b"WATCHDOG=1"
    assert 0.1 < time.monotonic() - begun < 2
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)


async def test_without_a_watchdog_nothing_is_fed(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    await asyncio.wait_for(systemd.keep_alive(), 1)
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)
