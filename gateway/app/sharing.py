"""The use cases."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TypedDict

from gateway.admitting import Admitting
from gateway.app.ground import Ground
from gateway.app.outside import Outside
from gateway.arriving import Arriving
from gateway.belongings import Belongings
from gateway.config import Config
from gateway.contacts import Contacts
from gateway.departing import Departing
from gateway.expiring import Expiring
from gateway.group_shares import GroupShares
from gateway.hinting import Hints
from gateway.inviting import Inviting
from gateway.issuing import Issuing
from gateway.keeping import Copies
from gateway.key_pairs import KeyPairs
from gateway.last_seen import LastSeen
from gateway.locks import Locks
from gateway.outbox import Outbox
from gateway.receiving import Receiving
from gateway.remote import Remote
from gateway.requesting import Requesting
from gateway.resharing import Resharing
from gateway.sending import Sending
from gateway.ssh_shares import SSHShares
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
    requesting: Requesting
    resharing: Resharing
    departing: Departing
    group_shares: GroupShares
    hints: Hints
    issuing: Issuing
    expiring: Expiring
    inviting: Inviting
    contacts: Contacts
    copies: Copies


def build_sharing(stack: AsyncExitStack, config: Config, ground: Ground, outside: Outside, team: Team) -> Sharing:
    store, sealer, clock, peers = ground.store, ground.sealer, ground.clock, outside.peers
    outbox = Outbox(store, clock, team.ring)
    hop = asyncio.get_running_loop().call_soon_threadsafe
    peers.breakers.when_returned(lambda server: hop(outbox.returned, server))
    key_pairs = KeyPairs(store, sealer, clock)
    remote = _remote(stack, config, ground, outside, key_pairs)
    tree = Tree(store, ground.mounts, ground.storages, remote.storage, ground.changes, clock)
    names = names_of(config)
    sending = Sending(store, tree, ground.access, outside.trust, peers, outbox, sealer, **names, clock=clock)
    policy = Admitting(config.federation.accept, config.federation.auto_accept, outside.trust.is_listed)
    receiving = Receiving(
        *(store, peers, outbox, remote, sealer, key_pairs),
        server=config.server,
        policy=policy,
        groups=config.groups,
        clock=clock,
    )
    requesting = Requesting(
        *(store, sending, receiving, ground.access, outside.trust, peers, outbox),
        server=config.server,
        policy=policy,
        clock=clock,
    )
    departing = Departing(
        *(store, sending, receiving, remote, ground.access, peers, outbox), server=config.server, clock=clock
    )
    hints = Hints(store, receiving, remote, peers, ground.legacy, clock)
    stack.push_async_callback(hints.close)
    watch = Watch(ground.access)
    uploads = Uploads(store, ground.access, ground.mounts, clock, parked=team.parked)
    return Sharing(
        outbox=outbox,
        remote=remote,
        last_seen=LastSeen(store, clock),
        tree=tree,
        watch=watch,
        uploads=uploads,
        sending=sending,
        receiving=receiving,
        requesting=requesting,
        resharing=Resharing(
            *(store, tree, sending, receiving, requesting, outside.trust, peers, outbox, sealer),
            server=config.server,
            clock=clock,
        ),
        departing=departing,
        group_shares=GroupShares(store, receiving, departing, sealer, config.groups, clock),
        hints=hints,
        issuing=Issuing(store, ground.keys, origin=config.origin, clock=clock),
        expiring=Expiring(store, sending, receiving, clock),
        inviting=Inviting(store, peers, server=config.server, public_url=config.public_url, policy=policy, clock=clock),
        contacts=Contacts(store, server=config.server, clock=clock),
        copies=_copies(ground, tree, watch, uploads),
    )


def _copies(ground: Ground, tree: Tree, watch: Watch, uploads: Uploads) -> Copies:
    store = ground.store
    arriving, locks = Arriving(uploads, Belongings(store)), Locks(store, ground.clock)
    return Copies(store, ground.access, tree, watch, locks, arriving, ground.changes, ground.clock)


def _remote(stack: AsyncExitStack, config: Config, ground: Ground, outside: Outside, key_pairs: KeyPairs) -> Remote:
    turns = Turns(config.state_dir / "turns")
    stack.callback(turns.close)
    ssh = SSHShares(outside.streaming, outside.peers.breakers, key_pairs, config.state_dir / "journals")
    remote = Remote(
        *(ground.store, outside.peers, outside.streaming, ground.sealer, turns, ssh),
        server=config.server,
        legacy=ground.legacy,
        clock=ground.clock,
    )
    stack.callback(remote.close)
    return remote


class Names(TypedDict):
    """What other servers know this one by; see `Ourselves` in `offering`."""

    server: str
    dav_url: str
    ssh: str | None


def names_of(config: Config) -> Names:
    """Return what other servers know this one by: its name, the URL of its webdav root, and where its SSH door is."""
    return {"server": config.server, "dav_url": f"{config.public_url}/dav/ocm/", "ssh": ssh_of(config)}


def ssh_of(config: Config) -> str | None:
    """Return host:port of the SSH door as others reach it; None where there is none."""
    return None if config.ssh_public is None else str(config.ssh_public)
