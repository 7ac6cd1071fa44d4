"""One fake by itself, for whoever develops an OCM server: it says what happens until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .fake import Fake
from .inviting import Inviting
from .journal import Complaint, Entry, Failed
from .resources import Resource
from .shares import Received

PROBE = "ocm-peer-sim.txt"  # what `writes` leaves in a Share for a moment

Tell = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Wishes:
    """What a fake is to do. Addresses are OCM Addresses at the server that is being developed."""

    contacts: tuple[str, ...] = ()  # known to its user as if an invite had been accepted
    share_with: tuple[str, ...] = ()
    declines: bool = False
    writes: bool = False  # puts a file into each Share that may be written, and removes it


def contexts(certificate: Path | None, key: Path | None, ca: Path | None) -> dict[str, ssl.SSLContext]:
    """Return the options of a fake for TLS; raises OSError for files that are no certificates."""
    trusted = ssl.create_default_context(cafile=ca)
    if certificate is None:
        return {"trusted": trusted}
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return {"trusted": trusted, "tls": server}


async def simulate(make: Callable[..., Fake], wishes: Wishes, tell: Tell, **options: Any) -> int:
    """Run a fake until SIGINT or SIGTERM and return how many complaints there were.

    `tell` is called with each event: ready, exchange, complaint, shared, end. Raises OSError when the port is taken.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    tasks: set[asyncio.Task[None]] = set()

    def arrived(received: Received) -> None:
        task = loop.create_task(_use(fake, received, wishes))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    fake = make(listener=lambda entry: tell(_event(entry)), on_received=arrived, **options)
    await fake.start()
    try:
        tell(_ready(fake))
        await _begin(fake, wishes, tell)
        await stop.wait()
    finally:
        for task in tasks:
            task.cancel()
        await fake.stop()
    tell({"event": "end", "complaints": len(fake.journal.complaints)})
    return len(fake.journal.complaints)


def _event(entry: Entry) -> dict[str, Any]:
    return {"event": "complaint" if isinstance(entry, Complaint) else "exchange", **asdict(entry)}


def _ready(fake: Fake) -> dict[str, Any]:
    user = next(iter(fake.users))
    return {
        "event": "ready",
        "product": fake.product,
        "url": fake.url,
        "discovery": [f"{fake.url}{path}" for path in fake.discovery_paths],
        "address": fake.address(user),
        "invite": fake.invite(user)[1] if isinstance(fake, Inviting) else None,
    }


async def _begin(fake: Fake, wishes: Wishes, tell: Tell) -> None:
    user = next(iter(fake.users))
    for address in (*wishes.contacts, *wishes.share_with):
        fake.befriend(user, address)
        server = address.rpartition("@")[2]
        if not fake.has_providers:
            continue
        with suppress(Failed):
            fake.trust(server, await fake.look_up(server))
    for address in wishes.share_with:
        resource = Resource.folder(welcome_txt=b"Hello\n") if fake.shares_folders else Resource.file(b"Hello\n")
        with suppress(Failed):  # the journal has the complaint
            sent = await fake.send_share(address, resource, name=f"Share of {fake.product}")
            tell({"event": "shared", "with": address, "name": sent.name})


async def _use(fake: Fake, received: Received, wishes: Wishes) -> None:
    """Answer a Share as a user would, and look into it."""
    with suppress(Failed):
        if wishes.declines:
            await fake.decline(received)
            return
        reached = await fake.accept(received)
        files = await reached.files() if fake.shares_folders else [""]
        if files:
            await reached.read(files[0])
        if wishes.writes and reached.is_writable and files != [""]:
            await reached.write(PROBE, b"written by ocm-gateway peer-sim\n")
            await reached.remove(PROBE)
