"""The WAYF Page at `/wayf?token=...`: choose your server, and be sent there with the invite.

A GET shows the page and asks nobody; the choice is a POST, so that no link sends people to a server of its author.
The token is in the URL because the invite is a link: no-referrer and no-store keep it from going elsewhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Network, IPv6Network

import structlog
from aiohttp import web

from backends.errors import Unavailable
from gateway.causing import causing
from gateway.errors import Busy, PeerFailed, Refusal
from gateway.expecting import expect
from gateway.ocm.secret import Secret
from gateway.ocm.text import line
from gateway.own_paths import WAYF
from gateway.wayf import Wayf, invite_token
from gateway.web.errors import refusing
from gateway.web.forms import read_form, require_same_site
from gateway.web.pages import guarded, page

SHOWN_MAX = 100  # characters of what a visitor has typed

# What a visitor is told, by code; of what is not here, and of a server that does not answer, by the last two lines.
WORDS = {
    "INVALID_TOKEN": "This link holds no invite. Ask whoever has invited you for a new one.",
    "INVALID_SERVER": "“{where}” is not the name of a server. Write it as in cloud.example.org.",
    "SAME_SERVER": "The invite comes from this very server. Name the one where you have an account.",
    "CROSS_SITE": "Another web site has sent you here. Choose your server on this page.",
    "UNTRUSTED_PROVIDER": "This server does not work together with “{where}”. Its operator can tell you why.",
    "NO_INVITE_DIALOG": "“{where}” has no page for accepting invites. Accept there by hand, with the text below.",
    "DIALOG_REFUSED": "“{where}” sends people to a page that is not safe. Accept there by hand, with the text below.",
    "TOO_MANY_LOOKUPS": "Too many servers were looked up a moment ago. Try again in {seconds} s.",
}
NO_ANSWER = "“{where}” does not answer as an Open Cloud Mesh server. Check the name, and try again."
SILENT = "This server cannot look into its lists at the moment. Open the link again in a minute."
UNREADABLE = "Your choice did not arrive. Try again."

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()


class WayfPage:
    """The page and its form."""

    def __init__(
        self,
        wayf: Wayf,
        *,
        provider: str,
        server: str,
        base_path: str,
        http_allowed: bool,
        trusted_proxies: Iterable[IPv4Network | IPv6Network] = (),
    ) -> None:
        """`http_allowed`: people may be sent to pages in plain http, as in closed labs."""
        self._wayf = wayf
        self._names = {"provider": provider, "server": server}
        self._path = f"{base_path}{WAYF}"
        # A form's answer may lead only to where CSP lets the form go: to the chosen server, which nobody knows yet.
        self._form_action = "'self' https: http:" if http_allowed else "'self' https:"
        self._trusted_proxies = tuple(trusted_proxies)

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get(self._path, self._looking(self._show), name="web:wayf", expect_handler=expect)
        chosen = causing(self._looking(self._choose), self._trusted_proxies)
        app.router.add_post(self._path, chosen, name="web:wayf-choice", expect_handler=expect)

    async def _show(self, request: web.Request) -> web.Response:
        try:
            return await self._page(request, invite_token(request.query.get("token")))
        except Refusal as error:
            return await self._refused(request, error, None, "")

    async def _choose(self, request: web.Request) -> web.Response:
        token, where = None, ""
        try:
            fields = await read_form(request)
            token = invite_token(fields.get("token"))
            require_same_site(request)
            where = fields.get("server", "")
            location = await self._wayf.accept_url(token, where)
        except Refusal as error:
            return await self._refused(request, error, token, line(where)[:SHOWN_MAX])
        return guarded(web.Response(status=303, headers={"Location": location}), self._form_action)

    async def _refused(self, request: web.Request, error: Refusal, token: Secret | None, where: str) -> web.Response:
        log.warning("refused", path=request.path, code=error.code, reason=str(error), remote=request.remote)
        words = WORDS.get(error.code, NO_ANSWER if isinstance(error, PeerFailed) else UNREADABLE)
        seconds = error.retry_after if isinstance(error, Busy) else 0
        response = await self._page(request, token, words.format(where=where, seconds=seconds), where)
        return refusing(request, response, error)

    def _looking(self, handler: Handler) -> Handler:
        """Show what needs nothing of our state where that does not answer."""

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except Unavailable as error:
                log.warning("refused", path=request.path, code="UNAVAILABLE", reason=str(error), remote=request.remote)
                return refusing(request, await self._page(request, None, SILENT), error)

        return handle

    async def _page(
        self, request: web.Request, token: Secret | None, problem: str | None = None, where: str = ""
    ) -> web.Response:
        context = self._names | {
            "token": token.reveal() if token else None,
            "invite_string": self._wayf.invite_string(token) if token else None,
            "federations": await self._wayf.federations() if token else [],
            "problem": problem,
            "where": where,
            "path": self._path,
        }
        return page(request, "wayf.html", context, form_action=self._form_action)
