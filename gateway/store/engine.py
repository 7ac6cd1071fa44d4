"""Transactions: a plain function `work(tx)` runs in one, is durable when it returns, and cannot await.

SQLite has one writer, so all writing goes through one thread. What has queued up while a commit was on its way
to the disk shares the next commit; each `work` has a savepoint of its own, so one that fails takes nothing with it.
Answers are given after COMMIT only. Reads run on connections of their own and see the last commit.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import alembic.command
import alembic.config
import sqlalchemy
from sqlalchemy import Connection, Engine, event

from backends.pool import Pool

T = TypeVar("T")
Work = Callable[[Connection], T]

GROUP = 64  # works that share one commit, at most
BUSY_TIMEOUT = 10_000  # milliseconds that another process's transaction is waited for
_MIGRATIONS = Path(__file__).with_name("migrations")


class Store:
    """The state database; open it once per process."""

    def __init__(self, url: str) -> None:
        """Open `url` (SQLAlchemy form) and bring its schema up to date."""
        self._engine = _engine(url)
        _migrate(self._engine)
        self._reads = Pool("store-read", threads=4, waiting=4096)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="store-write", daemon=True)
        self._writer.start()

    async def run(self, work: Work[T]) -> T:
        """Run `work` in a transaction from the event loop; what it raises rolls back that work alone."""
        return await asyncio.wrap_future(self._submit(work))

    def run_sync(self, work: Work[T]) -> T:
        """Run `work` in a transaction from a worker thread."""
        return self._submit(work).result()

    async def read(self, work: Work[T]) -> T:
        """Run `work`, which only reads, on the last committed state, from the event loop."""
        return await self._reads.run(self.read_sync, work)

    def read_sync(self, work: Work[T]) -> T:
        """Run `work`, which only reads, on the last committed state, from a worker thread."""
        with self._engine.connect() as connection, connection.begin():
            return work(connection)

    def close(self) -> None:
        """Finish what is queued and close the database."""
        self._jobs.put(None)
        self._writer.join()
        self._reads.close()
        self._engine.dispose()

    def _submit(self, work: Work[T]) -> Future[T]:
        if not self._writer.is_alive():
            raise RuntimeError("the store is closed")
        job = _Job(work)
        self._jobs.put(job)
        return job.future

    def _write(self) -> None:
        with self._engine.connect() as connection:
            while jobs := self._next_group():
                _perform(connection, jobs)

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
    __slots__ = ("future", "work")

    def __init__(self, work: Work[Any]) -> None:
        self.work = work
        self.future: Future[Any] = Future()


def _perform(connection: Connection, jobs: list[_Job]) -> None:
    """Run `jobs` in one transaction, a savepoint each, and answer after the commit."""
    answers: list[tuple[_Job, Any, BaseException | None]] = []
    try:
        with connection.begin() as transaction:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            wanted = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            answers.extend(_attempt(connection, job) for job in wanted)
            transaction.commit()
    except Exception as error:  # noqa: BLE001 -- whatever broke the transaction is every caller's answer
        for job in jobs:
            if not job.future.cancelled() and not job.future.done():
                job.future.set_exception(error)
        return
    for job, result, failure in answers:
        if failure is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(failure)


def _attempt(connection: Connection, job: _Job) -> tuple[_Job, Any, BaseException | None]:
    try:
        with connection.begin_nested():
            return job, job.work(connection), None
    except sqlalchemy.exc.OperationalError:
        raise  # the disk or the database, not this work: nothing of the group may be acknowledged
    except Exception as error:  # noqa: BLE001 -- the work's own failure is its caller's answer
        return job, None, error


def _engine(url: str) -> Engine:
    engine = sqlalchemy.create_engine(url)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        # pysqlite would begin transactions by itself, and not before a SAVEPOINT: we say BEGIN ourselves.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",  # a commit is on the disk when it returns
            "foreign_keys=ON",
            f"busy_timeout={BUSY_TIMEOUT}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _migrate(engine: Engine) -> None:
    configuration = alembic.config.Config()
    configuration.set_main_option("script_location", str(_MIGRATIONS))
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        configuration.attributes["connection"] = connection
        alembic.command.upgrade(configuration, "head")
        connection.commit()
