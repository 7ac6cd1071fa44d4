"""Seafile by WebDAV: reads resourceTypes[0] alone, pads its credential with colons, and sends no Depth.

The stored version of seahub writes two test domains into each Share that it sends, so that it works for nobody; the
fake writes its own name and the recipient's there.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from .fake import Fake
from .journal import Refused
from .messages import Asked, Document, basic_user
from .reaching import Habits, Reached
from .reading import bare_server, lacking
from .resources import Resource
from .shares import Received, Sent

PROVIDER_ID = "3f1b0c3e"  # one constant for all Shares of a server


class Seafile(Fake):
    """seahub's app `ocm_via_webdav`, with seafdav."""

    product = "seafile"
    api = "/ocm-via-webdav"
    webdav = "/seafdav"
    discovery_paths = ("/ocm-provider/",)
    queried_paths = ("/ocm-provider/",)
    share_answers = (201,)
    notification_answers = (200, 201)
    habits = Habits(sends_depth=False)
    only_https = True
    default_depth = "1"

    def discovery(self, asked: Asked) -> Document:
        entry = {"name": "file", "shareTypes": ["user"], "protocols": {"webdav": "seafdav"}}  # without a slash
        return {
            "enabled": True,
            "apiVersion": "1.0-proposal1",
            "endPoint": f"{self.url}{self.api}/",
            "resourceTypes": [entry],
        }

    def check_discovery(self, document: Document) -> None:
        self._root(document)

    def _root(self, document: Document) -> str:
        """Return the path of the first entry, whatever its name; raises Refused."""
        entries = document.get("resourceTypes")
        first = entries[0] if isinstance(entries, list) and entries else {}
        path = first.get("protocols", {}).get("webdav")
        if not document.get("endPoint") or not isinstance(path, str):
            raise Refused(400, "endPoint, or webdav in resourceTypes[0], is missing")
        return path

    # --- as Receiving Server ----------------------------------------------------------------------------------------

    async def take_share(self, asked: Asked) -> tuple[int, Any]:
        body = asked.json()
        names = ("owner", "name", "providerId", "resourceType", "shareType", "shareWith", "sharedBy")
        if missing := lacking(body, *names):
            raise Refused(400, f"{', '.join(missing)} is missing")
        options = (body.get("protocol") or {}).get("options")
        if not isinstance(options, dict) or not options.get("sharedSecret"):
            raise Refused(500, "it crashes without protocol.options.sharedSecret")
        user = self.user_of(body["shareWith"])
        if user not in self.users:
            raise Refused(400, f"there is no user {body['shareWith']!r}")
        server = bare_server(body["sharedBy"].rpartition("@")[2])
        given = (str(body["providerId"]), options["sharedSecret"], body["owner"], body["sharedBy"], server)
        received = Received(*given, user, body["name"], body["resourceType"])
        await (await self.reach(received)).names()  # during the call
        self.keep(received)
        return 201, {}

    async def reach(self, received: Received) -> Reached:
        document = await self.discover(received.server)
        path = self._root(document)

        async def authorization() -> list[str]:
            padded = received.secret + ":" * (4 - len(received.secret) % 4)
            return ["Basic " + base64.b64encode(padded.encode()).decode()]

        url = f"{self.scheme}://{received.server}/{path.lstrip('/')}"
        return Reached(self, url, authorization, self.habits, writable=received.writable)

    def answer_of_user(self, received: Received, word: str) -> Document | None:
        """Say that a Share is declined; that it is accepted is said to nobody."""
        return self._about(received.provider_id, received.secret, word) if word == "SHARE_DECLINED" else None

    # --- as Sending Server ------------------------------------------------------------------------------------------

    def new_share(self, share_with: str, resource: Resource, name: str, user: str, permissions: Any) -> Sent:
        sent = super().new_share(share_with, resource, name, user, permissions)
        place = f"{secrets.token_hex(8)}:/{name}"
        return replace(
            sent, provider_id=PROVIDER_ID, permissions=("read",), secret=base64.b64encode(place.encode()).decode()
        )

    def share_body(self, sent: Sent, document: Document) -> Document:
        owner, name = self.address(sent.owner), self.users[sent.owner]
        return {
            "description": "",
            "name": sent.name,
            "owner": owner,
            "ownerDisplayName": name,
            "sender": owner,
            "senderDisplayName": name,
            "sharedBy": owner,
            "sharedByDisplayName": name,
            "shareWith": sent.share_with,
            "providerId": sent.provider_id,
            "shareType": "user",
            "resourceType": "file",
            "expiration": 0,
            "protocol": {"name": "webdav", "options": {"permissions": "read", "sharedSecret": sent.secret}},
        }

    def may_open(self, asked: Asked) -> tuple[Sent, str, str] | None:
        sent = self.by_secret(basic_user(asked) or "")
        return None if sent is None else (sent, self.webdav, unquote(asked.path)[len(self.webdav) :])

    def farewell(self, sent: Sent) -> Document:
        return self._about(sent.provider_id, sent.secret, "SHARE_UNSHARED")

    @staticmethod
    def _about(provider_id: str, secret: str, kind: str) -> Document:
        return {
            "notificationType": kind,
            "resourceType": "file",
            "providerId": provider_id,
            "notification": {"sharedSecret": secret, "message": ""},
        }

    # --- notifications ------------------------------------------------------------------------------------------------

    async def take_notification(self, asked: Asked) -> tuple[int, Any]:
        body = asked.json()
        kind, about = body.get("notificationType"), body.get("notification")
        if not isinstance(about, dict) or not about.get("sharedSecret"):
            raise Refused(400, "notification.sharedSecret is missing")
        if kind == "SHARE_UNSHARED":
            share: Sent | Received | None = self.share_of(str(body.get("providerId")), about["sharedSecret"])
        elif kind in ("SHARE_ACCEPTED", "SHARE_DECLINED"):
            share = next((sent for sent in self.sent.values() if sent.secret == about["sharedSecret"]), None)
        else:
            raise Refused(400)  # it knows three types, and nobody can know that
        if share is None:
            raise Refused(400, f"{kind}: no Share has this secret")
        share.state = {"SHARE_UNSHARED": "unshared", "SHARE_ACCEPTED": "accepted"}.get(kind, "declined")
        return 201, {}
