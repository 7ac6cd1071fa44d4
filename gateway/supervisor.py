"""Keeps the worker processes of a gateway running: starts them, replaces those that die, and stops them together.

It does nothing else, in one thread without an event loop, so that little can go wrong in it. Workers are forked and
not started anew: a replacement serves after a fraction of a second, inherits the sockets with whoever waits in them,
and has the same code as the others, also in the middle of an upgrade. fork(2) takes one thread along and leaves the
locks of others as they are, hence the one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import structlog

from gateway import systemd
from gateway.listening import STOP_TIME
from gateway.team import Team

SIGN = 1.0  # seconds between two signs of life of a worker
HEARD = 5.0  # seconds without one after which the service manager gets none either
SILENT = 20.0  # seconds without one after which a worker is killed; the unit's WatchdogSec is longer
STARTING = 60.0  # the same for one that does not serve yet: it may have to change the schema of the state
SETTLED = 30.0  # seconds that a worker has to live for its end not to count as failing at start
BACK_OFF = (0, 0, 1, 2, 5, 10, 30)  # seconds to the next start, by how often in a row it has failed
GIVE_UP = 5  # failures in a row of every worker after which the supervisor ends too
STOP_LIMIT = 2 * STOP_TIME + 5  # seconds after which a worker is killed: the leader ends commands, then requests

READY, ALIVE = b"ready", b"alive"
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)

log = structlog.get_logger()


class Line:
    """A worker's line to its supervisor, and how it learns that there is none any more."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def ready(self) -> None:
        self._send(READY)

    async def keep_alive(self) -> None:
        """Send signs of life from the event loop until cancelled, so that a loop that hangs gives none."""
        while True:
            self._send(ALIVE)
            await asyncio.sleep(SIGN)

    def watch(self, gone: Callable[[], None]) -> None:
        """Call `gone` on the running event loop when the supervisor has ended."""
        loop = asyncio.get_running_loop()

        def end() -> None:
            loop.remove_reader(self._channel)
            gone()

        loop.add_reader(self._channel, end)  # nothing is ever sent this way: it can only be the end

    def _send(self, word: bytes) -> None:
        with contextlib.suppress(OSError):  # it is gone, or full of words not read yet
            self._channel.send(word)


# Runs worker `number` and returns its exit status; `first`: no other runs yet.
Work = Callable[[int, bool, Line], int]


@dataclass(frozen=True, slots=True)
class Patience:
    """The times that tests make shorter, in seconds."""

    heard: float = HEARD
    silent: float = SILENT
    settled: float = SETTLED
    stop_limit: float = STOP_LIMIT
    back_off: tuple[float, ...] = BACK_OFF


@dataclass(slots=True)
class _Worker:
    """One place among the workers, and the process that has it now."""

    number: int
    due: float | None = None  # when it is to be started
    pid: int = 0  # 0: none
    channel: socket.socket | None = None
    started: float = 0.0
    heard: float = 0.0
    serving: bool = False
    failures: int = 0  # in a row, to live for a while

    @property
    def is_there(self) -> bool:
        return self.pid != 0


class Supervisor:
    """The process that systemd knows."""

    def __init__(
        self,
        team: Team,
        work: Work,
        *,
        ready: Callable[[], None] = lambda: None,
        stopping: Callable[[], None] = lambda: None,
        patience: Patience = Patience(),
    ) -> None:
        """`ready` is called once when all workers serve for the first time, `stopping` when they are to stop."""
        self._team = team
        self._work = work
        self._ready = ready
        self._stopping = stopping
        self._patience = patience
        self._workers = [_Worker(number) for number in range(team.size)]
        self._selector = selectors.DefaultSelector()
        self._came_up = False
        self._stop_by: float | None = None
        self._status = 0
        self._watchdog = systemd.watchdog_pause()
        self._fed = 0.0

    def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until no worker can be kept alive; returns the exit status."""
        self._workers[0].due = time.monotonic()  # the first settles what a crash has left before others come
        with self._signals():
            while self._stop_by is None or any(worker.is_there for worker in self._workers):
                self._listen()
                self._reap()
                self._kill_silent()
                self._start_due()
                self._feed_watchdog()
        return self._status

    # --- what the workers and the operator say ------------------------------------------------------------------

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn signals into bytes that the selector sees (signal.set_wakeup_fd), for the block."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        before = {number: signal.signal(number, lambda *_: None) for number in _HANDLED}
        wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self._selector.register(ours, selectors.EVENT_READ)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            ours.close()
            theirs.close()

    def _listen(self) -> None:
        for key, _ in self._selector.select(self._pause()):
            channel = key.fileobj
            assert isinstance(channel, socket.socket)
            try:
                said = channel.recv(4096)
            except OSError:
                said = b""
            if isinstance(key.data, _Worker):
                self._hear(key.data, said)
            elif {signal.SIGTERM, signal.SIGINT} & set(said):
                log.info("stopping", seconds_for_running_requests=STOP_TIME)
                self._stop()

    def _pause(self) -> float:
        """Return how long nothing has to be done by itself."""
        now = time.monotonic()
        due = [worker.due - now for worker in self._workers if worker.due is not None]
        return max(0.0, min([SIGN, self._watchdog or SIGN, *due]))

    def _hear(self, worker: _Worker, said: bytes) -> None:
        worker.heard = time.monotonic()
        if said == b"" and worker.channel is not None:  # it has ended, or is about to
            self._selector.unregister(worker.channel)
            worker.channel.close()
            worker.channel = None
        if said == READY and not worker.serving:
            worker.serving = True
            self._team.mark(worker.number, serving=True)
            log.info("a worker serves", worker=worker.number, pid=worker.pid)
            self._bring_up()

    def _bring_up(self) -> None:
        """Start the others once the first worker serves, and say when all do."""
        if self._came_up:
            return
        for worker in self._workers:
            if not worker.is_there and worker.due is None:
                worker.due = time.monotonic()
        if all(worker.serving for worker in self._workers):
            self._came_up = True
            self._ready()
            systemd.notify("READY=1")

    # --- the lives of workers -----------------------------------------------------------------------------------

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if self._stop_by is None and worker.due is not None and worker.due <= now:
                worker.due = None
                try:
                    self._start(worker)
                except OSError as error:  # no room for another process now
                    self._failed(worker, f"cannot be started: {error.strerror}", 0.0)

    def _start(self, worker: _Worker) -> None:
        """Fork `worker`; raises OSError. Signals wait meanwhile, so that none is lost between two handlers."""
        if threading.active_count() > 1:
            raise RuntimeError("a supervisor has one thread, or the workers would inherit the locks of the others")
        first = not self._came_up and worker.number == 0
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            pid = os.fork()
            if pid == 0:
                ours.close()
                self._be(worker.number, first, theirs, masked)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
            theirs.close()
        worker.pid, worker.channel, worker.serving = pid, ours, False
        worker.started = worker.heard = time.monotonic()
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _be(self, number: int, first: bool, channel: socket.socket, masked: set[signal.Signals | int]) -> NoReturn:
        """Be the worker in the forked process; nothing of the supervisor runs there any more."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for each in _HANDLED:
                signal.signal(each, signal.SIG_DFL)
            self._selector.close()
            for worker in self._workers:  # the others' lines end with the supervisor, and not with this process
                if worker.channel is not None:
                    worker.channel.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
            status = self._work(number, first, Line(channel))
        except BaseException:
            log.exception("a worker has failed", worker=number)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        for worker in self._workers:
            if not worker.is_there:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid == 0:
                continue
            if worker.channel is not None:
                self._hear(worker, b"")
            worker.pid, worker.serving = 0, False
            self._team.mark(worker.number, serving=False)
            if self._stop_by is None:
                self._failed(worker, _ending(status), time.monotonic() - worker.started)

    def _failed(self, worker: _Worker, how: str, lived: float) -> None:
        """Have a worker replaced, or give up: at once when it never came up, else when none is left and none stays."""
        worker.failures = 0 if lived >= self._patience.settled else worker.failures + 1
        wait = self._patience.back_off[min(worker.failures, len(self._patience.back_off) - 1)]
        log.error("a worker has ended", worker=worker.number, how=how, lived=round(lived, 1), replaced_in=wait)
        none_left = not any(each.serving for each in self._workers)
        if not self._came_up:
            self._give_up("a worker has ended before all were ready; the lines above say why")
        elif none_left and all(each.failures >= GIVE_UP for each in self._workers):
            self._give_up(f"every worker has ended {GIVE_UP} times in a row soon after its start")
        else:
            worker.due = time.monotonic() + wait

    def _give_up(self, reason: str) -> None:
        log.error("the gateway cannot run, and ends", reason=reason)
        self._status = 1
        self._stop()

    def _kill_silent(self) -> None:
        """Kill workers whose event loop hangs, and when stopping those that do not end."""
        now = time.monotonic()
        for worker in self._workers:
            limit = self._patience.silent if worker.serving else STARTING
            if worker.is_there and now - worker.heard > limit:
                log.error("a worker gives no sign of life and is killed", worker=worker.number, pid=worker.pid)
                worker.heard = now
                os.kill(worker.pid, signal.SIGKILL)
            elif worker.is_there and self._stop_by is not None and now > self._stop_by:
                log.warning("a worker does not stop and is killed", worker=worker.number, pid=worker.pid)
                os.kill(worker.pid, signal.SIGKILL)

    def _stop(self) -> None:
        if self._stop_by is not None:
            return
        self._stop_by = time.monotonic() + self._patience.stop_limit
        systemd.notify("STOPPING=1")
        self._stopping()
        for worker in self._workers:
            worker.due = None
            if worker.is_there:
                os.kill(worker.pid, signal.SIGTERM)

    def _feed_watchdog(self) -> None:
        """Give the service manager the sign of life of all: one that hangs and cannot be killed is its business."""
        now = time.monotonic()
        if not self._watchdog or not self._came_up or now - self._fed < self._watchdog:
            return
        if all(now - worker.heard <= self._patience.heard for worker in self._workers if worker.is_there):
            self._fed = now
            systemd.notify("WATCHDOG=1")


def _ending(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit status {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
