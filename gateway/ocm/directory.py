"""The list of a Directory Service: the members of a Federation (draft-07, Appendix C), inside a JWS.

The draft has no times in it. The registered claims `iat` and `exp` (RFC 7519, section 4.1) are read where they are, so
that who publishes a list can bound how long an old one is believed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gateway.ocm.errors import Malformed
from gateway.ocm.fields import Fields, decode_object
from gateway.ocm.text import line
from gateway.ocm.urls import server_of

SERVERS_MAX = 2000
NAME_MAX = 200  # characters


@dataclass(frozen=True, slots=True)
class ListedServer:
    """A member: `server` is host[:port] in its one form, `url` as it stands in the list."""

    server: str
    url: str
    display_name: str


@dataclass(frozen=True, slots=True)
class DirectoryList:
    """The members of a Federation; times are seconds since the epoch. `unusable` says what was passed over, and why."""

    federation: str
    servers: tuple[ListedServer, ...]
    issued_at: int | None = None
    expires_at: int | None = None
    unusable: tuple[str, ...] = ()

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now


def parse_directory(payload: bytes) -> DirectoryList:
    """Read the payload; a member that cannot be used is passed over, and so is one that comes again.

    Raises Malformed: INVALID_DIRECTORY, and what decode_object raises.
    """
    document = decode_object(payload)
    fields = Fields(document)
    federation = fields.line("federation", required=True) or ""
    entries = document.get("servers")
    if not isinstance(entries, list) or len(entries) > SERVERS_MAX:
        fields.fail("servers", "NOT_A_LIST" if not isinstance(entries, list) else "TOO_LONG")
        entries = []
    issued_at, expires_at = fields.integer("iat"), fields.integer("exp")
    fields.check("INVALID_DIRECTORY")
    servers: dict[str, ListedServer] = {}
    unusable: list[str] = []
    for number, entry in enumerate(entries):
        try:
            listed = _listed_server(entry)
            servers.setdefault(listed.server, listed)
        except Malformed as error:
            unusable.append(f"servers[{number}]: {error}")
    return DirectoryList(federation[:NAME_MAX], tuple(servers.values()), issued_at, expires_at, tuple(unusable))


def serialise_directory(directory: DirectoryList) -> bytes:
    """Return the payload of a list."""
    times = {"iat": directory.issued_at, "exp": directory.expires_at}
    document: dict[str, Any] = {
        "federation": directory.federation,
        "servers": [{"url": listed.url, "displayName": listed.display_name} for listed in directory.servers],
    } | {name: value for name, value in times.items() if value is not None}
    return json.dumps(document, ensure_ascii=False).encode()


def _listed_server(entry: object) -> ListedServer:
    """Return a member; raises Malformed. Its URL has neither path nor anything behind one (Appendix C)."""
    if not isinstance(entry, Mapping):
        raise Malformed("NOT_AN_OBJECT")
    url, name = entry.get("url"), entry.get("displayName")
    if not isinstance(url, str) or not isinstance(name, str) or not line(name).strip():
        raise Malformed("REQUIRED", "url and displayName have to be text")
    server = server_of(url)
    if urlsplit(url).path not in ("", "/") or "?" in url:
        raise Malformed("INVALID_URL", "the URL of a server ends with its host and port")
    return ListedServer(server, url, line(name).strip()[:NAME_MAX])
