"""What crashes have left is asked for again and again, and a storage that hangs keeps no other from that."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from parts import new_store

from backends.memory import MemoryBackend
from backends.pool import Pool
from gateway import settling as module
from gateway.settling import Settling
from gateway.tree import Storage


async def test_a_storage_that_hangs_is_asked_once_and_others_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, released = new_store(tmp_path), threading.Event()
    tried: list[str] = []

    def replay(storages: Mapping[str, Storage]) -> None:
        (name,) = storages
        tried.append(name)
        if name == "hangs":
            assert released.wait(20)

    async def none(_name: str) -> None:
        return None

    monkeypatch.setattr(module, "AGAIN", 0.01)
    monkeypatch.setattr(module, "_backends", lambda _tx: {"hangs", "answers"})
    storages = {name: Storage(name, MemoryBackend(), Pool(name)) for name in ("hangs", "answers")}
    running = asyncio.create_task(Settling(store, SimpleNamespace(replay=replay), storages, none).run())
    async with asyncio.timeout(20):
        while tried.count("answers") < 3:
            await asyncio.sleep(0.001)
        assert tried.count("hangs") == 1
        released.set()
        while tried.count("hangs") < 2:
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.wait([running])
    for storage in storages.values():
        storage.pool.close()
    store.close()
