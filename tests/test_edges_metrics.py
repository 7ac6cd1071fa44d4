"""Metrics and health while the state does not answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from aiohttp.test_utils import TestClient, TestServer

from gateway.admin.metrics import Metrics
from gateway.store.engine import Store


def closed(store: Store, _database: Path) -> None:
    store.close()


def overwritten(store: Store, database: Path) -> None:
    store._engine.dispose()
    for path in (database, *database.parent.glob("state.sqlite-*")):
        path.write_bytes(b"this is no database " * 500)


@pytest.mark.parametrize("broken", [closed, overwritten], ids=lambda how: how.__name__)
async def test_without_the_state_metrics_and_health_answer_503(tmp_path: Path, broken) -> None:
    database = tmp_path / "state.sqlite"
    store = Store(f"sqlite:///{database}")
    async with TestClient(TestServer(Metrics(store).app())) as client:
        for path in ("/metrics", "/health"):
            assert (await client.get(path)).status == 200
        broken(store, database)
        with structlog.testing.capture_logs() as lines:
            for path in ("/metrics", "/health"):
                assert (await client.get(path)).status == 503
    assert [line["log_level"] for line in lines] == ["warning", "warning"]
    store.close()
