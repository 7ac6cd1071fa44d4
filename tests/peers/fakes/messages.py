"""Requests and answers as they travel, and the credentials in them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .journal import Refused

Document = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A request as it arrived; `target` is path and query, unchanged."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def json(self) -> Document:
        """Return the JSON object in the body; raises Refused."""
        try:
            value = json.loads(self.body)
        except ValueError:
            raise Refused(400, f"{self.path}: the body is no JSON") from None
        if not isinstance(value, dict):
            raise Refused(400, f"{self.path}: the body is no JSON object")
        return value


@dataclass(frozen=True)
class Answer:
    """What the other side answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def refusal(self) -> str:
        """Return the beginning of the body for a complaint, nothing of a success: that may hold a secret."""
        return repr(self.body[:200]) if self.status >= 400 else ""

    def json(self) -> Any:
        """Return the JSON in the body, None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def basic(user: str, password: str = "") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def bearer(token: str) -> str:
    return f"Bearer {token}"


def basic_user(asked: Asked) -> str | None:
    """Return the user name of Basic, None without it, or with a password; colons are none, Seafile pads with them."""
    scheme, _, value = asked.headers.get("Authorization", "").partition(" ")
    if scheme != "Basic":
        return None
    user, _, password = base64.b64decode(value).decode().partition(":")
    return None if password.strip(":") else user


def bearer_token(asked: Asked) -> str | None:
    scheme, _, value = asked.headers.get("Authorization", "").partition(" ")
    return value if scheme == "Bearer" else None
