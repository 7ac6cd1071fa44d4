"""What everything stands on: state, keys, storage, passwords."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from backends.interface import StorageBackend
from backends.pool import Pool
from gateway.access import Access
from gateway.admin.tally import Tally
from gateway.authorized_keys import AuthorizedKeys
from gateway.changes import Changes
from gateway.config import Config, LegacyConfig, LocalConfig, is_open
from gateway.host_keys import HostKeys
from gateway.legacy import Legacy, Policy, Way
from gateway.listening import Doors
from gateway.living import Living
from gateway.mounts import Mounts
from gateway.roots import (
    as_service,
    open_backend,
    require_roots,
    view_of,
)
from gateway.signing_keys import SigningKeys
from gateway.store.engine import Store
from gateway.store.sealing import Sealer, key_file
from gateway.team import Team
from gateway.tickets import Tickets
from gateway.tree import Storage
from gateway.users import Passwords


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of this process among those of its gateway."""

    team: Team
    tally: Tally
    doors: Doors
    number: int  # 0 and up
    is_first: bool  # no other process of the gateway runs yet


@dataclass(frozen=True, slots=True)
class Ground:
    """What everything stands on: state, keys, storage."""

    clock: Callable[[], float]
    store: Store
    sealer: Sealer
    keys: SigningKeys
    host_keys: HostKeys | None  # None: no SSH door
    storages: Mapping[str, Storage]
    living: Living
    changes: Changes
    mounts: Mounts
    passwords: Passwords
    legacy: Legacy
    access: Access
    tickets: Tickets


def lay_ground(stack: AsyncExitStack, config: Config, seat: Seat, clock: Callable[[], float]) -> Ground:
    keys_directory = config.state_dir / "keys"
    store = Store(config.database_url)
    stack.callback(store.close)
    require_roots(config, store)
    living = Living(config.state_dir / "processes")
    stack.callback(living.close)
    living.adopt(config.state_dir / "alive")
    keys = SigningKeys(keys_directory, config.origin, clock)
    keys.cavage_key()  # so that no request has to wait until it is made
    storages = {name: _storage(stack, store, config, name) for name in config.backends}
    mounts = Mounts(config.mounts, config.groups)
    passwords = Passwords(store)
    stack.callback(passwords.close)
    authorized_keys = AuthorizedKeys(config.ssh.authorized_keys_file, config.ssh.authorized_keys_command)
    stack.callback(authorized_keys.close)
    legacy = Legacy(store, _policy(config.federation.legacy), count=seat.tally.ways.counter(seat.number), clock=clock)
    return Ground(
        clock=clock,
        store=store,
        sealer=Sealer(key_file(keys_directory / "state.key", lambda: os.urandom(32))),
        keys=keys,
        host_keys=HostKeys(keys_directory) if config.listen.ssh else None,
        storages=storages,
        living=living,
        changes=_changes(stack, config, store, storages, living),
        mounts=mounts,
        passwords=passwords,
        legacy=legacy,
        access=Access(
            *(store, mounts, passwords),
            issuer=config.origin,
            token_keys=keys.public,
            legacy=legacy,
            authorized_keys=authorized_keys,
            clock=clock,
        ),
        tickets=Tickets(key_file(keys_directory / "tickets.key", lambda: os.urandom(32)), clock),
    )


def _policy(legacy: LegacyConfig) -> Policy:
    """Return which ways are open to whom."""
    openness = {
        Way.BASIC: legacy.basic,
        Way.BEARER_SECRET: legacy.bearer_secret,
        Way.UNSIGNED: legacy.unsigned,
        Way.CAVAGE: legacy.cavage,
    }
    return lambda way, server: is_open(openness[way], server)


def _storage(stack: AsyncExitStack, store: Store, config: Config, name: str) -> Storage:
    backend: StorageBackend = open_backend(name, config.backends[name], store, config.state_dir)
    pool = Pool(f"backend-{name}")
    stack.callback(backend.close)
    stack.callback(pool.abandon)
    return Storage(name, backend, pool, view_of(backend))


def _changes(
    stack: AsyncExitStack, config: Config, store: Store, storages: Mapping[str, Storage], living: Living
) -> Changes:
    changes = Changes(store)
    changes.start(storages, living)
    stack.callback(changes.close)
    for name, storage in storages.items():
        backend = config.backends[name]
        watches = backend.watch if isinstance(backend, LocalConfig) else 0
        changes.follow(name, as_service(storage).backend, storage.pool, watches)
    return changes
