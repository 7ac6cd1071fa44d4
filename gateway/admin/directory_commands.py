"""The commands of the admin socket about Directory Services."""

from __future__ import annotations

from typing import Any

from gateway.admin.calling import Arguments, Caller, Command, optional, text
from gateway.directories import Directories, DirectoryStatus


class DirectoryCommands:
    """Calls the use case for the command line."""

    def __init__(self, directories: Directories) -> None:
        self._directories = directories
        self.table: dict[str, Command] = {
            "directory.list": self._list,
            "directory.show": self._show,
            "directory.refresh": self._refresh,
        }

    async def _list(self, caller: Caller, _arguments: Arguments) -> Any:
        caller.require_operator()
        return [_view(status) for status in await self._directories.everything()]

    async def _show(self, caller: Caller, arguments: Arguments) -> Any:
        caller.require_operator()
        status = await self._directories.show(text(arguments, "name"))
        servers = status.directory.servers if status.directory else ()
        members = [
            {"server": listed.server, "display_name": listed.display_name, "url": listed.url} for listed in servers
        ]
        passed_over = list(status.directory.unusable) if status.directory else []
        return _view(status) | {"members": members, "passed_over": passed_over}

    async def _refresh(self, caller: Caller, arguments: Arguments) -> Any:
        caller.require_operator()
        return [_view(status) for status in await self._directories.refresh(optional(arguments, "name"))]


def _view(status: DirectoryStatus) -> dict[str, Any]:
    directory = status.directory
    return {
        "name": status.source.name,
        "url": status.source.url,
        "trusted": status.source.trusted,
        "federation": directory.federation if directory else None,
        "servers": len(directory.servers) if directory else 0,
        "fetched": status.fetched,
        "checked": status.checked,
        "expires": directory.expires_at if directory else None,
        "expired": status.expired,
        "problem": status.problem,
    }
