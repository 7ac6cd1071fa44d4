"""Transactions: grouped, durable when answered, each failing alone, and refused in one way when the disk fails."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import IntegrityError

from backends.errors import Unavailable
from gateway.store import engine, peers, users
from gateway.store.engine import GROUP, Store

HERE = Path(__file__).parent


class Commits:
    """Counts the commits of a store."""

    def __init__(self, store: Store) -> None:
        self.count = 0
        event.listen(store._engine, "commit", self._note)

    def _note(self, _connection: Connection) -> None:
        self.count += 1


class Held:
    """The writer at work on something that ends when the block ends, so that what is queued meanwhile is one group."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._let_go = threading.Event()
        self._begun = threading.Event()

    def _wait(self, _tx: Connection) -> None:
        self._begun.set()
        assert self._let_go.wait(10)

    def __enter__(self) -> None:
        self.future = self._store._submit(self._wait)
        assert self._begun.wait(10)

    def __exit__(self, *exception: object) -> None:
        self._let_go.set()
        self.future.result(10)


def add(name: str) -> engine.Work[None]:
    return lambda tx: users.add(tx, name, "hash", 0)


def names_in(database: Path) -> set[str]:
    """Look with a connection that knows nothing of the store."""
    connection = sqlite3.connect(database)
    try:
        return {row[0] for row in connection.execute("SELECT name FROM users")}
    finally:
        connection.close()


async def test_run_returns_what_the_work_returns_and_keeps_what_it_wrote(store: Store, database: Path) -> None:
    assert await store.run(lambda tx: (add("carol")(tx), 7)[1]) == 7
    assert names_in(database) == {"alice", "bob", "carol"}


def test_what_has_queued_up_shares_one_commit(store: Store, database: Path) -> None:
    commits = Commits(store)
    with Held(store):
        futures = [store._submit(add(f"user{number}")) for number in range(GROUP)]
    for future in futures:
        future.result(10)
    assert commits.count == 2  # the one that held the writer up, and the group
    assert len(names_in(database)) == 2 + GROUP


def test_the_disk_is_waited_for_unless_no_work_of_the_group_needs_it(store: Store) -> None:
    """`synchronous` is 2 (FULL) or 1 (NORMAL); one durable work makes its whole group so."""

    def synchronous(tx: Connection) -> int:
        return int(tx.exec_driver_sql("PRAGMA synchronous").scalar_one())

    assert store.run_sync(synchronous) == 2
    assert store.run_sync(synchronous, durable=False) == 1
    with Held(store):
        futures = [store._submit(synchronous, durable) for durable in (False, True, False)]
    assert [future.result(10) for future in futures] == [2, 2, 2]
    assert store.run_sync(synchronous) == 2


def test_a_group_has_a_bound(store: Store) -> None:
    commits = Commits(store)
    with Held(store):
        futures = [store._submit(add(f"user{number}")) for number in range(2 * GROUP + 1)]
    for future in futures:
        future.result(10)
    assert commits.count == 1 + 3


def test_a_failing_work_rolls_back_alone(store: Store, database: Path) -> None:
    def half(tx: Connection) -> None:
        add("half")(tx)
        add("alice")(tx)

    def raising(tx: Connection) -> None:
        add("raised")(tx)
        raise KeyError("what the work itself raises")

    with Held(store):
        before, broken = store._submit(add("before")), store._submit(half)
        refused, after = store._submit(raising), store._submit(add("after"))
    before.result(10)
    after.result(10)
    assert isinstance(broken.exception(10), IntegrityError)
    assert isinstance(refused.exception(10), KeyError)
    assert names_in(database) == {"alice", "bob", "before", "after"}


def test_an_answer_comes_after_the_commit_only(store: Store, database: Path) -> None:
    """Every answer of a group finds its row on another connection at once."""
    seen: list[bool] = []
    done = threading.Event()
    with Held(store):
        futures = [store._submit(add(f"user{number}")) for number in range(5)]
        for number, future in enumerate(futures):
            future.add_done_callback(lambda _, name=f"user{number}": seen.append(name in names_in(database)))
        futures[-1].add_done_callback(lambda _: done.set())
    assert done.wait(10)
    assert seen == [True] * 5


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.2])
def test_what_was_acknowledged_is_there_after_sigkill(tmp_path: Path, moment: float) -> None:
    database = tmp_path / "killed.sqlite"
    script = str(HERE / "acknowledging.py")
    with subprocess.Popen([sys.executable, script, str(database)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(moment)
        os.kill(child.pid, signal.SIGKILL)
        lines = (first + child.stdout.read()).split(b"\n")
    acknowledged = {line.decode() for line in lines[:-1]}
    assert acknowledged
    store = Store(f"sqlite:///{database}")
    found = {record.server for record in store.read_sync(peers.everyone)}
    store.close()
    assert acknowledged <= found


def test_a_full_disk_is_everybodys_answer_and_ends_when_there_is_room_again(tmp_path: Path) -> None:
    arguments = [sys.executable, str(HERE / "full_disk.py"), str(tmp_path / "full.sqlite")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_two_stores_on_one_file_lose_no_update(store: Store, database: Path) -> None:
    other = Store(f"sqlite:///{database}")

    def count(tx: Connection) -> None:
        peers.put(tx, "peer.example", failures=peers.get(tx, "peer.example").failures + 1)

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(one.run_sync, count) for one in (store, other) for _ in range(50)]:
            each.result(30)
    other.close()
    assert store.read_sync(lambda tx: peers.get(tx, "peer.example")).failures == 100


def test_processes_that_start_at_once_make_one_schema(tmp_path: Path) -> None:
    program = (
        "import sys; from gateway.store import users; from gateway.store.engine import Store\n"
        "store = Store(sys.argv[1]); store.run_sync(lambda tx: users.add(tx, sys.argv[2], 'hash', 0)); store.close()"
    )
    database = tmp_path / "new.sqlite"
    arguments = [sys.executable, "-c", program, f"sqlite:///{database}"]
    children = [subprocess.Popen([*arguments, name], stderr=subprocess.PIPE) for name in ("one", "two", "three")]
    ended = [(child.communicate(timeout=60)[1], child.returncode) for child in children]
    assert ended == [(b"", 0)] * 3
    assert names_in(database) == {"one", "two", "three"}


async def test_a_read_sees_the_last_commit(store: Store, database: Path) -> None:
    other = Store(f"sqlite:///{database}")
    await other.run(add("carol"))
    assert {user.name for user in await store.read(users.everybody)} == {"alice", "bob", "carol"}
    other.close()


def test_a_read_sees_one_state_from_beginning_to_end(store: Store) -> None:
    def twice(tx: Connection) -> tuple[int, int]:
        before = len(users.everybody(tx))
        store.run_sync(add("meanwhile"))
        return before, len(users.everybody(tx))

    assert store.read_sync(twice) == (2, 2)
    assert len(store.read_sync(users.everybody)) == 3


def test_reads_do_not_wait_for_a_writer(store: Store) -> None:
    with Held(store):
        assert len(store.read_sync(users.everybody)) == 2


async def test_a_cancelled_caller_harms_nobody(store: Store, database: Path) -> None:
    """Cancelled while it waits, a work is not done; cancelled while it runs, it is done like the others."""
    begun, let_go = threading.Event(), threading.Event()

    def slow(tx: Connection) -> None:
        begun.set()
        assert let_go.wait(10)
        add("slow")(tx)

    running = asyncio.create_task(store.run(slow))
    await asyncio.to_thread(begun.wait, 10)
    waiting = asyncio.create_task(store.run(add("waiting")))
    other = asyncio.create_task(store.run(add("other")))
    await asyncio.sleep(0.05)
    running.cancel()
    waiting.cancel()
    await asyncio.sleep(0)
    let_go.set()
    await other
    await asyncio.gather(running, waiting, return_exceptions=True)
    assert names_in(database) == {"alice", "bob", "slow", "other"}
    await store.run(add("later"))


async def test_callers_that_are_cancelled_at_any_moment_leave_the_writer_alive(store: Store) -> None:
    for round_ in range(30):
        tasks = [asyncio.create_task(store.run(add(f"u{round_}-{number}"))) for number in range(10)]
        await asyncio.sleep(0.0005 * (round_ % 5))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert await store.run(lambda tx: 1) == 1


async def test_a_closed_store_refuses_and_says_why(store: Store) -> None:
    store.close()
    store.close()
    for attempt in (store.run(add("carol")), store.read(users.everybody)):
        with pytest.raises(Unavailable):
            await attempt
    with pytest.raises(Unavailable, match="closed"):
        store.run_sync(add("carol"))


def test_closing_answers_everybody_who_came_before(store: Store, database: Path) -> None:
    with Held(store):
        futures = [store._submit(add(f"user{number}")) for number in range(3 * GROUP)]
        closing = threading.Thread(target=store.close)
        closing.start()
    closing.join(20)
    assert not closing.is_alive()
    assert [future.result(10) for future in futures] == [None] * (3 * GROUP)
    assert len(names_in(database)) == 2 + 3 * GROUP


def test_nobody_who_comes_while_it_closes_waits_for_ever(database: Path) -> None:
    for _ in range(5):
        store = Store(f"sqlite:///{database}")
        stop = threading.Event()

        def write(store: Store = store, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                try:
                    store.run_sync(lambda tx: None)
                except Unavailable:
                    return

        writers = [threading.Thread(target=write, daemon=True) for _ in range(6)]
        for writer in writers:
            writer.start()
        time.sleep(0.02)
        store.close()
        for writer in writers:
            writer.join(5)
        stop.set()
        assert not any(writer.is_alive() for writer in writers)


def test_an_error_of_the_database_answers_everybody_in_the_group(store: Store, database: Path) -> None:
    """What one work hits may have hit the file: nothing of the group is acknowledged, and the next group goes on."""
    with Held(store):
        before = store._submit(add("before"))
        broken = store._submit(lambda tx: tx.execute(text("SELECT * FROM nothing")))
        after = store._submit(add("after"))
    for future in (before, broken, after):
        assert isinstance(future.exception(10), Unavailable)
    assert names_in(database) == {"alice", "bob"}
    store.run_sync(add("carol"))
    assert names_in(database) == {"alice", "bob", "carol"}


def test_a_database_that_somebody_else_keeps_locked_is_unavailable_until_it_is_free(
    monkeypatch: pytest.MonkeyPatch, database: Path
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT", 50)
    store = Store(f"sqlite:///{database}")
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    futures = [store._submit(add(f"user{number}")) for number in range(3)]
    assert [type(future.exception(10)) for future in futures] == [Unavailable] * 3
    assert len(store.read_sync(users.everybody)) == 0
    other.execute("ROLLBACK")
    other.close()
    store.run_sync(add("carol"))
    store.close()
    assert names_in(database) == {"carol"}


async def test_a_stop_iteration_reaches_its_caller(store: Store) -> None:
    """No asyncio.Future can carry one: its caller would wait for ever."""
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(store.run(lambda tx: next(iter(()))), 5)


def test_the_text_of_an_error_holds_no_value(store: Store) -> None:
    with pytest.raises(IntegrityError) as raised:
        store.run_sync(lambda tx: users.add(tx, "alice", "the-argon2-hash", 0))
    assert "the-argon2-hash" not in str(raised.value)


def test_only_the_service_may_read_the_database(store: Store, database: Path) -> None:
    store.run_sync(add("carol"))
    files = {path.name: path.stat().st_mode & 0o777 for path in database.parent.iterdir()}
    assert files == dict.fromkeys(("state.sqlite", "state.sqlite-wal", "state.sqlite-shm"), 0o600)


def test_a_commit_is_on_the_disk_when_it_returns(store: Store) -> None:
    """The pragmas hold on every connection, that of the writer and those of reads."""
    for run in (store.run_sync, store.read_sync):
        found = [run(lambda tx, name=name: tx.exec_driver_sql(f"PRAGMA {name}").scalar())
                 for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")]  # fmt: skip
        assert found == ["wal", 2, 1, engine.BUSY_TIMEOUT]
