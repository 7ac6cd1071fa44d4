"""The endpoints of the OCM API, and the discovery documents at all the paths that peers ask for."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

import structlog
from aiohttp import web

from backends.errors import Unavailable
from gateway.api import errors
from gateway.api.inbound import read_message
from gateway.causing import causing
from gateway.departing import Departing
from gateway.errors import Busy, NoSuch, NotBuilt, Refusal, TooMany
from gateway.expecting import expect
from gateway.hinting import Hints, is_hint
from gateway.inviting import ALREADY_ACCEPTED, Inviting
from gateway.issuing import Issuing
from gateway.limits import Limits
from gateway.ocm.address import OCMAddress
from gateway.ocm.discovery import legacy_version_for
from gateway.ocm.errors import ProtocolError, TokenError
from gateway.ocm.fields import decode_object
from gateway.ocm.invites import parse_invite_acceptance, serialise_party
from gateway.ocm.notifications import Notification, NotificationType, parse_notification
from gateway.ocm.share_requests import parse_share_request
from gateway.ocm.shares import parse_share, serialise_share_created
from gateway.ocm.signatures import Message
from gateway.ocm.tokens import TokenRequest, parse_token_request
from gateway.own_paths import API, DISCOVERY, JWKS
from gateway.proof import Evidence, Peer
from gateway.proving import Proving
from gateway.receiving import Receiving
from gateway.requesting import Requesting
from gateway.resharing import Resharing
from gateway.sending import Sending
from gateway.signing_keys import SigningKeys
from gateway.traces import Exchange, Traces

# All are asked for by some product, with and without the slash, and none follows a redirect (peers.md §1).
DISCOVERY_PATHS = tuple(path + slash for path in DISCOVERY for slash in ("", "/"))
ANSWER_TIME = 9.0  # seconds for the body to arrive and to find out who speaks; the whole answer takes at most 10

ENDPOINTS = {  # with their methods
    "shares": "POST",
    "notifications": "POST",
    "invite-accepted": "POST",
    "request-share": "POST",
    "token": "POST",
    "jwks": "GET, HEAD",
}

# Which of our roles a notification speaks to; a type that is not here is not built.
ROLE_OF: dict[NotificationType, str] = {
    NotificationType.SHARE_ACCEPTED: "sending",
    NotificationType.SHARE_DECLINED: "requesting",  # it answers a Share, or a request for one
    NotificationType.SHARE_UNSHARED: "receiving",
    NotificationType.SHARE_CHANGE_PERMISSION: "receiving",
    NotificationType.REQUEST_SHARE: "requesting",
    NotificationType.REQUEST_RESHARE: "resharing",
    NotificationType.USER_REMOVED: "departing",
    NotificationType.GROUP_REMOVED: "departing",
}
# What is not idempotent: its signature counts once.
ONCE = frozenset({NotificationType.REQUEST_SHARE, NotificationType.REQUEST_RESHARE})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Answer = Callable[[Refusal | ProtocolError | Unavailable], web.Response]
Refused = Callable[[web.Request, web.Response, str, str], Awaitable[None]]  # with the code and the reason

SPEAKER = web.RequestKey("speaker", str)  # the server that a request speaks for
MESSAGE = web.RequestKey("message", Message)

log = structlog.get_logger()


class Listener(Protocol):
    """A use case that notifications speak to."""

    async def notified(self, peer: Peer, notification: Notification) -> None: ...

    async def server_of(self, notification: Notification) -> str: ...


class ApiDoor:
    """The OCM API under `<base>/ocm`."""

    def __init__(
        self,
        sending: Sending,
        receiving: Receiving,
        requesting: Requesting,
        resharing: Resharing,
        departing: Departing,
        hints: Hints,
        issuing: Issuing,
        proving: Proving,
        keys: SigningKeys,
        inviting: Inviting,
        traces: Traces,
        is_known: Callable[[str], Awaitable[bool]],
        *,
        document: dict[str, object],
        shows_cavage_key: bool = True,
        origin: str,
        base_path: str,
        limits: Limits | None = None,
        trusted_proxies: Iterable[IPv4Network | IPv6Network] = (),
    ) -> None:
        """What is refused is kept in `traces`, if its server `is_known`."""
        self._receiving = receiving
        self._hints = hints
        self._requesting = requesting
        self._listeners: Mapping[str, Listener] = {
            "sending": sending,
            "receiving": receiving,
            "requesting": requesting,
            "resharing": resharing,
            "departing": departing,
        }
        self._issuing = issuing
        self._proving = proving
        self._keys = keys
        self._inviting = inviting
        self._traces = traces
        self._is_known = is_known
        self._document = document
        self._shows_cavage_key = shows_cavage_key
        self._origin = origin
        self._base_path = base_path
        self._limits = limits or Limits({})
        self._trusted_proxies = tuple(trusted_proxies)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        prefixes = {"", self._base_path}  # discovery is always at the host's root, and where a proxy may pass it on
        handlers: dict[str, Handler] = dict.fromkeys(DISCOVERY_PATHS, self._discovery) | {JWKS: self._jwks}
        for number, (prefix, path) in enumerate(itertools.product(sorted(prefixes), handlers)):
            kind = "jwks" if path == JWKS else "discovery"
            router.add_get(prefix + path, handlers[path], name=f"well-known:{kind}:n{number}", expect_handler=expect)
        api = f"{self._base_path}{API}"
        router.add_get(f"{api}/jwks", self._jwks, name="api:jwks", expect_handler=expect)
        for name, handler, answer in (
            ("shares", self._shares, errors.response),
            ("notifications", self._notifications, errors.response),
            ("invite-accepted", self._invite_accepted, errors.response),
            ("token", self._token, errors.token_response),
            ("request-share", self._request_share, errors.request_response),
        ):
            counted = causing(_refusing(handler, answer, self._keep), self._trusted_proxies)
            router.add_post(f"{api}/{name}", counted, name=f"api:{name}", expect_handler=expect)
        other = _refusing(_not_here, errors.response, _nothing)
        router.add_route("*", f"{api}/{{name:[\\s\\S]*}}", other, name="api:other", expect_handler=expect)

    async def _discovery(self, request: web.Request) -> web.Response:
        document = dict(self._document)
        if legacy := legacy_version_for(request.headers.get("User-Agent")):
            document["apiVersion"] = legacy
        if self._shows_cavage_key:  # as it is at this moment: the key that is shown is the one that signs
            document["publicKey"] = self._keys.cavage_key().published()
        return web.json_response(document)

    async def _jwks(self, _request: web.Request) -> web.Response:
        return web.json_response(self._keys.document(), content_type="application/jwk-set+json")

    async def _shares(self, request: web.Request) -> web.Response:
        deadline = _deadline()
        message = request[MESSAGE] = await read_message(request, self._origin, deadline)
        notification = parse_share(decode_object(message.body))
        peer = await self._proof(request, OCMAddress.normalise(notification.sender).server, deadline)
        return web.json_response(serialise_share_created(await self._receiving.admit(peer, notification)), status=201)

    async def _notifications(self, request: web.Request) -> web.Response:
        deadline = _deadline()
        message = request[MESSAGE] = await read_message(request, self._origin, deadline)
        notification = parse_notification(decode_object(message.body))
        if self._proving.takes_unsigned and is_hint(message.headers, notification):
            await self._hints.take(notification)
            return web.json_response({}, status=201)
        role = ROLE_OF.get(notification.type)
        if role is None:
            raise NotBuilt("NOTIFICATION_NOT_SUPPORTED", f"{notification.type.value} is not handled here")
        listener, once = self._listeners[role], notification.type in ONCE
        peer = await self._proof(request, await _speaker(listener, notification), deadline, once=once)
        await listener.notified(peer, notification)
        return web.json_response({}, status=201)

    async def _request_share(self, request: web.Request) -> web.Response:
        """Take what API 1.4 says instead of REQUEST_SHARE."""
        deadline = _deadline()
        message = request[MESSAGE] = await read_message(request, self._origin, deadline)
        notification = parse_share_request(decode_object(message.body))
        peer = await self._proof(request, await self._requesting.server_of(notification), deadline, once=True)
        await self._requesting.notified(peer, notification)
        return web.json_response({}, status=201)

    async def _invite_accepted(self, request: web.Request) -> web.Response:
        deadline = _deadline()
        message = request[MESSAGE] = await read_message(request, self._origin, deadline)
        acceptance = parse_invite_acceptance(request.headers.get("Content-Type"), message.body)
        await self._inviting.require_open(acceptance)
        peer = await self._proof(request, acceptance.recipient_provider, deadline, once=True)
        inviter, again = await self._inviting.accepted(peer, acceptance)
        if again:  # only to the one who had it before, whose answer may have been lost
            return web.json_response({"message": ALREADY_ACCEPTED, **serialise_party(inviter)}, status=409)
        return web.json_response(serialise_party(inviter))

    async def _token(self, request: web.Request) -> web.Response:
        deadline = _deadline()
        message = request[MESSAGE] = await read_message(request, self._origin, deadline)
        token_request = parse_token_request(request.headers.get("Content-Type"), message.body)
        server = await self._issuing.server_of_code(token_request.code)
        _require_client(token_request, server)
        peer = await self._proof(request, server, deadline, once=True)
        granted = (await self._issuing.issue(peer, token_request)).serialise()
        return web.json_response(granted, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})

    async def _proof(self, request: web.Request, server: str, deadline: float, *, once: bool = False) -> Peer:
        request[SPEAKER] = server
        try:
            async with asyncio.timeout_at(deadline):
                peer = await self._proving.prove(request[MESSAGE], server, once=once)
        except TimeoutError as error:
            raise Busy("SENDER_UNREACHABLE", f"{server} did not answer in time") from error
        if peer.evidence > Evidence.NONE:  # otherwise anybody could use up what another server may ask
            self._limits.take("peers", server)
        return peer

    async def _keep(self, request: web.Request, answer: web.Response, code: str, reason: str) -> None:
        """Keep what was refused, for whoever asks later why."""
        message, server = request.get(MESSAGE), request.get(SPEAKER)
        if message is not None and server is not None and await self._is_known(server):
            body = answer.body if isinstance(answer.body, bytes) else b""
            what = (message.method, message.target_uri, message.headers, message.body)
            await self._traces.keep(Exchange("incoming", server, *what, answer.status, body, code, reason))


async def _nothing(_request: web.Request, _answer: web.Response, _code: str, _reason: str) -> None:
    """What is no endpoint has no exchange."""


def _deadline() -> float:
    """Return when body and proof must be there, on the clock of the event loop."""
    return asyncio.get_running_loop().time() + ANSWER_TIME


async def _not_here(request: web.Request) -> web.Response:
    """Refuse what is no endpoint, or not by this method."""
    allowed = ENDPOINTS.get(request.match_info["name"])
    if allowed is None:
        raise NoSuch("NOT_FOUND", "there is no such endpoint")
    log.warning("refused", path=request.path, code="METHOD_NOT_ALLOWED", remote=request.remote)
    return web.json_response({"message": "METHOD_NOT_ALLOWED"}, status=405, headers={"Allow": allowed})


async def _speaker(listener: Listener, notification: Notification) -> str:
    """Return the server that the notification speaks for: senderDomain, or else the stored Share's other host."""
    if notification.sender_domain is not None:
        return notification.sender_domain
    return await listener.server_of(notification)


def _require_client(request: TokenRequest, server: str) -> None:
    """The client_id is the Share's receiver; reva sends a URL or none, Nextcloud leaves out the port (peers.md §8)."""
    if request.client_id is None:
        return
    client, receiver = OCMAddress.normalise(f"client@{request.client_id}"), OCMAddress.parse(f"client@{server}")
    if client not in (receiver, replace(receiver, port=None)):
        raise TokenError("invalid_client", f"{client.server} is not the receiver of this Share")


def _refusing(handler: Handler, answer: Answer, refused: Refused) -> Handler:
    """Turn what `handler` refuses into an answer, one log line, and what `refused` does with it."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except (Refusal, ProtocolError, Unavailable) as error:
            code = getattr(error, "code", "UNAVAILABLE")
            if not isinstance(error, TooMany):  # which has its own line, one for many requests
                log.warning("refused", path=request.path, code=code, reason=str(error), remote=request.remote)
            response = answer(error)
            if not isinstance(error, TooMany):
                await refused(request, response, code, str(error))
            if not request.content.is_eof():
                response.force_close()  # what comes of the body would be taken for the next request
            return response

    return handle
