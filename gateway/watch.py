"""Watches running transfers: what a Grant no longer permits is cut, not only refused the next time.

A door registers each transfer with the permission that it needs and a way to abort it; every second each distinct
Grant is read anew. New requests are refused by `access` itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog

from backends.errors import Unavailable
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
        self._looking: dict[Grant, asyncio.Task[None]] = {}

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
            for grant in {transfer.grant for transfer in self._transfers} - self._looking.keys():
                look = self._looking[grant] = asyncio.create_task(self._look(grant), name="watch")
                look.add_done_callback(partial(self._looked, grant))

    def _looked(self, grant: Grant, _look: asyncio.Task[None]) -> None:
        del self._looking[grant]

    async def _look(self, grant: Grant) -> None:
        """Cut what a Grant no longer permits; one that cannot be read for a while keeps no other from being read."""
        if not self._of(grant):
            return  # ended by itself in this moment
        permissions = await self._permissions(grant)
        for transfer in self._of(grant):
            if transfer.needs not in permissions:
                _cut(transfer)

    def _of(self, grant: Grant) -> list[_Transfer]:
        return [one for one in self._transfers if one.grant == grant]

    async def _permissions(self, grant: Grant) -> frozenset[Permission]:
        try:
            return (await self._access.renew(grant)).permissions
        except Unproven:
            return frozenset()
        except Unavailable as error:  # which every running transfer meets, while the state gives no answer
            log.warning("transfer.unwatched", principal=grant.principal, reason=str(error))
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
