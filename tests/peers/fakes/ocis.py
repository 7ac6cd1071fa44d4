"""ownCloud Infinite Scale: calls itself 1.1.0, speaks the newer body, https alone, no secret in notifications."""

from __future__ import annotations

from typing import Any

from .journal import Refused
from .messages import Asked, Document
from .reading import lacking
from .reva_family import RevaFamily
from .shares import Sent

MARIE = "4c510ada-c86b-4815-8820-42cdf82c3d51"  # an opaque id
PROTOCOLS_OTHERS = (
    "SHARE_ACCEPTED",
    "SHARE_DECLINED",
    "REQUEST_RESHARE",
    "REQUEST_SHARE",
    "USER_REMOVED",
    "GROUP_REMOVED",
)


class OCIS(RevaFamily):
    """Takes a Share only from exactly whom an invite was accepted with."""

    product = "ocis"
    protocol_keys = ("name", "options", "webdav", "webapp")
    unknown_token = 404
    accepted_before = 200
    only_https = True
    tells_permissions = ("oc",)  # its WebDAV service is that of its own users

    def __init__(self, **options: object) -> None:
        super().__init__(**{"users": {MARIE: "Marie Curie"}, **options})

    def discovery(self, asked: Asked) -> Document:
        return {
            "enabled": True,
            "apiVersion": "1.1.0",
            "endPoint": f"{self.url}/ocm",
            "provider": "oCIS",
            "resourceTypes": [{"name": "file", "shareTypes": ["user"], "protocols": {"webdav": self.webdav}}],
            "capabilities": ["/invite-accepted"],
        }

    def owner(self, user: str) -> str:
        return f"{user}@{self.server}@{self.server}"

    def user_id(self, user: str) -> str:
        return f"{user}@{self.server}"

    def share_body(self, sent: Sent, document: Document) -> Document:
        """Write the recipient's host twice."""
        return super().share_body(sent, document) | {"shareWith": f"{sent.share_with}@{sent.server}"}

    def farewell(self, sent: Sent) -> Document:
        return self._about(sent, "SHARE_UNSHARED", {})

    def news(self, sent: Sent) -> Document:
        details = {"permissions": list(sent.permissions)}
        return self._about(sent, "SHARE_CHANGE_PERMISSION", {"protocol": {"name": "multi", "webdav": details}})

    @staticmethod
    def _about(sent: Sent, kind: str, more: Document) -> Document:
        return {
            "notificationType": kind,
            "resourceType": sent.resource_type,
            "providerId": sent.provider_id,
            "notification": {"grantee": sent.share_with.rpartition("@")[0], **more},
        }

    async def take_notification(self, asked: Asked) -> tuple[int, Any]:
        body = asked.json()
        if missing := lacking(body, "notificationType", "providerId"):
            raise Refused(400, f"{', '.join(missing)} is missing in a notification")
        kind, about = body["notificationType"], body.get("notification")
        if kind in PROTOCOLS_OTHERS:
            raise Refused(400)  # it knows two types, and nobody can know that
        if kind not in ("SHARE_UNSHARED", "SHARE_CHANGE_PERMISSION"):
            raise Refused(400, f"notificationType {kind!r} is unknown")
        if not isinstance(about, dict) or not about.get("grantee"):
            raise Refused(400, f"{kind}: notification.grantee is missing")
        received = self.share_of(str(body["providerId"]))
        if received is None or received.recipient != about["grantee"]:
            raise Refused(400, f"{kind}: no Share {body['providerId']!r} of {about['grantee']!r}")
        if kind == "SHARE_UNSHARED":
            received.state = "unshared"
        else:
            received.permissions = ((about.get("protocol") or {}).get("webdav") or {}).get("permissions", ())
        return 201, {}
