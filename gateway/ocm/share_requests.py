"""The body of `POST /request-share` (OCM API 1.4.0, RequestShare), which 1.5 has replaced by REQUEST_SHARE.

It is read as that notification, so that nobody else has to know of two ways to ask. It names no permissions: `read`
is meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.ocm.fields import URI_MAX, Fields
from gateway.ocm.notifications import Notification, NotificationType
from gateway.ocm.protocols import READ_ONLY


def parse_share_request(body: Mapping[str, Any]) -> Notification:
    """Read the request; raises Malformed("INVALID_REQUEST") with every unusable field."""
    fields = Fields(body)
    values: dict[str, Any] = {
        "owner": fields.address("owner", required=True),
        "share_with": fields.address("shareWith", required=True),
        "share_id": fields.identifier("share", required=True, limit=URI_MAX),
    }
    fields.check("INVALID_REQUEST")
    return Notification(type=NotificationType.REQUEST_SHARE, permissions=READ_ONLY, **values)


def serialise_share_request(notification: Notification) -> dict[str, Any]:
    """Return the body to send; raises ValueError if something is missing."""
    body = {"owner": notification.owner, "shareWith": notification.share_with, "share": notification.share_id}
    if None in body.values():
        raise ValueError("a request names owner, shareWith and share")
    return body
