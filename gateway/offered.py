"""What a Sending Server offers, as far as it is for us, and as the row that is kept of it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import Invalid, NotAllowed, NotBuilt
from gateway.ocm.address import OCMAddress
from gateway.ocm.protocols import READ_ONLY
from gateway.ocm.shares import (
    SSH,
    WEBDAV,
    AccessType,
    Requirement,
    ShareCreationNotification,
    ShareType,
    SshProtocol,
    WebdavProtocol,
    file_name,
    payload_digest,
)
from gateway.ocm.ssh_address import SSHAddress
from gateway.ocm.states import ReceivedState
from gateway.proof import Peer
from gateway.store.received_shares import ReceivedShare


@dataclass(frozen=True, slots=True)
class Usable:
    """By what a Share is offered, of the protocols that this gateway speaks; `protocols` are those to mount it by."""

    webdav: WebdavProtocol | None
    ssh: SshProtocol | None

    @property
    def protocols(self) -> tuple[str, ...]:
        offered = ((WEBDAV, self.webdav), (SSH, self.ssh))
        return tuple(name for name, one in offered if one is not None and AccessType.REMOTE in one.access_types)

    @property
    def secret(self) -> str | None:
        """Return the shared secret, which SSH does without."""
        return None if self.webdav is None else self.webdav.shared_secret.reveal()


def usable_protocols(notification: ShareCreationNotification, *, has_groups: bool) -> Usable:
    """Return the protocols that this gateway can use; raises NotBuilt, Invalid for requirements it cannot meet.

    What is only for fetching by SSH is taken, since its user can do that with an own key; it is not mounted.
    """
    if notification.share_type == ShareType.GROUP and not has_groups:
        raise NotBuilt("SHARE_TYPE_NOT_SUPPORTED", f"shareType {notification.share_type} is not received here")
    if Requirement.MUST_USE_MFA in notification.requirements:
        sentence = "this server cannot ask its users for a second factor"
        raise Invalid("REQUIREMENT_NOT_SUPPORTED", sentence, "protocol.webdav.requirements")
    usable = Usable(notification.webdav, notification.ssh)
    if usable.webdav is None and usable.ssh is None:
        raise NotBuilt("PROTOCOL_NOT_SUPPORTED", "only the protocols webdav and ssh are received here")
    if not usable.protocols and usable.ssh is None:
        raise NotBuilt("ACCESS_TYPE_NOT_SUPPORTED", "a Share that is only for fetching is not received here")
    return usable


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


def row_of(peer: Peer, notification: ShareCreationNotification, usable: Usable, now: int) -> ReceivedShare:
    """Return the Share as it is stored, but for its id and its user, who may be several.

    The draft has no permissions for `ssh`: what is offered by nothing else can be read, until its sender says more.
    """
    webdav = usable.webdav
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
        permissions=READ_ONLY if webdav is None else webdav.permissions,
        requires_exchange=webdav is not None and Requirement.MUST_EXCHANGE_TOKEN in webdav.requirements,
        uri=None if webdav is None else webdav.uri,
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
        protocols=usable.protocols,
        ssh_uri=None if usable.ssh is None else str(SSHAddress.parse(usable.ssh.uri)),
    )
