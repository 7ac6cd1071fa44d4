"""Slows down whoever guesses credentials, and locks nobody out.

Only what fails is counted, and what is refused for that is not checked at all, so nobody learns from it:

- a credential that has failed a few times from a client is refused there for a while: a device with yesterday's
  password asks on and on, and must not use up what its neighbours may try;
- other failures count for the client, which soon is refused; not so whoever has logged in from there before, for whom
  they are counted apart, since many people may be behind one address;
- they count for the user as well, wherever they come from; then a check is delayed, and never refused: otherwise
  anybody could lock out a user by failing in the user's name.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.errors import Unproven
from gateway.limits import Limits

T = TypeVar("T")

DELAY = 2.0  # seconds at most, for a user in whose name many fail
FAMILIAR = 10_000  # clients with their users
NAME_KEPT = 64  # characters, as a user's name has at most; what is sent for one may have as many as a header


class Logins:
    """Decides which attempts to log in are checked, and when."""

    def __init__(self, limits: Limits, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._limits = limits
        self._sleep = sleep
        self._familiar: OrderedDict[tuple[str, str], None] = OrderedDict()  # the one of the longest ago is first

    async def attempt(
        self, limit: str, client: str, user: str, credential: bytes, check: Callable[[], Awaitable[T]]
    ) -> T:
        """Return what `check` returns, if it is the turn of `client` to try.

        `limit` is `logins` or `secrets`, `credential` a digest by which it is known again. `user` is empty where the
        credential alone says who that is. Raises TooMany, and whatever `check` raises; Unproven counts.
        """
        pair, same = (client, user or credential.hex()), (client, credential)
        counted = pair if pair in self._familiar else client
        self._limits.require("repeats", same)
        self._limits.require(limit, counted)
        if user and counted == client and (wait := self._limits.wait(limit, _anywhere(user))):
            await self._sleep(min(wait, DELAY))
        try:
            result = await check()
        except Unproven:
            for name, key in (("repeats", same), (limit, counted), (limit, _anywhere(user))):
                self._limits.note(name, key)
            raise
        self._familiar[pair] = None
        self._familiar.move_to_end(pair)
        if len(self._familiar) > FAMILIAR:
            self._familiar.popitem(last=False)
        return result


def _anywhere(user: str) -> tuple[str, str]:
    """Return what failures in the name of `user` count for, wherever they come from."""
    return ("", user[:NAME_KEPT])
