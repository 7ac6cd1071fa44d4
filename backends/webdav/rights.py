"""What a server says one may do with a Resource: three properties that Nextcloud and ownCloud have beside RFC 4918.

Where they disagree, the first that is there counts, as those servers themselves have it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

READ, WRITE, SHARE = "read", "write", "share"
_UPDATE, _CREATE, _RESHARE = 2, 4, 16  # bits of the sharing API; 1 is to read, 8 to delete

OCS = "http://open-collaboration-services.org/ns share-permissions"
OCM = "http://open-cloud-mesh.org/ns share-permissions"
OC = "http://owncloud.org/ns permissions"


def _bits(text: str) -> frozenset[str] | None:
    """Read the bits of the sharing API, a number."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return None
    bits = int(text)
    write = {WRITE} if bits & (_UPDATE | _CREATE) else set()
    return frozenset({READ} | write | ({SHARE} if bits & _RESHARE else set()))


def _words(text: str) -> frozenset[str] | None:
    """Read a JSON list of the words of OCM."""
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(words, list):
        return None
    return frozenset({READ, *(word for word in (WRITE, SHARE) if word in words)})


def _letters(text: str) -> frozenset[str] | None:
    """Read letters: W to write a file, C and K to create in a folder, R to share. None at all is to read."""
    return frozenset({READ} | ({WRITE} if set("WCK") & set(text) else set()) | ({SHARE} if "R" in text else set()))


# By precedence, each as expat writes its name.
READERS: Mapping[str, Callable[[str], frozenset[str] | None]] = {OCS: _bits, OCM: _words, OC: _letters}


def rights_of(properties: Mapping[str, str]) -> frozenset[str] | None:
    """Return what is allowed, of read, write and share; None where the server does not say."""
    told = (read(properties[name]) for name, read in READERS.items() if name in properties)
    return next((rights for rights in told if rights is not None), None)
