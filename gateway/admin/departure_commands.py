"""The command that removes a user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.admin.calling import Arguments, Caller, Command, text
from gateway.departing import Departing


class DepartureCommands:
    """Calls the use case for the command line."""

    def __init__(self, departing: Departing) -> None:
        self._departing = departing
        self.table: Mapping[str, Command] = {"user.remove": self._remove}

    async def _remove(self, caller: Caller, arguments: Arguments) -> Any:
        caller.require_operator()
        await self._departing.remove_user(text(arguments, "name"), caller.actor)
