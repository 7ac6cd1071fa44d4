"""The properties of files and folders, and a PROPFIND's question about them (RFC 4918 §9.1, §15; peers.md §3b).

A listing may have ten thousand entries, so an answer is a text with gaps: what all files (or all folders) of a listing
have in common is written once, and only what differs is filled in for each. A name that XML cannot express appears in
its href alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from backends.interface import Entry, Kind, Space
from gateway.dav.conditions import http_date
from gateway.dav.get import media_type
from gateway.dav.lock_xml import SUPPORTED
from gateway.dav.xml import (
    DAV,
    DECLARATION,
    GATEWAY,
    LIVE_NAMESPACES,
    OCM,
    OCS,
    OWNCLOUD,
    BadXml,
    can_hold,
    escape,
    property_names,
    split_name,
)
from gateway.ocm.shares import Permission

OPENING = (
    f'{DECLARATION}<d:multistatus xmlns:d="{DAV}" xmlns:oc="{OWNCLOUD}" xmlns:ocs="{OCS}" xmlns:ocm="{OCM}">'
).encode()
CLOSING = b"</d:multistatus>\n"

_PREFIXES = {DAV: "d", OWNCLOUD: "oc", OCS: "ocs", OCM: "ocm"}
_PLAIN_NAME = re.compile(rb"[ !#-%'-;=?-~]+")  # ASCII without controls and without what XML escapes

# The bits of share-permissions, as ownCloud and Nextcloud read them before anything else
_READ, _UPDATE, _CREATE, _DELETE, _SHARE = 1, 2, 4, 8, 16

Own = Callable[[Entry], str | None]  # the content of the element; None: there is no such property


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What properties depend on besides the entry. `rights` None: not known, as for a folder of mere names.

    `locks` is the content of lockdiscovery where all entries have the same, `locks_of` where they differ.
    """

    rights: frozenset[Permission] | None
    is_root: bool
    space: Space | None = None
    locks: str = ""
    locks_of: Own | None = None
    stale_since: int | None = None  # seconds since the epoch; None: it is as it is now


Common = Callable[[Kind, Surroundings], str | None]


def _display_name(entry: Entry) -> str | None:
    if _PLAIN_NAME.fullmatch(entry.name):
        return entry.name.decode("ascii")
    try:
        name = entry.name.decode()
    except UnicodeDecodeError:
        return None
    return escape(name) if name and can_hold(name) else None


def _letters(kind: Kind, around: Surroundings) -> str | None:
    """Return ownCloud's letters: R may be shared, D deleted, N renamed, V moved, W written, CK created in."""
    if around.rights is None:
        return None
    letters = "R" if Permission.SHARE in around.rights else ""
    if Permission.WRITE in around.rights:
        letters += "" if around.is_root else "DNV"
        letters += "CK" if kind is Kind.DIRECTORY else "W"
    return letters


def _bits(kind: Kind, around: Surroundings) -> str | None:
    """Return the sum of the bits; on a root, DELETE is about what is in it."""
    if around.rights is None:
        return None
    bits = _READ
    if Permission.WRITE in around.rights:
        bits |= _UPDATE
        bits |= _CREATE if kind is Kind.DIRECTORY else 0
        bits |= _DELETE if kind is Kind.DIRECTORY or not around.is_root else 0
    return str(bits | (_SHARE if Permission.SHARE in around.rights else 0))


def _supported_locks(_kind: Kind, around: Surroundings) -> str:
    return SUPPORTED if around.rights is not None and Permission.WRITE in around.rights else ""


def _listed(_kind: Kind, around: Surroundings) -> str | None:
    if around.rights is None:
        return None
    return json.dumps([permission.value for permission in Permission if permission in around.rights])


def _space(value: Callable[[Space], int]) -> Common:
    def text(kind: Kind, around: Surroundings) -> str | None:
        return str(value(around.space)) if around.space is not None and kind is Kind.DIRECTORY else None

    return text


def _stale_since(_kind: Kind, around: Surroundings) -> str | None:
    """Return when this was last seen, as RFC 3339 writes it; nothing of what is seen now."""
    if around.stale_since is None:
        return None
    return datetime.fromtimestamp(around.stale_since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


LOCKS = "{DAV:}lockdiscovery"
STALE_SINCE = f"{{{GATEWAY}}}stale-since"

# Names are in {namespace}name form. There is no creationdate: no storage here knows it.
_COMMON: Mapping[str, Common] = {
    "{DAV:}resourcetype": lambda kind, _: "<d:collection/>" if kind is Kind.DIRECTORY else "",
    "{DAV:}supportedlock": _supported_locks,
    LOCKS: lambda _, around: around.locks,
    f"{{{OWNCLOUD}}}permissions": _letters,
    f"{{{OCS}}}share-permissions": _bits,
    f"{{{OCM}}}share-permissions": _listed,
    STALE_SINCE: _stale_since,
    "{DAV:}quota-available-bytes": _space(lambda space: space.free),
    "{DAV:}quota-used-bytes": _space(lambda space: space.total - space.free),
}
_OWN: Mapping[str, Own] = {
    "{DAV:}getlastmodified": lambda entry: http_date(entry.modified),
    "{DAV:}getetag": lambda entry: f'"{entry.etag}"',
    "{DAV:}displayname": _display_name,
    "{DAV:}getcontentlength": lambda entry: str(entry.size),
    "{DAV:}getcontenttype": lambda entry: media_type(entry.name),
}
_OF_FILES = frozenset({"{DAV:}getcontentlength", "{DAV:}getcontenttype"})
_QUOTA = frozenset(name for name in _COMMON if "quota" in name)
PROPERTIES = frozenset(_COMMON) | frozenset(_OWN)

# RFC 4918 §9.1: allprop is what that document defines; quota is given only by name (RFC 4331 §3).
_ALL = [name for name in (*_COMMON, *_OWN) if split_name(name)[0] == DAV and name not in _QUOTA]


@dataclass(frozen=True, slots=True)
class Question:
    """What a PROPFIND asks about each resource: the properties `names`, or without `values` which of them there are."""

    names: tuple[str, ...]
    values: bool = True
    reports_missing: bool = True

    @classmethod
    def parse(cls, root: Any | None) -> Question:
        """Return the question of a parsed DAV:propfind, or that of an empty body; raises BadXml."""
        if root is None:
            return cls(tuple(_ALL), reports_missing=False)
        kinds = {child.tag: child for child in root if split_name(child.tag)[0] == DAV}
        asked = {"{DAV:}prop", "{DAV:}allprop", "{DAV:}propname"} & kinds.keys()
        if len(asked) != 1 or ("{DAV:}include" in kinds and "{DAV:}allprop" not in asked):
            raise BadXml("a propfind asks for one of prop, allprop and propname")
        if "{DAV:}prop" in asked:
            return cls(tuple(property_names(kinds["{DAV:}prop"])))
        if "{DAV:}propname" in asked:
            return cls(tuple(sorted(PROPERTIES - _QUOTA)), values=False, reports_missing=False)
        included = property_names(kinds.get("{DAV:}include", ()))
        return cls(tuple(dict.fromkeys([*_ALL, *included])), reports_missing=False)

    @property
    def wants_space(self) -> bool:
        return self.values and not _QUOTA.isdisjoint(self.names)

    @property
    def wants_locks(self) -> bool:
        return self.values and LOCKS in self.names

    @property
    def wants_dead(self) -> bool:
        """Tell whether dead properties can be in the answer: all of them if it reports none as missing."""
        return not self.reports_missing or any(split_name(name)[0] not in LIVE_NAMESPACES for name in self.names)

    def names_with(self, dead: Mapping[str, str]) -> Iterable[str]:
        """Return the names to answer for what has these dead properties."""
        return self.names if self.reports_missing else dict.fromkeys((*self.names, *dead))


class Form:
    """The DAV:response of the files, or of the folders, of one listing, with gaps for what is their own."""

    def __init__(
        self,
        question: Question,
        kind: Kind,
        around: Surroundings,
        lacking: Collection[str] = frozenset(),
        dead: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Leave the properties `lacking` out as missing; `dead` are the dead ones, name -> element."""
        self._question, self._kind, self._around = question, kind, around
        self._dead = dead
        self._variants: dict[frozenset[str], Form] = {}
        self._gaps: list[tuple[str, Own]] = []
        found, missing = [], []
        for name in question.names_with(dead):
            content = None if name in lacking else self._content(name)
            if name in dead:
                found.append(dead[name].replace("%", "%%") if question.values else _element(name))
            elif content is None:
                missing.append(_element(name))
            else:
                found.append(_element(name, content if question.values else ""))
        failed = _propstat(missing, "404 Not Found") if missing and question.reports_missing else ""
        succeeded = _propstat(found, "200 OK") if found or not failed else ""
        self._text = f"<d:response><d:href>%s</d:href>{succeeded}{failed}</d:response>"

    def _content(self, name: str) -> str | None:
        """Return the content of the element with every % doubled, or the mark of a gap."""
        if name == LOCKS and self._around.locks_of is not None:
            self._gaps.append((name, self._around.locks_of))
            return "%s"
        if name in _COMMON:
            content = _COMMON[name](self._kind, self._around)
            return None if content is None else content.replace("%", "%%")
        if name not in _OWN or (name in _OF_FILES and self._kind is Kind.DIRECTORY):
            return None
        self._gaps.append((name, _OWN[name]))
        return "%s"

    def with_dead(self, dead: Mapping[str, str] | None) -> Form:
        """Return the form for an entry that has these dead properties."""
        if not dead or (self._question.reports_missing and dead.keys().isdisjoint(self._question.names)):
            return self
        return Form(self._question, self._kind, self._around, dead=dead)

    def fill(self, href: str, entry: Entry) -> str:
        """Return the response for `entry`."""
        values = [value(entry) for _, value in self._gaps]
        if None in values:
            lacking = frozenset(name for (name, _), value in zip(self._gaps, values, strict=True) if value is None)
            return self._variant(lacking).fill(href, entry)
        return self._text % ((href, *values) if self._question.values else href)

    def _variant(self, lacking: frozenset[str]) -> Form:
        if lacking not in self._variants:
            self._variants[lacking] = Form(self._question, self._kind, self._around, lacking, self._dead)
        return self._variants[lacking]


def _propstat(elements: Iterable[str], status: str) -> str:
    return f"<d:propstat><d:prop>{''.join(elements)}</d:prop><d:status>HTTP/1.1 {status}</d:status></d:propstat>"


def _element(name: str, content: str = "") -> str:
    namespace, local = split_name(name)
    prefix, declaration = _PREFIXES.get(namespace), ""
    if prefix is None and namespace:
        prefix, declaration = "x", f' xmlns:x="{escape(namespace)}"'.replace("%", "%%")
    tag = f"{prefix}:{local}" if prefix else local
    return f"<{tag}{declaration}>{content}</{tag}>" if content else f"<{tag}{declaration}/>"
