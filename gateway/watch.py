"""Watches running transfers: what a Grant no longer permits is cut, not only refused the next time.

A door registers each transfer with the permission that it needs and a way to abort it; every second each distinct
Grant is read anew. New requests are refused by `access` itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog

from gateway.access import Grant
from gateway.errors import Unproven
from gateway.ocm.shares import Permission

EVERY = 1.0  # seconds; the promise to users is that a running transfer ends within 5

log = structlog.get_logger()


class Renews(Protocol):
    """What `Access` tells: a Grant as it is now."""

    async def renew(self, grant: Grant) -> Grant: ...


@dataclass(eq=False, slots=True)
class _Transfer:
    grant: Grant
    needs: Permission
    abort: Callable[[], None]


class Watch:
    """All running transfers of this process."""

    def __init__(self, access: Renews, *, every: float = EVERY) -> None:
        """Look each `every` seconds."""
        self._access = access
        self._every = every
        self._transfers: set[_Transfer] = set()

    @contextmanager
    def over(self, grant: Grant, needs: Permission, abort: Callable[[], None]) -> Iterator[None]:
        """Call `abort`, on the event loop, if `grant` loses `needs` while the block runs."""
        transfer = _Transfer(grant, needs, abort)
        self._transfers.add(transfer)
        try:
            yield
        finally:
            self._transfers.discard(transfer)

    def cut_all(self) -> None:
        """Abort every transfer that is left, when the gateway stops."""
        for transfer in list(self._transfers):
            _cut(transfer)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            for grant in {transfer.grant for transfer in self._transfers}:
                permissions = await self._permissions(grant)
                for transfer in [one for one in self._transfers if one.grant == grant]:
                    if transfer.needs not in permissions:
                        _cut(transfer)

    async def _permissions(self, grant: Grant) -> frozenset[Permission]:
        try:
            return (await self._access.renew(grant)).permissions
        except Unproven:
            return frozenset()
        except Exception:
            log.exception("transfer.unwatched", principal=grant.principal)
            return grant.permissions


def _cut(transfer: _Transfer) -> None:
    """Abort a transfer; one that fails to end is tried again, and keeps no other from being cut."""
    log.info("transfer.cut", principal=transfer.grant.principal, needs=transfer.needs.value)
    try:
        transfer.abort()
    except Exception:
        log.exception("transfer.uncut", principal=transfer.grant.principal)
