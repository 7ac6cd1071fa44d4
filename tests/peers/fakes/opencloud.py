"""OpenCloud: opaque user ids, options refused, Bearer alone, its 200 where others have 201, a file of providers."""

from __future__ import annotations

from .messages import Asked, Document
from .reva_family import RevaFamily

MARIE = "1f0a93a4-5c0e-4f1c-9d0b-7d8ff1a3c001"  # an opaque id


class OpenCloud(RevaFamily):
    """Answers 404 to an unknown invite and 200 to one that was accepted before."""

    product = "opencloud"
    protocol_keys = ("name", "options", "webdav", "webapp")
    discovery_paths = ("/.well-known/ocm",)
    unknown_token = 404
    accepted_before = 200

    def __init__(self, **options: object) -> None:
        super().__init__(**{"users": {MARIE: "Marie Curie"}, **options})

    def discovery(self, asked: Asked) -> Document:
        old = asked.headers.get("User-Agent") == "Nextcloud Server Crawler"
        return {
            "enabled": True,
            "apiVersion": "1.1" if old else "1.2.0",
            "endPoint": f"{self.url}/ocm",
            "provider": "OpenCloud",
            "resourceTypes": [{"name": "file", "shareTypes": ["user"], "protocols": {"webdav": self.webdav}}],
            "capabilities": ["invites", "webdav-uri", "protocol-object", "invite-wayf"],
            "inviteAcceptDialog": f"{self.url}/open-cloud-mesh/accept-invite",
        }

    def owner(self, user: str) -> str:
        return f"{user}@https://{self.server}@{self.server}"

    def user_id(self, user: str) -> str:
        return f"{user}@https://{self.server}"

    def knows(self, user: str, sender: str) -> bool:
        """The file of providers decides; contacts are only who can be found when sharing."""
        return True
