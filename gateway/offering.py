"""What is said to the Receiving Server about a Share, as its discovery lets us say it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import PeerFailed
from gateway.ocm.address import OCMAddress
from gateway.ocm.discovery import Discovery
from gateway.ocm.notifications import Notification, NotificationType
from gateway.ocm.secret import Secret
from gateway.ocm.shares import (
    BodyForm,
    Requirement,
    ResourceType,
    ShareCreationNotification,
    ShareType,
    WebdavProtocol,
)
from gateway.store.sent_shares import SentShare


@dataclass(frozen=True, slots=True)
class Offer:
    """How a Share is offered to one peer."""

    form: BodyForm
    resource_type: ResourceType
    requires_exchange: bool
    absolute_uri: bool


def offer(share: SentShare, discovery: Discovery) -> Offer:
    """Return the offer that fits what the peer advertises; raises PeerFailed when none does (wire.md).

    Whether the exchange is required was decided by the first offer, if there was one: the peer may have taken that.
    """
    form = body_form(discovery)
    exchanges = "exchange-token" in discovery.capabilities
    required = exchanges if share.requires_exchange is None else share.requires_exchange
    if "must-exchange-token" in discovery.criteria and not required:
        lack = "was offered this Share without it" if exchanges else "has no exchange-token"
        raise _not_offered(f"{share.server} demands the token exchange but {lack}")
    resource_type = offered_type(share, form)
    # Old peers list `file` alone, and mean folders and users as well; of groups they say so.
    by_word = form == "modern" or share.share_type == ShareType.GROUP
    if by_word and not discovery.receives(resource_type, share.share_type, "webdav"):
        raise _not_offered(f"{share.server} does not receive a {resource_type} for a {share.share_type} by WebDAV")
    return Offer(form, resource_type, required, discovery.webdav_uri_form() == "absolute")


def body_form(discovery: Discovery) -> BodyForm:
    """Return which body the peer reads (peers.md §2b): the one of API 1.2 and later, or that of its elders."""
    if discovery.capabilities & {"protocol-object", "webdav-uri", "exchange-token"} or discovery.provider == "oCIS":
        return "modern"  # oCIS calls itself 1.1.0 and names none of these
    return "legacy" if discovery.api_version.startswith(("1.0", "1.1")) else "modern"


def offered_type(share: SentShare, form: BodyForm) -> ResourceType:
    """Return the resourceType to say: old peers know only `file` and mean folders as well (peers.md §10, trap 2).

    Once it was said it stays, though the peer may have become another product since (wire.md, Binding).
    """
    if share.offered_type is not None:
        return ResourceType(share.offered_type)
    return ResourceType.FILE if form == "legacy" else ResourceType(share.resource_type)


def share_creation_notification(
    share: SentShare, offered: Offer, secret: Secret, *, server: str, dav_url: str
) -> ShareCreationNotification:
    """Return the notification; `dav_url` is the absolute URL of our webdav root, with a slash at its end."""
    address = f"{share.owner}@{server}"
    webdav = WebdavProtocol(
        uri=f"{dav_url}{share.id}" if offered.absolute_uri else share.id,
        shared_secret=secret,
        permissions=share.permissions,
        requirements=frozenset({Requirement.MUST_EXCHANGE_TOKEN} if offered.requires_exchange else ()),
    )
    return ShareCreationNotification(
        share_with=share.share_with,
        name=share.name,
        provider_id=share.provider_id,
        owner=address,
        owner_display_name=share.owner,
        sender=address,
        sender_display_name=share.owner,
        share_type=ShareType(share.share_type),
        resource_type=offered.resource_type,
        expiration=share.expiration,
        protocols=(webdav,),
    )


def notification_about(
    share: SentShare, kind: NotificationType, secret: Secret, discovery: Discovery, *, server: str
) -> Notification:
    """Return a notification about a Share; its resourceType is the one that was offered (wire.md, Binding)."""
    changes = kind is NotificationType.SHARE_CHANGE_PERMISSION
    grantee = OCMAddress.parse(share.share_with).identifier
    return Notification(
        type=kind,
        sender_domain=server,
        resource_type=offered_type(share, body_form(discovery)),
        share_type=share.share_type,
        provider_id=share.provider_id,
        shared_secret=secret,
        permissions=share.permissions if changes else None,
        grantee=grantee,  # without it oCIS refuses the message (peers.md §5)
    )


def _not_offered(sentence: str) -> PeerFailed:
    return PeerFailed("NOT_OFFERED", sentence, 501)  # as if the peer had said so: asking again changes nothing
