"""What all fakes are: an HTTP server on loopback that plays both roles of OCM and keeps a journal.

A product is a subclass that says what it sends, takes, demands and answers. Nothing here comes from the gateway.
"""

from __future__ import annotations

import json
import secrets
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp import web

from .journal import Entry, Failed, Journal, Refused
from .messages import Answer, Asked, Document
from .reaching import Habits, Reached
from .reading import one_host
from .resources import Resource
from .serving import DavAnswer, Served
from .shares import Received, Sent

REQUEST_TIME = 20.0  # seconds


class Fake(ABC):
    """One product."""

    product: ClassVar[str]
    api: ClassVar[str] = "/ocm"  # the path of the API
    webdav: ClassVar[str] = "/dav/ocm/"
    discovery_paths: ClassVar[tuple[str, ...]] = ("/.well-known/ocm", "/ocm-provider")  # that it serves
    queried_paths: ClassVar[tuple[str, ...]] = ("/.well-known/ocm", "/ocm-provider")  # that it asks for
    user_agent: ClassVar[str] = "fake"
    share_answers: ClassVar[tuple[int, ...]] = (200, 201)  # that it takes for a success
    notification_answers: ClassVar[tuple[int, ...]] = (201,)
    habits: ClassVar[Habits] = Habits()
    needs_invite: ClassVar[bool] = False
    only_https: ClassVar[bool] = False
    read_only_status: ClassVar[int] = 403
    tells_permissions: ClassVar[Collection[str]] = ()
    default_depth: ClassVar[str] = "infinity"
    shares_folders: ClassVar[bool] = True
    has_providers: ClassVar[bool] = False  # a list of the servers that are trusted, the file ocmproviders.json

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "localhost",
        tls: ssl.SSLContext | None = None,
        trusted: ssl.SSLContext | None = None,
        listener: Callable[[Entry], None] | None = None,
        on_received: Callable[[Received], None] | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        """Serve as `host`:`port`, any free one if 0; `tls` and `trusted` are the contexts of server and client.

        `users` are display names by login. `listener` is told each entry of the journal, `on_received` each new Share.
        """
        self.journal = Journal(listener)
        self.users = dict(users or {"marie": "Marie Curie"})
        self.sent: dict[str, Sent] = {}
        self.received: list[Received] = []
        self.signers: dict[str, str] = {}  # by server: how it has signed what was verified last
        self.contacts: set[tuple[str, str]] = set()  # (local user, remote address)
        self._on_received = on_received
        self._host = host
        self._port = port
        self._tls = tls
        self._trusted = trusted

    # --- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls).start()
        self._port = self._runner.addresses[0][1]
        connector = aiohttp.TCPConnector(ssl=self._trusted or True)
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIME)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)

    async def stop(self) -> None:
        await self._session.close()
        await self._runner.cleanup()

    @property
    def server(self) -> str:
        return f"{self._host}:{self._port}"

    @property
    def scheme(self) -> str:
        return "https" if self._tls else "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.server}"

    def address(self, user: str) -> str:
        """Return the OCM Address to which others share with `user`."""
        return f"{user}@{self.server}"

    def befriend(self, user: str, address: str) -> None:
        """Make a local user and somebody elsewhere contacts, as if an invite had been accepted."""
        self.contacts.add((user, address))

    def trust(self, domain: str, endpoint: str) -> None:
        """List another server with the URL of its API, where the product has such a list."""

    # --- what a product says, sends and takes ---------------------------------------------------------------------

    @abstractmethod
    def discovery(self, asked: Asked) -> Document:
        """Return the discovery document."""

    @abstractmethod
    def check_discovery(self, document: Document) -> None:
        """Raise Refused with what the product cannot live with in the other side's document."""

    @abstractmethod
    def share_body(self, sent: Sent, document: Document) -> Document:
        """Return the Share Creation Notification for a Share."""

    @abstractmethod
    async def take_share(self, asked: Asked) -> tuple[int, Any]:
        """Store a Share that has come and return status and body of the answer; raises Refused."""

    @abstractmethod
    async def take_notification(self, asked: Asked) -> tuple[int, Any]:
        """Do what a notification says; raises Refused."""

    @abstractmethod
    async def reach(self, received: Received) -> Reached:
        """Return the way to a received Share by the product's own URL and credentials."""

    @abstractmethod
    def may_open(self, asked: Asked) -> tuple[Sent, str, str] | None:
        """Return the Share that a DAV request opens, the path of its root, and the path within; None is a 401."""

    def farewell(self, sent: Sent) -> Document | None:
        """Return the notification that a Share has ended, None if the product sends none."""
        return None

    def news(self, sent: Sent) -> Document | None:
        """Return the notification that the permissions have changed, None if the product sends none."""
        return None

    def answer_of_user(self, received: Received, word: str) -> Document | None:
        """Return the notification with which a user accepts or declines (SHARE_ACCEPTED, SHARE_DECLINED)."""
        return None

    async def sign(self, method: str, url: str, body: bytes, document: Document) -> dict[str, str]:
        """Return the headers of a signature, none if the product does not sign towards such a server."""
        return {}

    async def more(self, asked: Asked) -> tuple[int, Any] | None:
        """Answer the product's other endpoints; None where there is nothing."""
        return None

    # --- as Sending Server ----------------------------------------------------------------------------------------

    async def send_share(
        self,
        share_with: str,
        resource: Resource,
        *,
        name: str = "data",
        user: str | None = None,
        permissions: Sequence[str] = ("read",),
    ) -> Sent:
        """Share a Resource with somebody elsewhere; raises Failed when the other side does not take it."""
        sent = self.new_share(share_with, resource, name, user or next(iter(self.users)), permissions)
        document = await self.discover(sent.server)
        body = self.share_body(sent, document)
        self.sent[sent.path_id] = sent  # before it is told: the other side may look at once
        answer = await self.post(document, "/shares", body)
        if answer.status not in self.share_answers or not self.takes_answer(answer):
            del self.sent[sent.path_id]
            self.journal.complain(f"POST /shares is answered {answer.status} {answer.refusal}")
            raise Failed("the Share was not taken", answer.status)
        return sent

    def new_share(self, share_with: str, resource: Resource, name: str, user: str, permissions: Sequence[str]) -> Sent:
        return Sent(secrets.token_hex(8), secrets.token_urlsafe(24), share_with, name, resource, permissions, user)

    def takes_answer(self, answer: Answer) -> bool:
        """Tell whether the body of the answer to a Share can be used."""
        return isinstance(answer.json(), dict)

    async def revoke(self, sent: Sent) -> None:
        sent.state = "revoked"
        await self._tell(sent.server, self.farewell(sent))

    async def change_permissions(self, sent: Sent, permissions: Sequence[str]) -> None:
        sent.permissions = permissions
        await self._tell(sent.server, self.news(sent))

    # --- as Receiving Server --------------------------------------------------------------------------------------

    def keep(self, received: Received) -> None:
        """Store a Share; the same again replaces nothing."""
        if self.share_of(received.provider_id, received.secret):
            return
        self.received.append(received)
        if self._on_received is not None:
            self._on_received(received)

    def share_of(self, provider_id: str, secret: str | None = None) -> Received | None:
        fitting = (share for share in self.received if share.provider_id == provider_id)
        return next((share for share in fitting if secret in (None, share.secret)), None)

    async def accept(self, received: Received) -> Reached:
        """Accept a Share, tell its sender as the product does, and return the way to it."""
        received.state = "accepted"
        await self._tell(received.server, self.answer_of_user(received, "SHARE_ACCEPTED"))
        return await self.reach(received)

    async def decline(self, received: Received) -> None:
        received.state = "declined"
        await self._tell(received.server, self.answer_of_user(received, "SHARE_DECLINED"))

    # --- towards the other side -----------------------------------------------------------------------------------

    async def discover(self, server: str) -> Document:
        """Return the discovery document of `server` if the product can use it; raises Failed."""
        for path in self.queried_paths:
            answer = await self.call("GET", f"{self.scheme}://{server}{path}", {"User-Agent": self.user_agent})
            document = answer.json()
            if answer.status == 200 and isinstance(document, dict):
                break
        else:
            self.journal.complain(f"{server} has no discovery document at {' or '.join(self.queried_paths)}")
            raise Failed("no discovery", answer.status)
        try:
            self.check_discovery(document)
        except Refused as refused:
            self.journal.complain(f"discovery of {server}: {refused.why}")
            raise Failed(refused.why) from refused
        if self.only_https and urlsplit(document["endPoint"]).scheme != "https":
            self.journal.complain(f"{self.product} speaks https only, and endPoint is {document['endPoint']}")
        return document

    async def look_up(self, server: str) -> str:
        """Return the URL of the API of `server`, for the list of those that are trusted; raises Failed."""
        answer = await self.call("GET", f"{self.scheme}://{server}/.well-known/ocm")
        document = answer.json()
        if answer.status != 200 or not isinstance(document, dict) or not isinstance(document.get("endPoint"), str):
            self.journal.complain(f"{server} has no discovery document with an endPoint at /.well-known/ocm")
            raise Failed("no discovery", answer.status)
        return str(document["endPoint"])

    async def post(self, document: Document, path: str, payload: Document) -> Answer:
        """POST JSON to the API of the other side, signed where the product signs."""
        body = json.dumps(payload).encode()
        url = document["endPoint"].rstrip("/") + path
        headers = {"Content-Type": "application/json", **await self.sign("POST", url, body, document)}
        return await self.call("POST", url, headers, body)

    async def call(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Make one request, following no redirect; raises Failed when there is no answer."""
        try:
            async with self._session.request(method, url, headers=headers, data=body, allow_redirects=False) as got:
                answer = Answer(got.status, got.headers, await got.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            self.journal.complain(f"{method} {url}: no answer: {error or type(error).__name__}")
            raise Failed(f"{method} {url}") from error
        self.journal.note("out", method, url, answer.status)
        return answer

    async def _tell(self, server: str, notification: Document | None) -> None:
        if notification is None:
            return
        answer = await self.post(await self.discover(server), "/notifications", notification)
        if answer.status not in self.notification_answers:
            kind = notification.get("notificationType")
            self.journal.complain(f"POST /notifications ({kind}) is answered {answer.status} {answer.refusal}")
            raise Failed(f"{kind} was not taken", answer.status)

    # --- as a server ------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.method, request.raw_path, request.headers, await request.read())
        try:
            response = await self._route(asked)
        except Refused as refused:
            if refused.why:
                self.journal.complain(f"{asked.method} {asked.path}: {refused.why}")
            response = web.json_response(refused.body, status=refused.status)
        except Failed as failed:  # what it asked the other side meanwhile: the journal has it already
            response = web.json_response({"message": str(failed)}, status=400)
        except (AttributeError, KeyError, TypeError, ValueError, SyntaxError) as error:
            self.journal.complain(f"{asked.method} {asked.path}: what nobody would expect there: {error!r}")
            response = web.json_response({"message": "malformed"}, status=400)
        self.journal.note("in", asked.method, asked.path, response.status)
        return response

    async def _route(self, asked: Asked) -> web.StreamResponse:
        if asked.method == "GET" and asked.path in self.discovery_paths:
            return web.json_response(self.discovery(asked))
        if asked.method == "POST" and asked.path.startswith(f"{self.api}/"):
            takers = {"/shares": self.take_share, "/notifications": self.take_notification}
            taker = takers.get(asked.path.removeprefix(self.api))
            if taker is not None:
                status, body = await taker(asked)
                return web.json_response(body, status=status)
        if unquote(asked.path).startswith(self.webdav.rstrip("/")):
            return _response(self._serve(asked))
        found = await self.more(asked)
        if found is None:
            return web.json_response({"message": "NOT_FOUND"}, status=404)
        status, body = found
        headers = {"Cache-Control": "no-store"}
        return web.json_response(body, status=status, headers=headers)

    def _serve(self, asked: Asked) -> DavAnswer:
        opened = self.may_open(asked)
        if opened is None or not opened[0].opens:
            return DavAnswer(401, headers={"WWW-Authenticate": 'Basic realm="dav"'})
        sent, root, path = opened
        served = Served(
            sent.resource,
            root.rstrip("/"),
            sent.permissions,
            tells_permissions=self.tells_permissions,
            read_only_status=self.read_only_status,
            default_depth=self.default_depth,
        )
        return served.answer(asked.method, path, asked.headers, asked.body)

    # --- what several products do alike ---------------------------------------------------------------------------

    def user_of(self, share_with: str) -> str:
        """Return the local user of an OCM Address, "" if it names another server."""
        user, _, server = one_host(share_with).rpartition("@")
        return user if server == self.server else ""

    def by_secret(self, secret: str) -> Sent | None:
        return next((sent for sent in self.sent.values() if sent.secret == secret and sent.opens), None)

    def by_token(self, token: str) -> Sent | None:
        return next((sent for sent in self.sent.values() if token in sent.tokens and sent.opens), None)


def _response(answer: DavAnswer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
