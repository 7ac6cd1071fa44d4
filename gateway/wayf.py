"""The WAYF Page: somebody who was invited here says where his account is, and is sent to accept there.

draft-07, Invite Acceptance Request Details. Nothing is accepted here, and the Invite Token is only passed on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode

from gateway.directories import Directories
from gateway.errors import Invalid, NoSuch, NotAllowed
from gateway.ocm.address import canonical_server
from gateway.ocm.directory import ListedServer
from gateway.ocm.errors import Malformed
from gateway.ocm.invites import InviteString
from gateway.ocm.secret import Secret
from gateway.outbound import OutboundRefused
from gateway.peers import Peers

TOKEN_MAX = 512  # characters; ours have 43 at most, those of products 36

_SCHEME = re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]*://")
_AFTER_HOST = re.compile(r"[/?#].*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Federation:
    """Servers to choose from, by the name of what they belong to."""

    name: str
    servers: tuple[ListedServer, ...]


class Wayf:
    """Which servers are offered, and where an invite is accepted at the one that was chosen."""

    def __init__(
        self, peers: Peers, directories: Directories, *, server: str, check_url: Callable[[str], object]
    ) -> None:
        """Speak for `server`; `check_url` raises OutboundRefused for a URL that nobody is sent to."""
        self._peers = peers
        self._directories = directories
        self._server = server
        self._check_url = check_url

    async def federations(self) -> list[Federation]:
        """Return the members of all Directory Services but this server, sorted as people look for them."""
        found: dict[str, dict[str, ListedServer]] = {}
        for directory in [status.directory for status in await self._directories.everything() if status.directory]:
            members = found.setdefault(directory.federation, {})
            for listed in directory.servers:
                if listed.server != self._server:  # nobody invites himself
                    members.setdefault(listed.server, listed)
        return [
            Federation(name, tuple(sorted(servers.values(), key=lambda listed: listed.display_name.casefold())))
            for name, servers in sorted(found.items())
            if servers
        ]

    def invite_string(self, token: Secret) -> str:
        """Return what a server takes where there is no page to send its users to."""
        return InviteString(token, self._server).encode()

    async def accept_url(self, token: Secret, where: str) -> str:
        """Return the URL at which the invite is accepted by a user of the server that `where` names.

        Raises Invalid, NotAllowed, PeerFailed, Busy, and NoSuch when that server has no such page.
        """
        server = _server(where)
        if server == self._server:
            raise Invalid("SAME_SERVER", f"{server} is this gateway, from where the invite comes")
        dialog = (await self._peers.discover(server)).invite_accept_dialog
        if dialog is None:
            raise NoSuch("NO_INVITE_DIALOG", f"{server} names no inviteAcceptDialog in its discovery")
        try:
            self._check_url(dialog)
        except OutboundRefused as error:
            raise NotAllowed("DIALOG_REFUSED", f"the inviteAcceptDialog of {server}: {error}") from error
        query = urlencode({"token": token.reveal(), "providerDomain": self._server})
        return f"{dialog}{'&' if '?' in dialog else '?'}{query}"


def invite_token(text: str | None) -> Secret:
    """Return the Invite Token in a link; raises Invalid."""
    if not text or len(text) > TOKEN_MAX or not (text.isascii() and text.isprintable()) or " " in text:
        raise Invalid("INVALID_TOKEN", "the link has no Invite Token, or one that nobody has made", "token")
    return Secret(text)


def _server(text: str) -> str:
    """Return the server that a person means, by its host, an OCM Address, or a page that is open there.

    Raises Invalid.
    """
    text = text.strip()
    bare = _SCHEME.sub("", text)
    host = _AFTER_HOST.sub("", bare).rpartition("@")[2] if bare != text else bare.rpartition("@")[2].rstrip("/")
    try:
        return canonical_server(host)
    except Malformed as error:
        raise Invalid("INVALID_SERVER", error.reason, "server") from error
