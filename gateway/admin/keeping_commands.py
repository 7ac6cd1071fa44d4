"""The commands that keep a received Share as files."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from gateway.access import Access
from gateway.admin import views
from gateway.admin.calling import Arguments, Caller, Command, flag, number, optional, path, text
from gateway.keeping import Copies, Copy, Run

WAIT_MOST = 30  # seconds that a caller may wait for the end of a copy, before it is shown as it is


class KeepingCommands:
    """Begins copies, watches and stops them; a caller who goes away changes nothing."""

    def __init__(self, access: Access, copies: Copies) -> None:
        self._access = access
        self._copies = copies
        self.table: Mapping[str, Command] = {
            "received.cp": self._begin,
            "received.cp.watch": self._watch,
            "received.cp.stop": self._stop,
        }

    async def _begin(self, caller: Caller, arguments: Arguments) -> Any:
        user, copy = await self._meant(caller, arguments)
        run = await self._copies.begin(user, copy, caller.actor, overwrite=flag(arguments, "overwrite"))
        return await _news(run, arguments)

    async def _watch(self, caller: Caller, arguments: Arguments) -> Any:
        return await _news(self._copies.find(*await self._meant(caller, arguments)), arguments)

    async def _stop(self, caller: Caller, arguments: Arguments) -> Any:
        return await _news(self._copies.stop(*await self._meant(caller, arguments), caller.actor), arguments)

    async def _meant(self, caller: Caller, arguments: Arguments) -> tuple[str | None, Copy]:
        """Return whose copy is meant, None for anybody's, and which; raises NotAllowed, Invalid, Unproven."""
        user = caller.scope(optional(arguments, "as"))
        if caller.user is not None:
            await self._access.of_user(caller.user)
        source = path({"source": "/", **arguments}, "source")
        return user, Copy(text(arguments, "id"), source, path(arguments))


async def _news(run: Run, arguments: Arguments) -> dict[str, Any]:
    """Return how far a copy is, once it has ended or the caller has waited as long as it wants; raises Invalid."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(min(number(arguments, "wait") or 0, WAIT_MOST)):
            await run.ended.wait()
    return views.running_copy(run)
