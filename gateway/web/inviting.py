"""The page at `inviteAcceptDialog`, where a WAYF Page sends whom somebody has invited (draft-07, Invite Flow).

Looking at it changes nothing and asks no other server anything: only the form does, with the user's password.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import structlog
from aiohttp import web

from backends.errors import Unavailable
from gateway.access import Access, Grant
from gateway.config import Config
from gateway.errors import Invalid, Refusal, TooMany, Unproven
from gateway.expecting import expect
from gateway.inviting import Inviting
from gateway.logins import Logins
from gateway.ocm.errors import ProtocolError
from gateway.ocm.invites import InviteString
from gateway.own_paths import ACCEPT_INVITE
from gateway.web.errors import status_of
from gateway.web.forms import COOKIE, LIFE, FormTokens, read_form
from gateway.web.pages import page

# The same for a wrong password as for a name that nobody has.
WRONG_PASSWORD = "This user name and password do not belong together. Please try again."  # noqa: S105 -- a sentence
STALE = "This page was open for too long, or your browser keeps no cookies. Please try again."

log = structlog.get_logger()


class AcceptInvitePage:
    """Shows who invites, and accepts for a user who gives name and password."""

    def __init__(
        self,
        config: Config,
        access: Access,
        inviting: Inviting,
        tokens: FormTokens,
        logins: Logins,
        client: Callable[[web.Request], str],
    ) -> None:
        """`client` returns whose failed log-ins `logins` counts together."""
        self._access = access
        self._logins = logins
        self._client = client
        self._inviting = inviting
        self._tokens = tokens
        self._path = f"{config.base_path}{ACCEPT_INVITE}"
        self._is_https = config.public_url.startswith("https:")
        self._shown = {"provider": config.provider, "server": config.server, "action": self._path}

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get(self._path, self._show, expect_handler=expect)
        router.add_post(self._path, self._accept, expect_handler=expect)

    async def _show(self, request: web.Request) -> web.Response:
        try:
            names = ("token", "providerDomain")
            invite = self._invite({name: value for name, value in request.query.items() if name in names})
        except Refusal as error:
            return self._refused(request, error)
        return self._form(request, invite)

    async def _accept(self, request: web.Request) -> web.Response:
        try:
            form = await read_form(request)
            invite = self._invite(form)
        except (Refusal, ProtocolError) as error:
            return self._refused(request, error)
        if not self._tokens.accepts(request.cookies.get(COOKIE), form.get("form")):
            return self._again(request, invite, form, STALE, "STALE_FORM")
        try:
            grant = await self._grant(request, form.get("user", ""), form.get("password", ""))
        except Unproven as error:
            return self._again(request, invite, form, WRONG_PASSWORD, error.code)
        except (Unavailable, TooMany) as error:
            return self._refused(request, error)
        try:
            contact = await self._inviting.accept(grant.who, invite, grant.who)
        except (Refusal, ProtocolError, Unavailable) as error:
            return self._refused(request, error)
        return page(request, "invite_accepted.html", {**self._shown, "contact": contact, "user": grant.who})

    async def _grant(self, request: web.Request, user: str, password: str) -> Grant:
        """Return the Grant of a password; raises Unproven, Unavailable, TooMany."""
        digest = self._access.digest(f"password\0{user}\0{password}".encode("utf-8", "surrogatepass"))
        check = partial(self._access.by_password, user, password)
        return await self._logins.attempt("logins", self._client(request), user, digest, check)

    def _invite(self, fields: Mapping[str, str]) -> InviteString:
        """Return the invite that a link or a form is about; raises Invalid."""
        token, provider = fields.get("token"), fields.get("providerDomain")
        if not token or not provider:
            raise Invalid("INVITE_MISSING", "the link is not complete: ask whoever invites you to send it again")
        return self._inviting.read(token, provider)

    def _form(self, request: web.Request, invite: InviteString, status: int = 200, **shown: Any) -> web.Response:
        """Show the form, with a fresh cookie that comes back from our own pages only."""
        issued = self._tokens.issue()
        context = {"invite": invite, "token": invite.token.reveal(), "form_token": issued.token, "user": ""}
        response = page(request, "accept_invite.html", {**self._shown, **context, **shown}, status)
        response.set_cookie(
            COOKIE,
            issued.cookie,
            max_age=LIFE,
            path=self._path,
            httponly=True,
            secure=self._is_https,
            samesite="Strict",
        )
        return response

    def _again(
        self, request: web.Request, invite: InviteString, form: Mapping[str, str], problem: str, code: str
    ) -> web.Response:
        log.warning("refused", path=request.path, code=code, reason=problem, remote=request.remote)
        return self._form(request, invite, 403, problem=problem, user=form.get("user", "")[:64])

    def _refused(self, request: web.Request, error: Refusal | ProtocolError | Unavailable) -> web.Response:
        code = getattr(error, "code", "UNAVAILABLE")
        log.warning("refused", path=request.path, code=code, reason=str(error), remote=request.remote)
        is_ours = isinstance(error, Refusal)  # what others raise is written for the log
        problem = str(error) if is_ours else "That did not work. Please try again in a moment."
        response = page(request, "refused.html", {**self._shown, "problem": problem}, status_of(error))
        if isinstance(error, TooMany):
            response.headers["Retry-After"] = str(error.retry_after)
        if not request.content.is_eof():
            response.force_close()  # what comes of the body would be taken for the next request
        return response
