"""SSH keys of local users that something else keeps: a file of authorized_keys for each, or a program that prints one.

Every name that a user could have is asked for, whether there is such a user or not: how long a refusal takes does not
tell. What cannot be read counts as no keys, and the log says what to do about it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from backends.errors import Unavailable
from backends.pool import Pool
from gateway.ocm.ssh_keys import parse_authorized_keys
from gateway.single_flight import SingleFlight
from gateway.users import USER_NAME

USER = "{user}"  # in the configured path and arguments: the user's name
CONTENT_MAX = 256 * 1024  # bytes of a file, or of what the program prints; more than 2,000 keys
COMMAND_TIME = 5.0  # seconds that the program may take
KILL_TIME = 5.0  # seconds until one that was killed is left to itself
COMMANDS = 8  # programs at a time, in each worker
WAITING = 64  # users whose program waits until another one has ended
COMMAND_KEPT = 1.0  # seconds that its answer holds: a client offers one key after the other
KEPT_MAX = 10_000  # users
NOBODY_ELSE = stat.S_IWGRP | stat.S_IWOTH  # who may write there lets himself in

Keys = frozenset[str]  # fingerprints
Stamp = tuple[int, ...]
NONE: Keys = frozenset()

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Read:
    """What a file held when it was like `stamp`, or why it could not be read."""

    stamp: Stamp | None = None
    keys: Keys = NONE
    problem: str | None = None


class AuthorizedKeys:
    """The configured file and command, as far as there are some."""

    def __init__(self, file: Path | None = None, command: Sequence[str] = ()) -> None:
        self._file = file
        self._command = tuple(command)
        self._pool = Pool("authorized-keys", threads=2, waiting=64)  # the file may be on a NAS that hangs
        self._seen: dict[str, _Read] = {}
        self._answers: dict[str, tuple[float, Keys]] = {}  # until when each holds, by the monotonic clock
        self._asking: SingleFlight[Keys] = SingleFlight()
        self._slots = asyncio.Semaphore(COMMANDS)
        self._unanswered = 0

    async def in_file(self, user: str, fingerprint: str) -> bool:
        """Tell whether the user's file has this key now; raises Unavailable when too many ask."""
        if self._file is None or not USER_NAME.fullmatch(user):
            return False
        return fingerprint in await self._pool.run(self._of_file, user, str(self._file).replace(USER, user))

    async def by_command(self, user: str, fingerprint: str) -> bool:
        """Tell whether the program has just named this key for the user; raises Unavailable when too many ask."""
        if not self._command or not USER_NAME.fullmatch(user):
            return False
        until, keys = self._answers.get(user, (0.0, NONE))
        if time.monotonic() >= until:
            keys = await self._asking.run(user, lambda: self._ask(user))
        return fingerprint in keys

    def close(self) -> None:
        self._pool.close()

    def _of_file(self, user: str, path: str) -> Keys:
        before = self._seen.get(user, _Read())
        try:
            now = _read(path, before)
        except FileNotFoundError:
            now = _Read()
        except (OSError, ValueError) as error:
            now = _Read(problem=error.strerror or "" if isinstance(error, OSError) else str(error))
        if now.problem is not None and now.problem != before.problem:
            log.warning("a file of authorized keys is not used", path=path, user=user, reason=now.problem)
        if len(self._seen) >= KEPT_MAX:
            self._seen.clear()
        self._seen[user] = now
        return now.keys

    async def _ask(self, user: str) -> Keys:
        if self._unanswered >= COMMANDS + WAITING:
            raise Unavailable("too many log-ins wait for ssh.authorized_keys_command")
        self._unanswered += 1
        try:
            async with self._slots:
                keys = await self._run(user)
        finally:
            self._unanswered -= 1
        if len(self._answers) >= KEPT_MAX:
            self._answers.clear()
        self._answers[user] = (time.monotonic() + COMMAND_KEPT, keys)
        return keys

    async def _run(self, user: str) -> Keys:
        try:
            return _fingerprints(await _output([argument.replace(USER, user) for argument in self._command]))
        except (OSError, ValueError) as error:
            # Without its arguments, which may hold a password for a directory.
            facts = {"program": self._command[0], "user": user, "reason": str(error)}
            hint = "run it as the account of this service to see why"
            log.warning("ssh.authorized_keys_command gave no keys", **facts, hint=hint)
            return NONE


def _read(path: str, before: _Read) -> _Read:
    """Return what the file holds, read only if it is another than `before`; raises OSError, and ValueError saying why.

    O_NONBLOCK: what is no file, such as a pipe that nobody writes to, must not hold up a thread.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("it is no file")
        if facts.st_mode & NOBODY_ELSE:
            raise ValueError("others than its owner may write to it: chmod go-w")
        stamp = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        if stamp == before.stamp:
            return before
        content = file.read(CONTENT_MAX + 1)
    if len(content) > CONTENT_MAX:
        raise ValueError(f"it is longer than {CONTENT_MAX} bytes")
    return _Read(stamp, _fingerprints(content))


def _fingerprints(content: bytes) -> Keys:
    return frozenset(key.fingerprint for key in parse_authorized_keys(content.decode("utf-8", "replace")))


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
