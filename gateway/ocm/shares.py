"""The Share Creation Notification (draft-07, Share Creation Notification; API 1.0 to 1.5), and its answer.

`modern` is the body for peers that read the `protocol` object, `legacy` the one for API 1.0 and 1.1. No body is
accepted by both families (peers.md, section 2b), so the sender has to choose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from gateway.ocm.address import OCMAddress
from gateway.ocm.errors import NotSupported
from gateway.ocm.fields import Fields, Member, canonical_json
from gateway.ocm.protocols import (
    LEGACY_PERMISSIONS,
    UNKNOWN_REQUIREMENT,
    AccessType,
    Permission,
    Protocol,
    Requirement,
    SshProtocol,
    Target,
    WebappPermission,
    WebappProtocol,
    WebdavProtocol,
    parse_protocols,
    serialise_protocols,
)
from gateway.ocm.secret import Secret
from gateway.ocm.text import file_name, line
from gateway.ocm.urls import compose_uri

__all__ = [
    "SSH",
    "WEBDAV",
    "AccessType",
    "BodyForm",
    "Permission",
    "Protocol",
    "Requirement",
    "ResourceType",
    "Secret",
    "ShareCreated",
    "ShareCreationNotification",
    "ShareType",
    "SshProtocol",
    "Target",
    "WebappPermission",
    "WebappProtocol",
    "WebdavProtocol",
    "compose_uri",
    "file_name",
    "parse_share",
    "parse_share_created",
    "payload_digest",
    "serialise_share",
    "serialise_share_created",
]

WEBDAV, SSH = "webdav", "ssh"  # the protocols that Shares are sent and received by here
LATEST_EXPIRATION = 253402300799  # 9999-12-31T23:59:59Z; more is a time in milliseconds, and no calendar has it
PUBLIC_KEYS_MAX = 400  # keys in an answer that are looked at: those of a whole group


BodyForm: TypeAlias = Literal["modern", "legacy"]


class ShareType(StrEnum):
    """To whom a Share goes."""

    USER = "user"
    GROUP = "group"


class ResourceType(StrEnum):
    """What is shared."""

    FILE = "file"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareCreationNotification:
    """A Share as its Sending Server announces it. `expiration` is in seconds since the epoch, None is never.

    The addresses are as the peer wrote them, because replies to some products have to repeat that; a parsed message
    has only such that OCMAddress.normalise can read.
    """

    share_with: str
    name: str
    provider_id: str
    owner: str
    sender: str
    protocols: tuple[Protocol, ...]
    share_type: str = ShareType.USER
    resource_type: str = ResourceType.FILE
    description: str | None = None
    owner_display_name: str | None = None
    sender_display_name: str | None = None
    expiration: int | None = None
    encryption: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def webdav(self) -> WebdavProtocol | None:
        """Return the access by WebDAV, if it is offered."""
        return next((protocol for protocol in self.protocols if isinstance(protocol, WebdavProtocol)), None)

    @property
    def ssh(self) -> SshProtocol | None:
        """Return the access by SSH, if it is offered."""
        return next((protocol for protocol in self.protocols if isinstance(protocol, SshProtocol)), None)

    @property
    def requirements(self) -> frozenset[Requirement]:
        """Return everything that one of the protocols requires."""
        asking = (protocol for protocol in self.protocols if not isinstance(protocol, SshProtocol))
        return frozenset().union(*(protocol.requirements for protocol in asking))


@dataclass(frozen=True, slots=True)
class ShareCreated:
    """The answer to a notification that was taken: who received it, and the keys for `ssh`."""

    recipient_display_name: str | None
    recipient_public_keys: tuple[str, ...] = ()


def parse_share(body: Mapping[str, Any]) -> ShareCreationNotification:
    """Read a Share Creation Notification as any product sends it.

    Raises Malformed with every unusable field ("UNKNOWN_REQUIREMENT" if that is all, else "INVALID_SHARE"), and
    NotSupported for a share type, resource type or set of protocols that is not known here.
    """
    fields = Fields(body)
    values: dict[str, Any] = {
        "share_with": fields.address("shareWith", required=True),
        "name": fields.line("name", required=True),
        "provider_id": fields.identifier("providerId", required=True),
        "owner": fields.address("owner", required=True),
        "sender": fields.address("sender", "sharedBy", "owner", required=True),  # peers.md, section 2a
        "description": fields.prose("description"),
        "owner_display_name": fields.line("ownerDisplayName"),
        "sender_display_name": fields.line("senderDisplayName", "sharedByDisplayName"),
        "expiration": fields.integer("expiration", largest=LATEST_EXPIRATION) or None,  # 0 is never, as reva sends it
        "encryption": _encryption(fields),
    }
    share_type, resource_type = fields.string("shareType", required=True), fields.string("resourceType", required=True)
    protocol = fields.object("protocol", required=True)
    values["protocols"] = parse_protocols(protocol) if protocol else ()
    fields.check("INVALID_SHARE", alone=frozenset({UNKNOWN_REQUIREMENT}))
    if not values["protocols"]:
        raise NotSupported("PROTOCOL_NOT_SUPPORTED", "the Share is offered only by protocols that are not known here")
    return ShareCreationNotification(
        share_type=_known(ShareType, share_type, "SHARE_TYPE_NOT_SUPPORTED"),
        resource_type=_known(ResourceType, resource_type, "RESOURCE_TYPE_NOT_SUPPORTED"),
        **values,
    )


def serialise_share(notification: ShareCreationNotification, form: BodyForm) -> dict[str, Any]:
    """Return the body to send, without what is unset.

    The legacy form calls every Resource a `file`, as its readers know nothing else (peers.md, section 10, trap 2):
    later notifications have to say the same. Raises ValueError for what the draft forbids to send, and for a legacy
    form of anything but a webdav Share without requirements.
    """
    _check_sendable(notification)
    if form == "legacy":
        return _legacy(notification)
    if notification.webdav is not None and notification.webdav.uri is None:
        raise ValueError("webdav has a uri in the modern form")
    return _modern(notification)


def payload_digest(notification: ShareCreationNotification) -> str:
    """Return a digest (hex) that two notifications share if they announce the same Share, however they are written.

    The same Share again is answered 201 and changes nothing, any difference 409 (wire.md, Share Creation Notification).
    """
    body = _modern(notification)
    body |= {name: str(OCMAddress.normalise(body[name])) for name in ("shareWith", "owner", "sender")}
    return hashlib.sha256(canonical_json(body).encode()).hexdigest()


def serialise_share_created(created: ShareCreated) -> dict[str, Any]:
    """Return the body of a 201 answer (draft-07, Share Creation Notification, Response)."""
    body: dict[str, Any] = {"recipientDisplayName": created.recipient_display_name or ""}
    keys = list(created.recipient_public_keys)
    return body | {"recipientPublicKeys": keys} if keys else body


def parse_share_created(body: object) -> ShareCreated:
    """Read the answer to a notification, of which products send anything from all of it to `[]` or nothing.

    The keys are an array in API 1.4 and a string in the text of draft-07, which may have several lines. Never raises:
    the status has said it all.
    """
    fields = Fields(body if isinstance(body, Mapping) else {})
    one = fields.string("recipientPublicKeys")
    keys = one.split("\n") if one else fields.strings("recipientPublicKeys")
    usable = (key.strip() for key in keys[:PUBLIC_KEYS_MAX])
    return ShareCreated(fields.line("recipientDisplayName"), tuple(key for key in usable if key and key == line(key)))


def _known(kind: type[Member], word: str | None, code: str) -> Member:
    try:
        return kind(word or "")
    except ValueError as error:
        raise NotSupported(code, f"{str(word)[:100]!r} is not known here") from error


def _encryption(fields: Fields) -> Mapping[str, Any] | None:
    """Return the `encryption` object as it is, if it holds what the draft requires of it."""
    _, value = fields.raw("encryption")
    details = fields.object("encryption")
    if details is None:
        return None
    details.identifier("resourceId", required=True)
    scheme = details.identifier("scheme", required=True)
    if scheme is not None:
        details.object(scheme, required=True)
    try:
        canonical_json(value)
    except (TypeError, ValueError):
        fields.fail("encryption", "INVALID_JSON")
    return dict(value)


def _check_sendable(notification: ShareCreationNotification) -> None:
    protocols, requirements = notification.protocols, notification.requirements
    if not protocols:
        raise ValueError("a Share is offered by at least one protocol")
    for protocol in protocols:
        if isinstance(protocol, SshProtocol):
            if requirements:
                raise ValueError("ssh has no requirements, so it is not offered beside a protocol that has")
        elif protocol.requirements != requirements:
            raise ValueError("the requirements of all protocols of a Share agree")
        if isinstance(protocol, WebappProtocol) and Requirement.MUST_EXCHANGE_TOKEN not in protocol.requirements:
            raise ValueError("webapp requires the token exchange")


def _modern(notification: ShareCreationNotification) -> dict[str, Any]:
    optional = {
        "description": notification.description,
        "ownerDisplayName": notification.owner_display_name,
        "senderDisplayName": notification.sender_display_name,
        "expiration": notification.expiration,
        "encryption": notification.encryption,
    }
    return {
        "shareWith": notification.share_with,
        "name": notification.name,
        "providerId": notification.provider_id,
        "owner": notification.owner,
        "sender": notification.sender,
        "shareType": str(notification.share_type),
        "resourceType": str(notification.resource_type),
        **{name: value for name, value in optional.items() if value is not None},
        "protocol": serialise_protocols(notification.protocols),
    }


def _legacy(notification: ShareCreationNotification) -> dict[str, Any]:
    """Return the body that Nextcloud up to 34, ownCloud 10 and Seafile take (peers.md, section 2b)."""
    webdav = notification.webdav
    if webdav is None or len(notification.protocols) != 1 or webdav.requirements:
        raise ValueError("the legacy form has webdav and no requirements")
    sender_name = notification.sender_display_name or OCMAddress.normalise(notification.sender).identifier
    owner_name = notification.owner_display_name or OCMAddress.normalise(notification.owner).identifier
    return _modern(notification) | {
        "resourceType": ResourceType.FILE.value,
        "description": notification.description or "",
        "ownerDisplayName": owner_name,  # Nextcloud up to 32 refuses an empty one
        "senderDisplayName": sender_name,
        "sharedBy": notification.sender,
        "sharedByDisplayName": sender_name,
        "protocol": {
            "name": "webdav",
            "options": {"sharedSecret": webdav.shared_secret.reveal(), "permissions": LEGACY_PERMISSIONS},
        },
    }
