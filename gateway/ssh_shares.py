"""Received Shares that are met by SSH: the SFTP backend behind the guard, with the key that its user has here.

The address is the sender's word, so only `outbound` connects to it. It has to be the sender's own host, or the SSH
server that the sender's discovery names, unless the sender has signed the Share. The host key is the one that the user
has accepted. What the server is silent about opens a breaker of its own: the sender's web server may be well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from backends.errors import PermissionDenied, Unavailable, Unreachable
from gateway.breaker import PATIENCE, Breakers
from gateway.errors import Conflict, PeerFailed
from gateway.key_pairs import KeyPairs
from gateway.ocm.discovery import Discovery
from gateway.ocm.errors import Malformed
from gateway.ocm.ssh_address import SSHAddress
from gateway.ocm.ssh_keys import PublicKey, parse_public_key
from gateway.outbound import OutboundError, PeerUnreachable, SyncOutbound
from gateway.proof import Evidence
from gateway.store.received_shares import ReceivedShare

if TYPE_CHECKING:  # paramiko takes a tenth of a second, and few have such Shares
    from backends.sftp import Guest, Link, SFTPBackend

CONNECTIONS = 2  # to one Share at most; all of them share the threads that one server may hold
IDLE = 60  # seconds until a connection that nobody uses is ended
KEPT = 600  # seconds until a Share that nobody uses is forgotten
RETRY = 30  # seconds to wait where no breaker says how long


@dataclass(slots=True)
class _Open:
    """The backend of one Share, made of `origin`: another address or host key makes another one."""

    origin: tuple[str, str | None]
    backend: SFTPBackend
    used: float  # when it was asked for last, by the monotonic clock


class SSHShares:
    """Makes backends, and keeps them as long as they are used; the calls of a backend run in worker threads."""

    def __init__(self, outbound: SyncOutbound, breakers: Breakers, key_pairs: KeyPairs, journals: Path) -> None:
        self._outbound = outbound
        self._breakers = breakers
        self._key_pairs = key_pairs
        self._journals = journals
        self._open: dict[tuple[str, str], _Open] = {}  # by Share, and the file that is meant in it
        self._replaced: list[SFTPBackend] = []  # to be closed: that may take a moment

    def backend(self, share: ReceivedShare, discovery: Discovery, file: str = "") -> SFTPBackend:
        """Return the root of a Share, or `file` in it; raises PeerFailed for an address that may not be used."""
        from backends.sftp import SFTPBackend

        address = self._address(share, discovery)
        origin = f"{address}", share.host_key
        known = self._open.get((share.id, file))
        if known is None or known.origin != origin:
            guest, root = (
                self._guest(share, address),
                str(PurePosixPath(address.path, file)),
            )  # "." is where one is then
            made = SFTPBackend(guest, root, self._journals, connections=CONNECTIONS, may_be_file=True)
            if known is not None:
                self._replaced.append(known.backend)
            known = self._open[share.id, file] = _Open(origin, made, 0.0)
        known.used = time.monotonic()
        return known.backend

    def host_key(self, share: ReceivedShare, discovery: Discovery, fingerprint: str | None = None) -> PublicKey:
        """Return the key that the server shows, or that of its keys which has this fingerprint; for worker threads.

        Raises PeerFailed, Conflict where it has no such key, Unavailable.
        """
        from backends.sftp import KINDS, OtherHostKey, shown_host_key

        guest = self._guest(share, self._address(share, discovery))
        shown: list[PublicKey] = []
        for kinds in (KINDS,) if fingerprint is None else ((kind,) for kind in KINDS):
            try:
                shown.append(PublicKey.of_blob(shown_host_key(guest, kinds)))
            except OtherHostKey:
                continue  # it has none of this kind
            except Malformed as error:
                raise PeerFailed("INVALID_HOST_KEY", f"{guest}: the server's host key is none: {error}") from error
            if fingerprint in (None, shown[-1].fingerprint):
                return shown[-1]
        if not shown:
            raise PeerFailed("INVALID_HOST_KEY", f"{guest}: the server has no host key of a kind that is used")
        found = " or ".join(key.fingerprint for key in shown)
        raise Conflict("OTHER_HOST_KEY", f"{guest} shows {found}, not {fingerprint}: ask the sender which one is right")

    async def tidy(self) -> None:
        """End connections that nobody uses, and forget the Shares that nobody has asked for since long."""
        now = time.monotonic()
        forgotten = [key for key, one in self._open.items() if now - one.used > KEPT and one.backend.is_idle]
        closing, self._replaced = self._replaced, []
        closing += [self._open.pop(key).backend for key in forgotten]
        used = [one.backend for one in self._open.values()]

        def work() -> None:
            for backend in closing:
                backend.close()
            for backend in used:
                backend.close_idle(IDLE)

        await asyncio.to_thread(work)

    def close(self) -> None:
        """End all connections."""
        for backend in (*self._replaced, *(one.backend for one in self._open.values())):
            backend.close()
        self._replaced.clear()
        self._open.clear()

    def _address(self, share: ReceivedShare, discovery: Discovery) -> SSHAddress:
        address = share.ssh
        if address is None:
            raise PeerFailed("NO_SSH", f"the Share of {share.server} is not offered by SSH")
        sender = SSHAddress.parse(f"sender@{share.server}")
        is_theirs = address.host == sender.host or address.server in discovery.ssh_servers
        if not is_theirs and Evidence.of(share.evidence) < Evidence.CAVAGE:
            raise PeerFailed("FOREIGN_URI", f"the Share of {share.server} points to {address.server}, unsigned")
        return address

    def _guest(self, share: ReceivedShare, address: SSHAddress) -> Guest:
        from backends.sftp import Guest

        breaker = address.origin

        def dial() -> Link:
            try:
                return self._outbound.dial(address.server)
            except PeerUnreachable as error:
                raise Unreachable(str(error), retry_after=RETRY) from error
            except OutboundError as error:
                raise PermissionDenied(str(error)) from error

        return Guest(
            name=share.storage,
            address=str(address),
            user=address.user,
            dial=dial,
            private_key=lambda: self._key_pairs.private(share.user),
            host_key=parse_public_key(share.host_key).blob if share.host_key else None,
            watch=lambda: self._watched(breaker),
            silent=lambda why, seconds: self._breakers.silent(breaker, why, seconds),
            pulse=PATIENCE,
            beginning=PATIENCE,
        )

    @contextmanager
    def _watched(self, breaker: str) -> Iterator[None]:
        """Watch over a connection as it is made: who does not get to a session has been silent."""
        from backends.sftp import OtherHostKey

        try:
            with self._breakers.call(breaker):
                try:
                    yield
                except OtherHostKey:
                    raise
                except Unavailable as error:
                    raise PeerFailed("PEER_UNREACHABLE", str(error)) from error
        except PeerFailed as error:
            raise Unreachable(str(error), retry_after=error.retry_after or RETRY) from error
