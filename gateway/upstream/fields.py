"""Header fields on their way through: what ends at this hop, what is said of the client, what is never repeated.

Names and values are bytes and keep their order, their case and their number; nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

Field = tuple[bytes, bytes]

# RFC 9110 §7.6.1: these end here, named in Connection or not. The framing is written anew on each side.
HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade", b"http2-settings")
)
# What a Connection field may not take away: without them the message would be another one.
_STAYING = frozenset((b"host", b"content-length", b"authorization", b"cookie", b"via"))
# Whom a client claims to be. Servers that join `-` and `_` (CGI, WSGI) would believe the other spelling too.
_CLAIMS = (b"x-forwarded-", b"forwarded", b"x-real-ip")
# Upgrades that would be HTTP again, past everything that is set here for each request (RFC 9110 §7.8; RFC 2817).
_NOT_TUNNELLED = (b"h2c", b"http/", b"tls/")


@dataclass(frozen=True, slots=True)
class Client:
    """What is said of a client to the server behind; `is_trusted`: it is a proxy whose own word is passed on."""

    address: str
    scheme: str
    host: bytes
    is_trusted: bool


def pseudonym(server: str) -> bytes:
    """Return our name in Via: the same in all processes of this gateway, and no other gateway's (RFC 9110 §7.6.3)."""
    return b"ocm-gateway-" + sha256(server.encode()).hexdigest()[:12].encode()


def tokens(fields: Iterable[Field], name: bytes) -> list[bytes]:
    """Return the members of a list field, in lower case."""
    values = [value for key, value in fields if key.lower() == name]
    return [member.strip(b" \t").lower() for value in values for member in value.split(b",") if member.strip(b" \t")]


def end_to_end(fields: Iterable[Field], *without: bytes) -> list[Field]:
    """Return the fields that go on: all but hop-by-hop ones, those that Connection names, and `without`."""
    fields = tuple(fields)
    ends = HOP_BY_HOP | (frozenset(tokens(fields, b"connection")) - _STAYING) | frozenset(without)
    return [field for field in fields if field[0].lower() not in ends]


def wanted_upgrade(fields: Iterable[Field]) -> bytes | None:
    """Return the protocols that a client asks to switch to, as far as a tunnel may carry them."""
    fields = tuple(fields)
    if b"upgrade" not in tokens(fields, b"connection"):
        return None
    wanted = [protocol for protocol in tokens(fields, b"upgrade") if not protocol.startswith(_NOT_TUNNELLED)]
    given = [value for name, value in fields if name.lower() == b"upgrade"]
    return b", ".join(given) if wanted and len(wanted) == len(tokens(fields, b"upgrade")) else None


def introduced(fields: Iterable[Field], client: Client) -> list[Field]:
    """Return `fields` with what is known of the client in place of what it claims, or behind what a proxy says."""
    kept: list[Field] = []
    said: dict[bytes, bytes] = {}
    for name, value in fields:
        plain = name.lower().replace(b"_", b"-")
        if not plain.startswith(_CLAIMS):
            kept.append((name, value))
        elif client.is_trusted:
            said[plain] = said[plain] + b", " + value if plain in said else value
    address = client.address.encode()
    chain = said.pop(b"x-forwarded-for", None)
    kept.append((b"X-Forwarded-For", address if chain is None else chain + b", " + address))
    kept.append((b"X-Forwarded-Proto", said.pop(b"x-forwarded-proto", client.scheme.encode())))
    kept.append((b"X-Forwarded-Host", said.pop(b"x-forwarded-host", client.host)))
    if b"forwarded" in said:  # RFC 7239 §4; an address with colons is quoted
        node = b'"[' + address + b']"' if b":" in address else address
        said[b"forwarded"] += b", for=" + node
    return kept + [(name.title(), value) for name, value in said.items()]
