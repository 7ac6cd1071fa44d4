"""The `protocol` object of a Share Creation Notification: the ways in which a Share is offered.

It comes in three forms (draft-07, Share Creation Notification, Fields): `multi` with one member per protocol, a
protocol's name with a member of that name, and, deprecated, a protocol's name with its details under `options`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from gateway.ocm.errors import Malformed
from gateway.ocm.fields import URI_MAX, Fields, Member
from gateway.ocm.secret import Secret
from gateway.ocm.ssh_address import SSHAddress
from gateway.ocm.text import line
from gateway.ocm.urls import check_url, is_absolute, quoted


class Permission(StrEnum):
    """What a webdav Share allows; `write` is to create, update and delete."""

    READ = "read"
    WRITE = "write"
    SHARE = "share"


class WebappPermission(StrEnum):
    """What a webapp Share allows."""

    VIEW = "view"
    READ = "read"
    WRITE = "write"
    SHARE = "share"


class Requirement(StrEnum):
    """What the receiver has to do before it reaches the Resource."""

    MUST_EXCHANGE_TOKEN = "must-exchange-token"  # noqa: S105 - the name of a requirement, no password
    MUST_USE_MFA = "must-use-mfa"


class AccessType(StrEnum):
    """Whether a Share is for reaching the Resource where it is, or for fetching it."""

    REMOTE = "remote"
    DATATX = "datatx"


class Target(StrEnum):
    """How a web application may be shown."""

    BLANK = "blank"
    IFRAME = "iframe"


OLD_REQUIREMENTS: Mapping[str, Requirement] = {"mfa-enforced": Requirement.MUST_USE_MFA}
READ_ONLY = frozenset({Permission.READ})
REMOTE_ONLY = frozenset({AccessType.REMOTE})
UNKNOWN_REQUIREMENT = "UNKNOWN_REQUIREMENT"
# The literal that Nextcloud and ownCloud send and expect; it names a property and grants nothing by itself.
LEGACY_PERMISSIONS = "{http://open-cloud-mesh.org/ns}share-permissions"


@dataclass(frozen=True, slots=True)
class WebdavProtocol:
    """Access by WebDAV. Without a `uri`, as in API 1.0, it is the webdav root itself; `size` is in bytes.

    `permissions_stated` is false where the sender did not list them: then `read` is assumed until PROPFIND says more.
    """

    uri: str | None
    shared_secret: Secret
    permissions: frozenset[Permission] = READ_ONLY
    requirements: frozenset[Requirement] = frozenset()
    access_types: frozenset[AccessType] = REMOTE_ONLY
    size: int | None = None
    permissions_stated: bool = True


@dataclass(frozen=True, slots=True)
class SshProtocol:
    """Access by SFTP or SCP at `username@host:port/path`, with the receiver's public key. It has no requirements."""

    uri: str  # one that SSHAddress can read
    access_types: frozenset[AccessType] = REMOTE_ONLY


@dataclass(frozen=True, slots=True)
class WebappProtocol:
    """Access by a web application of the sender, opened with an exchanged token."""

    uri: str
    shared_secret: Secret
    targets: frozenset[Target]
    permissions: frozenset[WebappPermission]
    requirements: frozenset[Requirement]
    app_name: str | None = None
    app_icon_hint: str | None = None
    media_types: tuple[str, ...] = ()


Protocol: TypeAlias = WebdavProtocol | SshProtocol | WebappProtocol


def parse_protocols(fields: Fields) -> tuple[Protocol, ...]:
    """Return what the `protocol` object offers; mistakes are noted in `fields`.

    Protocols that are not known here are left out, so the tuple is empty when only such are offered.
    """
    name = fields.string("name") or "multi"
    names = [protocol for protocol in _READERS if fields.has(protocol)] if name == "multi" else [name]
    if not names and not fields.names() - {"name", "options"}:
        fields.fail("webdav", "REQUIRED")
    read = [_read(fields, protocol) for protocol in names if protocol in _READERS]
    offered = tuple(protocol for protocol in read if protocol is not None)
    if len({protocol.requirements for protocol in offered if not isinstance(protocol, SshProtocol)}) > 1:
        fields.fail("webapp.requirements", "REQUIREMENTS_DISAGREE")
    return offered


def serialise_protocols(protocols: tuple[Protocol, ...]) -> dict[str, Any]:
    """Return the `protocol` object in its modern form, without what is unset."""
    body: dict[str, Any] = {"name": "multi"}
    for protocol in protocols:
        match protocol:
            case WebdavProtocol():
                body["webdav"] = _webdav_body(protocol)
            case WebappProtocol():
                body["webapp"] = _webapp_body(protocol)
            case SshProtocol():
                body["ssh"] = _access_types(protocol.access_types) | {"uri": protocol.uri}
    return body


def ordered(kind: type[StrEnum], members: Collection[StrEnum]) -> list[str]:
    """Return the words of `members` in the order in which the draft lists them."""
    return [member.value for member in kind if member in members]


def _read(fields: Fields, protocol: str) -> Protocol | None:
    """Read one protocol from the member of its name, or from `options` where there is none."""
    details = fields.object(protocol if fields.has(protocol) else "options", required=True)
    return None if details is None else _READERS[protocol](fields, details)


def _read_webdav(fields: Fields, details: Fields) -> WebdavProtocol | None:
    secret = _secret_holder(fields, details).secret("sharedSecret", required=True)
    uri = details.identifier("uri", "URI", "url", limit=URI_MAX)
    if uri is not None and is_absolute(uri):
        _check_absolute(details, uri)
    permissions = _permissions(details)
    requirements = _requirements(details)
    access_types = _access(details)
    size = details.integer("size")
    if secret is None:
        return None
    return WebdavProtocol(
        uri, secret, permissions or READ_ONLY, requirements, access_types, size, permissions is not None
    )


def _read_ssh(_: Fields, details: Fields) -> SshProtocol | None:
    uri = details.identifier("uri", required=True, limit=URI_MAX)
    access_types = _access(details)
    if uri is None:
        return None
    try:
        SSHAddress.parse(uri)
    except Malformed as error:
        details.fail("uri", error.code)
    return SshProtocol(uri, access_types)


def _read_webapp(_: Fields, details: Fields) -> WebappProtocol | None:
    if details.has("uriTemplate") and not details.has("uri"):
        return None  # the form of OpenCloud and oCIS, which the draft has left behind (peers.md, section 9)
    uri = details.identifier("uri", required=True, limit=URI_MAX)
    if uri is not None:
        _check_absolute(details, uri)
    secret = details.secret("sharedSecret", required=True)
    targets = _not_empty(details, "targets", details.members("targets", Target, "UNKNOWN_TARGET"))
    permissions = _not_empty(
        details, "permissions", details.members("permissions", WebappPermission, "UNKNOWN_PERMISSION")
    )
    requirements = _requirements(details)
    if Requirement.MUST_EXCHANGE_TOKEN not in requirements:
        details.fail("requirements", "MUST_EXCHANGE_TOKEN_MISSING")
    app_name, app_icon_hint = details.line("appName"), details.line("appIconHint")
    if uri is None or secret is None:
        return None
    media_types = tuple(filter(None, map(line, details.strings("mediaTypes"))))
    return WebappProtocol(uri, secret, targets, permissions, requirements, app_name, app_icon_hint, media_types)


_READERS: Mapping[str, Callable[[Fields, Fields], Protocol | None]] = {
    "webdav": _read_webdav,
    "webapp": _read_webapp,
    "ssh": _read_ssh,
}


def _secret_holder(fields: Fields, details: Fields) -> Fields:
    """Return the object with the secret: some peers fill `options` beside the modern member, or only there."""
    options = None if details.has("sharedSecret") else fields.object("options")
    return options if options is not None and options.has("sharedSecret") else details


def _permissions(details: Fields) -> frozenset[Permission] | None:
    """Return the permissions that are listed; None where they are absent or an opaque string, as in API 1.0."""
    if isinstance(details.raw("permissions")[1], str):
        return None
    permissions = details.members("permissions", Permission, "UNKNOWN_PERMISSION")
    return None if permissions is None else _not_empty(details, "permissions", permissions)


def _requirements(details: Fields) -> frozenset[Requirement]:
    """Return the requirements; one that is not understood is a mistake, so that the share is refused (draft-07)."""
    found = details.members("requirements", Requirement, UNKNOWN_REQUIREMENT, old_names=OLD_REQUIREMENTS)
    return found or frozenset()


def _access(details: Fields) -> frozenset[AccessType]:
    return details.members("accessTypes", AccessType, "UNKNOWN_ACCESS_TYPE") or REMOTE_ONLY


def _not_empty(details: Fields, name: str, members: frozenset[Member] | None) -> frozenset[Member]:
    if not members and not (members is None and details.has(name)):  # a list that is unusable is noted already
        details.fail(name, "REQUIRED")
    return members or frozenset()


def _check_absolute(details: Fields, uri: str) -> None:
    try:
        check_url(quoted(uri))
    except Malformed as error:
        details.fail("uri", error.code)


def _webdav_body(protocol: WebdavProtocol) -> dict[str, Any]:
    body: dict[str, Any] = {
        "uri": protocol.uri,
        "sharedSecret": protocol.shared_secret.reveal(),
        "permissions": ordered(Permission, protocol.permissions),
        "size": protocol.size,
    }
    body |= _required(protocol.requirements) | _access_types(protocol.access_types)
    return {name: value for name, value in body.items() if value is not None}


def _webapp_body(protocol: WebappProtocol) -> dict[str, Any]:
    body: dict[str, Any] = {
        "uri": protocol.uri,
        "sharedSecret": protocol.shared_secret.reveal(),
        "targets": ordered(Target, protocol.targets),
        "permissions": ordered(WebappPermission, protocol.permissions),
    }
    optional = {"appName": protocol.app_name, "appIconHint": protocol.app_icon_hint}
    body |= _required(protocol.requirements) | {name: value for name, value in optional.items() if value}
    return body | {"mediaTypes": list(protocol.media_types)} if protocol.media_types else body


def _required(requirements: frozenset[Requirement]) -> dict[str, Any]:
    return {"requirements": ordered(Requirement, requirements)} if requirements else {}  # never an empty list


def _access_types(access_types: frozenset[AccessType]) -> dict[str, Any]:
    return {} if access_types == REMOTE_ONLY else {"accessTypes": ordered(AccessType, access_types)}
