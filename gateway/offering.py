"""What is said to the Receiving Server about a Share, as its discovery and its product's profile let us say it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import PeerFailed
from gateway.ocm.address import OCMAddress
from gateway.ocm.discovery import Discovery
from gateway.ocm.notifications import Notification, NotificationType
from gateway.ocm.secret import Secret
from gateway.ocm.shares import (
    BodyForm,
    Permission,
    Requirement,
    ResourceType,
    ShareCreationNotification,
    ShareType,
    WebdavProtocol,
)
from gateway.profiles import OTHER_FORM, Profile, profile_of
from gateway.store.sent_shares import SentShare


@dataclass(frozen=True, slots=True)
class Offer:
    """How a Share is offered to one peer."""

    form: BodyForm
    resource_type: ResourceType
    requires_exchange: bool
    absolute_uri: bool


def offer(share: SentShare, discovery: Discovery, worked: BodyForm | None = None) -> Offer:
    """Return the offer that fits the peer; raises PeerFailed when none does (wire.md).

    `worked` is the body that it has taken before. A Share that was offered once keeps its form and whether the exchange
    is required: the peer may have taken that.
    """
    profile = profile_of(discovery)
    _require_takes(share, profile)
    exchanges = profile.exchange and "exchange-token" in discovery.capabilities
    required = exchanges if share.requires_exchange is None else share.requires_exchange
    if "must-exchange-token" in discovery.criteria and not required:
        lack = "was offered this Share without it" if exchanges else "has no exchange-token"
        raise _not_offered(f"{share.server} demands the token exchange but {lack}")
    form = share.offered_form or worked or profile.body
    form = "modern" if required else form  # the legacy body has no room for a requirement
    return _offer(share, discovery, form, offered_type(share, profile, form), required)


def other_offer(share: SentShare, discovery: Discovery, refused: Offer) -> Offer | None:
    """Return the offer to make after the peer could not read `refused`; None where there is none.

    Only to a peer that was told nothing before: it may have taken that, and an id means one Share (wire.md, 409).
    """
    if share.offered_type is not None or refused.requires_exchange:
        return None
    form = OTHER_FORM[refused.form]
    try:
        return _offer(share, discovery, form, offered_type(share, profile_of(discovery), form), required=False)
    except PeerFailed:
        return None


def offered_type(share: SentShare, profile: Profile, form: BodyForm) -> ResourceType:
    """Return the resourceType to say: old peers know only `file` and mean folders as well (peers.md §10, trap 2).

    Once it was said it stays, though the peer may have become another product since (wire.md, Binding).
    """
    if share.offered_type is not None:
        return ResourceType(share.offered_type)
    return ResourceType.FILE if form == "legacy" or profile.folders == "file" else ResourceType(share.resource_type)


def _offer(
    share: SentShare, discovery: Discovery, form: BodyForm, resource_type: ResourceType, required: bool
) -> Offer:
    profile = profile_of(discovery)
    # Old peers list `file` alone, and mean folders and users as well; of groups all say so.
    must_list = share.share_type == ShareType.GROUP or (form == "modern" and profile.folders == "if_listed")
    if must_list and not discovery.receives(resource_type, share.share_type, "webdav"):
        raise _not_offered(f"{share.server} does not receive a {resource_type} for a {share.share_type} by WebDAV")
    absolute = (profile.uri or discovery.webdav_uri_form()) == "absolute"
    return Offer(form, resource_type, required, absolute)


def _require_takes(share: SentShare, profile: Profile) -> None:
    """Refuse what the product would refuse, and say what it takes instead (peers.md §10, traps 2 and 26)."""
    if profile.folders == "refused" and share.resource_type == ResourceType.FOLDER:
        raise _not_offered(f"{share.server} is {profile.title}, which takes files only: share the files one by one")
    if not share.permissions <= profile.permissions:
        words = ",".join(permission for permission in Permission if permission in profile.permissions)
        raise _not_offered(f"{share.server} is {profile.title}: share it with `--permissions {words}`")


def share_creation_notification(
    share: SentShare, offered: Offer, secret: Secret, *, server: str, dav_url: str, owner_name: str
) -> ShareCreationNotification:
    """Return the notification; `dav_url` is the absolute URL of our webdav root, with a slash at its end.

    `owner_name` is what people see of the owner.
    """
    address = f"{share.owner}@{server}"
    uri = f"{dav_url}{share.id}" if offered.absolute_uri else share.id
    webdav = _webdav(share, secret, uri, requires_exchange=offered.requires_exchange)
    return ShareCreationNotification(
        share_with=share.share_with,
        name=share.name,
        provider_id=share.provider_id,
        owner=address,
        owner_display_name=owner_name,
        sender=address,
        sender_display_name=owner_name,
        share_type=ShareType(share.share_type),
        resource_type=offered.resource_type,
        expiration=share.expiration,
        protocols=(webdav,),
    )


def notification_about(
    share: SentShare, kind: NotificationType, secret: Secret, profile: Profile, *, server: str, dav_url: str
) -> Notification:
    """Return a notification about a Share; its resourceType is the one that was offered (wire.md, Binding)."""
    changes = kind is NotificationType.SHARE_CHANGE_PERMISSION
    form = share.offered_form or profile.body
    return Notification(
        type=kind,
        sender_domain=server,
        resource_type=offered_type(share, profile, form),
        share_type=share.share_type,
        provider_id=share.provider_id,
        shared_secret=secret,
        permissions=share.permissions if changes else None,
        webdav=_webdav(share, secret, f"{dav_url}{share.id}") if changes and profile.repeats_protocol else None,
        grantee=OCMAddress.parse(share.share_with).identifier,  # without it oCIS refuses the message (peers.md §5)
    )


def _webdav(share: SentShare, secret: Secret, uri: str, *, requires_exchange: bool = False) -> WebdavProtocol:
    return WebdavProtocol(
        uri=uri,
        shared_secret=secret,
        permissions=share.permissions,
        requirements=frozenset({Requirement.MUST_EXCHANGE_TOKEN} if requires_exchange else ()),
    )


def _not_offered(sentence: str) -> PeerFailed:
    return PeerFailed("NOT_OFFERED", sentence, 501)  # as if the peer had said so: asking again changes nothing
