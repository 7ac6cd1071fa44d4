"""A state disk that hangs delays the end of the gateway, but does not prevent it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from gateway.store import engine
from gateway.store.engine import Store


def test_a_writer_that_hangs_does_not_keep_the_store_from_closing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CLOSE_TIME", 0.1, raising=False)
    store = Store(f"sqlite:///{tmp_path / 'state.sqlite'}")
    begun, disk_is_back = threading.Event(), threading.Event()

    def hang(_tx: object) -> None:
        begun.set()
        disk_is_back.wait(30)

    work = threading.Thread(target=store.run_sync, args=[hang])
    work.start()
    try:
        assert begun.wait(5)
        closing = threading.Thread(target=store.close)
        closing.start()
        closing.join(5)
        assert not closing.is_alive()
        assert work.is_alive()
    finally:
        disk_is_back.set()
        work.join(5)
    deadline = time.monotonic() + 5
    while store._writer.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not store._writer.is_alive()
