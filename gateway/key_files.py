"""Files of authorized_keys that something else keeps, one for each local user.

Whoever logs in needs a file that can be read now. Whoever is in stays for a while when it cannot: storage that hangs,
or a machine that is busy, is no word against a key.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from backends.pool import Pool
from gateway.config.strict_modes import require_unshared
from gateway.ocm.ssh_keys import parse_authorized_keys
from gateway.single_flight import SingleFlight

USER = "{user}"  # in the configured path: the user's name
CONTENT_MAX = 256 * 1024  # bytes; more than 2,000 keys
FILE_TIME = 2.0  # seconds that reading may take: as long as that, a key that is in it opens nothing
FILE_AWAY = 60.0  # seconds that a file which cannot be read keeps those in who have come in by it
FILES = 8  # read at a time, so that one user's storage that hangs holds up no other user
ARRIVING = 64  # users whose log-in waits for a thread; of who is in already, as many wait as there are
KEPT_MAX = 10_000  # users, unless more have keys

Keys = frozenset[str]  # fingerprints
Stamp = tuple[int, ...]
NONE: Keys = frozenset()

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Read:
    """What a file held when it was like `stamp`, and why it cannot be used now, if so."""

    stamp: Stamp | None = None
    keys: Keys = NONE
    at: float = float("-inf")  # when that was last seen, by the monotonic clock
    problem: str | None = None


class _Line:
    """Reads for one purpose: no user's file twice at once, whoever asks."""

    def __init__(self, name: str, waiting: int) -> None:
        self.pool = Pool(name, threads=FILES, waiting=waiting)
        self.reading: SingleFlight[_Read] = SingleFlight()
        self.begun: dict[str, float] = {}  # by user: when the read that runs was asked for


class KeyFiles:
    """The files at `path`, in which USER stands for the user's name; without `path` there are none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: dict[str, _Read] = {}  # of users who have a file
        self._arriving = _Line("authorized-keys", ARRIVING)
        self._staying = _Line("authorized-keys-of-sessions", KEPT_MAX)  # which log-ins must not keep waiting

    async def have(self, user: str, fingerprint: str) -> bool:
        """Tell whether the user's file has this key now; raises Unavailable when too many ask."""
        now = await self._now(self._arriving, user)
        return now is not None and now.problem is None and fingerprint in now.keys

    async def still_have(self, user: str, fingerprint: str) -> bool:
        """Tell whether the user's file has this key, or had it when it could be read, FILE_AWAY seconds ago at most."""
        await self._now(self._staying, user)
        seen = self._seen.get(user, _Read())
        return fingerprint in seen.keys and time.monotonic() - seen.at < FILE_AWAY

    def close(self) -> None:
        self._arriving.pool.close()
        self._staying.pool.close()

    async def _now(self, line: _Line, user: str) -> _Read | None:
        """Return what the user's file is, None where that takes longer than FILE_TIME, for whoever has begun it."""
        if self._path is None:
            return None
        now = time.monotonic()
        left = line.begun.get(user, now) + FILE_TIME - now
        if left <= 0:
            return None
        path = str(self._path).replace(USER, user)
        try:
            async with asyncio.timeout(left):
                return await line.reading.run(user, lambda: self._look(line, user, path))
        except TimeoutError:
            return None

    async def _look(self, line: _Line, user: str, path: str) -> _Read:
        before, line.begun[user] = self._seen.get(user, _Read()), time.monotonic()
        reason = f"no answer within {FILE_TIME:g} s"
        late = asyncio.get_running_loop().call_later(FILE_TIME, _tell, path, user, reason)
        try:
            now = await line.pool.run(_of_file, path, before, user)
        finally:
            late.cancel()
            del line.begun[user]
        if now.problem is not None and now.problem != before.problem:
            _tell(path, user, now.problem)
        if len(self._seen) >= KEPT_MAX:  # of names that strangers ask for, while the storage fails
            self._seen = {name: seen for name, seen in self._seen.items() if seen.keys}
        self._seen.pop(user, None)
        if now.keys or now.problem:
            self._seen[user] = now
        return now


def fingerprints(content: bytes) -> Keys:
    """Return those of all keys in lines of authorized_keys; what is no key is passed over."""
    return frozenset(key.fingerprint for key in parse_authorized_keys(content.decode("utf-8", "replace")))


def _tell(path: str, user: str, reason: str) -> None:
    log.warning("a file of authorized keys is not used", path=path, user=user, reason=reason)


def _of_file(path: str, before: _Read, user: str) -> _Read:
    """Return what the file is; storage that gives no answer says nothing against what it held `before`."""
    at = time.monotonic()
    try:
        return replace(_read(path, before, user), at=at, problem=None)
    except (FileNotFoundError, NotADirectoryError):
        return _Read(at=at)
    except ValueError as error:
        return _Read(at=at, problem=str(error))
    except OSError as error:
        return replace(before, problem=error.strerror or type(error).__name__)


def _read(path: str, before: _Read, user: str) -> _Read:
    """Return what the file holds, read only if it is another than `before`; raises OSError, and ValueError saying why.

    Whoever may write to it, or put another in its place, lets himself in: that may be the account that has the user's
    name, and nobody else. O_NONBLOCK: what is no file, such as a pipe that nobody writes to, must not hold up a thread.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("it is no file")
        stamp = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        if stamp == before.stamp:
            return before
        require_unshared(Path(path), user)
        content = file.read(CONTENT_MAX + 1)
    if len(content) > CONTENT_MAX:
        raise ValueError(f"it is longer than {CONTENT_MAX} bytes")
    return _Read(stamp, fingerprints(content))
