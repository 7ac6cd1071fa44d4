"""What a Sending Server offers, as far as it is for us, and as the row that is kept of it."""

from __future__ import annotations

from gateway.errors import Invalid, NotAllowed, NotBuilt
from gateway.ocm.address import OCMAddress
from gateway.ocm.shares import (
    AccessType,
    Requirement,
    ShareCreationNotification,
    ShareType,
    WebdavProtocol,
    file_name,
    payload_digest,
)
from gateway.ocm.states import ReceivedState
from gateway.proof import Peer
from gateway.store.received_shares import ReceivedShare


def usable_protocol(notification: ShareCreationNotification, *, has_groups: bool) -> WebdavProtocol:
    """Return the protocol that this gateway can use; raises NotBuilt, Invalid for requirements it cannot meet."""
    if notification.share_type == ShareType.GROUP and not has_groups:
        raise NotBuilt("SHARE_TYPE_NOT_SUPPORTED", f"shareType {notification.share_type} is not received here")
    webdav = notification.webdav
    if webdav is None:
        raise NotBuilt("PROTOCOL_NOT_SUPPORTED", "only the protocol webdav is received here")
    if AccessType.REMOTE not in webdav.access_types:
        raise NotBuilt("ACCESS_TYPE_NOT_SUPPORTED", "a Share that is only for fetching is not received here")
    if Requirement.MUST_USE_MFA in webdav.requirements:
        sentence = "this server cannot ask its users for a second factor"
        raise Invalid("REQUIREMENT_NOT_SUPPORTED", sentence, "protocol.webdav.requirements")
    return webdav


def require_same_host(peer: Peer, notification: ShareCreationNotification) -> None:
    """Return if the owner's host is the one that was proved (wire.md, Verifying); raises NotAllowed."""
    owner = OCMAddress.normalise(notification.owner).server
    if owner != peer.server:
        raise NotAllowed("OWNER_MISMATCH", f"{peer.server} sends a Share that is owned at {owner}")


def recipient_at(server: str, notification: ShareCreationNotification) -> str:
    """Return the name of the user or group at `server` (host[:port], ours) that it is for; raises Invalid."""
    address = OCMAddress.normalise(notification.share_with)
    if address.server != server:
        raise Invalid("WRONG_SERVER", f"{address.server} is not this server, {server} is", "shareWith")
    return address.identifier


def row_of(peer: Peer, notification: ShareCreationNotification, webdav: WebdavProtocol, now: int) -> ReceivedShare:
    """Return the Share as it is stored, but for its id and its user, who may be several."""
    return ReceivedShare(
        id="",
        user="",
        server=peer.server,
        provider_id=notification.provider_id,
        owner=notification.owner,
        sender=notification.sender,
        owner_display_name=notification.owner_display_name,
        sender_display_name=notification.sender_display_name,
        share_with=notification.share_with,
        name=file_name(notification.name),
        description=notification.description,
        resource_type=str(notification.resource_type),
        share_type=str(notification.share_type),
        permissions=webdav.permissions,
        requires_exchange=Requirement.MUST_EXCHANGE_TOKEN in webdav.requirements,
        uri=webdav.uri,
        encrypted=notification.encryption is not None,
        expiration=notification.expiration,
        state=ReceivedState.PENDING,
        mount=None,
        evidence=peer.evidence.word,
        payload_digest=payload_digest(notification),
        access=None,
        root_kind=None,
        root_size=None,
        root_modified=None,
        root_etag=None,
        probed=None,
        created=now,
        updated=now,
    )
