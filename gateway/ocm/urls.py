"""URLs that peers choose: what counts as one, and how the parts of a Share's address are put together.

Whether such a URL may be connected to is not decided here, but where connections are made.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urljoin, urlsplit

from gateway.ocm.address import normalise_server
from gateway.ocm.errors import Malformed

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\uffff\U00010000-\U0010ffff\\<>\"{}|^`]")
_PATH = "!$&'()*+,;=:@/%~"  # RFC 3986 section 3.3, and escapes that are there already
_URL = _PATH + "?#[]"


def is_absolute(uri: str) -> bool:
    """Tell whether `uri` names a scheme and a host, whatever they are."""
    return _ABSOLUTE.match(uri) is not None


def quoted(url: str) -> str:
    """Return `url` with everything percent-encoded that no URL may hold; what is encoded already stays."""
    return quote(url, safe=_URL)


def check_url(url: str) -> str:
    """Return `url` if it is http or https with a host that can exist; raises Malformed("INVALID_URL").

    User information and a fragment are refused: the first is a credential in a URL, the second is never sent.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and "@" not in parts.netloc and "#" not in url
        normalise_server(parts.netloc)
    except (ValueError, Malformed) as error:
        raise Malformed("INVALID_URL", "a URL without a host that can exist") from error
    if not usable or _UNSAFE.search(url):
        raise Malformed("INVALID_URL", "not an http or https URL without user information and fragment")
    return url


def resolve(base: str, reference: str) -> str:
    """Return `reference`, relative to `base`, as an absolute URL; raises Malformed("INVALID_URL")."""
    if _UNSAFE.search(reference):  # urljoin would drop line breaks silently
        raise Malformed("INVALID_URL", "a reference with characters that no URL holds")
    try:
        return check_url(reference if is_absolute(reference) else urljoin(base, reference))
    except ValueError as error:
        raise Malformed("INVALID_URL", "a reference that is no URL") from error


def origin(url: str) -> str:
    """Return scheme and authority of `url`, in their one form; raises Malformed("INVALID_URL")."""
    parts = urlsplit(check_url(url))
    return f"{parts.scheme}://{normalise_server(parts.netloc)}"


def server_of(url: str) -> str:
    """Return the host[:port] that `url` names, in its one form; raises Malformed("INVALID_URL")."""
    return origin(url).partition("://")[2]


def compose_uri(
    sender_server_origin: str, webdav_path: str | None, uri: str | None, *, own_server: str | None = None
) -> str:
    """Return the URL of a Remote Resource: from the sender's origin, its webdav path in discovery, the Share's `uri`.

    An absolute `uri` stays as it is, unless it names `own_server`: a peer that means itself writes that by mistake,
    and the last segment is its id (peers.md, trap 24). A relative one follows the webdav path after one slash
    (draft-07, Resource Access, step 4); one that repeats that path from the root is taken as meant. Without a `uri`
    the Resource is the webdav root itself, as old peers have it. What no URL may hold is percent-encoded.
    """
    uri = uri or ""
    if is_absolute(uri):
        if own_server is None or server_of(quoted(uri)) != own_server:
            return quoted(uri)
        uri = uri.rstrip("/").rpartition("/")[2]
    root = _root(webdav_path)
    if root != "/" and uri.startswith(root):
        uri = uri[len(root) :]
    return sender_server_origin + quote(root + uri.lstrip("/"), safe=_PATH)


def _root(webdav_path: str | None) -> str:
    """Return the path with one slash at either end: some peers write none, and some a whole URL."""
    path = webdav_path or ""
    if is_absolute(path):
        path = urlsplit(path).path
    path = path.strip("/")
    return f"/{path}/" if path else "/"
