"""How a request has arrived, told to whoever holds a ticket of the doctor; to all others this is not here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network

from aiohttp import web

from gateway.api import errors
from gateway.api.inbound import message_of
from gateway.asking import asker, forwarded_for
from gateway.bodies import whole
from gateway.errors import Invalid, NoSuch
from gateway.expecting import expect
from gateway.ocm.errors import ProtocolError
from gateway.ocm.signatures import verify
from gateway.own_paths import ECHO
from gateway.signing_keys import SigningKeys
from gateway.tickets import Tickets

MAX_BODY = 4 * 1024 * 1024  # bytes
BODY_TIME = 20.0  # seconds for the body to arrive


class EchoDoor:
    """POST `<base>/ocm/echo/...`, with `Authorization: Doctor <ticket>` and a signature of our own key."""

    def __init__(
        self,
        tickets: Tickets,
        keys: SigningKeys,
        *,
        origin: str,
        base_path: str,
        trusted_proxies: Iterable[IPv4Network | IPv6Network] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tickets = tickets
        self._keys = keys
        self._origin = origin
        self._base_path = base_path
        self._trusted = tuple(trusted_proxies)
        self._clock = clock

    def add_routes(self, router: web.UrlDispatcher) -> None:
        path = f"{self._base_path}{ECHO}/{{rest:[\\s\\S]*}}"
        router.add_post(path, self._echo, name="api:echo", expect_handler=expect)

    async def _echo(self, request: web.Request) -> web.Response:
        scheme, _, ticket = request.headers.get("Authorization", "").partition(" ")
        body = await self._body(request) if scheme == "Doctor" and self._holds(ticket) else None
        if body is None:
            answer = errors.response(NoSuch("NOT_FOUND", "there is no such endpoint"))
            answer.force_close()  # the body was not read
            return answer
        told = {
            "target": request.raw_path,
            "host": request.headers.get("Host"),
            "remote": request.remote,
            "client": asker(request, self._trusted),
            "forwarded_for": forwarded_for(request) or None,
            "bytes": len(body),
            "signature": self._signature(request, body),
        }
        return web.json_response(told, headers={"Cache-Control": "no-store"})

    def _holds(self, ticket: str) -> bool:
        return self._tickets.accepts(ticket, ECHO)

    async def _body(self, request: web.Request) -> bytes | None:
        """Return the whole body; None for one that is too large, late or cut off."""
        try:
            return await whole(request, MAX_BODY, asyncio.get_running_loop().time() + BODY_TIME)
        except Invalid:
            return None

    def _signature(self, request: web.Request, body: bytes) -> dict[str, str | None]:
        """Tell whether the signature holds here; every proxy on the way may have changed what it covers."""
        try:
            verify(message_of(request, self._origin, body), self._keys.public(), now=self._clock())
        except ProtocolError as error:
            base = getattr(error, "signature_base", None)
            return {"code": error.code, "reason": str(error), "signature_base": base}
        return {"code": None, "reason": None, "signature_base": None}
