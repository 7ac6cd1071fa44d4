"""The use case: who may copy what where, one run of each copy, its end written down."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from weakref import WeakValueDictionary

import structlog
from sqlalchemy import Connection

from backends.errors import StorageError, Unavailable
from backends.paths import StoragePath
from gateway.access import Access, Grant
from gateway.arriving import Arriving
from gateway.changes import Changes
from gateway.errors import Busy, Conflict, Invalid, NoSuch, NotAllowed
from gateway.keeping.one_file import Files
from gateway.keeping.progress import Copy, Run
from gateway.keeping.walk import Walk
from gateway.locks import Locks
from gateway.ocm.shares import Permission
from gateway.receiving import Receiving
from gateway.store import events, kept, received_shares
from gateway.store.engine import Store
from gateway.store.received_shares import ReceivedShare
from gateway.tree import RECEIVED, Place, Tree
from gateway.watch import Watch

RUNNING_MOST = 8  # copies at a time
AT_ONCE = 3  # files from one server; it has four threads (remote), and one stays free for whoever looks there meanwhile
FINISHED_KEPT = 100  # copies whose end is remembered for whoever still watches
EVERY = 1.0  # seconds between two looks whether a Share has ended
GATEWAY_STOPS = "the gateway was stopped; the same copy again goes on"

log = structlog.get_logger()


class Copies:
    """Every copy of this process, which is the one that answers the operator."""

    def __init__(
        self,
        store: Store,
        access: Access,
        tree: Tree,
        watch: Watch,
        locks: Locks,
        arriving: Arriving,
        changes: Changes,
        clock: Callable[[], float] = time.time,
        *,
        every: float = EVERY,
    ) -> None:
        self._store = store
        self._access = access
        self._tree = tree
        self._watch = watch
        self._locks = locks
        self._arriving = arriving
        self._changes = changes
        self._clock = clock
        self._every = every
        self._runs: dict[Copy, Run] = {}
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()  # by server, while one is used
        self._tasks: set[asyncio.Task[None]] = set()  # a task that nobody holds may vanish (asyncio)

    async def start(self) -> None:
        """Say of what a process before this one has left running that it was broken off; raises Unavailable."""
        await self._store.run(kept.interrupt)

    async def begin(self, user: str | None, copy: Copy, actor: str, *, overwrite: bool) -> Run:
        """Begin a copy, or return the run of it that is on its way.

        Raises NoSuch, Conflict, NotAllowed, Invalid, Unproven for a disabled user, Busy, and NotFound for no mount.
        """
        share = await self._share(user, copy.share)
        if (running := self._running(copy, overwrite)) is not None:
            return running
        grant = await self._access.of_user(share.user)
        source, target = await self._places(grant, share, copy)
        if (running := self._running(copy, overwrite)) is not None:  # somebody was quicker
            return running
        if sum(not run.ended.is_set() for run in self._runs.values()) >= RUNNING_MOST:
            raise Busy("TOO_MANY_COPIES", f"{RUNNING_MOST} copies are running; wait for one of them")
        run = Run(copy, share.user, int(self._clock()), overwrite=overwrite)
        self._runs.pop(copy, None)
        self._runs[copy] = run
        task = asyncio.create_task(self._run(run, grant, source, target, share, actor), name=f"keep {copy.share}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._forget_finished()
        return run

    def find(self, user: str | None, copy: Copy) -> Run:
        """Return the last run of a copy in this process; raises NoSuch."""
        run = self._runs.get(copy)
        if run is None or user not in (None, run.user):
            raise NoSuch("NO_SUCH_COPY", "no such copy is running here; the gateway may have been started anew")
        return run

    def stop(self, user: str | None, copy: Copy, actor: str) -> Run:
        """Stop a copy; what it has copied stays. Raises NoSuch."""
        run = self.find(user, copy)
        run.stop(f"{actor} has stopped it")
        return run

    async def close(self, seconds: float) -> None:
        """Stop every copy, and wait at most so long until they have ended."""
        for run in self._runs.values():
            run.stop(GATEWAY_STOPS)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def _running(self, copy: Copy, overwrite: bool) -> Run | None:
        run = self._runs.get(copy)
        if run is None or run.ended.is_set():
            return None
        if run.overwrite is not overwrite:
            raise Conflict(
                "COPY_RUNNING", "this copy is running, and not the same as to `--overwrite`; `--stop` ends it"
            )
        return run

    async def _share(self, user: str | None, share_id: str) -> ReceivedShare:
        share = await self._store.read(lambda tx: Receiving.own(tx, user, share_id))
        if share.state != "accepted":
            raise Conflict("WRONG_STATE", f"the Share is {share.state}: only what is accepted can be copied")
        if share.expired(self._clock()):
            raise Conflict("SHARE_EXPIRED", "the Share has expired; ask its sender for a new one")
        return share

    async def _places(self, grant: Grant, share: ReceivedShare, copy: Copy) -> tuple[Place, Place]:
        mounted = StoragePath((RECEIVED, (share.mount or "").encode()))
        source = await self._tree.resolve(grant, mounted.followed_by(copy.source))
        target = await self._tree.resolve(grant, copy.target)
        assert isinstance(source, Place)
        if not isinstance(target, Place) or target.received is not None:
            raise Invalid("NO_MOUNT", "the target has to be in a mount of yours, as in /MOUNT/FOLDER", "path")
        if not target.may_write:
            raise NotAllowed("READ_ONLY", f"/{copy.target} is read-only for {grant.who}")
        return source, target

    async def _run(
        self, run: Run, grant: Grant, source: Place, target: Place, share: ReceivedShare, actor: str
    ) -> None:
        """Do the work, and write down how it has ended, whatever happens."""
        reason: str | None = None
        run.start()
        try:
            await self._store.run(lambda tx: self._note(tx, run, actor, "share.copy"))
            files = Files(self._store, self._locks, self._arriving, self._changes, grant.principal)
            turns = self._turns.setdefault(share.server, asyncio.Semaphore(AT_ONCE))
            walk = Walk(run, files, turns, lambda: self._why_ended(share.id))
            with self._watch.over(grant, Permission.WRITE, lambda: run.stop(f"{grant.who} may no longer do this")):
                async with asyncio.TaskGroup() as group:
                    following = group.create_task(self._follow(run))
                    await walk(source, target, run.copy.source.name or (share.mount or "").encode())
                    following.cancel()
        except asyncio.CancelledError:
            reason = GATEWAY_STOPS
        except StorageError as error:  # of the state
            reason = str(error)
        except Exception:
            log.exception("keeping.broken", share=share.id)
            reason = "an error of the gateway's own; its log has the details"
        run.end(int(self._clock()), reason)
        try:
            await self._store.run(lambda tx: self._note(tx, run, actor, "share.copied"))
        except StorageError as error:
            log.warning("keeping.unnoted", share=run.copy.share, reason=str(error))
        finally:
            run.ended.set()

    def _note(self, tx: Connection, run: Run, actor: str, action: str) -> None:
        """Write the row of a copy, and what has happened as an event and in the log."""
        kept.put(tx, run.row())
        detail: dict[str, object] = {"to": f"/{run.copy.target}"}
        if run.copy.source.parts:
            detail["of"] = str(run.copy.source)
        if run.finished is not None:
            detail |= {"state": run.state, "files": run.files, "bytes": run.bytes}
            detail |= {"skipped": run.skipped, "failed": run.failed}
            detail |= {"reason": run.reason} if run.reason else {}
        events.add(tx, at=int(self._clock()), actor=actor, action=action, subject=run.copy.share, **detail)
        log.info(action, share=run.copy.share, user=run.user, actor=actor, **detail)

    async def _follow(self, run: Run) -> None:
        """Stop a copy soon after its Share has ended."""
        while True:
            await asyncio.sleep(self._every)
            with contextlib.suppress(Unavailable):  # of the state; the next look may say
                if (reason := await self._why_ended(run.copy.share)) is not None:
                    run.stop(reason)

    async def _why_ended(self, share_id: str) -> str | None:
        share = await self._store.read(lambda tx: received_shares.get(tx, share_id))
        if share is None or share.state != "accepted":
            return f"the Share was {share.state if share else 'removed'}; what was copied before stays"
        return "the Share has expired; what was copied before stays" if share.expired(self._clock()) else None

    def _forget_finished(self) -> None:
        finished = [copy for copy, run in self._runs.items() if run.ended.is_set()]
        for copy in finished[: max(0, len(finished) - FINISHED_KEPT)]:
            del self._runs[copy]
