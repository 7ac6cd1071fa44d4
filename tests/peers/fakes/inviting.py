"""Invites, both ways (peers.md §7): whoever has accepted one is a contact of the inviter, and the other way round."""

from __future__ import annotations

import base64
import uuid
from typing import Any, ClassVar

from .fake import Fake
from .journal import Failed, Refused
from .messages import Asked
from .reading import bare_server


class Inviting(Fake):
    """A product that makes and accepts invites."""

    unknown_token: ClassVar[int] = 400  # the answer to a token that it has not made, or that has expired
    accepted_before: ClassVar[int] = 409
    acceptance_fields: ClassVar[tuple[str, ...]] = ("token", "userID", "recipientProvider")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.invites: dict[str, str] = {}  # the local user by open token
        self.accepted: dict[str, str] = {}  # the local user by token that somebody has accepted

    def user_id(self, user: str) -> str:
        """Return the id of a local user in invites."""
        return user

    def invite(self, user: str) -> tuple[str, str]:
        """Return a new token of a local user, and the Invite String around it."""
        token = str(uuid.uuid4())
        self.invites[token] = user
        text = base64.urlsafe_b64encode(f"{token}@{self.server}".encode())
        return token, text.rstrip(b"=").decode()

    async def accept_invite(self, user: str, token: str, inviter: str) -> str:
        """Accept the invite of somebody at `inviter` (host[:port]) and return the address of the new contact."""
        payload = {"recipientProvider": self.server, "token": token, **self._identity(user)}
        answer = await self.post(await self.discover(inviter), "/invite-accepted", payload)
        identity = answer.json()
        if answer.status != 200 or not isinstance(identity, dict) or not isinstance(identity.get("userID"), str):
            self.journal.complain(f"POST /invite-accepted is answered {answer.status} {answer.refusal}")
            raise Failed("the invite was not taken", answer.status)
        for name in ("email", "name"):
            if not isinstance(identity.get(name), str):
                self.journal.complain(f"the answer to /invite-accepted has no {name}")
        return self._add_contact(user, identity["userID"], inviter)

    async def take_acceptance(self, asked: Asked) -> tuple[int, Any]:
        """Answer POST /invite-accepted; raises Refused."""
        body = asked.json()
        missing = [name for name in self.acceptance_fields if not isinstance(body.get(name), str)]
        if missing:
            raise Refused(400, f"/invite-accepted lacks {', '.join(missing)}")
        provider = body["recipientProvider"]
        if "://" in provider or provider.endswith("/"):
            raise Refused(400, f"recipientProvider is a URL: {provider!r}")
        await self.check_acceptance(asked, provider)
        token = body["token"]
        if token in self.accepted:
            identity = self._identity(self.accepted[token])
            raise Refused(self.accepted_before, "" if self.accepted_before == 200 else "used before", identity)
        if token not in self.invites:
            raise Refused(self.unknown_token, f"the token {token!r} is unknown or has expired")
        user = self.accepted[token] = self.invites.pop(token)
        self._add_contact(user, body["userID"], provider)
        return 200, self._identity(user)

    async def check_acceptance(self, asked: Asked, provider: str) -> None:
        """Raise Refused where the product does not trust whoever accepts."""

    async def more(self, asked: Asked) -> tuple[int, Any] | None:
        if asked.method == "POST" and asked.path == f"{self.api}/invite-accepted":
            return await self.take_acceptance(asked)
        return await super().more(asked)

    def is_contact(self, user: str, address: str) -> bool:
        return (user, address) in self.contacts

    def _identity(self, user: str) -> dict[str, str]:
        name = self.users[user]
        email = f"{name.split()[0].lower()}@{self._host}.example"
        return {"userID": self.user_id(user), "email": email, "name": name}

    def _add_contact(self, user: str, user_id: str, provider: str) -> str:
        """Keep a contact; an id may carry its host, as oCIS's and OpenCloud's do."""
        bare, at, host = user_id.rpartition("@")
        identifier = bare if at and bare_server(host) == provider else user_id
        address = f"{identifier}@{provider}"
        self.befriend(user, address)
        return address
