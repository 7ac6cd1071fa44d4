"""The dialects of OCM as data: how each product is recognised, what it takes, and how its Shares are reached.

Nobody else knows a product by name. The facts are those that the products' sources show (peers.md; its sections are
named beside them). A product that is not in the table is spoken to as the draft says, or as API 1.0 did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from gateway.ocm.discovery import Discovery
from gateway.ocm.notifications import NotificationType
from gateway.ocm.shares import BodyForm, Permission

# Answers that mean "taken": OpenCloud and oCIS say 200 to a Share, ocm-go to a notification (peers.md §10, trap 8).
TAKEN = frozenset({200, 201, 202, 204})
# Answers to a Share that may mean "not in this form", so that the other body is worth one try (peers.md §2b).
WRONG_FORM = frozenset({400, 501})
OTHER_FORM: Mapping[BodyForm, BodyForm] = {"modern": "legacy", "legacy": "modern"}

_INVITE = "takes Shares from contacts alone: let the two users exchange an invite first"


class Way(StrEnum):
    """A way into a received Share: which credential, and where."""

    TOKEN = "token"  # noqa: S105 - an exchanged access token, at the uri
    BEARER = "bearer"  # the secret as a Bearer token, at the uri
    BASIC = "basic"  # the secret as the user name, without a password, at the uri
    BASIC_ROOT = "basic_root"  # the same at the webdav root, where the secret says which Share is meant
    TOKEN_FILE = "token_file"  # noqa: S105 - as TOKEN, to the one file that is in the root
    BASIC_FILE = "basic_file"  # as BASIC_ROOT, to the one file that is in the root
    SSH = "ssh"  # by SFTP, with the key that the user has here
    SSH_FILE = "ssh_file"  # as SSH, to the one file that is in the root


# Some versions of Nextcloud show a shared file as a folder with that file in it (peers.md §4), and so may SSH servers.
FILE_INSIDE: Mapping[Way, Way] = {
    Way.TOKEN: Way.TOKEN_FILE,
    Way.BASIC_ROOT: Way.BASIC_FILE,
    Way.SSH: Way.SSH_FILE,
}
BY_SSH = (Way.SSH, Way.SSH_FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one product speaks; the defaults are the draft's.

    `signature` and `algorithm` say which signature the product verifies. One is made only where its discovery shows
    that it can do so at present (`http-sig`, `publicKey`).
    """

    product: str  # stable, for scripts
    title: str  # for people
    body: BodyForm = "modern"  # of the Share Creation Notification; the other one is tried once if this is refused
    # What a folder is called in the modern body (the legacy one knows only `file`): `folder`, which it may have to list
    # in its discovery; `file`; or nothing, as the product takes files only (peers.md §10, trap 2).
    folders: Literal["if_listed", "folder", "file", "refused"] = "if_listed"
    permissions: frozenset[Permission] = frozenset(Permission)  # it refuses a Share with others
    uri: Literal["absolute"] | None = None  # None: the form that its discovery asks for
    exchange: bool = True  # whether the token exchange may be required of it
    signature: Literal["rfc9421", "cavage", "none"] = "none"
    algorithm: str | None = None
    notifications: frozenset[NotificationType] = frozenset(NotificationType)  # what it is told; it refuses others
    repeats_protocol: bool = False  # SHARE_CHANGE_PERMISSION to it holds the whole protocol object
    ways: tuple[Way, ...] = (Way.BEARER, Way.BASIC, Way.BASIC_ROOT)  # into its Shares, after an exchanged token
    files_inside: bool = False  # a shared file may be a folder with that file alone in it
    tells_rights: bool = False  # its storage says what a Share permits, which its messages do not, or without proof
    hints: bool = False  # it says that a Share has ended without proof: look whether that is so
    invite: str | None = None  # what has to happen before it takes a Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What a discovery document shows; all that is given has to be there."""

    webdav: str = ""  # what the path of webdav ends in, with a slash at either end
    end_point: str = ""  # a part of it
    versions: tuple[str, ...] = ()  # one of these, or one of their patch levels
    providers: tuple[str, ...] = ()  # one of these
    capabilities: frozenset[str] = frozenset()  # one of these
    member: str = ""  # a member of the document
    public_key: bool = False  # `publicKey` is an object

    def fit(self, discovery: Discovery) -> bool:
        """Tell whether the document shows all of them."""
        path = (discovery.webdav_path("file") or "").strip("/")
        return (
            f"/{path}/".endswith(self.webdav)
            and self.end_point in discovery.end_point
            and (not self.versions or any(_is_version(discovery, version) for version in self.versions))
            and (not self.providers or discovery.provider in self.providers)
            and (not self.capabilities or bool(self.capabilities & discovery.capabilities))
            and (not self.member or self.member in discovery.raw)
            and (not self.public_key or isinstance(discovery.public_key, Mapping))
        )

    def __str__(self) -> str:
        """Return the rule as people read it."""
        parts = (
            (self.webdav, f"webdav ends in {self.webdav}"),
            (self.end_point, f"endPoint has {self.end_point}"),
            (self.versions, f"apiVersion is {' or '.join(self.versions)}"),
            (self.providers, f"provider is {' or '.join(self.providers)}"),
            (self.capabilities, f"capabilities have {' or '.join(sorted(self.capabilities))}"),
            (self.member, f"{self.member} is there"),
            (self.public_key, "publicKey is an object"),
        )
        return ", ".join(sentence for given, sentence in parts if given) or "nothing else fits"


# --- the products (peers.md §2b: bodies, §4: ways in, §5: notifications, §6: signatures, §7: invites, §8: exchange) --

_LIFE_OF_A_SHARE = frozenset(
    {NotificationType.SHARE_ACCEPTED, NotificationType.SHARE_DECLINED, NotificationType.SHARE_UNSHARED}
)
# REQUEST_RESHARE of API 1.0 asks for a secret to share on with, which no receiver here ever does (peers.md §5).
_BEFORE_RESHARES = frozenset(NotificationType) - {NotificationType.REQUEST_RESHARE}

NEXTCLOUD_30 = Profile(
    product="nextcloud-30",
    title="Nextcloud 26 to 31, unsigned",
    body="legacy",
    folders="file",
    exchange=False,
    notifications=_LIFE_OF_A_SHARE,  # it reads permissions by PROPFIND, and so does ownCloud 10
    ways=(Way.BASIC_ROOT,),  # it ignores ids and uris in either role
    files_inside=True,
    tells_rights=True,
)
NEXTCLOUD_31 = replace(
    NEXTCLOUD_30, product="nextcloud-31", title="Nextcloud 31", signature="cavage", algorithm="rsa-sha512"
)
NEXTCLOUD_32 = replace(NEXTCLOUD_31, product="nextcloud-32", title="Nextcloud 32 to 34")
NEXTCLOUD_35 = replace(
    NEXTCLOUD_30,
    product="nextcloud-35",
    title="Nextcloud 35",
    body="modern",  # the legacy one has no room for the exchange
    exchange=True,
    signature="rfc9421",
    algorithm="ES256",
)
OWNCLOUD_10 = replace(NEXTCLOUD_30, product="owncloud-10", title="ownCloud 10")
SEAFILE = replace(NEXTCLOUD_30, product="seafile", title="Seafile", files_inside=False, tells_rights=False)
OCIS = Profile(
    product="ocis",
    title="ownCloud Infinite Scale",
    folders="folder",  # which it takes and does not list
    uri="absolute",
    exchange=False,
    notifications=frozenset({NotificationType.SHARE_UNSHARED, NotificationType.SHARE_CHANGE_PERMISSION}),
    repeats_protocol=True,
    ways=(Way.BEARER,),  # under Basic it takes the user name for an id
    tells_rights=True,
    hints=True,
    invite=f"ownCloud Infinite Scale {_INVITE}, and its operator list this server in ocmproviders.json",
)
OPENCLOUD = Profile(
    product="opencloud",
    title="OpenCloud",
    folders="folder",
    uri="absolute",
    exchange=False,
    ways=(Way.BEARER,),
    invite=f"OpenCloud {_INVITE}, and its operator list this server in ocmproviders.json",
)
REVA = Profile(
    product="reva",
    title="CERNBox or another Reva",
    ways=(Way.BEARER, Way.BASIC_ROOT),
    invite=f"Reva {_INVITE}",
)
OCM_GO = Profile(
    product="ocm-go",
    title="opencloudmesh-go",
    folders="refused",
    permissions=frozenset({Permission.READ}),
    signature="rfc9421",
    algorithm="Ed25519",
    notifications=_LIFE_OF_A_SHARE,
    ways=(Way.BEARER,),
    invite=f"opencloudmesh-go {_INVITE}",
)
OCM_STUB = Profile(product="ocm-stub", title="ocm-stub", body="legacy", notifications=_BEFORE_RESHARES)
DRAFT = Profile(product="ocm", title="a server of API 1.2 or later", signature="rfc9421", algorithm="Ed25519")
LEGACY = Profile(
    product="ocm-1.0",
    title="a server of API 1.0 or 1.1",
    body="legacy",
    exchange=False,
    notifications=_BEFORE_RESHARES,
)

# The first that fits says who it is. Capabilities are in the draft's spelling, without the slashes of some products.
_PUBLIC = "/public.php/webdav/"
RULES: tuple[tuple[Marks, Profile], ...] = (
    (Marks(member="shareTypes", webdav=_PUBLIC), OWNCLOUD_10),
    (Marks(webdav=_PUBLIC, capabilities=frozenset({"exchange-token", "http-sig"})), NEXTCLOUD_35),
    (Marks(webdav=_PUBLIC, capabilities=frozenset({"invite-accepted", "notifications", "shares"})), NEXTCLOUD_32),
    (Marks(webdav=_PUBLIC, public_key=True), NEXTCLOUD_31),
    (Marks(webdav=_PUBLIC), NEXTCLOUD_30),
    (Marks(end_point="/ocm-via-webdav"), SEAFILE),
    (Marks(webdav="/remote.php/dav/ocm/"), REVA),
    (Marks(webdav="/webdav/ocm/"), OCM_GO),
    (Marks(webdav="/webdav-api/"), OCM_STUB),
    # It calls itself 1.1.0 and names none of the capabilities of its body.
    (Marks(providers=("oCIS",)), OCIS),
    (Marks(webdav="/dav/ocm/", versions=("1.1",), capabilities=frozenset({"invite-accepted"})), OCIS),
    (Marks(webdav="/dav/ocm/", versions=("1.2",), capabilities=frozenset({"webdav-uri"})), OPENCLOUD),
    (Marks(capabilities=frozenset({"protocol-object", "webdav-uri", "exchange-token"})), DRAFT),
    (Marks(versions=("1.0", "1.0-proposal1", "1.1")), LEGACY),
    (Marks(), DRAFT),
)
PROFILES: Mapping[str, Profile] = {profile.product: profile for _, profile in RULES}


@dataclass(frozen=True, slots=True)
class Recognised:
    """A peer's profile, and the rule by which it was chosen."""

    profile: Profile
    rule: str


def recognise(discovery: Discovery) -> Recognised:
    """Return the profile of the peer that says this of itself."""
    return next(Recognised(profile, str(marks)) for marks, profile in RULES if marks.fit(discovery))


def profile_of(discovery: Discovery) -> Profile:
    """Return the profile of the peer that says this of itself."""
    return recognise(discovery).profile


def _is_version(discovery: Discovery, version: str) -> bool:
    return discovery.api_version == version or discovery.api_version.startswith(f"{version}.")
