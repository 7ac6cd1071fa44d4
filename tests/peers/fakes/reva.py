"""CERNBox, which is reva of cs3org: reads our document closely, tries Bearer and then Basic, may exchange tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from .journal import Refused
from .messages import Asked, Document, basic, basic_user, bearer, bearer_token
from .reaching import Habits
from .reading import origin
from .resources import Resource
from .reva_family import RevaFamily
from .serving import DAV
from .shares import Received, Sent
from .tokens import Exchanging

NAMES = ("displayname", "resourcetype", "getcontentlength", "getcontenttype", "getetag", "getlastmodified")
TOKEN_PATH = "/ocm/token"


class Reva(RevaFamily, Exchanging):
    """`code_flow`: the operator has switched the token exchange on."""

    product = "reva"
    webdav = "/remote.php/dav/ocm/"
    protocol_keys = ("name", "options", "webdav", "webapp", "embedded")
    taken_status = 201
    has_providers = False  # the driver `open`: every server is discovered
    discovery_paths = ("/.well-known/ocm",)
    grant_types = ("authorization_code", "ocm_share")
    habits = Habits(properties=tuple(f"{{{DAV}}}{name}" for name in NAMES), upload_headers={"Upload-Length": "-1"})

    def __init__(self, *, code_flow: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._code_flow = code_flow

    def discovery(self, asked: Asked) -> Document:
        protocols = {
            "webdav": self.webdav,
            "webdav-receive": {"uri": "absolute"},
            "webapp-receive": {"targets": ["blank"]},
        }
        old = asked.headers.get("User-Agent") == "Nextcloud Server Crawler"
        document: Document = {
            "enabled": True,
            "apiVersion": "1.1" if old else "1.3.0",
            "endPoint": f"{self.url}/ocm",
            "provider": "CERNBox",
            "resourceTypes": [
                {"name": name, "shareTypes": ["user"], "protocols": protocols} for name in ("file", "folder")
            ],
            "capabilities": ["invites", "protocol-object", "invite-wayf"],
            "criteria": ["must-invite"],
            "inviteAcceptDialog": f"{self.url}/open-cloud-mesh/accept-invite",
        }
        if self._code_flow:
            document["capabilities"].append("exchange-token")
            document["tokenEndPoint"] = f"{self.url}{TOKEN_PATH}"
        return document

    # --- as Receiving Server ----------------------------------------------------------------------------------------

    def check_options(self, protocol: Document) -> None:
        """Options are ignored."""

    def check_uri(self, uri: str) -> None:
        if "%" in uri:
            self.journal.complain(f"webdav.uri is percent-decoded before use, and has a percent sign: {uri}")

    async def check_sender(self, server: str, resource_type: str) -> None:
        entries = [
            entry
            for entry in (await self.discover(server)).get("resourceTypes") or ()
            if entry.get("name") == resource_type and "webdav" in entry.get("protocols", {})
        ]
        if not entries:
            raise Refused(400, f"{server} advertises no {resource_type} with webdav")
        if not isinstance(entries[0]["protocols"]["webdav"], str):
            raise Refused(400, f"the webdav path of {server} is no string")

    async def url_of(self, received: Received) -> str:
        uri = received.uri or ""
        return uri if urlsplit(uri).scheme else self.joined(await self.discover(received.server), uri)

    async def credentials(self, received: Received, url: str) -> list[str]:
        """Return a new token for each operation if the Share requires one, else the secret as Bearer and as Basic."""
        if not received.requires_exchange:
            return [bearer(received.secret), basic(received.secret)]
        document = await self.discover(urlsplit(url).netloc)
        if origin(document.get("tokenEndPoint", "")) != origin(url):
            self.journal.complain("tokenEndPoint is looked for at the origin of webdav.uri, and is not there")
        return [bearer(await self.exchange(document, received.secret))]

    # --- as Sending Server ------------------------------------------------------------------------------------------

    def new_share(self, share_with: str, resource: Resource, name: str, user: str, permissions: Any) -> Sent:
        sent = super().new_share(share_with, resource, name, user, permissions)
        return replace(sent, requires_exchange=self._code_flow)

    def may_open(self, asked: Asked) -> tuple[Sent, str, str] | None:
        opened = super().may_open(asked) if bearer_token(asked) else self._by_basic(asked)
        if opened is None or (opened[0].owner, opened[0].share_with) not in self.contacts:
            return None
        return opened

    def keys_of(self, sent: Sent) -> list[str]:
        return sent.tokens if sent.requires_exchange else [sent.secret]

    def _by_basic(self, asked: Asked) -> tuple[Sent, str, str] | None:
        """Open the root, without an id, with the secret as user name."""
        sent = self.by_secret(basic_user(asked) or "")
        if sent is None or sent.requires_exchange:
            return None
        return sent, self.webdav, asked.path[len(self.webdav) - 1 :]

    async def more(self, asked: Asked) -> tuple[int, Any] | None:
        if self._code_flow and asked.method == "POST" and asked.path == TOKEN_PATH:
            return await self.grant(asked)
        return await super().more(asked)
