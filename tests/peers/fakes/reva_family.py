"""What CERNBox/reva, OpenCloud and oCIS share: the body of API 1.2, Bearer at the Share's own URL, contacts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from .inviting import Inviting
from .journal import Failed, Refused
from .messages import Asked, Document, bearer_token
from .reaching import Reached
from .reading import bare_server, lacking, one_host, origin
from .shares import Received, Sent

REQUIRED = ("shareWith", "name", "providerId", "owner", "sender", "shareType", "resourceType", "protocol")
PERMISSIONS = frozenset({"read", "write", "share"})


class RevaFamily(Inviting):
    """Their `ocmd` service."""

    protocol_keys: ClassVar[Collection[str]] = ()
    taken_status: ClassVar[int] = 200
    notification_answers = (200, 201)
    needs_invite = True
    has_providers = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.providers: dict[str, str] | None = {} if self.has_providers else None  # endpoints by domain

    def trust(self, domain: str, endpoint: str) -> None:
        """List another server, as the operator would in ocmproviders.json; without such a file all are trusted."""
        if self.providers is not None:
            self.providers[domain] = endpoint

    # --- as Receiving Server ----------------------------------------------------------------------------------------

    async def take_share(self, asked: Asked) -> tuple[int, Any]:
        if asked.headers.get("Content-Type", "").partition(";")[0] != "application/json":
            raise Refused(400, "Content-Type is not application/json")
        body = asked.json()
        if missing := lacking(body, *REQUIRED):
            raise Refused(400, f"{', '.join(missing)} is missing")
        if body["resourceType"] not in ("file", "folder") or body["shareType"] not in ("user", "group"):
            raise Refused(400, f"{body['shareType']!r} Shares of a {body['resourceType']!r} are unknown")
        expiration = body.get("expiration", 0)
        if isinstance(expiration, bool) or not isinstance(expiration, int):
            raise Refused(400, f"expiration is no JSON integer: {expiration!r}")
        details = self._details(body["protocol"])
        server = bare_server(body["sender"].rpartition("@")[2])
        self._require_listed(server)
        user = self.recipient(body["shareWith"])
        if not self.knows(user, body["sender"]):
            raise Refused(401, f"no accepted invite for {body['sender']}", {"message": "no accepted invite"})
        await self.check_sender(server, body["resourceType"])
        demands = "must-exchange-token" in (details.get("requirements") or ())
        received = Received(
            provider_id=body["providerId"],
            secret=details["sharedSecret"],
            owner=body["owner"],
            sender=body["sender"],
            server=server,
            recipient=user,
            name=body["name"],
            resource_type=body["resourceType"],
            permissions=details["permissions"],
            uri=details.get("uri", ""),
            requires_exchange=demands,
        )
        self.keep(received)
        return self.taken_status, {}

    def _details(self, protocol: Document) -> Document:
        """Return the webdav details; raises Refused for what the product cannot decode."""
        unknown = protocol.keys() - set(self.protocol_keys)
        if unknown:
            raise Refused(400, f"protocol {', '.join(sorted(unknown))} not recognized")
        self.check_options(protocol)
        details = protocol.get("webdav")
        if not isinstance(details, dict) or not details.get("sharedSecret"):
            raise Refused(400, "protocol.webdav with a sharedSecret is missing")
        permissions = details.get("permissions")
        if not isinstance(permissions, list) or not permissions or set(permissions) - PERMISSIONS:
            raise Refused(400, f"permissions are {permissions!r}")
        if set(details.get("requirements") or ()) - {"must-exchange-token"}:
            raise Refused(400, f"requirements are {details['requirements']!r}")
        self.check_uri(details.get("uri", ""))
        return details

    def check_options(self, protocol: Document) -> None:
        """Raise Refused for options that the product does not take."""
        if protocol.get("options"):
            raise Refused(400, "protocol options not supported")

    def check_uri(self, uri: str) -> None:
        """Raise Refused for a uri that the product does not take."""
        if not urlsplit(uri).scheme:
            raise Refused(400, f"webdav.uri is not absolute: {uri!r}")
        if self.only_https and urlsplit(uri).scheme != "https":
            raise Refused(400, f"webdav.uri is not https: {uri!r}")
        if "%" in uri:
            self.journal.complain(f"webdav.uri is percent-decoded before use, and has a percent sign: {uri}")

    async def check_sender(self, server: str, resource_type: str) -> None:
        """Look at the sender's server, if the product does; raises Refused."""

    def recipient(self, share_with: str) -> str:
        """Return the local user; raises Refused."""
        user = self.user_of(share_with)
        if user not in self.users:
            raise Refused(404, f"there is no user {share_with!r}")
        return user

    def knows(self, user: str, sender: str) -> bool:
        return self.is_contact(user, one_host(sender))

    def _require_listed(self, server: str) -> None:
        if self.providers is not None and server not in self.providers:
            raise Refused(401, f"{server} is not listed among the providers")

    async def check_acceptance(self, asked: Asked, provider: str) -> None:
        if self.providers is not None and provider not in self.providers:
            raise Refused(403, f"{provider} is not listed among the providers")

    async def reach(self, received: Received) -> Reached:
        url = await self.url_of(received)

        async def authorization() -> list[str]:
            return await self.credentials(received, url)

        return Reached(self, url, authorization, self.habits, writable=received.writable)

    async def url_of(self, received: Received) -> str:
        return received.uri or ""

    async def credentials(self, received: Received, url: str) -> list[str]:
        """Return the Authorization headers to try in turn."""
        return [f"Bearer {received.secret}"]

    async def discover(self, server: str) -> Document:
        """Return what the file of providers says, where there is one: the document is not asked for."""
        if self.providers is None:
            return await super().discover(server)
        endpoint = self.providers.get(server)
        if endpoint is None:
            raise Failed(f"{server} is not listed among the providers")
        return {"endPoint": endpoint}

    def check_discovery(self, document: Document) -> None:
        if not document.get("endPoint"):
            raise Refused(400, "endPoint is missing")

    # --- as Sending Server ------------------------------------------------------------------------------------------

    def share_body(self, sent: Sent, document: Document) -> Document:
        owner, name = self.owner(sent.owner), self.users[sent.owner]
        details: Document = {
            "sharedSecret": sent.secret,
            "permissions": list(sent.permissions),
            "uri": f"{self.url}{self.webdav}{sent.path_id}",
        }
        if sent.requires_exchange:
            details["requirements"] = ["must-exchange-token"]
        return {
            "shareWith": sent.share_with,
            "name": sent.name,
            "description": "",
            "providerId": sent.provider_id,
            "owner": owner,
            "sender": owner,
            "ownerDisplayName": "",
            "senderDisplayName": name,
            "code": "",
            "shareType": "user",
            "resourceType": sent.resource_type,
            "expiration": 0,
            "protocol": {"name": "multi", "options": {}, "webdav": details},
        }

    def owner(self, user: str) -> str:
        """Return a local user as owner and sender."""
        return self.address(user)

    def may_open(self, asked: Asked) -> tuple[Sent, str, str] | None:
        """Open `<root>/<id>` with the secret as Bearer."""
        sent, root, path = self._at(asked)
        return (sent, root, path) if sent is not None and bearer_token(asked) in self.keys_of(sent) else None

    def keys_of(self, sent: Sent) -> Collection[str]:
        return (sent.secret,)

    def _at(self, asked: Asked) -> tuple[Sent | None, str, str]:
        inner = unquote(asked.path)[len(self.webdav) :]
        path_id, _, path = inner.partition("/")
        return self.sent.get(path_id), f"{self.webdav}{path_id}", path

    # --- notifications ------------------------------------------------------------------------------------------------

    async def take_notification(self, asked: Asked) -> tuple[int, Any]:
        asked.json()  # it is logged, and that is all
        return 201, {}

    # --- what others need -------------------------------------------------------------------------------------------

    @staticmethod
    def joined(document: Document, uri: str) -> str:
        """Return a relative uri at the other side's webdav path, or host-absolute with a slash in front."""
        host = origin(document["endPoint"])
        if uri.startswith("/"):
            return host + uri
        entries = document.get("resourceTypes") or ()
        path = next(entry["protocols"]["webdav"] for entry in entries if "webdav" in entry.get("protocols", {}))
        return f"{host}/{path.strip('/')}/{uri}"
