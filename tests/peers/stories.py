"""Fakes among themselves: started together, known to each other, with TLS as some products insist on it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from certificates import self_signed

from gateway.peersim import Fake
from gateway.peersim.inviting import Inviting


def contexts(directory: Path) -> dict[str, ssl.SSLContext]:
    """Return the options of a fake for a server on localhost, and for a client that trusts it."""
    certificate = self_signed(directory)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate)
    return {"tls": server, "trusted": ssl.create_default_context(cafile=str(certificate[0]))}


@asynccontextmanager
async def two_of(product: type[Fake], **options: Any) -> AsyncIterator[tuple[Fake, Fake]]:
    """Run two fakes of a product, of which each lists the other among the servers that it trusts."""
    ann, ben = product(**options), product(**options)
    async with AsyncExitStack() as stack:
        for fake in (ann, ben):
            await fake.start()
            stack.push_async_callback(fake.stop)
        ann.trust(ben.server, f"{ben.url}{ben.api}")
        ben.trust(ann.server, f"{ann.url}{ann.api}")
        yield ann, ben


def user_of(fake: Fake) -> str:
    (user,) = fake.users
    return user


def known_as(fake: Fake) -> str:
    """Return the address of a fake's user as others know it from an invite."""
    user = user_of(fake)
    invited = isinstance(fake, Inviting) and fake.needs_invite
    return fake.address(fake.user_id(user).partition("@")[0] if invited else user)
