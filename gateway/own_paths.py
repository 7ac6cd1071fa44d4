"""Which paths are the gateway's own: one table, for the doors that serve them and for what goes to the server behind.

Discovery is always at the host's root, since peers look there, and once more below the path of public_url. If
public_url has a path, all below it is ours; if it has none, only what stands in TREES, and the page at `/` where no
other server is behind us.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

DISCOVERY = ("/.well-known/ocm", "/ocm-provider")
JWKS = "/.well-known/jwks.json"
API = "/ocm"
ECHO = f"{API}/echo"  # for the doctor
DAV = ("/dav/ocm", "/dav/files")
PAGE = "/"
WAYF = "/wayf"
ACCEPT_INVITE = "/accept-invite"

TREES = (*DISCOVERY, JWKS, API, *DAV, WAYF, ACCEPT_INVITE)  # each with everything below it

# RFC 9112 §3.2.2; only at the beginning: elsewhere it is part of a name, and looking for it would take for ever
ABSOLUTE_FORM = re.compile(r"\A[A-Za-z][A-Za-z0-9+.\-]*://[^/?#]*")

Names = tuple[bytes, ...]


class OwnPaths:
    """`base_path` is the path of public_url; with `has_upstream` the page at the host's root is the other server's."""

    def __init__(self, base_path: str, *, has_upstream: bool) -> None:
        roots = (*DISCOVERY, JWKS, base_path) if base_path else TREES
        self._trees = tuple(_names(root) for root in roots)
        pages = {PAGE, f"{base_path}{PAGE}"}
        self.pages = tuple(sorted(pages - {PAGE} if has_upstream else pages))

    def include(self, target: str) -> bool:
        """Tell whether a request target, as it came, is for a door of ours.

        It is read as generously as any door reads it (decoded, doubled slashes and dot segments without a meaning):
        whatever could mean one of ours stays here, so that no Share's credential reaches the server behind.
        """
        names = _names(ABSOLUTE_FORM.sub("", target, count=1).partition("?")[0].partition("#")[0])
        return self._hold(names) or self._hold(_resolved(names))

    def _hold(self, names: Names) -> bool:
        return any(names[: len(tree)] == tree for tree in self._trees)


def _names(path: str) -> Names:
    raw = path.encode("utf-8", "surrogateescape")
    return tuple(unquote_to_bytes(part) for part in raw.split(b"/") if part)


def _resolved(names: Names) -> Names:
    """Return `names` without dot segments (RFC 3986 §5.2.4)."""
    kept: list[bytes] = []
    for name in names:
        if name == b"..":
            del kept[-1:]
        elif name != b".":
            kept.append(name)
    return tuple(kept)
