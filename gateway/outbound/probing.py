"""One connection made step by step, to tell which of them fails: the name, the port, the certificate."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from gateway.outbound.errors import PeerUnreachable, in_words
from gateway.outbound.guard import Destination, Guard

STEP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Handshake:
    """What TLS has agreed on; `expires` is the end of the certificate in seconds since the epoch."""

    version: str
    issuer: str
    expires: int


class Probe:
    """Looks up, connects and shakes hands, each by itself; every address is checked as for any other connection."""

    def __init__(
        self,
        guard: Guard,
        context_of: Callable[[str], ssl.SSLContext],
        resolve: Callable[[str, int], Awaitable[list[str]]],
    ) -> None:
        self._guard = guard
        self._context_of = context_of
        self._resolve = resolve

    def destination(self, url: str) -> Destination:
        """Return where `url` leads; raises OutboundRefused."""
        return self._guard.check_url(url)

    async def addresses(self, destination: Destination) -> list[str]:
        """Return the addresses that may be contacted; raises PeerUnreachable (dns), OutboundRefused."""
        try:
            async with asyncio.timeout(STEP_SECONDS):
                answers = await self._resolve(destination.host, destination.port)
        except (OSError, UnicodeError) as error:
            raise PeerUnreachable("dns", str(destination), in_words(error)) from None
        addresses = self._guard.passing(destination.host, answers)
        if not addresses:
            raise PeerUnreachable("dns", str(destination), "the name has no address")
        return addresses

    async def connect(self, destination: Destination, addresses: list[str]) -> tuple[str, list[str]]:
        """Return the first address that accepts a connection, and what the ones before it did.

        Raises PeerUnreachable (tcp) when none does.
        """
        failures: list[str] = []
        for address in addresses:
            try:
                await self._open(address, destination.port)
            except OSError as error:
                failures.append(f"{address}: {in_words(error)}")
            else:
                return address, failures
        raise PeerUnreachable("tcp", str(destination), "; ".join(failures))

    async def handshake(self, destination: Destination, address: str) -> Handshake:
        """Return what TLS agrees on at `address`; raises PeerUnreachable (tls)."""
        found: list[Handshake] = []
        try:
            await self._open(
                address,
                destination.port,
                found,
                ssl=self._context_of(destination.host),
                server_hostname=destination.host,
            )
        except OSError as error:  # ssl.SSLError is one
            raise PeerUnreachable("tls", str(destination), in_words(error)) from None
        return found[0]

    async def _open(self, address: str, port: int, found: list[Handshake] | None = None, **tls: Any) -> None:
        async with asyncio.timeout(STEP_SECONDS):
            _, writer = await asyncio.open_connection(address, port, **tls)
        try:
            if found is not None:
                found.append(_agreed(writer.get_extra_info("ssl_object")))
        finally:
            writer.transport.abort()  # nothing was said, so there is no farewell to wait for


def _agreed(channel: ssl.SSLObject) -> Handshake:
    certificate: dict[str, Any] = channel.getpeercert() or {}
    issuer = {name: value for part in certificate.get("issuer", ()) for name, value in part}
    words = [issuer[name] for name in ("organizationName", "commonName") if name in issuer]
    expires = int(ssl.cert_time_to_seconds(certificate["notAfter"]))
    return Handshake(channel.version() or "TLS", ", ".join(words) or "an unnamed issuer", expires)
