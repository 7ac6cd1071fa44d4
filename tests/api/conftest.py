"""A running door for the tests of one module, and every line that it logs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from parts import CHEAP, until

from .served import SECRET, Served


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Each test works with ids of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.users.PasswordHasher", lambda: CHEAP)
        door = Served(tmp_path_factory.mktemp("api"))
    yield door
    door.close()


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[list[Any]]:
    """Every line; a bug that was answered 500, or a secret in a line, fails the test."""
    with structlog.testing.capture_logs() as lines:
        yield lines
    assert not [record for record in caplog.records if record.name in ("asyncio", "aiohttp.server")], caplog.text
    assert not [line for line in lines if line["log_level"] in ("error", "critical")], lines
    assert SECRET not in repr(lines) + caplog.text


@pytest.fixture
def fresh(served: Served) -> Iterator[Served]:
    """The door, whose peer and whose knowledge of it are new and will be again."""

    answers = dict(served.peer.answers)

    def forget() -> None:
        served.peer.answers = dict(answers)
        served.run(served.peer.release())
        served.run(until(lambda: not (served.peers._discoveries._running or served.peers._key_sets._running)))
        served.peer.document = served.peer.describe()
        served.peer.asked.clear()
        served.peers._failed.clear()
        served.store.run_sync(lambda tx: tx.exec_driver_sql("DELETE FROM peers"))

    forget()
    yield served
    forget()


@pytest.fixture
def now(served: Served) -> Iterator[Any]:
    """The clock of the gateway and its peer, which is set back afterwards."""
    before = served.clock.now
    yield served.clock
    served.clock.now = before
