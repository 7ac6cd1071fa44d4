"""Transactions: a plain function `work(tx)` runs in one, is durable when it returns, and cannot await.

SQLite has one writer, so all writing goes through one thread. What has queued up while a commit was on its way
to the disk shares the next commit; each `work` has a savepoint of its own, so one that fails takes nothing with it.
Answers are given after COMMIT only. Reads run on connections of their own and see the last commit.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import alembic.command
import alembic.config
import sqlalchemy
from sqlalchemy import Connection, Engine, event

from backends.errors import Unavailable
from backends.pool import Pool

T = TypeVar("T")
Work = Callable[[Connection], T]

GROUP = 64  # works that share one commit, at most
CLOSE_TIME = 10.0  # seconds that the writer has to end; a disk that hangs must not keep the process
BUSY_TIMEOUT = 10_000  # milliseconds that another process's transaction is waited for
_MIGRATIONS = Path(__file__).with_name("migrations")


class Store:
    """The state database; open it once per process. What the database itself cannot do raises Unavailable."""

    def __init__(self, url: str) -> None:
        """Open `url` (SQLAlchemy form) and bring its schema up to date; raises OSError, Unavailable."""
        self._engine = _engine(url)
        _migrate(self._engine)
        self._reads = Pool("store-read", threads=4, waiting=4096)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._writer = threading.Thread(target=self._write, name="store-write", daemon=True)
        self._writer.start()

    async def run(self, work: Work[T], *, durable: bool = True) -> T:
        """Run `work` in a transaction from the event loop; what it raises rolls back that work alone.

        One that is not `durable` is seen by everybody and outlives this process, but the disk is not waited for: a
        power cut may undo it, and everything after it until the next durable one.
        """
        return await asyncio.wrap_future(self._submit(work, durable))

    def run_sync(self, work: Work[T], *, durable: bool = True) -> T:
        """Run `work` in a transaction from a worker thread, as `run` does."""
        return self._submit(work, durable).result()

    async def read(self, work: Work[T]) -> T:
        """Run `work`, which only reads, on the last committed state, from the event loop."""
        return await self._reads.run(self.read_sync, work)

    def read_sync(self, work: Work[T]) -> T:
        """Run `work`, which only reads, on the last committed state, from a worker thread."""
        with _transaction(self._engine, "BEGIN") as connection:
            return work(connection)

    def close(self) -> None:
        """Finish what is queued, within CLOSE_TIME, and close the database; may be called more than once."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._writer.join(CLOSE_TIME)
        self._reads.close()
        self._engine.dispose()

    def _submit(self, work: Work[T], durable: bool = True) -> Future[T]:
        job = _Job(work, durable)
        with self._closing:  # so that nothing is queued behind the end, where nobody would answer it
            if self._closed:
                raise Unavailable("the state database is closed", retry_after=10)
            self._jobs.put(job)
        return job.future

    def _write(self) -> None:
        while jobs := self._next_group():
            _perform(self._engine, jobs)

    def _next_group(self) -> list[_Job]:
        """Wait for a job and take those behind it along; an empty list means close."""
        job = self._jobs.get()
        group: list[_Job] = []
        while job is not None:
            group.append(job)
            if len(group) == GROUP:
                break
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
        if job is None and group:
            self._jobs.put(None)
        return group


class _Job:
    __slots__ = ("durable", "future", "work")

    def __init__(self, work: Work[Any], durable: bool) -> None:
        self.work = work
        self.durable = durable
        self.future: Future[Any] = Future()


def _perform(engine: Engine, jobs: list[_Job]) -> None:
    """Run `jobs` in one transaction, a savepoint each if they are several, and answer after the commit."""
    wanted = [job for job in jobs if job.future.set_running_or_notify_cancel()]  # none can be cancelled from here on
    try:
        with _transaction(engine, "BEGIN IMMEDIATE", synced=any(job.durable for job in wanted)) as connection:
            alone = len(wanted) == 1
            answers = [_attempt(connection, job, alone=alone) for job in wanted]
            if alone and (failed := answers[0][2]) is not None:
                raise failed  # which rolls back, as its savepoint would have
    except Exception as error:  # noqa: BLE001 -- whatever broke the transaction is every caller's answer
        for job in wanted:
            job.future.set_exception(error)
        return
    for job, result, failure in answers:
        if failure is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(failure)


def _attempt(connection: Connection, job: _Job, *, alone: bool) -> tuple[_Job, Any, BaseException | None]:
    """Run one job, in a savepoint unless it is `alone` in its transaction."""
    try:
        with nullcontext() if alone else connection.begin_nested():
            return job, job.work(connection), None
    except sqlalchemy.exc.OperationalError:
        raise  # the disk or the database, not this work: nothing of the group may be acknowledged
    except StopIteration as error:  # which no asyncio.Future can carry: its caller would wait for ever
        return job, None, RuntimeError(f"StopIteration out of a transaction: {error}")
    except Exception as error:  # noqa: BLE001 -- the work's own failure is its caller's answer
        return job, None, error


@contextmanager
def _transaction(engine: Engine, begin: str, *, synced: bool = True) -> Iterator[Connection]:
    """Run the block in a transaction that `begin` begins, and wait for the disk only if it is to be `synced`.

    In WAL mode that is all that `synchronous` decides: NORMAL leaves the log to a later commit that syncs it as a
    whole, and syncs before each checkpoint, so no order is ever lost (sqlite.org/pragma.html#pragma_synchronous).
    """
    try:
        with engine.connect() as connection, connection.begin():
            # Readers commit nothing, and a connection keeps what it was told.
            if begin != "BEGIN" and connection.info.get("synced", True) != synced:
                connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
                connection.info["synced"] = synced
            connection.exec_driver_sql(begin)
            yield connection
    except sqlalchemy.exc.OperationalError as error:
        raise Unavailable(f"the state database does not answer: {error.orig}") from error


def _engine(url: str) -> Engine:
    # Threads are bounded elsewhere. Without hide_parameters an error's text, and so the log, would hold hashes.
    engine = sqlalchemy.create_engine(url, max_overflow=-1, hide_parameters=True)
    if engine.url.database:  # made here, because SQLite would let everybody read the hashes of passwords
        os.close(os.open(engine.url.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        # pysqlite would begin transactions by itself, and not before a SAVEPOINT: we say BEGIN ourselves.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT}",  # first: another process may be at the next one as well
            "journal_mode=WAL",
            "synchronous=FULL",  # a commit is on the disk when it returns
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _migrate(engine: Engine, revision: str = "head") -> None:
    configuration = alembic.config.Config()
    configuration.set_main_option("script_location", str(_MIGRATIONS))
    with _transaction(engine, "BEGIN IMMEDIATE") as connection:
        configuration.attributes["connection"] = connection
        alembic.command.upgrade(configuration, revision)
