"""The use cases."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

from gateway.admitting import Admitting
from gateway.app.ground import Ground
from gateway.app.outside import Outside
from gateway.config import Config
from gateway.contacts import Contacts
from gateway.expiring import Expiring
from gateway.inviting import Inviting
from gateway.issuing import Issuing
from gateway.last_seen import LastSeen
from gateway.outbox import Outbox
from gateway.receiving import Receiving
from gateway.remote import Remote
from gateway.sending import Sending
from gateway.team import Team
from gateway.tree import Tree
from gateway.turns import Turns
from gateway.uploads import Uploads
from gateway.watch import Watch


@dataclass(frozen=True, slots=True)
class Sharing:
    """The use cases."""

    outbox: Outbox
    remote: Remote
    last_seen: LastSeen
    tree: Tree
    watch: Watch
    uploads: Uploads
    sending: Sending
    receiving: Receiving
    issuing: Issuing
    expiring: Expiring
    inviting: Inviting
    contacts: Contacts


def build_sharing(stack: AsyncExitStack, config: Config, ground: Ground, outside: Outside, team: Team) -> Sharing:
    store, sealer, clock, peers = ground.store, ground.sealer, ground.clock, outside.peers
    outbox = Outbox(store, clock, team.ring)
    hop = asyncio.get_running_loop().call_soon_threadsafe
    peers.breakers.when_returned(lambda server: hop(outbox.returned, server))
    turns = Turns(config.state_dir / "turns")
    stack.callback(turns.close)
    remote = Remote(
        store, peers, outside.streaming, sealer, turns, server=config.server, legacy=ground.legacy, clock=clock
    )
    stack.callback(remote.close)
    tree = Tree(store, ground.mounts, ground.storages, remote.storage, ground.changes, clock)
    sending = Sending(
        store,
        tree,
        ground.access,
        outside.trust,
        peers,
        outbox,
        sealer,
        **names_of(config),
        clock=clock,
    )
    policy = Admitting(config.federation.accept, config.federation.auto_accept, outside.trust.is_listed)
    receiving = Receiving(store, peers, outbox, remote, sealer, server=config.server, policy=policy, clock=clock)
    return Sharing(
        outbox=outbox,
        remote=remote,
        last_seen=LastSeen(store, clock),
        tree=tree,
        watch=Watch(ground.access),
        uploads=Uploads(store, ground.access, ground.mounts, clock, parked=team.parked),
        sending=sending,
        receiving=receiving,
        issuing=Issuing(store, ground.keys, origin=config.origin, clock=clock),
        expiring=Expiring(store, sending, receiving, clock),
        inviting=Inviting(store, peers, server=config.server, public_url=config.public_url, policy=policy, clock=clock),
        contacts=Contacts(store, server=config.server, clock=clock),
    )


def names_of(config: Config) -> dict[str, str]:
    """Return what other servers know this one by: its name, and the URL of its webdav root."""
    return {"server": config.server, "dav_url": f"{config.public_url}/dav/ocm/"}
