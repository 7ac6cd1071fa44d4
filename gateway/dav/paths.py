"""Request targets and Destination headers -> paths, and paths -> hrefs.

A target is split at its slashes and every part is percent-decoded exactly once, from the raw request line: aiohttp's
own URL turns %FF and %25FF into the same string. Nothing is normalised; `.` and `..` are refused in every encoding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from urllib.parse import SplitResult, quote_from_bytes, unquote_to_bytes, urlsplit

from backends.paths import StoragePath
from gateway.access import Grant
from gateway.dav.errors import DavError
from gateway.own_paths import ABSOLUTE_FORM

_UNRESERVED = re.compile(rb"[A-Za-z0-9._~()\-]+")  # RFC 3986 §2.3, and parentheses
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Root(Enum):
    """The two trees of addresses below `dav/`."""

    SHARES = b"ocm"
    FILES = b"files"


@dataclass(frozen=True, slots=True)
class Target:
    """Which root an address is in, and the decoded names below it."""

    root: Root
    names: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Location:
    """An address: the root as the request has named it, already encoded and without a slash at its end, and a path."""

    root: str
    path: StoragePath
    is_bare: bool  # the root of /dav/ocm/ itself, which keeps its slash even where it is a file

    def below(self, names: Iterable[bytes]) -> Location:
        return Location(self.root, self.path.join(names), self.is_bare)

    def href(self, *, is_directory: bool) -> str:
        """Return the address in path-absolute form; a collection ends with a slash (RFC 4918 §5.2)."""
        encoded = "".join(f"/{quote(name)}" for name in self.path.parts)
        slash = "/" if is_directory or (self.is_bare and not encoded) else ""
        return f"{self.root}{encoded}{slash}"


def quote(name: bytes) -> str:
    """Return `name` as one segment of an href; parentheses stay as they are, as sabre/dav has them."""
    return name.decode("ascii") if _UNRESERVED.fullmatch(name) else quote_from_bytes(name, safe="()")


class Addresses:
    """What this gateway's DAV addresses look like: below `base_path` (the path of public_url) at `origin`."""

    def __init__(self, base_path: str, origin: str) -> None:
        self._base = base_path.rstrip("/")
        self._base_names = _names(self._base)
        self._origin = _origin(urlsplit(origin))

    def prefix(self, root: Root) -> str:
        """Return the path of a root, without a slash at its end."""
        return f"{self._base}/dav/{root.value.decode()}"

    def parse(self, raw: str) -> Target:
        """Parse a raw request target, in origin-form or absolute-form.

        Raises DavError 400 for what is no path, 404 for one outside of both roots.
        """
        if "#" in raw:
            raise _malformed("a fragment has no place in a request")
        path = (raw if raw.startswith("/") else ABSOLUTE_FORM.sub("", raw, count=1)).partition("?")[0]
        if not path.startswith("/"):
            raise _malformed("the request target is no path")
        names = _names(path)
        count = len(self._base_names)
        base, dav, rest = names[:count], names[count : count + 2], names[count + 2 :]
        if base != self._base_names or dav[:1] != (b"dav",) or dav[1:] not in ((b"ocm",), (b"files",)):
            raise DavError(404, "NOT_FOUND", "there is nothing here")
        return Target(Root(dav[1]), rest)

    def locate(self, target: Target, grant: Grant) -> Location:
        """Return where `target` is for `grant`; raises DavError 403 for another user's files, InvalidPath.

        A Share is addressed bare or by its id (peers.md §3a); ids are random, so that no name in it is its id.
        """
        prefix = self.prefix(target.root)
        if grant.shared is not None:
            share_id = grant.shared.share_id
            if target.names[:1] == (share_id.encode(),):
                return Location(f"{prefix}/{share_id}", StoragePath(target.names[1:]), is_bare=False)
            return Location(prefix, StoragePath(target.names), is_bare=True)
        if target.names[:1] != (grant.who.encode(),):
            raise DavError(403, "OTHER_USER", "these are not your files")
        return Location(f"{prefix}/{grant.who}", StoragePath(target.names[1:]), is_bare=False)

    def parse_reference(self, reference: str, host: str = "") -> Target:
        """Parse a Simple-ref of RFC 4918 §10: a Destination, or a tag in an If header.

        Here is public_url's origin, and the authority that the request itself was sent to, `host`: within a network
        and behind a proxy we have other names. Raises DavError 502 for another server (§9.8.5), 403 for an address
        here that is in no root, 400.
        """
        try:
            split = urlsplit(reference.strip())
            is_here = not split.scheme or _origin(split) == self._origin or _is_at(split, host)
        except ValueError:
            raise _malformed("a reference that is no URI") from None
        if split.scheme and not is_here:
            raise DavError(502, "OTHER_SERVER", "the destination is on another server")
        if split.netloc and not split.scheme:
            raise _malformed("a reference without a scheme")
        try:
            return self.parse(reference.strip())
        except DavError as error:
            if error.status == 404:
                raise DavError(403, "OUTSIDE_OF_ROOT", "the destination is outside of what you were given") from None
            raise


def _names(path: str) -> tuple[bytes, ...]:
    """Split and decode; doubled slashes mean nothing, as peers join our root with one of their own (wire.md)."""
    raw = path.encode("utf-8", "surrogateescape")
    if b"%" not in raw:
        return tuple(filter(None, raw.split(b"/")))
    if _BAD_ESCAPE.search(raw):
        raise _malformed("a % that begins no escape")
    # StoragePath checks the names below a root; a slash or NUL in the prefix matches nothing.
    return tuple(unquote_to_bytes(part) for part in raw.split(b"/") if part)


def _origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    scheme = url.scheme.lower()
    if url.username is not None:
        return scheme, None, None
    return scheme, url.hostname, url.port or _DEFAULT_PORTS.get(scheme)


def _is_at(url: SplitResult, host: str) -> bool:
    """Tell whether `url` has the authority that a Host header gives; a proxy may have changed the scheme."""
    if url.scheme.lower() not in _DEFAULT_PORTS or url.username is not None or not host:
        return False
    named = urlsplit(f"{url.scheme}://{host}")
    default = _DEFAULT_PORTS[url.scheme.lower()]
    return (url.hostname, url.port or default) == (named.hostname, named.port or default)


def _malformed(sentence: str) -> DavError:
    return DavError(400, "INVALID_PATH", sentence)
