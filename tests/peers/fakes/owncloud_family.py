"""What Nextcloud and ownCloud 10 share: the body of API 1.0, Basic at the root, notifications with the secret."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import unquote

from .fake import Fake
from .journal import Refused
from .messages import Asked, Document, basic, basic_user
from .reaching import Habits, Reached
from .reading import lacking, origin, webdav_path
from .serving import DAV, OC, OCM, OCS
from .shares import Received, Sent

# A literal of theirs, not a set (peers.md §2a).
PERMISSIONS = "{http://open-cloud-mesh.org/ns}share-permissions"
DAV_NAMES = (
    *("getlastmodified", "getcontentlength", "getcontenttype", "resourcetype", "getetag"),
    "quota-available-bytes",
)
HABITS = Habits(
    properties=(
        *(f"{{{DAV}}}{name}" for name in DAV_NAMES),
        *(f"{{{OC}}}permissions", f"{{{OCS}}}share-permissions", f"{{{OCM}}}share-permissions"),
    ),
    needs_permissions=True,
    polls_root_etag=True,
)
# Those that the protocol has and the family does not know are answered 400, which is nobody's mistake.
PROTOCOLS_OTHERS = ("SHARE_CHANGE_PERMISSION", "REQUEST_SHARE", "USER_REMOVED", "GROUP_REMOVED")


class OwnCloudFamily(Fake):
    """Discovery, credentials and notifications of both."""

    webdav = "/public.php/webdav/"
    discovery_paths: ClassVar[tuple[str, ...]] = ("/ocm-provider/",)
    queried_paths: ClassVar[tuple[str, ...]] = ("/ocm-provider/",)
    share_answers = (201,)  # anything else, and it tries its own old API and gives up
    notification_answers = (201,)
    habits = HABITS
    tells_permissions = ("oc", "ocs")
    share_types: tuple[str, ...] = ("user", "group")
    notification_types: tuple[str, ...] = ("SHARE_ACCEPTED", "SHARE_DECLINED", "SHARE_UNSHARED", "REQUEST_RESHARE")

    def takes_answer(self, answer: Any) -> bool:
        return True

    # --- as Receiving Server ----------------------------------------------------------------------------------------

    def required(self, body: Document) -> None:
        """Raise Refused as the family's controller does: 400 for what is missing, 501 for what it does not support."""
        names = ("shareWith", "name", "providerId", "owner", "resourceType", "shareType", "protocol")
        missing = lacking(body, *names)
        protocol = body.get("protocol")
        if not isinstance(protocol, dict) or not protocol.get("name"):
            missing.append("protocol.name")
        if missing:
            errors = [{"name": name, "message": "NOT_FOUND"} for name in missing]
            why = f"{', '.join(missing)} is missing"
            raise Refused(400, why, {"message": "Missing arguments", "validationErrors": errors})
        if body["shareType"] not in self.share_types:
            raise Refused(501, f"shareType {body['shareType']!r} is not supported")
        if body["resourceType"] != "file":
            raise Refused(501, f"resourceType {body['resourceType']!r} is not supported, folders are `file` too")

    def legacy_secret(self, body: Document) -> str:
        """Return the secret of a body of API 1.0; raises Refused for any other."""
        protocol = body["protocol"]
        if protocol["name"] != "webdav":
            raise Refused(501, f"protocol {protocol['name']!r} is not supported")
        options = protocol.get("options")
        secret = options.get("sharedSecret") if isinstance(options, dict) else None
        if not isinstance(secret, str) or not secret:
            raise Refused(400, "protocol.options.sharedSecret is missing")
        return secret

    def check_recipient(self, body: Document) -> str:
        """Return the local user; raises Refused, also for a name that is no file name."""
        user = self.user_of(body["shareWith"])
        if user not in self.users:
            raise Refused(400, f"there is no user {body['shareWith']!r}", {"message": "User does not exists"})
        name = body["name"]
        if not isinstance(name, str) or name.strip("/") in ("", ".", "..") or "/" in name.strip("/") or "\\" in name:
            raise Refused(400, f"{name!r} is no name of a file")
        return user

    async def reach(self, received: Received) -> Reached:
        document = await self.discover(received.server)

        async def authorization() -> list[str]:
            return [basic(received.secret)]

        return Reached(self, self.root_of(document), authorization, self.habits, writable=received.writable)

    def root_of(self, document: Document) -> str:
        """Return the root of the other side's WebDAV; a Share's uri is never looked at."""
        return origin(document["endPoint"]) + webdav_path(document)

    def answer_of_user(self, received: Received, word: str) -> Document:
        about = {"sharedSecret": received.secret, "message": "Recipient has answered"}
        return {
            "notificationType": word,
            "resourceType": "file",
            "providerId": received.provider_id,
            "notification": about,
        }

    # --- as Sending Server ------------------------------------------------------------------------------------------

    def farewell(self, sent: Sent) -> Document:
        about = {"sharedSecret": sent.secret, "message": "file is no longer shared with you"}
        return {
            "notificationType": "SHARE_UNSHARED",
            "resourceType": "file",
            "providerId": sent.provider_id,
            "notification": about,
        }

    def may_open(self, asked: Asked) -> tuple[Sent, str, str] | None:
        secret = basic_user(asked)
        sent = self.by_secret(secret) if secret else None
        return self.at_root(sent, asked)

    def at_root(self, sent: Sent | None, asked: Asked) -> tuple[Sent, str, str] | None:
        """Return where in a Share a request points: its root is that of the WebDAV service."""
        return None if sent is None else (sent, self.webdav, unquote(asked.path)[len(self.webdav.rstrip("/")) :])

    # --- notifications ------------------------------------------------------------------------------------------------

    async def take_notification(self, asked: Asked) -> tuple[int, Any]:
        body = asked.json()
        missing = lacking(body, "notificationType", "resourceType", "providerId", "notification")
        if missing:
            raise Refused(400, f"{', '.join(missing)} is missing in a notification")
        kind = body["notificationType"]
        if kind not in self.notification_types:
            raise Refused(400, "" if kind in PROTOCOLS_OTHERS else f"notificationType {kind!r} is unknown")
        if body["resourceType"] != "file":
            raise Refused(501, f"resourceType {body['resourceType']!r} is not supported, folders are `file` too")
        secret = body["notification"].get("sharedSecret")
        if not isinstance(secret, str):
            raise Refused(400, "notification.sharedSecret is missing")
        await self.apply(asked, kind, str(body["providerId"]), secret)
        return 201, []

    async def apply(self, asked: Asked, kind: str, provider_id: str, secret: str) -> None:
        """Do what a notification says; raises Refused."""
        received = self.share_of(provider_id, secret)
        found = (sent for sent in self.sent.values() if (sent.provider_id, sent.secret) == (provider_id, secret))
        sent = next(found, None)
        share = received if kind == "SHARE_UNSHARED" else sent
        if share is None:
            raise Refused(403, f"{kind}: no Share {provider_id!r} with this secret", {"message": "RESOURCE_NOT_FOUND"})
        await self.check_speaker(asked, share.server)
        if kind in STATES:
            share.state = STATES[kind]

    async def check_speaker(self, asked: Asked, server: str) -> None:
        """Raise Refused unless `server` may have sent this."""


STATES = {"SHARE_ACCEPTED": "accepted", "SHARE_DECLINED": "declined", "SHARE_UNSHARED": "unshared"}
