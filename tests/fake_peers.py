"""Peers without a network: what they say of themselves, what they answer, and what they were told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from dialects import discovery

from gateway.breaker import Breakers
from gateway.errors import NotAllowed, PeerFailed
from gateway.generations import signature_for
from gateway.ocm.discovery import Discovery, describe, parse_discovery
from gateway.peers import Answer

NO_ANSWER = PeerFailed("PEER_UNREACHABLE", "peer.example: no answer in time")
MODERN = ("http-sig", "exchange-token", "notifications", "protocol-object")


class FakePeers:
    """Has the shape of `Peers` as far as the use cases go."""

    def __init__(self) -> None:
        self.breakers = Breakers()
        self.posts: list[tuple[str, str, dict[str, Any]]] = []
        self.answers: dict[str, Any] = {
            "/shares": (201, {}),
            "/notifications": (201, {}),
            "/invite-accepted": (200, {}),
        }
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.advertise(*MODERN)

    def advertise(self, *capabilities: str, **changes: Any) -> None:
        """Let every peer say that it has `capabilities`."""
        document = describe(
            public_url="https://peer.example",
            provider="Peer",
            capabilities=capabilities,
            token_end_point="https://peer.example/ocm/token",
            jwks_uri="https://peer.example/ocm/jwks",
        )
        body = json.dumps({name: value for name, value in (document | changes).items() if value is not None})
        self.discovery: Discovery | Exception = parse_discovery(body.encode(), "https://peer.example/.well-known/ocm")

    def be(self, product: str, **changes: Any) -> None:
        """Let every peer be a product of `dialects`."""
        self.discovery = discovery(product, **changes)

    def advertise_old(self) -> None:
        """Let every peer be one of API 1.0, as Nextcloud up to 30 is."""
        file = {"name": "file", "shareTypes": ["user", "group"], "protocols": {"webdav": "/public.php/webdav/"}}
        self.advertise(apiVersion="1.0-proposal1", resourceTypes=[file], capabilities=None)

    async def discover(self, server: str, *, fresh: bool = False) -> Discovery:
        if isinstance(self.discovery, Exception):
            raise self.discovery
        return self.discovery

    async def post(self, server: str, path: str, payload: Mapping[str, Any]) -> Answer:
        await self.discover(server)
        self.posts.append((server, path, dict(payload)))
        await self.let_go.wait()
        answer = self.answers[path]
        if isinstance(answer, list):
            answer = answer.pop(0)  # one after the other
        if isinstance(answer, NotAllowed | PeerFailed):
            raise answer
        status, body = answer
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Answer(status, content, signature_for(await self.discover(server)).scheme)

    def told(self, path: str = "/notifications") -> list[dict[str, Any]]:
        return [payload for _, asked, payload in self.posts if asked == path]

    @property
    def types(self) -> list[str]:
        """The types of the notifications that arrived."""
        return [payload["notificationType"] for payload in self.told()]
