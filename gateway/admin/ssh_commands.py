"""The commands on SSH keys: those that users log in with, and those that the SSH door is known by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.access import Access
from gateway.admin.calling import Arguments, Caller, Command, optional, text
from gateway.host_keys import HostKeys
from gateway.store.user_keys import UserKey
from gateway.user_keys import UserKeys


class SSHCommands:
    """Calls the use cases for the command line; an account that is not the operator's has to do with its own keys."""

    def __init__(self, access: Access, user_keys: UserKeys, host_keys: HostKeys | None, host: str) -> None:
        """Clients reach the door by the name `host`; without `host_keys` there is none."""
        self._access = access
        self._user_keys = user_keys
        self._host_keys = host_keys
        self._host = host
        self.table: Mapping[str, Command] = {
            "user.key.add": self._add,
            "user.key.list": self._list,
            "user.key.remove": self._remove,
            "keys.hosts": self._hosts,
        }

    async def _user(self, caller: Caller, arguments: Arguments) -> str:
        """Return whose keys are meant; raises NotAllowed, Invalid, and Unproven for a caller who is no enabled user."""
        user = caller.acting_as(text(arguments, "name"))
        if caller.user is not None:
            await self._access.of_user(caller.user)
        return user

    async def _add(self, caller: Caller, arguments: Arguments) -> Any:
        user = await self._user(caller, arguments)
        added = await self._user_keys.add(user, optional(arguments, "keys") or "", caller.actor)
        return [_user_key(key) for key in added]

    async def _list(self, caller: Caller, arguments: Arguments) -> Any:
        return [_user_key(key) for key in await self._user_keys.of_user(await self._user(caller, arguments))]

    async def _remove(self, caller: Caller, arguments: Arguments) -> Any:
        user = await self._user(caller, arguments)
        await self._user_keys.remove(user, text(arguments, "fingerprint"), caller.actor)

    async def _hosts(self, caller: Caller, _arguments: Arguments) -> Any:
        caller.require_operator()
        return [
            {
                "kid": record.name,
                "alg": record.key.algorithm,
                "created": record.created,
                "signs": True,
                "key": record.key.line,
                "fingerprint": record.key.fingerprint,
                "sshfp": record.sshfp,
            }
            for record in (self._host_keys.records(self._host) if self._host_keys else ())
        ]


def _user_key(mine: UserKey) -> dict[str, Any]:
    return {
        "fingerprint": mine.key.fingerprint,
        "type": mine.key.words,
        "comment": mine.comment,
        "created": mine.created,
        "key": mine.key.line,
    }
