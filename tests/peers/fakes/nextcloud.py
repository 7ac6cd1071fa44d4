"""Nextcloud 30, 31, 33 and 35, one table of what has changed between them (peers.md, line-up and §1, §2, §6, §8)."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from urllib.parse import urlsplit

from . import cavage, message_signatures
from .inviting import Inviting
from .journal import Failed, Refused
from .messages import Asked, Document, basic, bearer, bearer_token
from .owncloud_family import PERMISSIONS, OwnCloudFamily
from .reaching import Reached
from .reading import bare_server, lacking, webdav_path
from .resources import Resource
from .shares import Received, Sent
from .tokens import Exchanging

OLD_VERSIONS = ("1.0-proposal1", "1.0", "1.1")  # major.minor that 26 to 31 take; theirs is the first
DEPTH_MAX = 8  # levels of JSON in a discovery document
BODY_MAX = 50_000  # bytes of a signed request
TOKEN_PATH = "/index.php/apps/cloud_federation_api/api/v1/access-token"
JWKS_PATH = "/index.php/apps/cloud_federation_api/api/v1/jwks"
RATE, RATE_TIME = 5, 1200  # Shares per remote and seconds, from 35 on


@dataclass(frozen=True)
class Version:
    """What one release does."""

    number: int
    checks_api_version: bool = False
    well_known: bool = False  # asks for and serves /.well-known/ocm
    cavage: bool = False
    invites: bool = False
    needs_display_name: bool = False
    modern: bool = False  # the body of API 1.2 too, token exchange, RFC 9421
    schemes_in_ids: bool = False


VERSIONS = {
    30: Version(30, checks_api_version=True, needs_display_name=True, schemes_in_ids=True),
    31: Version(31, checks_api_version=True, needs_display_name=True, cavage=True),
    33: Version(33, well_known=True, invites=True, cavage=True),
    35: Version(35, well_known=True, invites=True, cavage=True, modern=True),
}


class Nextcloud(OwnCloudFamily, Exchanging, Inviting):
    """One of the VERSIONS; each product is a subclass that names its own."""

    api = "/index.php/ocm"
    user_agent = "Nextcloud Server Crawler"
    version: ClassVar[Version]
    bad_code_status = 401
    keeps_one_token = True
    acceptance_fields = ("token", "userID", "recipientProvider", "email", "name")

    def __init__(self, *, file_as_child: bool = False, eddsa: bool = True, **options: Any) -> None:
        """`file_as_child`: a shared file is a child of the root; without `eddsa` PHP's sodium is missing."""
        super().__init__(**options)
        self._file_as_child = file_as_child
        self._algorithms = ("ES256", "Ed25519") if eddsa else ("ES256",)
        self._rsa = cavage.new_key() if self.version.cavage else None
        self._ec = message_signatures.new_es256() if self.version.modern else None
        self._pinned: dict[str, str] = {}  # public keys by key id
        self._taken: list[tuple[str, float]] = []  # (remote, when) of Shares

    # --- discovery --------------------------------------------------------------------------------------------------

    def discovery(self, asked: Asked) -> Document:
        entry = {"name": "file", "shareTypes": ["user", "group"], "protocols": {"webdav": self.webdav}}
        document: Document = {
            "enabled": True,
            "apiVersion": "1.0-proposal1",
            "endPoint": f"{self.url}{self.api}",
            "resourceTypes": [entry],
        }
        if self._rsa:
            document["publicKey"] = {"keyId": f"{self.url}/ocm#signature", "publicKeyPem": cavage.public_pem(self._rsa)}
        if self.version.invites:
            document |= {"version": "1.1.0", "capabilities": ["invite-accepted", "notifications", "shares"]}
        if self.version.modern:
            document["version"] = "1.1.2"
            document["provider"] = "Nextcloud"
            document["capabilities"] += ["exchange-token", "http-sig"]
            document |= {"tokenEndPoint": f"{self.url}{TOKEN_PATH}", "jwksUri": f"{self.url}{JWKS_PATH}"}
        return document

    def check_discovery(self, document: Document) -> None:
        if _depth(document) > DEPTH_MAX:
            raise Refused(400, f"the document is deeper than {DEPTH_MAX} levels")
        if not document.get("endPoint"):
            raise Refused(400, "endPoint is missing")
        api_version = str(document.get("apiVersion") or "")
        if not api_version or (self.version.checks_api_version and api_version not in OLD_VERSIONS):
            raise Refused(400, f"API version not supported: {api_version!r}")
        webdav_path(document)

    # --- as Sending Server ------------------------------------------------------------------------------------------

    def new_share(self, share_with: str, resource: Resource, name: str, user: str, permissions: Any) -> Sent:
        if resource.is_file and self._file_as_child:
            resource = Resource({"": None, name: resource.nodes[""]})
        sent = super().new_share(share_with, resource, name, user, permissions)
        return replace(sent, provider_id=str(secrets.randbelow(10**9)), secret=secrets.token_hex(16))

    def share_body(self, sent: Sent, document: Document) -> Document:
        owner, name = self._id(sent.owner), self.users[sent.owner]
        body = {
            "shareWith": sent.share_with,
            "shareType": "user",
            "name": f"/{sent.name}" if self.version.number == 30 else sent.name,
            "resourceType": "file",  # also for folders
            "description": "",
            "providerId": int(sent.provider_id) if self.version.number == 30 else sent.provider_id,
            "owner": owner,
            "ownerDisplayName": name,
            "sharedBy": owner,
            "sharedByDisplayName": name,
        }
        if self.version.number >= 31:
            body |= {"sender": owner, "senderDisplayName": name}
        if self.version.modern and "exchange-token" in capabilities(document):
            uri = f"{self.url}{self.webdav}"
            details = {"uri": uri, "sharedSecret": sent.secret, "permissions": list(sent.permissions)}
            return body | {"protocol": {"name": "webdav", "webdav": details}}
        options = {"sharedSecret": sent.secret, "permissions": PERMISSIONS}
        return body | {"protocol": {"name": "webdav", "options": options}}

    def may_open(self, asked: Asked) -> tuple[Sent, str, str] | None:
        if self.version.modern and (token := bearer_token(asked)):
            return self.at_root(self.by_token(token), asked)
        return super().may_open(asked)

    def _id(self, user: str) -> str:
        """Return an address as Nextcloud writes it, with scheme and slash in older releases."""
        return f"{user}@{self.url}/" if self.version.schemes_in_ids else self.address(user)

    # --- as Receiving Server ----------------------------------------------------------------------------------------

    async def take_share(self, asked: Asked) -> tuple[int, Any]:
        body = asked.json()
        self.required(body)
        server = bare_server(str(body["owner"]).rpartition("@")[2])
        await self.check_speaker(asked, server)
        if self.version.needs_display_name and lacking(body, "ownerDisplayName"):
            raise Refused(501, "ownerDisplayName is missing", {"message": "missing parameter"})
        received = self._received(body, server, self.check_recipient(body))
        self._limit(server)
        self.keep(received)
        return 201, {"recipientDisplayName": self.users[received.recipient], "recipientUserId": received.recipient}

    def _received(self, body: Document, server: str, user: str) -> Received:
        protocol = body["protocol"]
        sender = str(body.get("sharedBy") or body.get("sender") or body["owner"])
        is_modern = self.version.modern and isinstance(protocol.get("webdav"), dict)
        details = self._modern(protocol) if is_modern else {"sharedSecret": self.legacy_secret(body)}
        return Received(
            provider_id=str(body["providerId"]),
            secret=details["sharedSecret"],
            owner=body["owner"],
            sender=sender,
            server=server,
            recipient=user,
            name=body["name"],
            resource_type="file",
            permissions=details.get("permissions"),
            requires_exchange="must-exchange-token" in (details.get("requirements") or ()),
        )

    @staticmethod
    def _modern(protocol: Document) -> Document:
        """Return the details of the newer body; raises Refused. Its uri is never looked at."""
        if protocol["name"] not in ("multi", "webdav"):
            raise Refused(501, f"protocol {protocol['name']!r} is not supported")
        details: Document = protocol["webdav"]
        if missing := lacking(details, "sharedSecret", "permissions"):
            raise Refused(400, f"protocol.webdav lacks {', '.join(missing)}")
        return details

    def _limit(self, server: str) -> None:
        if not self.version.modern:
            return
        self._taken = [(remote, at) for remote, at in self._taken if at > time.time() - RATE_TIME]
        if sum(remote == server for remote, _ in self._taken) >= RATE:
            raise Refused(429, f"more than {RATE} Shares in {RATE_TIME} s")
        self._taken.append((server, time.time()))

    async def reach(self, received: Received) -> Reached:
        document = await self.discover(received.server)
        can_exchange = self.version.modern and "exchange-token" in capabilities(document)
        if received.requires_exchange and not can_exchange:
            self.journal.complain("the Share requires the exchange, and the document offers none")
        token = await self._token(document, received) if can_exchange else None

        async def authorization() -> list[str]:
            return [bearer(token) if token else basic(received.secret)]

        return Reached(self, self.root_of(document), authorization, self.habits, writable=received.writable)

    async def _token(self, document: Document, received: Received) -> str | None:
        try:
            return await self.exchange(document, received.secret)
        except Failed:
            if received.requires_exchange:
                raise
            return None

    def client_id(self) -> str:
        return self._host  # without the port

    async def more(self, asked: Asked) -> tuple[int, Any] | None:
        if self._ec and asked.method == "GET" and asked.path == JWKS_PATH:
            return 200, {"keys": [self._ec.jwk(self._kid)]}
        if self.version.modern and asked.method == "POST" and asked.path == TOKEN_PATH:
            return await self.grant(asked)
        return await super().more(asked) if self.version.invites else None

    async def check_client(self, asked: Asked, form: dict[str, str], sent: Sent) -> None:
        await self.check_speaker(asked, sent.server)

    async def check_acceptance(self, asked: Asked, provider: str) -> None:
        await self.check_speaker(asked, provider)

    # --- signatures (peers.md §6) -------------------------------------------------------------------------------------

    @property
    def _kid(self) -> str:
        return f"{self.url}/ocm#ecdsa-p256-sha256-1"

    async def sign(self, method: str, url: str, body: bytes, document: Document) -> dict[str, str]:
        """Sign by RFC 9421 towards `http-sig`, by cavage towards a `publicKey`, else not at all."""
        if self._ec and "http-sig" in capabilities(document):
            return message_signatures.sign(self._ec, self._kid, method, url, body, time.time())
        if self._rsa and isinstance(document.get("publicKey"), dict):
            parts = urlsplit(url)
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            key_id = f"{self.url}/ocm#signature"
            return cavage.sign(self._rsa, key_id, method, target, parts.netloc, body, time.time())
        return {}

    async def check_speaker(self, asked: Asked, server: str) -> None:
        """Verify the signature of `server`; raises Refused, also for none where there once was one."""
        scheme = await self._scheme_of(asked, server) if self.version.cavage else ""
        if scheme:
            self.signers[server] = scheme
        elif server in self.signers:
            raise Refused(400, f"{server} has signed by {self.signers[server]} before, and this request is not signed")

    async def _scheme_of(self, asked: Asked, server: str) -> str:
        """Return how the request is signed, "" if it counts as unsigned; raises Refused."""
        if "Signature" not in asked.headers:
            return ""
        if len(asked.body) > BODY_MAX:
            raise Refused(400, f"the body of a signed request is {len(asked.body)} bytes long")
        try:
            if self.version.modern and "Signature-Input" in asked.headers:
                await self._verify_message(asked, server)
                return "RFC 9421"
            return await self._verify_cavage(asked, server)
        except (cavage.BadSignature, message_signatures.BadSignature) as error:
            raise Refused(400, str(error)) from error

    async def _verify_message(self, asked: Asked, server: str) -> None:
        found = message_signatures.find(asked.headers)
        if found is None:
            raise message_signatures.BadSignature('no signature has tag="ocm"')
        _require_host(found.key_id, server)
        document = await self.discover(server)
        jwks = (await self.call("GET", document.get("jwksUri", ""))).json()
        url = f"{self.url}{asked.target}"
        message_signatures.verify(
            found, jwks or {}, asked.method, url, asked.headers, asked.body, algorithms=self._algorithms
        )

    async def _verify_cavage(self, asked: Asked, server: str) -> str:
        found = cavage.members(asked.headers["Signature"])
        public_key = (await self.discover(server)).get("publicKey")
        if not isinstance(public_key, dict):
            return ""  # cannot be matched
        _require_host(found["keyId"], server)
        if public_key.get("keyId") != found["keyId"]:
            raise cavage.BadSignature(f"the key is {found['keyId']}, and discovery shows {public_key.get('keyId')}")
        pem = str(public_key.get("publicKeyPem"))
        if self._pinned.setdefault(found["keyId"], pem) != pem:
            raise cavage.BadSignature(f"another key has taken the id {found['keyId']}: rotate by a new id")
        cavage.verify(pem, asked.method, asked.target, asked.headers, asked.body)
        return "cavage"


class Nextcloud30(Nextcloud):
    """Signs nothing."""

    product = "nextcloud-30"
    version = VERSIONS[30]


class Nextcloud31(Nextcloud):
    """The first with signatures."""

    product = "nextcloud-31"
    version = VERSIONS[31]


class Nextcloud33(Nextcloud):
    """Asks for /.well-known/ocm first."""

    product = "nextcloud-33"
    version = VERSIONS[33]
    discovery_paths = ("/.well-known/ocm", "/ocm-provider", "/ocm-provider/")
    queried_paths = ("/.well-known/ocm", "/ocm-provider")


class Nextcloud35(Nextcloud33):
    """Exchanges tokens and signs by RFC 9421."""

    product = "nextcloud-35"
    user_agent = "Nextcloud-Server-Crawler/35.0.0"
    version = VERSIONS[35]


def capabilities(document: Document) -> list[str]:
    """Return what the other side can do, as Nextcloud reads it from 33 on."""
    return [str(word).lower().strip("/") for word in document.get("capabilities") or ()]


def _require_host(key_id: str, server: str) -> None:
    """The key belongs to the server that the request speaks for, port included."""
    host = urlsplit(key_id).netloc
    if host != server:
        raise cavage.BadSignature(f"the key is of {host or key_id!r}, and the request speaks for {server}")


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0) if isinstance(value, dict | list) else 0
