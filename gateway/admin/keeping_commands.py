"""The commands that keep a received Share as files."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from gateway.access import Access
from gateway.admin import views
from gateway.admin.calling import Arguments, Caller, Command, flag, optional, path, text
from gateway.keeping import Copies, Copy, Run

NEWS_TIME = 1.0  # seconds after which a copy that has not ended is shown as it is


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
        return await _news(run)

    async def _watch(self, caller: Caller, arguments: Arguments) -> Any:
        return await _news(self._copies.find(*await self._meant(caller, arguments)))

    async def _stop(self, caller: Caller, arguments: Arguments) -> Any:
        return await _news(self._copies.stop(*await self._meant(caller, arguments), caller.actor))

    async def _meant(self, caller: Caller, arguments: Arguments) -> tuple[str | None, Copy]:
        """Return whose copy is meant, None for anybody's, and which; raises NotAllowed, Invalid, Unproven."""
        user = caller.scope(optional(arguments, "as"))
        if caller.user is not None:
            await self._access.of_user(caller.user)
        source = path({"source": "/", **arguments}, "source")
        return user, Copy(text(arguments, "id"), source, path(arguments))


async def _news(run: Run) -> dict[str, Any]:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(NEWS_TIME):
            await run.ended.wait()
    return views.running_copy(run)
