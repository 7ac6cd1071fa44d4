"""`share create --explain`, over the admin socket."""

from __future__ import annotations

from typing import Any

from gateway.access import Access
from gateway.admin import views
from gateway.admin.calling import Arguments, Caller, Command, optional
from gateway.admin.commands import share_request
from gateway.explaining import Explaining


class ExplainCommands:
    """Tells what would be done, for whoever may do it."""

    def __init__(self, access: Access, explaining: Explaining) -> None:
        self._access = access
        self._explaining = explaining
        self.table: dict[str, Command] = {"share.explain": self._share_explain}

    async def _share_explain(self, caller: Caller, arguments: Arguments) -> Any:
        owner = await self._access.of_user(caller.acting_as(optional(arguments, "as")))
        return views.explanation(await self._explaining.explain(owner, share_request(arguments)))
