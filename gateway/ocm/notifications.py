"""OCM Notifications (draft-07, Notifications), read as API 1.0 to 1.5 and their products write them.

Up to API 1.4 the id of a Share stands at the top, since 1.5 under `notification.file`: both are read, both are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.ocm.errors import NotSupported
from gateway.ocm.fields import URI_MAX, Fields
from gateway.ocm.protocols import Permission, WebdavProtocol, ordered, serialise_protocols
from gateway.ocm.secret import Secret


class NotificationType(StrEnum):
    """The registered types (draft-07, OCM Notification Types Registry)."""

    SHARE_ACCEPTED = "SHARE_ACCEPTED"
    SHARE_DECLINED = "SHARE_DECLINED"
    SHARE_UNSHARED = "SHARE_UNSHARED"
    SHARE_CHANGE_PERMISSION = "SHARE_CHANGE_PERMISSION"
    REQUEST_RESHARE = "REQUEST_RESHARE"
    REQUEST_SHARE = "REQUEST_SHARE"
    USER_REMOVED = "USER_REMOVED"
    GROUP_REMOVED = "GROUP_REMOVED"


ABOUT_A_SHARE = frozenset(
    {
        NotificationType.SHARE_ACCEPTED,
        NotificationType.SHARE_DECLINED,
        NotificationType.SHARE_UNSHARED,
        NotificationType.SHARE_CHANGE_PERMISSION,
        NotificationType.REQUEST_RESHARE,
    }
)
_REMOVED = frozenset({NotificationType.USER_REMOVED, NotificationType.GROUP_REMOVED})
_ALONE = frozenset({"UNKNOWN_NOTIFICATION_TYPE", "CONFLICTING_PROVIDER_ID"})
_OLD_TYPES = {"RESHARE_CHANGE_PERMISSION": NotificationType.SHARE_CHANGE_PERMISSION}
_DROPPED_TYPES = frozenset({"RESHARE_UNDO"})  # of API 1.0; the draft has no such thing
# What has to be there beside the type: attribute -> name on the wire (draft-07, Notifications, one section per type).
_REQUIRED: Mapping[NotificationType, Mapping[str, str]] = {
    **{kind: {"provider_id": "notification.file.providerId"} for kind in ABOUT_A_SHARE},
    NotificationType.REQUEST_RESHARE: {
        "provider_id": "notification.file.providerId",
        "share_with": "notification.file.shareWith",
    },
    NotificationType.REQUEST_SHARE: {
        "owner": "notification.file.owner",
        "share_with": "notification.file.shareWith",
        "share_id": "notification.file.shareId",
        "permissions": "notification.file.permissions",
    },
    NotificationType.USER_REMOVED: {"user_id": "notification.user.userId"},
    NotificationType.GROUP_REMOVED: {"group_id": "notification.group.groupId"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """What one server tells another; which attributes are set depends on the type. Addresses are as they were sent."""

    type: NotificationType
    sender_domain: str | None = None  # host[:port]
    resource_type: str | None = None
    share_type: str | None = None
    provider_id: str | None = None
    shared_secret: Secret | None = None  # wanted by peers up to API 1.4
    permissions: frozenset[Permission] | None = None
    message: str | None = None
    grantee: str | None = None  # the receiver's user id, which oCIS wants
    webdav: WebdavProtocol | None = None  # all of it once more, which oCIS wants when permissions change
    share_with: str | None = None
    owner: str | None = None
    share_id: str | None = None
    user_id: str | None = None  # an OCM Address; up to API 1.4 only its identifier
    group_id: str | None = None


def parse_notification(body: Mapping[str, Any]) -> Notification:
    """Read a notification as any product sends it.

    Raises Malformed with every unusable field ("UNKNOWN_NOTIFICATION_TYPE", "CONFLICTING_PROVIDER_ID" if that is all,
    else "INVALID_NOTIFICATION"), and NotSupported for a type that the draft has dropped.
    """
    fields = Fields(body)
    kind = _type(fields)
    if not (fields.has("resourceType") or fields.has("shareType")):
        fields.fail("resourceType", "REQUIRED")
    details = fields.object("notification") or fields.empty("notification")
    values: dict[str, Any] = {
        "sender_domain": fields.server("senderDomain"),
        "resource_type": fields.identifier("resourceType"),
        "share_type": fields.identifier("shareType"),
        "message": details.prose("message"),
        "shared_secret": details.secret("sharedSecret"),
        "grantee": details.identifier("grantee"),
    }
    if kind in ABOUT_A_SHARE:
        values["provider_id"] = _provider_id(fields, details)
    if kind in _READERS:
        values |= _READERS[kind](fields, details)
    fields.check("INVALID_NOTIFICATION", alone=_ALONE)
    assert kind is not None
    for attribute, name in _REQUIRED[kind].items():
        if values[attribute] is None:
            fields.fail(name, "REQUIRED")
    fields.check("INVALID_NOTIFICATION")
    return Notification(type=kind, **values)


def serialise_notification(notification: Notification, *, legacy: bool = False) -> dict[str, Any]:
    """Return the body to send, with the id of a Share in both places and without what is unset.

    `legacy` writes the two REMOVED types as API 1.4 knew them. Raises ValueError if something is missing that the
    draft requires.
    """
    kind = notification.type
    required = ["sender_domain", *_REQUIRED[kind], *(() if kind in _REMOVED else ("resource_type",))]
    missing = [name for name in required if getattr(notification, name) is None]
    if missing:
        raise ValueError(f"{kind} needs {', '.join(missing)}")
    body: dict[str, Any] = {"notificationType": kind.value, "senderDomain": notification.sender_domain}
    if kind in _REMOVED:
        body |= _removed(notification, legacy)
    else:
        body |= {"resourceType": notification.resource_type, "providerId": notification.provider_id}
        body["shareType"] = None if kind is NotificationType.REQUEST_SHARE else notification.share_type
        body["notification"] = {"file": _present(_file(notification))}
    secret = notification.shared_secret
    body["notification"] |= _present(
        {
            "message": notification.message,
            "sharedSecret": secret.reveal() if secret else None,
            "grantee": notification.grantee,
            "protocol": serialise_protocols((notification.webdav,)) if notification.webdav else None,
        }
    )
    return _present(body)


def _type(fields: Fields) -> NotificationType | None:
    name, word = "notificationType", fields.string("notificationType", "type", required=True)
    if word in _DROPPED_TYPES:
        raise NotSupported("NOTIFICATION_TYPE_NOT_SUPPORTED", f"{word} is not part of the protocol any more")
    if word in _OLD_TYPES:
        return _OLD_TYPES[word]
    if word is None or word in NotificationType.__members__:
        return None if word is None else NotificationType(word)
    fields.fail(name, "UNKNOWN_NOTIFICATION_TYPE")
    return None


def _provider_id(fields: Fields, details: Fields) -> str | None:
    """Return the id of the Share, from the three places in which it is sent; they must not disagree."""
    file = details.object("file") or details.empty("file")
    # Of a request that is declined it is what was asked for, which may be a URL.
    found = {holder.identifier("providerId", limit=URI_MAX) for holder in (file, details, fields)} - {None}
    if len(found) > 1:
        file.fail("providerId", "CONFLICTING_PROVIDER_ID")
    return found.pop() if found else None


def _read_permissions(_: Fields, details: Fields) -> dict[str, Any]:
    """Return the permissions from the place of the draft, of ownCloud 10 or of oCIS (peers.md, section 5)."""
    protocol = details.object("protocol") or details.empty("protocol")
    holders = (details.object("file"), details, protocol.object("webdav"))
    lists = (
        holder.members(name, Permission, "UNKNOWN_PERMISSION")
        for holder in holders
        if holder is not None
        for name in ("permissions", "permission")
        if holder.has(name)
    )
    return {"permissions": next(lists, None)}


def _read_reshare(_: Fields, details: Fields) -> dict[str, Any]:
    file = details.object("file") or details.empty("file")
    holder = file if file.has("shareWith") else details
    return _read_permissions(_, details) | {"share_with": holder.address("shareWith")}


def _read_refusal(_: Fields, details: Fields) -> dict[str, Any]:
    """Return whose request is declined, as we say it: several may have asked for the same."""
    file = details.object("file") or details.empty("file")
    return {"owner": file.identifier("owner"), "share_with": file.identifier("shareWith")}


def _read_request(_: Fields, details: Fields) -> dict[str, Any]:
    file = details.object("file") or details.empty("file")
    return _read_permissions(_, details) | {
        "owner": file.address("owner"),
        "share_with": file.address("shareWith"),
        "share_id": file.identifier("shareId", limit=URI_MAX),
    }


def _read_user(fields: Fields, details: Fields) -> dict[str, Any]:
    user = details.object("user") or details.empty("user")
    return {"user_id": user.identifier("userId") or fields.identifier("providerId")}  # API 1.4 has the latter


def _read_group(fields: Fields, details: Fields) -> dict[str, Any]:
    group = details.object("group") or details.empty("group")
    return {"group_id": group.identifier("groupId") or fields.identifier("providerId")}


_READERS: Mapping[NotificationType | None, Callable[[Fields, Fields], dict[str, Any]]] = {
    NotificationType.SHARE_CHANGE_PERMISSION: _read_permissions,
    NotificationType.REQUEST_RESHARE: _read_reshare,
    NotificationType.REQUEST_SHARE: _read_request,
    NotificationType.SHARE_DECLINED: _read_refusal,
    NotificationType.USER_REMOVED: _read_user,
    NotificationType.GROUP_REMOVED: _read_group,
}


def _file(notification: Notification) -> dict[str, Any]:
    permissions = notification.permissions
    return {
        "providerId": notification.provider_id,
        "owner": notification.owner,
        "shareWith": notification.share_with,
        "shareId": notification.share_id,
        "permissions": None if permissions is None else ordered(Permission, permissions),
    }


def _removed(notification: Notification, legacy: bool) -> dict[str, Any]:
    word, key, value = {
        NotificationType.USER_REMOVED: ("user", "userId", notification.user_id),
        NotificationType.GROUP_REMOVED: ("group", "groupId", notification.group_id),
    }[notification.type]
    body = {"shareType": word, "notification": {word: {key: value}}}
    return body | {"resourceType": word, "providerId": value} if legacy else body


def _present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
