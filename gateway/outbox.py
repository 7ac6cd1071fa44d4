"""Durable delivery: messages are rows first; one worker delivers them, with back-off, and survives any crash.

A peer that does not answer costs one attempt per back-off, not one per message: what waits for it waits together,
and each time another message goes first, so that one which makes a peer fall silent does not keep the rest back. A
peer that answers again gets what has waited at once, several Shares' messages at the same time. Order is kept per
Share. Receivers treat a repeated message as done, so "at least once" has one visible effect.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress

import structlog
from sqlalchemy import Connection

from backends.errors import StorageError
from gateway.errors import PeerFailed, Refusal
from gateway.store import events, outbox
from gateway.store.engine import Store
from gateway.store.outbox import Message

# Seconds to the next attempt, the last value again and again.
BACK_OFF = (2, 5, 15, 60, 300, 900, 3600)
GIVE_UP = 7 * 86400  # seconds after which a message is no longer tried
AT_ONCE = 32  # servers that are talked to at the same time
LANES = 8  # messages, of different Shares, on their way to one server at the same time
BATCH = 200  # messages read from the state at a time
HURRY_AGAIN = 60  # seconds between two times that a server's return makes everything due that waits for it
LOOK_AGAIN = 0.25  # seconds between looks at a message that the worker of another process may deliver
STATE_PAUSE = 10.0  # seconds to wait when the state does not answer

log = structlog.get_logger()

# Delivers one message. Raises PeerFailed: final ones end the message, others are tried again.
Deliver = Callable[[Message], Awaitable[None]]
# Runs in the transaction that ends a message as delivered, failed or dropped.
Finished = Callable[[Connection, Message], None]


class Outbox:
    """The worker; `deliver` and `finished` belong to the role (sending, receiving) that wrote the message."""

    def __init__(
        self, store: Store, clock: Callable[[], float] = time.time, tell: Callable[[], None] = lambda: None
    ) -> None:
        """`tell` reaches the process whose worker runs, from one whose does not."""
        self._store = store
        self._clock = clock
        self._tell = tell
        self._roles: dict[str, tuple[Deliver, Finished]] = {}
        self._wake = asyncio.Event()
        self._attempted = asyncio.Condition()
        self._busy: dict[str, asyncio.Task[None]] = {}  # by server
        self._silences: dict[str, tuple[int, int]] = {}  # by server: holds in a row, and until when the last one lasts
        self._returns: dict[str, float] = {}  # by server: when its return was last taken up
        self._taking_up: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def register(self, role: str, deliver: Deliver, finished: Finished) -> None:
        self._roles[role] = (deliver, finished)

    def start(self) -> None:
        self._task = asyncio.create_task(self._work(), name="outbox")

    async def stop(self) -> None:
        """End the worker; a message whose answer has not come stays pending and is sent again."""
        tasks = [task for task in (self._task, *self._busy.values(), *self._taking_up) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._task = None

    def kick(self) -> None:
        """Tell the worker that something is due; call it after the transaction that wrote the row."""
        self._wake.set()
        if self._task is None:
            self._tell()

    async def attempted(self, message_id: int, timeout: float) -> Message:
        """Wait up to `timeout` seconds for the first attempt at a message, and return the message as it is then."""
        self.kick()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._attempted:
                while (message := await self._get(message_id)).attempts == 0 and message.state == "pending":
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._attempted.wait(), LOOK_AGAIN)
        return await self._get(message_id)

    async def everything(self, state: str | None = None, server: str | None = None) -> list[Message]:
        """Return the newest messages, all or those in `state` and to `server`, oldest first."""
        return await self._store.read(lambda tx: outbox.everything(tx, state=state, server=server))

    async def retry(self, message_id: int | None = None, server: str | None = None) -> list[str]:
        """Make pending messages due now: one with those that it waits for, those to `server`, or all.

        Returns the server of each.
        """
        now = int(self._clock())
        servers = await self._store.run(lambda tx: outbox.hurry(tx, now, message_id, server))
        for each in set(servers):
            self._silences.pop(each, None)
        self.kick()
        return servers

    def returned(self, server: str) -> None:
        """Take up what waits for a server that answers again; call it on the loop.

        Not for every answer: a message that makes its server fall silent would be back after each answer to another.
        """
        now = self._clock()
        if now - self._returns.get(server, -HURRY_AGAIN) < HURRY_AGAIN:
            return
        self._returns = {name: at for name, at in self._returns.items() if now - at < HURRY_AGAIN} | {server: now}
        task = asyncio.create_task(self._take_up(server), name=f"outbox returned {server}")
        self._taking_up.add(task)
        task.add_done_callback(self._taking_up.discard)

    async def _take_up(self, server: str) -> None:
        try:
            if servers := await self.retry(server=server):
                log.info("a server answers again; what waits for it is sent", peer=server, messages=len(servers))
        except StorageError as error:
            log.warning("what waits for a server is sent later", peer=server, reason=str(error))

    async def _get(self, message_id: int) -> Message:
        message = await self._store.read(lambda tx: outbox.get(tx, message_id))
        assert message is not None
        return message

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._start_due()
                pause = await self._pause()
            except StorageError as error:
                log.warning("outbox cannot read its messages; it tries again", reason=str(error))
                pause = STATE_PAUSE
            except Exception:
                log.exception("outbox: an error of ours; it tries again")
                pause = STATE_PAUSE
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _start_due(self) -> None:
        """Give every server that is free and has something due a task that works off its messages."""
        now = int(self._clock())
        messages = await self._store.read(lambda tx: outbox.due(tx, now, BATCH, tuple(self._busy)))
        queues: dict[str, list[Message]] = {}
        for message in messages:
            queues.setdefault(message.server, []).append(message)
        for server, queue in queues.items():
            if len(self._busy) >= AT_ONCE:
                return
            self._busy[server] = asyncio.create_task(self._work_off(server, queue), name=f"outbox {server}")

    async def _pause(self) -> float:
        """Return the seconds until the next message is due; a task that ends wakes the worker anyway."""
        if len(self._busy) >= AT_ONCE:
            return 60.0
        due = await self._store.read(lambda tx: outbox.next_due(tx, tuple(self._busy)))
        return 60.0 if due is None else min(60.0, max(0.05, due - self._clock()))

    async def _work_off(self, server: str, messages: list[Message]) -> None:
        """Deliver messages of different Shares: one alone, which finds out whether anybody answers, then the rest."""
        try:
            if await self._attempt(messages[0]):
                rest = iter(messages[1:])
                async with asyncio.TaskGroup() as lanes:
                    for _ in range(min(LANES, len(messages) - 1)):
                        lanes.create_task(self._work_in_lane(rest))
        except Exception:
            # The row says nothing of the delivery: without a pause the peer would get it again and again.
            log.exception("outbox cannot record how a message went; it is sent again", peer=server)
            await asyncio.sleep(STATE_PAUSE)
        finally:
            del self._busy[server]
            self.kick()

    async def _work_in_lane(self, messages: Iterator[Message]) -> None:
        """Deliver one of `messages` after the other until none is left; a silence ends all lanes."""
        for message in messages:
            if not await self._attempt(message):
                for _ in messages:
                    pass

    async def _attempt(self, message: Message) -> bool:
        """Deliver one message and record how it went; False when the server does not answer."""
        if (await self._get(message.id)).state != "pending":
            return True  # dropped by its use case since it was read
        begun, answered = self._clock(), True
        try:
            deliver, _ = self._roles[message.role]
            await deliver(message)
            await self._finish(message, "delivered", None)
        except PeerFailed as error:
            answered = error.status is not None
            await self._failed(message, str(error), final=error.is_final)
        except (Refusal, StorageError) as error:
            await self._failed(message, str(error), final=False)
        except Exception:
            log.exception("outbox: an error of ours", message=message.id, kind=message.kind, peer=message.server)
            await self._failed(message, "an error of this gateway's own; its log has the details", final=False)
        await self._note_answer(message.server, answered, begun)
        async with self._attempted:
            self._attempted.notify_all()
        return answered

    async def _failed(self, message: Message, reason: str, *, final: bool) -> None:
        """Try again later, unless the peer has said no or the message has been tried for long enough."""
        if final or self._clock() - message.created > GIVE_UP:
            await self._finish(message, "failed", reason)
        else:
            await self._postpone(message, reason)

    async def _finish(self, message: Message, state: str, error: str | None) -> None:
        _, finished = self._roles[message.role]
        now = int(self._clock())

        def work(tx: Connection) -> None:
            current = outbox.get(tx, message.id)
            if current is None or current.state != "pending":
                return  # dropped meanwhile by the use case
            outbox.finish(tx, message.id, state, error, now)
            action = f"{message.kind} {state}"
            detail: Mapping[str, str] = {"reason": error} if error else {}
            events.add(tx, at=now, actor=message.server, action=action, subject=message.share, **detail)
            finished(tx, message)

        await self._store.run(work)
        log.info("message " + state, kind=message.kind, peer=message.server, share=message.share, reason=error)

    async def _postpone(self, message: Message, error: str) -> None:
        """Try this message again after its back-off."""
        wait = _back_off(message.attempts)
        next_attempt = int(self._clock()) + wait
        await self._store.run(lambda tx: outbox.postpone(tx, message.id, error, next_attempt))
        log.warning(
            "message postponed", kind=message.kind, peer=message.server, share=message.share, reason=error, seconds=wait
        )

    async def _note_answer(self, server: str, answered: bool, begun: float) -> None:
        """Hold back everything that waits for a silent server, the longer the longer it is silent.

        Not where it has answered somebody since this attempt was `begun`.
        """
        silences, held = self._silences.get(server, (0, 0))
        now = int(self._clock())
        if answered:
            if self._silences.pop(server, None):
                self.returned(server)
        elif held <= now and self._returns.get(server, float("-inf")) < begun:
            # Else this message was on its way together with the one that has seen to it.
            until = now + _back_off(silences)
            self._silences[server] = silences + 1, until
            await self._store.run(lambda tx: outbox.hold(tx, server, until))


def _back_off(failures: int) -> int:
    return BACK_OFF[min(failures, len(BACK_OFF) - 1)]
