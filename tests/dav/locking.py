"""Locks as clients ask for them and read them; no tests."""

from __future__ import annotations

import re

from .served import Reply, Served, Shared, basic, bearer

LOCKINFO = b"""<?xml version="1.0" encoding="utf-8"?>
<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype>
<D:owner><D:href>mailto:alice@example.org</D:href></D:owner></D:lockinfo>"""
SHARED = LOCKINFO.replace(b"exclusive", b"shared")


class Client:
    """Somebody with a credential and an address; keeps no tokens."""

    def __init__(self, served: Served, root: str, credential: dict[str, str]) -> None:
        self._served = served
        self._credential = credential
        self.root = root

    def __call__(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._served.request(method, self.root + path, body, self._credential | sent)

    def lock(self, path: str, info: bytes = LOCKINFO, **headers: str) -> str:
        """Take a lock and return its token."""
        reply = self("LOCK", path, info, **headers)
        assert reply.status in (200, 201), reply
        return token(reply)

    def unlock(self, path: str, token: str) -> None:
        assert self("UNLOCK", path, Lock_Token=f"<{token}>").status == 204


def owner(served: Served, below: str = "/home", user: str = "alice") -> Client:
    return Client(served, f"/dav/files/{user}{below}", basic(user))


def sharee(served: Served, share: Shared) -> Client:
    return Client(served, "/dav/ocm", bearer(share.secret))


def token(reply: Reply) -> str:
    found = re.fullmatch(r"<(urn:uuid:[0-9a-f-]{36})>", reply.headers["lock-token"])
    assert found, reply.headers
    return found[1]


def shown(*tokens: str) -> str:
    """Return an If header that shows the tokens and holds whatever they are worth."""
    return "".join(f"(<{token}>)" for token in tokens) + "(Not <DAV:no-lock>)"
