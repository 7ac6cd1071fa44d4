"""opencloudmesh-go with its strict preset: everything signed, tokens alone, files to be read alone, invites first."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlsplit

from . import message_signatures
from .inviting import Inviting
from .journal import Failed, Refused
from .message_signatures import BadSignature
from .messages import Asked, Document, bearer, bearer_token
from .reaching import Habits, Reached
from .reading import bare_server, lacking, origin, webdav_path
from .resources import Resource
from .shares import Received, Sent
from .tokens import Exchanging

SAME_AUTHORITY = ("endPoint", "tokenEndPoint", "jwksUri", "inviteAcceptDialog")
REQUIRED = ("shareWith", "name", "providerId", "owner", "sender", "shareType", "resourceType", "protocol")


class OCMGo(Inviting, Exchanging):
    """Must-use-http-sig, must-exchange-token, must-invite."""

    product = "ocm-go"
    webdav = "/webdav/ocm/"
    discovery_paths = ("/.well-known/ocm", "/.well-known/ocm/")
    queried_paths = ("/.well-known/ocm",)
    share_answers = (201,)
    notification_answers = (200, 201)
    habits = Habits()
    needs_invite = True
    read_only_status = 501
    shares_folders = False
    acceptance_fields = ("token", "userID", "recipientProvider", "email", "name")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._key = message_signatures.new_ed25519()

    # --- discovery --------------------------------------------------------------------------------------------------

    def discovery(self, asked: Asked) -> Document:
        protocols = {"webdav": self.webdav, "webdav-receive": {"uri": "relative"}}
        return {
            "enabled": True,
            "apiVersion": "1.4.0",
            "provider": "OpenCloudMesh Go",
            "endPoint": f"{self.url}/ocm",
            "resourceTypes": [{"name": "file", "shareTypes": ["user"], "protocols": protocols}],
            "capabilities": ["http-sig", "exchange-token", "invites", "notifications"],
            "criteria": ["must-use-http-sig", "must-exchange-token", "must-invite"],
            "tokenEndPoint": f"{self.url}/ocm/token",
            "jwksUri": f"{self.url}/.well-known/jwks.json",
            "inviteAcceptDialog": f"{self.url}/ui/accept-invite",
        }

    async def discover(self, server: str) -> Document:
        document = await super().discover(server)
        foreign = [name for name in SAME_AUTHORITY if name in document and urlsplit(document[name]).netloc != server]
        if foreign:
            self.journal.complain(f"{', '.join(foreign)} of {server} point to another authority")
            raise Failed("discovery is invalid")
        return document

    def check_discovery(self, document: Document) -> None:
        if document.get("enabled") is not True:
            raise Refused(400, "enabled is not true")
        if not urlsplit(document.get("endPoint") or "").netloc:
            raise Refused(400, "endPoint is not absolute")
        exchanges = "exchange-token" in (document.get("capabilities") or ())
        if exchanges != ("tokenEndPoint" in document):
            raise Refused(400, "tokenEndPoint and the capability exchange-token come together or not at all")
        jwks_uri = urlsplit(document.get("jwksUri", ""))
        if jwks_uri.fragment or jwks_uri.username or (jwks_uri.netloc and jwks_uri.scheme != self.scheme):
            raise Refused(400, f"jwksUri is not usable: {document['jwksUri']!r}")
        webdav_path(document)
        for entry in document["resourceTypes"]:
            receive = entry["protocols"].get("webdav-receive", {"uri": "relative"})
            if not isinstance(receive, dict) or receive.get("uri") not in ("absolute", "relative"):
                raise Refused(400, f"webdav-receive is {receive!r}")

    # --- signatures ---------------------------------------------------------------------------------------------------

    @property
    def _kid(self) -> str:
        return f"{self.server}#key1"

    async def sign(self, method: str, url: str, body: bytes, document: Document) -> dict[str, str]:
        if "http-sig" not in (document.get("capabilities") or ()):
            return {}
        return message_signatures.sign(self._key, self._kid, method, url, body, time.time())

    async def _require_signature(self, asked: Asked, servers: Iterable[str]) -> None:
        """Every POST is signed by whom it speaks for: 401, or 502 when the keys cannot be had."""
        try:
            found = message_signatures.find(asked.headers)
            if found is None:
                raise BadSignature("signature required")
            signer = urlsplit(found.key_id).netloc or found.key_id.partition("#")[0]
            foreign = set(servers) - {signer}
            if foreign:
                raise BadSignature(f"{signer} signs for {', '.join(sorted(foreign))}", 403)
            try:
                document = await self.discover(signer)
                jwks = (await self.call("GET", document["jwksUri"])).json()
            except (Failed, KeyError) as error:
                raise BadSignature(f"the keys of {signer} cannot be had", 502) from error
            url = f"{self.url}{asked.target}"
            message_signatures.verify(found, jwks or {}, asked.method, url, asked.headers, asked.body)
            self.signers[signer] = "RFC 9421"
        except BadSignature as error:
            raise Refused(error.status, str(error)) from error

    # --- as Receiving Server ----------------------------------------------------------------------------------------

    async def take_share(self, asked: Asked) -> tuple[int, Any]:
        body = asked.json()
        if missing := lacking(body, *REQUIRED):
            raise Refused(400, f"{', '.join(missing)} is missing")
        hosts = [body[name].rpartition("@")[2] for name in ("owner", "sender", "shareWith")]
        if any("/" in host for host in hosts):
            raise Refused(400, "an address has a scheme or a path")
        await self._require_signature(asked, hosts[:2])
        if body["shareType"] != "user" or body["resourceType"] != "file":
            raise Refused(501, f"{body['shareType']!r} Shares of a {body['resourceType']!r} are not supported")
        details = self._details(body["protocol"])
        user = self._recipient(body["shareWith"])
        if not self.is_contact(user, body["sender"]):
            raise Refused(403, f"{body['sender']} is no contact of {user}: must-invite")
        received = Received(
            provider_id=body["providerId"],
            secret=details["sharedSecret"],
            owner=body["owner"],
            sender=body["sender"],
            server=hosts[1],
            recipient=user,
            name=body["name"],
            resource_type="file",
            uri=details.get("uri", ""),
            requires_exchange=True,
        )
        self.keep(received)
        return 201, {"recipientDisplayName": self.users[user]}

    @staticmethod
    def _details(protocol: Document) -> Document:
        unknown = protocol.keys() - {"name", "webdav", "webapp"}
        if unknown:
            raise Refused(501, f"protocol has {', '.join(sorted(unknown))}, which it does not know, even if empty")
        details = protocol.get("webdav") or {}
        if not details.get("sharedSecret"):
            raise Refused(400, "protocol.webdav.sharedSecret is missing")
        if details.get("permissions") != ["read"]:
            raise Refused(501, f"permissions are {details.get('permissions')!r}, and ['read'] is all it takes")
        if details.get("requirements") != ["must-exchange-token"]:
            raise Refused(400, f"requirements are {details.get('requirements')!r}: must-exchange-token is a must")
        return details

    def _recipient(self, share_with: str) -> str:
        """Return the user by login or by the base64url form; raises Refused."""
        identifier, _, server = share_with.rpartition("@")
        found = [user for user in self.users if identifier in (user, self.user_id(user))]
        if server != self.server or not found:
            raise Refused(400, f"there is no user {share_with!r}")
        return found[0]

    async def reach(self, received: Received) -> Reached:
        document = await self.discover(received.server)
        uri = received.uri or ""
        if urlsplit(uri).netloc != received.server:
            uri = f"{origin(document['endPoint'])}/{webdav_path(document).strip('/')}/{uri}"
        token = await self.exchange(document, received.secret)

        async def authorization() -> list[str]:
            return [bearer(token)]

        return Reached(self, uri, authorization, self.habits, writable=False)

    def answer_of_user(self, received: Received, word: str) -> Document:
        return self._about(received.provider_id, received.secret, word)

    # --- as Sending Server ------------------------------------------------------------------------------------------

    def user_id(self, user: str) -> str:
        return base64.urlsafe_b64encode(self.address(user).encode()).rstrip(b"=").decode()

    def new_share(self, share_with: str, resource: Resource, name: str, user: str, permissions: Any) -> Sent:
        if not resource.is_file or tuple(permissions) != ("read",):
            raise ValueError("ocm-go shares files to be read, and nothing else")
        return replace(super().new_share(share_with, resource, name, user, permissions), requires_exchange=True)

    def share_body(self, sent: Sent, document: Document) -> Document:
        owner = f"{self.user_id(sent.owner)}@{self.server}"
        receive = document["resourceTypes"][0]["protocols"].get("webdav-receive") or {}
        if receive.get("uri") == "absolute":  # a bug of theirs: it is built on the receiver's document (peers.md §2a)
            uri = f"{origin(document['endPoint'])}{webdav_path(document)}{sent.path_id}"
        else:
            uri = sent.path_id
        details = {
            "uri": uri,
            "sharedSecret": sent.secret,
            "permissions": ["read"],
            "requirements": ["must-exchange-token"],
        }
        return {
            "shareWith": sent.share_with,
            "name": sent.name,
            "providerId": sent.provider_id,
            "owner": owner,
            "sender": owner,
            "shareType": "user",
            "resourceType": "file",
            "protocol": {"name": "multi", "webdav": details},
        }

    def may_open(self, asked: Asked) -> tuple[Sent, str, str] | None:
        path_id, _, path = unquote(asked.path)[len(self.webdav) :].partition("/")
        sent = self.sent.get(path_id)
        if sent is None or bearer_token(asked) not in sent.tokens:
            return None
        return sent, f"{self.webdav}{path_id}", path

    async def check_client(self, asked: Asked, form: dict[str, str], sent: Sent) -> None:
        if form.get("client_id") != sent.server:
            why = f"client_id is {form.get('client_id')!r}, and the receiver of the Share is {sent.server}"
            raise Refused(400, why, {"error": "invalid_client"})
        await self._require_signature(asked, [sent.server])

    # --- notifications and invites ------------------------------------------------------------------------------------

    async def take_notification(self, asked: Asked) -> tuple[int, Any]:
        body = asked.json()
        if missing := lacking(body, "notificationType", "notification"):
            raise Refused(400, f"{', '.join(missing)} is missing in a notification")
        kind, about = body["notificationType"], body["notification"]
        provider_id = body.get("providerId") or (about.get("file") or {}).get("providerId")
        share: Sent | Received | None
        if kind == "SHARE_UNSHARED":
            share = self.share_of(str(provider_id))
        else:
            share = next((sent for sent in self.sent.values() if sent.provider_id == provider_id), None)
        if share is None:
            raise Refused(404, f"{kind}: there is no Share {provider_id!r}")
        await self._require_signature(asked, [share.server])
        states = {"SHARE_ACCEPTED": "accepted", "SHARE_DECLINED": "declined", "SHARE_UNSHARED": "unshared"}
        if kind not in states:
            raise Refused(400)  # it knows three types, and nobody can know that
        share.state = states[kind]
        return 200, {"status": "ok"}

    @staticmethod
    def _about(provider_id: str, secret: str, kind: str) -> Document:
        return {
            "notificationType": kind,
            "resourceType": "file",
            "providerId": provider_id,
            "notification": {"sharedSecret": secret},
        }

    async def check_acceptance(self, asked: Asked, provider: str) -> None:
        await self._require_signature(asked, [bare_server(provider)])

    async def more(self, asked: Asked) -> tuple[int, Any] | None:
        if asked.method == "GET" and asked.path == "/.well-known/jwks.json":
            return 200, {"keys": [self._key.jwk(self._kid)]}
        if asked.method == "POST" and asked.path == "/ocm/token":
            return await self.grant(asked)
        return await super().more(asked)
