"""One PROPPATCH: every change is judged before any is made, and then all are, or none (RFC 4918 §9.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from wsgidav.dav_error import DAVError

from backends.errors import StorageError
from backends.interface import MODIFIED_MAX, MODIFIED_MIN
from gateway.belongings import VALUE_MAX, Belongings
from gateway.dav.conditions import parse_http_date
from gateway.dav.errors import translate
from gateway.dav.xml import DAV, LIVE_NAMESPACES, OWNCLOUD, fragment, split_name
from gateway.errors import Full
from gateway.tree import Place

_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
# getlastmodified as rclone and others set it, lastmodified as Nextcloud and ownCloud do (peers.md §3b)
_MODIFIED = frozenset({f"{{{DAV}}}getlastmodified", f"{{{DAV}}}lastmodified", f"{{{OWNCLOUD}}}lastmodified"})
_SECONDS = re.compile(r"(-?[0-9]{1,12})(?:\.([0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class Change:
    """One property to be set, or to be removed; `text` is its text, `xml` the whole of it and None to remove it."""

    name: str
    text: str
    xml: str | None


def changes(update: Element) -> Iterator[Change]:
    """Return the changes of a parsed propertyupdate, in their order; a language is handed down (RFC 4918 §4.3)."""
    for action in update:
        for prop in action:
            for element in prop:
                for above in (prop, action, update):
                    if _LANGUAGE not in element.attrib and _LANGUAGE in above.attrib:
                        element.set(_LANGUAGE, above.attrib[_LANGUAGE])
                xml = fragment(element) if action.tag == f"{{{DAV}}}set" else None
                yield Change(element.tag, element.text or "", xml)


class Patch:
    """The changes to one resource; WsgiDAV asks `judge` for each of them in turn, and then `apply` as often."""

    def __init__(self, place: Place, wanted: Iterable[Change], belongings: Belongings) -> None:
        self._place = place
        self._belongings = belongings
        self._unjudged = iter(wanted)
        self._dead: list[tuple[str, str | None]] = []
        self._modified: int | None = None
        self._applied: DAVError | None = None
        self._is_applied = False

    def judge(self) -> None:
        """Look at the next change; raises DAVError 403, 409 and 507."""
        change = next(self._unjudged)
        if change.name in _MODIFIED and change.xml is not None and self._place.backend.features.set_modified:
            self._modified = _nanoseconds(change.text)
            if self._modified is None:
                raise DAVError(409)  # RFC 4918 §9.2.1: a value that makes no sense for the property
        elif split_name(change.name)[0] in LIVE_NAMESPACES:
            raise DAVError(403)
        elif change.xml is not None and len(change.xml.encode()) > VALUE_MAX:
            raise DAVError(507, f"a property has at most {VALUE_MAX} bytes")
        else:
            self._dead.append((change.name, change.xml))

    def apply(self) -> None:
        """Make all changes in the first call; when that fails, each further call fails for that reason."""
        if self._is_applied:
            if self._applied is not None:
                raise DAVError(424)
            return
        self._is_applied = True
        try:
            self._apply()
        except (StorageError, Full) as error:
            self._applied = DAVError(translate(error).status, str(translate(error)))
            raise self._applied from error

    def _apply(self) -> None:
        backend, path = self._place.backend, self._place.path
        before = backend.stat(path).modified
        if self._dead:
            backend.require_writable(path)
        if self._modified is not None:
            backend.set_modified(path, self._modified)
        try:
            if self._dead:
                self._belongings.change_properties(self._place, self._dead)
        except BaseException:
            if self._modified is not None:
                backend.set_modified(path, before)
            raise


def _nanoseconds(text: str) -> int | None:
    """Return a time given as seconds since the epoch or as an HTTP-date; None if it is neither, or in no calendar."""
    match = _SECONDS.fullmatch(text.strip())
    if match:
        modified = int(match[1]) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))
    else:
        seconds = parse_http_date(text.strip())
        if seconds is None:
            return None
        modified = seconds * 1_000_000_000
    return modified if MODIFIED_MIN <= modified <= MODIFIED_MAX else None
