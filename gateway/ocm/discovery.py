"""The discovery document: reading what a peer says of itself, and describing ourselves (draft-07, Discovery, Fields).

The names that older versions and products use are mapped to those of the draft, so that nobody else has to know them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from gateway.ocm.errors import Malformed
from gateway.ocm.fields import Fields, decode_object
from gateway.ocm.ssh_address import ssh_server
from gateway.ocm.urls import origin, resolve

API_VERSION = "1.5.0"
LEGACY_VERSION: Literal["1.1"] = "1.1"
WEBDAV_PATH = "/dav/ocm/"  # below the path of `public_url`

# Nextcloud 26 to 31 refuse a newer version than 1.1 and send exactly this (peers.md, sections 1 and 10, trap 3).
_LEGACY_USER_AGENT = "Nextcloud Server Crawler"
_OLD_CAPABILITIES = {"mfa-capable": "enforce-mfa"}
_OLD_CRITERIA = {
    "http-request-signatures": "must-use-http-sig",
    "token-exchange": "must-exchange-token",
    "invite": "must-invite",
}
_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})")
_DEFAULT_JWKS = "/.well-known/jwks.json"  # of the drafts for API 1.3 and 1.4, which had no jwksUri at first


@dataclass(frozen=True, slots=True)
class ResourceType:
    """What a peer does with one type of Resource; `protocols` maps names, some with `-receive`, to their details."""

    name: str
    share_types: frozenset[str]
    protocols: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What a peer says of itself. URLs are absolute; `end_point` is empty if the peer is switched off.

    `origin` is scheme and authority of the document's own URL: what a Share's relative uri is composed on.
    """

    enabled: bool
    api_version: str
    end_point: str
    origin: str
    resource_types: tuple[ResourceType, ...]
    provider: str | None = None
    capabilities: frozenset[str] = frozenset()
    criteria: frozenset[str] = frozenset()
    invite_accept_dialog: str | None = None
    jwks_uri: str | None = None
    token_end_point: str | None = None
    public_key: object = None  # as it came: an object from Nextcloud, a string from others
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def speaks(self, major: int, minor: int) -> bool:
        """Tell whether the peer says that it speaks this version of the API, or a later one."""
        match = _VERSION.match(self.api_version)
        return match is not None and (int(match[1]), int(match[2])) >= (major, minor)

    def webdav_path(self, resource_type: str) -> str | None:
        """Return the top-level DAV path for `resource_type`: the draft has the same in every entry, so any will do."""
        named = [entry for entry in self.resource_types if entry.name == resource_type]
        paths = (entry.protocols.get("webdav") for entry in (*named, *self.resource_types))
        return next((path for path in paths if isinstance(path, str)), None)

    def receives(self, resource_type: str, share_type: str, protocol: str) -> bool:
        """Tell whether the peer advertises that it takes such a Share.

        file, user and webdav are implied (draft-07, Share Creation Notification). A peer that has no `-receive`
        at all is older than those words: there the bare `webdav` means both directions.
        """
        if (resource_type, share_type, protocol) == ("file", "user", "webdav"):
            return True
        newer = any(name.endswith("-receive") for entry in self.resource_types for name in entry.protocols)
        word = protocol if protocol == "webdav" and not newer else f"{protocol}-receive"
        return any(
            entry.name == resource_type and share_type in entry.share_types and word in entry.protocols
            for entry in self.resource_types
        )

    @property
    def ssh_servers(self) -> frozenset[str]:
        """Return what the peer names as its SSH servers, as host:port; what is none is passed over."""
        found = set()
        for entry in self.resource_types:
            try:
                found.add(ssh_server(str(entry.protocols.get("ssh", ""))))
            except Malformed:
                continue
        return frozenset(found)

    def webdav_uri_form(self) -> Literal["absolute", "relative"]:
        """Return the form of `uri` that the peer accepts; absolute where it says nothing."""
        for entry in self.resource_types:
            receive = entry.protocols.get("webdav-receive")
            if isinstance(receive, Mapping) and receive.get("uri") == "relative":
                return "relative"
        return "absolute"


def parse_discovery(body: bytes, base_url: str) -> Discovery:
    """Read the document that was found at `base_url`; relative URLs in it are relative to that.

    Optional members that make no sense count as absent. Raises Malformed("INVALID_DISCOVERY") for the required ones,
    and what decode_object raises.
    """
    document = decode_object(body)
    fields = Fields(document)
    enabled = document.get("enabled")
    if not isinstance(enabled, bool):
        fields.fail("enabled", "NOT_A_BOOLEAN" if fields.has("enabled") else "REQUIRED")
    api_version = fields.line("apiVersion", "version", required=True) or ""
    end_point = _url(fields, "endPoint", base_url, required=bool(enabled))
    resource_types = _resource_types(fields) if enabled else ()
    fields.check("INVALID_DISCOVERY")
    optional = Fields(document)  # its mistakes are nobody's concern
    capabilities = _words(optional, "capabilities", _OLD_CAPABILITIES)
    jwks_uri = _url(optional, "jwksUri", base_url)
    if "http-sig" in capabilities and not optional.has("jwksUri") and _is_version(api_version, (1, 3), (1, 4)):
        jwks_uri = origin(base_url) + _DEFAULT_JWKS
    return Discovery(
        enabled=bool(enabled),
        api_version=api_version,
        end_point=end_point or "",
        origin=origin(base_url),
        resource_types=resource_types,
        provider=optional.line("provider"),
        capabilities=capabilities,
        criteria=_words(optional, "criteria", _OLD_CRITERIA),
        invite_accept_dialog=_url(optional, "inviteAcceptDialog", base_url),
        jwks_uri=jwks_uri,
        token_end_point=_url(optional, "tokenEndPoint", base_url) if "exchange-token" in capabilities else None,
        public_key=document.get("publicKey"),
        raw=document,
    )


def describe(
    *,
    public_url: str,
    provider: str,
    capabilities: Collection[str],
    criteria: Collection[str] = (),
    resource_types: Sequence[str] = ("file", "folder"),
    share_types: Sequence[str] = ("user",),
    token_end_point: str | None = None,
    jwks_uri: str | None = None,
    invite_accept_dialog: str | None = None,
    ssh: str | None = None,
    object_values: bool = True,
) -> dict[str, Any]:
    """Return our own document for API 1.5.0; `ssh` is host:port of the SSH door, None where there is none.

    `object_values=False` leaves out what is not a string among the protocols, for federations whose clients fail on
    it (peers.md, section 10, trap 6). A URL is shown only with the capability that it belongs to. Raises ValueError
    when a capability lacks its URL, or a criterion its capability.
    """
    for capability, url in (("exchange-token", token_end_point), ("http-sig", jwks_uri)):
        if capability in capabilities and url is None:
            raise ValueError(f"{capability} is advertised without its URL")
    if "must-exchange-token" in criteria and "exchange-token" not in capabilities:
        raise ValueError("must-exchange-token is demanded without being able to exchange tokens")
    protocols: dict[str, Any] = {"webdav": urlsplit(public_url).path.rstrip("/") + WEBDAV_PATH}
    if ssh is not None:
        protocols["ssh"] = ssh
    if object_values:
        protocols |= {"webdav-receive": {"uri": "relative"}, "ssh-receive": {}}
    optional = {
        "criteria": list(criteria) or None,
        "inviteAcceptDialog": invite_accept_dialog if "invites" in capabilities else None,
        "tokenEndPoint": token_end_point if "exchange-token" in capabilities else None,
        "jwksUri": jwks_uri if "http-sig" in capabilities else None,
    }
    return {
        "enabled": True,
        "apiVersion": API_VERSION,
        "version": API_VERSION,  # the name that Nextcloud from 32 on prefers
        "provider": provider,
        "endPoint": public_url.rstrip("/") + "/ocm",
        "resourceTypes": [
            {"name": name, "shareTypes": list(share_types), "protocols": dict(protocols)} for name in resource_types
        ],
        "capabilities": list(capabilities),
        **{name: value for name, value in optional.items() if value is not None},
    }


def legacy_version_for(user_agent: str | None) -> Literal["1.1"] | None:
    """Return the `apiVersion` to show to a client that refuses ours; None for everybody else."""
    return LEGACY_VERSION if user_agent == _LEGACY_USER_AGENT else None


def _resource_types(fields: Fields) -> tuple[ResourceType, ...]:
    """Return the entries that can be read; ownCloud 10 has the list under `shareTypes`, Seafile has a bare object."""
    name, value = fields.raw("resourceTypes", "shareTypes")
    entries = [value] if isinstance(value, Mapping) else value
    if not isinstance(entries, list):
        fields.fail(name, "REQUIRED" if value is None else "NOT_A_LIST")
        return ()
    return tuple(_resource_type(entry) for entry in entries if isinstance(entry, Mapping))


def _resource_type(entry: Mapping[str, Any]) -> ResourceType:
    fields = Fields(entry)
    protocols = entry.get("protocols")
    return ResourceType(
        name=fields.line("name") or "",
        share_types=frozenset(fields.strings("shareTypes")),
        protocols=dict(protocols) if isinstance(protocols, Mapping) else {},
    )


def _words(fields: Fields, name: str, old_names: Mapping[str, str]) -> frozenset[str]:
    """Return a list of words in the draft's spelling: lower case, no slash in front, no old name."""
    words = (word.strip().lower().lstrip("/") for word in fields.strings(name))
    return frozenset(old_names.get(word, word) for word in words)


def _url(fields: Fields, name: str, base_url: str, *, required: bool = False) -> str | None:
    text = fields.string(name, required=required)
    try:
        return None if text is None else resolve(base_url, text)
    except Malformed as error:
        fields.fail(name, error.code)
        return None


def _is_version(api_version: str, *versions: tuple[int, int]) -> bool:
    match = _VERSION.match(api_version)
    return match is not None and (int(match[1]), int(match[2])) in versions
