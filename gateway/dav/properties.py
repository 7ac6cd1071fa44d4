"""The properties of files and folders, and a PROPFIND's question about them (RFC 4918 §9.1, §15; peers.md §3b).

A name that XML cannot express appears in its href only. Entries are rendered as strings: an element tree of ten
thousand of them costs ten times as much.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from backends.interface import Entry, Kind, Space
from gateway.dav.conditions import http_date
from gateway.dav.get import media_type
from gateway.dav.xml import DAV, DECLARATION, OCM, OCS, OWNCLOUD, BadXml, can_hold, escape, property_names, split_name
from gateway.ocm.shares import Permission

OPENING = (
    f'{DECLARATION}<d:multistatus xmlns:d="{DAV}" xmlns:oc="{OWNCLOUD}" xmlns:ocs="{OCS}" xmlns:ocm="{OCM}">'
).encode()
CLOSING = b"</d:multistatus>\n"

_PREFIXES = {DAV: "d", OWNCLOUD: "oc", OCS: "ocs", OCM: "ocm"}

# The bits of share-permissions, as ownCloud and Nextcloud read them before anything else
_READ, _UPDATE, _CREATE, _DELETE, _SHARE = 1, 2, 4, 8, 16


@dataclass(frozen=True, slots=True)
class Shown:
    """What the properties of one resource are made from. `rights` None: not known, as for a folder of mere names."""

    entry: Entry
    rights: frozenset[Permission] | None
    is_root: bool
    space: Space | None


Value = Callable[[Shown], str | None]  # the content of the element; None: the resource has no such property


def _file(value: Callable[[Entry], str]) -> Value:
    return lambda shown: None if shown.entry.is_directory else value(shown.entry)


def _display_name(shown: Shown) -> str | None:
    try:
        name = shown.entry.name.decode()
    except UnicodeDecodeError:
        return None
    return escape(name) if name and can_hold(name) else None


def _space(value: Callable[[Space], int]) -> Value:
    def text(shown: Shown) -> str | None:
        return str(value(shown.space)) if shown.space is not None and shown.entry.is_directory else None

    return text


def _letters(shown: Shown) -> str | None:
    """Return ownCloud's letters: R may be shared, D deleted, N renamed, V moved, W written, CK created in."""
    if shown.rights is None:
        return None
    letters = "R" if Permission.SHARE in shown.rights else ""
    if Permission.WRITE in shown.rights:
        letters += "" if shown.is_root else "DNV"
        letters += "CK" if shown.entry.is_directory else "W"
    return letters


def _bits(shown: Shown) -> str | None:
    """Return the sum of the bits; on a root, DELETE is about what is in it."""
    if shown.rights is None:
        return None
    bits = _READ
    if Permission.WRITE in shown.rights:
        bits |= _UPDATE
        bits |= _CREATE if shown.entry.is_directory else 0
        bits |= _DELETE if shown.entry.is_directory or not shown.is_root else 0
    return str(bits | (_SHARE if Permission.SHARE in shown.rights else 0))


def _listed(shown: Shown) -> str | None:
    if shown.rights is None:
        return None
    return json.dumps([permission.value for permission in Permission if permission in shown.rights])


# Names are in {namespace}name form. The first group is what allprop means (RFC 4918 §9.1); quota is given only by
# name (RFC 4331 §3). There is no creationdate: no storage here knows it.
_STANDARD: Mapping[str, Value] = {
    "{DAV:}resourcetype": lambda shown: "<d:collection/>" if shown.entry.is_directory else "",
    "{DAV:}getcontentlength": _file(lambda entry: str(entry.size)),
    "{DAV:}getlastmodified": lambda shown: http_date(shown.entry.modified),
    "{DAV:}getetag": lambda shown: f'"{shown.entry.etag}"',
    "{DAV:}getcontenttype": _file(lambda entry: media_type(entry.name)),
    "{DAV:}displayname": _display_name,
    "{DAV:}supportedlock": lambda _: "",
}
_NAMED: Mapping[str, Value] = {
    f"{{{OWNCLOUD}}}permissions": _letters,
    f"{{{OCS}}}share-permissions": _bits,
    f"{{{OCM}}}share-permissions": _listed,
    "{DAV:}quota-available-bytes": _space(lambda space: space.free),
    "{DAV:}quota-used-bytes": _space(lambda space: space.total - space.free),
}
PROPERTIES: Mapping[str, Value] = {**_STANDARD, **_NAMED}
_QUOTA = frozenset(name for name in _NAMED if "quota" in name)


class Question:
    """What a PROPFIND asks about each resource: some properties' values, or the names of all."""

    def __init__(self, names: list[str], *, values: bool = True, report_missing: bool = True) -> None:
        """Ask for the properties `names`; without `values` only which of them there are."""
        self.wants_space = values and not _QUOTA.isdisjoint(names)
        self._report_missing = report_missing
        known = [(name, PROPERTIES[name]) for name in names if name in PROPERTIES]
        self._wanted = [(name, *_element(name), value if values else _without_content(value)) for name, value in known]
        self._unknown = [name for name in names if name not in PROPERTIES]

    @classmethod
    def parse(cls, root: Any | None) -> Question:
        """Return the question of a parsed DAV:propfind, or that of an empty body; raises BadXml."""
        if root is None:
            return cls(list(_STANDARD), report_missing=False)
        kinds = {child.tag: child for child in root if split_name(child.tag)[0] == DAV}
        asked = {"{DAV:}prop", "{DAV:}allprop", "{DAV:}propname"} & kinds.keys()
        if len(asked) != 1 or ("{DAV:}include" in kinds and "{DAV:}allprop" not in asked):
            raise BadXml("a propfind asks for one of prop, allprop and propname")
        if "{DAV:}prop" in asked:
            return cls(property_names(kinds["{DAV:}prop"]))
        if "{DAV:}propname" in asked:
            return cls([name for name in PROPERTIES if name not in _QUOTA], values=False, report_missing=False)
        included = property_names(kinds.get("{DAV:}include", ()))
        return cls(list(dict.fromkeys([*_STANDARD, *included])), report_missing=False)

    def answer(self, href: str, shown: Shown) -> str:
        """Return the DAV:response for one resource."""
        found: list[str] = []
        missing = list(self._unknown)
        for name, opening, closing, value in self._wanted:
            content = value(shown)
            if content is None:
                missing.append(name)
            else:
                found.append(f"{opening}{content}{closing}")
        failed = _propstat(map(_empty, missing), "404 Not Found") if missing and self._report_missing else ""
        succeeded = _propstat(found, "200 OK") if found or not failed else ""
        return f"<d:response><d:href>{href}</d:href>{succeeded}{failed}</d:response>"


def _propstat(elements: Any, status: str) -> str:
    return f"<d:propstat><d:prop>{''.join(elements)}</d:prop><d:status>HTTP/1.1 {status}</d:status></d:propstat>"


def _without_content(value: Value) -> Value:
    return lambda shown: None if value(shown) is None else ""


def _element(name: str) -> tuple[str, str]:
    """Return the tags around a value of a property that is known here."""
    namespace, local = split_name(name)
    return f"<{_PREFIXES[namespace]}:{local}>", f"</{_PREFIXES[namespace]}:{local}>"


def _empty(name: str) -> str:
    namespace, local = split_name(name)
    if namespace in _PREFIXES:
        return f"<{_PREFIXES[namespace]}:{local}/>"
    return f'<x:{local} xmlns:x="{escape(namespace)}"/>' if namespace else f"<{local}/>"


def is_collection(entry: Entry) -> bool:
    return entry.kind is Kind.DIRECTORY
