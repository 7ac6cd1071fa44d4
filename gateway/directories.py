"""Directory Services: lists of the members of Federations, fetched, verified, and kept (draft-07, Appendix C).

A list that cannot be fetched, verified or believed any more changes nothing but what the operator is told: the last
good one stays in use. It is kept as it was received and verified whenever a process reads it, so a key that is taken
out of the configuration takes its lists along.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from gateway.config import ConfigError, DirectoryConfig, Mistake
from gateway.errors import NoSuch, PeerFailed
from gateway.ocm.directory import DirectoryList, parse_directory
from gateway.ocm.errors import ProtocolError
from gateway.ocm.jws import verify_jws
from gateway.ocm.key_files import public_keys
from gateway.ocm.keys import PublicKey
from gateway.outbound import AsyncOutbound, OutboundRefused, PeerUnreachable
from gateway.store import directories
from gateway.store.directories import DirectoryRecord
from gateway.store.engine import Store

EVERY = 3600.0  # seconds between looks at a list
RETRY = 300.0  # seconds after one that brought nothing
LEAST = 30.0  # seconds, however soon a list expires
FETCH_TIME = 20.0  # seconds
MAX_DOCUMENT = 512 * 1024  # bytes
ACCEPT = "application/jose, application/jose+json, application/json"

log = structlog.get_logger()

_JITTER = secrets.SystemRandom()  # so that the members of a Federation do not all ask at once


@dataclass(frozen=True, slots=True)
class Source:
    """A Directory Service of the configuration; `trusted`: its members count as being on the allowlist."""

    url: str
    name: str
    keys: tuple[PublicKey, ...]
    trusted: bool


def sources(configured: Iterable[DirectoryConfig]) -> tuple[Source, ...]:
    """Return the Directory Services with their keys; raises ConfigError naming each file that has none."""
    found: list[Source] = []
    mistakes: list[Mistake] = []
    for number, config in enumerate(configured):
        try:
            keys = public_keys(config.key.read_bytes())
            found.append(Source(config.url, config.name or config.url, keys, config.trusted))
        except (OSError, ValueError) as error:
            allowed = "a file with the public key of the list, as PEM, JWK or JWK Set"
            mistakes.append(Mistake(f"federation.directories[{number}].key", f"{str(config.key)!r}: {error}", allowed))
    if mistakes:
        raise ConfigError(mistakes)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class DirectoryStatus:
    """A Directory Service as it stands: the list in use, when it came, and why there is no newer one."""

    source: Source
    directory: DirectoryList | None
    fetched: int | None
    checked: int | None
    problem: str | None
    expired: bool


@dataclass(frozen=True, slots=True)
class _Kept:
    """A list in memory, as of `version` in the state; None when what is kept there is not signed as it should be."""

    version: int
    directory: DirectoryList | None
    members: frozenset[str]


class Directories:
    """The Directory Services that the operator has configured."""

    def __init__(
        self,
        store: Store,
        outbound: AsyncOutbound,
        configured: Iterable[Source],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._outbound = outbound
        self._sources = tuple(configured)
        self._clock = clock
        self._kept: dict[str, _Kept] = {}

    async def is_member(self, server: str) -> bool:
        """Tell whether a Directory Service that the operator trusts lists `server`, host[:port] in its one form."""
        trusted = [source for source in self._sources if source.trusted]
        if not trusted:
            return False
        records = await self._store.read(directories.everything)
        return any([server in (await self._read(source, records)).members for source in trusted])

    async def everything(self) -> list[DirectoryStatus]:
        """Return how each stands, in the order of the configuration."""
        records = await self._store.read(directories.everything)
        return [await self._status(source, records) for source in self._sources]

    async def show(self, name: str) -> DirectoryStatus:
        """Return how the one with that name or URL stands; raises NoSuch."""
        return await self._status(self._find(name), await self._store.read(directories.everything))

    async def refresh(self, name: str | None = None) -> list[DirectoryStatus]:
        """Fetch one list, or all, now, and return how they stand then; raises NoSuch."""
        wanted = self._sources if name is None else (self._find(name),)
        await asyncio.gather(*map(self._refresh, wanted))
        records = await self._store.read(directories.everything)
        return [await self._status(source, records) for source in wanted]

    async def run(self) -> None:
        """Fetch every list again and again, until cancelled; for one process alone."""
        urls = [source.url for source in self._sources]
        await self._store.run(lambda tx: directories.forget_others(tx, urls))
        await asyncio.gather(*map(self._follow, self._sources))

    async def _follow(self, source: Source) -> None:
        without = 0.0  # seconds to wait where there is no list: the operator may just have mended that
        while True:
            try:
                await asyncio.sleep(await self._wait(source, without))
                await self._refresh(source)
            except Exception:  # an error of ours in one look must not end all that follow
                log.exception("a directory was not looked at; tried again later", directory=source.name)
                await asyncio.sleep(RETRY)
            without = RETRY

    async def _wait(self, source: Source, without: float) -> float:
        """Return the seconds until the next look: sooner where a list expires sooner, and after a failure."""
        records = await self._store.read(directories.everything)
        record, directory = records.get(source.url), (await self._read(source, records)).directory
        if record is None or directory is None:
            return without
        wait = EVERY if record.problem is None else RETRY
        checked = record.checked or 0
        if directory.expires_at is not None:
            wait = min(wait, max(LEAST, (directory.expires_at - checked) / 2))
        return max(0.0, checked + wait * _JITTER.uniform(0.9, 1.1) - self._clock())

    async def _refresh(self, source: Source) -> None:
        """Fetch a list and keep it if it is good; say so if it is not."""
        now = int(self._clock())
        kept = await self._read(source, await self._store.read(directories.everything))
        try:
            document = await self._fetch(source)
            fresh = await _verified(source, document)
            _require_current(fresh, kept.directory, now)
        except (PeerFailed, ProtocolError) as error:
            code, reason = error.code, str(error)
            await self._store.run(lambda tx: directories.note_failure(tx, source.url, reason, now))
            stays = f"the list of {len(kept.members)} servers stays" if kept.directory else "there is no list"
            log.warning("directory not refreshed", directory=source.name, code=code, reason=reason, so=stays)
            return
        await self._store.run(lambda tx: directories.keep(tx, source.url, document, now))
        passed_over = len(fresh.unusable)
        log.info("directory refreshed", directory=source.name, servers=len(fresh.servers), passed_over=passed_over)

    async def _fetch(self, source: Source) -> bytes:
        """Return what the Directory Service answers; raises PeerFailed."""
        headers = {"Accept": ACCEPT}
        try:
            response = await self._outbound.request(
                "GET", source.url, headers=headers, timeout=FETCH_TIME, max_body=MAX_DOCUMENT
            )
        except (OutboundRefused, PeerUnreachable) as error:
            raise PeerFailed("DIRECTORY_UNREACHABLE", str(error)) from error
        if response.status != 200:
            raise PeerFailed("DIRECTORY_UNREACHABLE", f"it answers {response.status}", response.status)
        return response.body

    async def _read(self, source: Source, records: Mapping[str, DirectoryRecord]) -> _Kept:
        """Return the list that is kept, verified again when another one is."""
        version = records.get(source.url, DirectoryRecord(source.url)).version
        kept = self._kept.get(source.url)
        if kept is None or kept.version != version:
            document = await self._store.read(lambda tx: directories.document(tx, source.url)) if version else None
            try:
                directory = None if document is None else await _verified(source, document)
            except ProtocolError:  # its key is not in the configuration any more
                directory = None
            members = frozenset(listed.server for listed in directory.servers) if directory else frozenset[str]()
            kept = self._kept[source.url] = _Kept(version, directory, members)
        return kept

    async def _status(self, source: Source, records: Mapping[str, DirectoryRecord]) -> DirectoryStatus:
        record = records.get(source.url, DirectoryRecord(source.url))
        directory = (await self._read(source, records)).directory
        foreign = "the list that was kept is signed by none of the configured keys" if record.version else None
        problem = record.problem or (foreign if directory is None else None)
        expired = directory is not None and directory.expired(self._clock())
        fetched = record.fetched if directory else None
        return DirectoryStatus(source, directory, fetched, record.checked, problem, expired)

    def _find(self, name: str) -> Source:
        for source in self._sources:
            if name in (source.name, source.url):
                return source
        raise NoSuch("NO_SUCH_DIRECTORY", f"there is no directory {name}; `directory list` shows them")


async def _verified(source: Source, document: bytes) -> DirectoryList:
    """Return the list in a document; raises ProtocolError when it is not signed by the keys of `source`.

    Thousands of members take a tenth of a second, for which nobody else should wait.
    """
    return await asyncio.to_thread(lambda: parse_directory(verify_jws(document, source.keys)))


def _require_current(fresh: DirectoryList, kept: DirectoryList | None, now: int) -> None:
    """Refuse a list that is over, and one from before the one that is kept: it may name who has left since."""
    if fresh.expires_at is not None and fresh.expired(now):
        raise PeerFailed("DIRECTORY_EXPIRED", f"its list expired at {_in_words(fresh.expires_at)}")
    if kept is not None and (fresh.issued_at or 0) < (kept.issued_at or 0):
        raise PeerFailed("DIRECTORY_OLDER", "its list was issued before the one that is kept")


def _in_words(moment: int) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return str(moment)
