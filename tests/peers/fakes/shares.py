"""A Share as the fake has sent or received it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from .resources import Resource


@dataclass
class Sent:
    """A Share that the fake has sent."""

    provider_id: str
    secret: str
    share_with: str
    name: str
    resource: Resource
    permissions: Sequence[str]
    owner: str
    path_id: str = field(default_factory=lambda: secrets.token_hex(8))
    requires_exchange: bool = False
    state: str = "sent"
    tokens: list[str] = field(default_factory=list)

    @property
    def server(self) -> str:
        return self.share_with.rpartition("@")[2]

    @property
    def resource_type(self) -> str:
        return "file" if self.resource.is_file else "folder"

    @property
    def opens(self) -> bool:
        return self.state in ("sent", "accepted")


@dataclass
class Received:
    """A Share that the fake has received."""

    provider_id: str
    secret: str
    owner: str
    sender: str
    server: str  # the host[:port] that the product goes to
    recipient: str  # the local user
    name: str
    resource_type: str
    permissions: Sequence[str] | None = None  # None: the body does not say, WebDAV does
    uri: str | None = None
    requires_exchange: bool = False
    state: str = "pending"

    @property
    def writable(self) -> bool | None:
        return None if self.permissions is None else "write" in self.permissions
