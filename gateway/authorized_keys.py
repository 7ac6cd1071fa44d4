"""SSH keys of local users that something else keeps: a file of authorized_keys for each, or a program that prints one.

Every name that a user could have is asked for, whether there is such a user or not: how long a refusal takes does not
tell. What cannot be read counts as no keys, and the log says what to do about it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from weakref import WeakValueDictionary

import structlog

from backends.errors import Unavailable
from gateway.key_files import CONTENT_MAX, KEPT_MAX, NONE, USER, KeyFiles, Keys, fingerprints
from gateway.single_flight import SingleFlight
from gateway.users import USER_NAME

COMMAND_TIME = 5.0  # seconds that the program may take
KILL_TIME = 5.0  # seconds until one that was killed is left to itself
COMMANDS = 8  # programs at a time, in each worker
WAITING = 64  # users whose program waits until another one has ended
COMMANDS_OF_ONE = 4  # the part of both for those who log in from one address: nobody alone keeps the others out
WAITING_OF_ONE = 12
COMMAND_KEPT = 1.0  # seconds that its answer holds: a client offers one key after the other
COMMAND_AGAIN = 60.0  # seconds until it is asked again about a key that somebody is logged in with

OURSELVES = ""  # who asks about those that are in: they are so many as may be, and are waited for
TOO_MANY = "wait for ssh.authorized_keys_command: make it faster"

log = structlog.get_logger()


class AuthorizedKeys:
    """The configured file and command, as far as there are some."""

    def __init__(self, file: Path | None = None, command: Sequence[str] = ()) -> None:
        self._files = KeyFiles(file)
        self._command = tuple(command)
        self._answers: dict[str, tuple[float, Keys]] = {}  # until when each holds, by the monotonic clock
        self._named: dict[str, tuple[float, Keys]] = {}  # what was named last, and when that was asked
        self._asking: SingleFlight[Keys] = SingleFlight()
        self._slots = asyncio.Semaphore(COMMANDS)
        self._slots_of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()  # by address
        self._unanswered: Counter[str] = Counter()  # by address

    async def in_file(self, user: str, fingerprint: str) -> bool:
        """Tell whether the user's file has this key now; raises Unavailable when too many ask."""
        return USER_NAME.fullmatch(user) is not None and await self._files.have(user, fingerprint)

    async def still_in_file(self, user: str, fingerprint: str) -> bool:
        """Tell whether the user's file has this key, or had it before it could not be read for a while."""
        return await self._files.still_have(user, fingerprint)

    async def by_command(self, user: str, fingerprint: str, client: str = OURSELVES) -> bool:
        """Tell whether the program has just named this key for the user, who logs in from the address `client`.

        Raises Unavailable when too many ask, from there or in all.
        """
        if not self._command or not USER_NAME.fullmatch(user):
            return False
        until, keys = self._answers.get(user, (0.0, NONE))
        if time.monotonic() >= until:
            keys = await self._run_once(user, client)
        return fingerprint in keys

    async def still_by_command(self, user: str, fingerprint: str) -> bool:
        """Tell whether the program names this key as it did, by its answer of the last COMMAND_AGAIN seconds.

        What it has named stays while it gives no answer: a directory that is away ends nobody's work. Raises
        Unavailable.
        """
        asked, keys = self._named.get(user, (float("-inf"), NONE))
        if time.monotonic() - asked >= COMMAND_AGAIN:
            await self._run_once(user)
            _, keys = self._named.get(user, (0.0, NONE))
        return fingerprint in keys

    def close(self) -> None:
        self._files.close()

    async def _run_once(self, user: str, client: str = OURSELVES) -> Keys:
        """Ask, or take what the same client is about to be answered: nobody waits, or is refused, with another."""
        return await self._asking.run((user, client), lambda: self._ask(user, client))

    async def _ask(self, user: str, client: str) -> Keys:
        if client and self._unanswered[client] >= COMMANDS_OF_ONE + WAITING_OF_ONE:
            raise Unavailable(f"too many log-ins from {client} {TOO_MANY}, or block that address")
        if client and self._unanswered.total() >= COMMANDS + WAITING:
            raise Unavailable(f"too many log-ins {TOO_MANY}")
        slots = self._slots_of.setdefault(client, asyncio.Semaphore(COMMANDS_OF_ONE if client else COMMANDS))
        self._unanswered[client] += 1
        try:
            async with slots, self._slots:
                named = await self._run(user)
        finally:
            self._unanswered -= Counter((client,))  # which drops what has come to 0
        now, before = time.monotonic(), self._named.get(user, (0.0, NONE))[1]
        if len(self._answers) >= KEPT_MAX:
            self._answers.clear()
            self._named.clear()
        self._answers[user] = now + COMMAND_KEPT, named or NONE
        self._named[user] = now, before if named is None else named
        return named or NONE

    async def _run(self, user: str) -> Keys | None:
        """Return what the program names, None where it has failed."""
        try:
            return fingerprints(await _output([argument.replace(USER, user) for argument in self._command]))
        except (OSError, ValueError) as error:
            # Without its arguments, which may hold a password for a directory.
            facts = {"program": self._command[0], "user": user, "reason": str(error)}
            hint = "run it as the account of this service to see why"
            log.warning("ssh.authorized_keys_command gave no keys", **facts, hint=hint)
            return None


async def _output(arguments: Sequence[str]) -> bytes:
    """Return what a program prints; raises OSError, and ValueError saying how it failed.

    It has no terminal, no input, a clean environment, and a session of its own, which is killed with all that it has
    started when it is not done in time. What it says on standard error is for whoever runs it by hand.
    """
    loop = asyncio.get_running_loop()
    transport, program = await loop.subprocess_exec(
        lambda: _Program(loop.create_future()),
        *arguments,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=DEVNULL,
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(COMMAND_TIME):
            await program.done
    except TimeoutError:
        raise ValueError(f"it did not end within {COMMAND_TIME:.0f} s") from None
    finally:
        if not program.ended.is_set():
            # Also when the program itself has ended and left others behind, which keep the number of its group taken.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(transport.get_pid(), signal.SIGKILL)
        transport.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(program.ended.wait(), KILL_TIME)
    if (status := transport.get_returncode()) != 0:
        raise ValueError(f"it ended with status {status}")
    return bytes(program.content)


class _Program(asyncio.SubprocessProtocol):
    """What comes of a program: `ended` once it has, and its output is closed; `done` then, or when that is too much."""

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.content = bytearray()
        self.done = done
        self.ended = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.content += data
        if len(self.content) > CONTENT_MAX and not self.done.done():
            self.done.set_exception(ValueError(f"it printed more than {CONTENT_MAX} bytes"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()
        if not self.done.done():
            self.done.set_result(None)
