"""A client's request as the server behind gets it: the target and the fields as they came, the framing our own."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import HttpVersion11, web

from gateway.upstream.errors import Looping, Tunnel, Uncodable
from gateway.upstream.fields import Client, Field, end_to_end, introduced, tokens, wanted_upgrade
from gateway.upstream.wire import write_head

# Safe by RFC 9110 §9.2.1, RFC 4918, RFC 3253 and RFC 5323: asking twice changes nothing.
SAFE = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH"))
# Schemes that authenticate the connection and not the request (RFC 4559): it must not become another client's.
_OF_CONNECTIONS = (b"ntlm", b"negotiate")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request, ready to be sent; the body, if it has one, comes behind the head."""

    method: str
    head: bytes
    has_body: bool
    is_chunked: bool
    upgrade: bytes | None
    owns_connection: bool

    @property
    def is_repeatable(self) -> bool:
        """Tell whether it may be sent a second time when a kept connection turns out to be closed."""
        return self.method in SAFE and not self.has_body


def prepare(request: web.Request, client: Client, name: bytes) -> Outgoing:
    """Return what goes out for `request`; `name` is ours in Via. Raises Looping, Tunnel, Uncodable."""
    fields = request.raw_headers
    is_modern = request.version >= HttpVersion11
    if request.method == "CONNECT":
        raise Tunnel("CONNECT")
    if name in (part for via in tokens(fields, b"via") for part in via.split()):
        raise Looping("a request that has been here before")
    codings = tokens(fields, b"transfer-encoding")
    if codings and (codings != [b"chunked"] or not is_modern):
        raise Uncodable("a transfer coding other than chunked")
    has_body = bool(codings) or bool(request.content_length)
    upgrade = wanted_upgrade(fields) if is_modern and not has_body else None
    own = _framing(request, bool(codings)) + _connection(fields, upgrade)
    gone = (b"content-length",) if is_modern else (b"content-length", b"expect")
    passed = introduced(end_to_end(fields, *gone), client)
    if not any(key.lower() == b"host" for key, _ in passed):  # HTTP/1.0 needs none
        own.append((b"Host", client.host))
    version = b"1.1" if is_modern else b"1.0"
    target = request.raw_path.encode("utf-8", "surrogateescape")
    line = b"%b %b HTTP/1.1" % (request.method.encode(), target)
    return Outgoing(
        method=request.method,
        head=write_head(line, [*passed, *own, (b"Via", version + b" " + name)]),
        has_body=has_body,
        is_chunked=bool(codings),
        upgrade=upgrade,
        owns_connection=authenticates_connection(fields, b"authorization"),
    )


def authenticates_connection(fields: tuple[Field, ...], name: bytes) -> bool:
    """Tell whether a field `name` has a scheme that authenticates the connection."""
    values = [value.lower() for key, value in fields if key.lower() == name]
    return any(member.strip().startswith(_OF_CONNECTIONS) for value in values for member in value.split(b","))


def _framing(request: web.Request, is_chunked: bool) -> list[Field]:
    if is_chunked:
        return [(b"Transfer-Encoding", b"chunked")]
    if request.content_length is not None:
        return [(b"Content-Length", b"%d" % request.content_length)]
    return []


def _connection(fields: tuple[Field, ...], upgrade: bytes | None) -> list[Field]:
    """Return what is for the next hop alone (RFC 9110 §7.6.1, §10.1.4)."""
    own: list[Field] = []
    if b"trailers" in tokens(fields, b"te"):
        own.append((b"TE", b"trailers"))
    if upgrade is not None:
        own.append((b"Upgrade", upgrade))
    return [*own, (b"Connection", b", ".join(key for key, _ in own))] if own else own
