"""ownCloud 10: API 1.0 to the letter, user Shares of `file` only, `shareTypes` where others have `resourceTypes`."""

from __future__ import annotations

from typing import Any

from .journal import Refused
from .messages import Asked, Document
from .owncloud_family import PERMISSIONS, OwnCloudFamily
from .reading import bare_server, lacking
from .shares import Received, Sent


class OwnCloud10(OwnCloudFamily):
    """The federation code of owncloud/core as in 10.x."""

    product = "owncloud-10"
    api = "/index.php/apps/federatedfilesharing"
    share_types = ("user",)
    notification_types = (*OwnCloudFamily.notification_types, "RESHARE_CHANGE_PERMISSION")

    def discovery(self, asked: Asked) -> Document:
        entry = {"name": "file", "protocols": {"webdav": self.webdav}}
        return {
            "enabled": True,
            "apiVersion": "1.0-proposal1",
            "endPoint": f"{self.url}{self.api}",
            "shareTypes": [entry],
        }

    def check_discovery(self, document: Document) -> None:
        if document.get("enabled") is not True:
            raise Refused(400, "enabled is not true")
        if not document.get("endPoint"):
            raise Refused(400, "endPoint is missing")
        self.root_of(document)

    def root_of(self, document: Document) -> str:
        return super().root_of({"resourceTypes": document.get("shareTypes"), **document})

    def share_body(self, sent: Sent, document: Document) -> Document:
        owner, name = self.address(sent.owner), self.users[sent.owner]
        return {
            "shareWith": sent.share_with,
            "shareType": "user",
            "name": sent.name,
            "resourceType": "file",
            "description": "",
            "providerId": sent.provider_id,
            "owner": owner,
            "ownerDisplayName": name,
            "sender": owner,
            "senderDisplayName": name,
            "protocol": {"name": "webdav", "options": {"sharedSecret": sent.secret, "permissions": PERMISSIONS}},
        }

    async def take_share(self, asked: Asked) -> tuple[int, Any]:
        body = asked.json()
        self.required(body)
        if missing := lacking(body, "sender", "ownerDisplayName", "senderDisplayName"):
            raise Refused(400, f"{', '.join(missing)} is missing")
        secret = self.legacy_secret(body)
        user = self.check_recipient(body)
        server = bare_server(body["sender"].rpartition("@")[2])
        given = (str(body["providerId"]), secret, body["owner"], body["sender"], server)
        self.keep(Received(*given, user, body["name"], "file"))
        return 201, []

    def news(self, sent: Sent) -> Document:
        about = {"sharedSecret": sent.secret, "permission": list(sent.permissions)}
        return self.farewell(sent) | {"notificationType": "RESHARE_CHANGE_PERMISSION", "notification": about}
