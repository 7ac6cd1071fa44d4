"""The commands on requests for Shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.access import Access
from gateway.admin import views
from gateway.admin.calling import Arguments, Caller, Command, number, optional, path, text, words
from gateway.requesting import Requesting, RequestView
from gateway.resharing import Resharing
from gateway.sending import permissions


class RequestCommands:
    """Calls the use case for the command line."""

    def __init__(self, access: Access, requesting: Requesting, resharing: Resharing) -> None:
        self._access = access
        self._resharing = resharing
        self._requesting = requesting
        self.table: Mapping[str, Command] = {
            "request.create": self._create,
            "received.reshare": self._reshare,
            "request.list": self._list,
            "request.show": self._show,
            "request.grant": self._grant,
            "request.decline": self._decline,
        }

    async def _scope(self, caller: Caller, arguments: Arguments) -> str | None:
        """Return whose requests are meant; raises NotAllowed, Invalid, and Unproven for a disabled caller."""
        if caller.user is not None:
            await self._access.of_user(caller.user)
        return caller.scope(optional(arguments, "as"))

    async def _create(self, caller: Caller, arguments: Arguments) -> Any:
        user = caller.acting_as(optional(arguments, "as"))
        await self._access.of_user(user)
        asked = permissions(words(arguments, "permissions") or ["read"])
        owner, resource = text(arguments, "owner"), text(arguments, "resource")
        view, problem = await self._requesting.ask(user, owner, resource, asked, caller.actor)
        return _request(view) | {"problem": problem}

    async def _reshare(self, caller: Caller, arguments: Arguments) -> Any:
        user = caller.acting_as(optional(arguments, "as"))
        await self._access.of_user(user)
        wanted = words(arguments, "permissions")
        view, problem = await self._resharing.ask(
            user,
            text(arguments, "id"),
            text(arguments, "with"),
            permissions(wanted) if wanted else None,
            caller.actor,
        )
        return _request(view) | {"problem": problem}

    async def _list(self, caller: Caller, arguments: Arguments) -> Any:
        return [_request(view) for view in await self._requesting.list(await self._scope(caller, arguments))]

    async def _show(self, caller: Caller, arguments: Arguments) -> Any:
        view = await self._requesting.show(await self._scope(caller, arguments), text(arguments, "id"))
        return _request(view) | {"events": views.history(view.history)}

    async def _grant(self, caller: Caller, arguments: Arguments) -> Any:
        wanted = words(arguments, "permissions")
        view, problem = await self._requesting.grant(
            await self._scope(caller, arguments),
            text(arguments, "id"),
            caller.actor,
            path=path(arguments) if arguments.get("path") else None,
            permissions=permissions(wanted) if wanted else None,
            expiration=number(arguments, "expiration"),
        )
        return views.sent_share(view) | {"problem": problem}

    async def _decline(self, caller: Caller, arguments: Arguments) -> Any:
        scope = await self._scope(caller, arguments)
        return _request(await self._requesting.decline(scope, text(arguments, "id"), caller.actor))


def _request(view: RequestView) -> dict[str, Any]:
    request = view.request
    return {
        "id": request.id,
        "direction": request.direction,
        "kind": request.kind,
        "user": request.user,
        "owner": request.owner,
        "share_with": request.share_with,
        "resource": request.resource,
        "permissions": views.permissions(request.permissions),
        "state": str(request.state),
        "share": request.granted,
        "created": request.created,
        "updated": request.updated,
        "waiting": view.waiting,
    }
