"""What is said to the Receiving Server about a Share, as its discovery and its product's profile let us say it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.errors import PeerFailed
from gateway.ocm.address import OCMAddress
from gateway.ocm.discovery import Discovery
from gateway.ocm.notifications import Notification, NotificationType
from gateway.ocm.secret import Secret
from gateway.ocm.shares import (
    SSH,
    WEBDAV,
    BodyForm,
    Permission,
    Protocol,
    Requirement,
    ResourceType,
    ShareCreationNotification,
    ShareType,
    SshProtocol,
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
    protocols: tuple[str, ...] = (WEBDAV,)


@dataclass(frozen=True, slots=True)
class Ourselves:
    """What other servers know this one by: `server` is host[:port], `ssh` host:port of its SSH door, if it is open.

    `dav_url` is the absolute URL of our webdav root, with a slash at its end.
    """

    server: str
    dav_url: str
    ssh: str | None = None


def offer(share: SentShare, discovery: Discovery, worked: BodyForm | None = None, *, has_door: bool = False) -> Offer:
    """Return the offer that fits the peer; raises PeerFailed when none does (wire.md).

    `worked` is the body that it has taken before; `has_door`: it can be reached by SSH here. A Share that was offered
    once keeps its form, its protocols and whether the exchange is required: the peer may have taken that.
    """
    profile = profile_of(discovery)
    _require_takes(share, profile)
    exchanges = profile.exchange and "exchange-token" in discovery.capabilities
    protocols = _protocols(share, discovery, has_door=has_door, exchanges=exchanges)
    required = exchanges if share.requires_exchange is None else share.requires_exchange
    required = required and SSH not in protocols
    if "must-exchange-token" in discovery.criteria and not required:
        lack = "was offered this Share without it" if exchanges else "has no exchange-token"
        raise _not_offered(f"{share.server} demands the token exchange but {lack}")
    form = share.offered_form or worked or profile.body
    form = "modern" if required or SSH in protocols else form  # the legacy body has no room for either
    return _offer(share, discovery, form, offered_type(share, profile, form), required, protocols)


def other_offer(share: SentShare, discovery: Discovery, refused: Offer) -> Offer | None:
    """Return the offer to make after the peer could not read `refused`; None where there is none.

    Only to a peer that was told nothing before: it may have taken that, and an id means one Share (wire.md, 409).
    """
    if share.offered_type is not None or refused.requires_exchange or WEBDAV not in refused.protocols:
        return None
    form = OTHER_FORM[refused.form]
    try:
        if SSH in refused.protocols:  # which some refuse with all that stands beside it (peers.md §9)
            return offer(replace(share, protocols=(WEBDAV,)), discovery, refused.form)
        return _offer(share, discovery, form, offered_type(share, profile_of(discovery), form), required=False)
    except PeerFailed:
        return None


def _protocols(share: SentShare, discovery: Discovery, *, has_door: bool, exchanges: bool) -> tuple[str, ...]:
    """Return the protocols to offer: those that were asked for, as far as the peer takes them.

    Where none was asked for, the token exchange is worth more than a second way in: beside SSH nothing is required.
    """
    if share.offered_type is not None:
        told = share.offered_protocols or (WEBDAV,)
        if SSH in told and not has_door:
            raise _not_offered("this gateway has no SSH door any more, and the Share was offered there")
        return told
    takes_ssh = discovery.receives(share.resource_type, share.share_type, SSH)
    may_offer = has_door and takes_ssh and "must-exchange-token" not in discovery.criteria
    wanted = share.protocols or ((WEBDAV,) if exchanges else (WEBDAV, SSH))
    chosen = tuple(protocol for protocol in wanted if protocol == WEBDAV or may_offer)
    if not chosen:
        lack = "demands the token exchange, which SSH does not have" if takes_ssh else "does not receive Shares by SSH"
        raise _not_offered(f"{share.server} {lack}: share it with `--protocols webdav`")
    if len(chosen) > 1 and not discovery.receives(share.resource_type, share.share_type, WEBDAV):
        return (SSH,)
    return chosen


def offered_type(share: SentShare, profile: Profile, form: BodyForm) -> ResourceType:
    """Return the resourceType to say: old peers know only `file` and mean folders as well (peers.md §10, trap 2).

    Once it was said it stays, though the peer may have become another product since (wire.md, Binding).
    """
    if share.offered_type is not None:
        return ResourceType(share.offered_type)
    return ResourceType.FILE if form == "legacy" or profile.folders == "file" else ResourceType(share.resource_type)


def _offer(
    share: SentShare,
    discovery: Discovery,
    form: BodyForm,
    resource_type: ResourceType,
    required: bool,
    protocols: tuple[str, ...] = (WEBDAV,),
) -> Offer:
    profile = profile_of(discovery)
    # Old peers list `file` alone, and mean folders and users as well; of groups all say so.
    must_list = share.share_type == ShareType.GROUP or (form == "modern" and profile.folders == "if_listed")
    if WEBDAV in protocols and must_list and not discovery.receives(resource_type, share.share_type, "webdav"):
        raise _not_offered(f"{share.server} does not receive a {resource_type} for a {share.share_type} by WebDAV")
    absolute = (profile.uri or discovery.webdav_uri_form()) == "absolute"
    return Offer(form, resource_type, required, absolute, protocols)


def _require_takes(share: SentShare, profile: Profile) -> None:
    """Refuse what the product would refuse, and say what it takes instead (peers.md §10, traps 2 and 26)."""
    if profile.folders == "refused" and share.resource_type == ResourceType.FOLDER:
        raise _not_offered(f"{share.server} is {profile.title}, which takes files only: share the files one by one")
    if not share.permissions <= profile.permissions:
        words = ",".join(permission for permission in Permission if permission in profile.permissions)
        raise _not_offered(f"{share.server} is {profile.title}: share it with `--permissions {words}`")


def share_creation_notification(
    share: SentShare, offered: Offer, secret: Secret, ourselves: Ourselves, owner_name: str
) -> ShareCreationNotification:
    """Return the notification; `owner_name` is what people see of the owner."""
    address = f"{share.owner}@{ourselves.server}"
    uri = f"{ourselves.dav_url}{share.id}" if offered.absolute_uri else share.id
    protocols: dict[str, Protocol] = {
        WEBDAV: _webdav(share, secret, uri, requires_exchange=offered.requires_exchange),
        SSH: SshProtocol(ssh_uri(share, ourselves) or ""),
    }
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
        protocols=tuple(protocols[name] for name in offered.protocols),
    )


def ssh_uri(share: SentShare, ourselves: Ourselves) -> str | None:
    """Return where the Share is met by SSH: in the root of what its log-in sees; None where it is not."""
    if share.ssh_login is None or ourselves.ssh is None:
        return None
    return f"{share.ssh_login}@{ourselves.ssh}/"


def notification_about(
    share: SentShare, kind: NotificationType, secret: Secret, profile: Profile, ourselves: Ourselves
) -> Notification:
    """Return a notification about a Share; its resourceType is the one that was offered (wire.md, Binding)."""
    changes = kind is NotificationType.SHARE_CHANGE_PERMISSION
    form = share.offered_form or profile.body
    dav_url = ourselves.dav_url
    return Notification(
        type=kind,
        sender_domain=ourselves.server,
        resource_type=offered_type(share, profile, form),
        share_type=share.share_type,
        provider_id=share.provider_id,
        shared_secret=secret if share.has_told_secret else None,
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
