"""Credential -> Grant, here and nowhere else; every door asks, and none looks a Share up by itself.

A Grant is read anew after GRANT_LIFE seconds, so a revocation bites within that time in every process. Every way in
that fails, fails alike: the caller learns neither which part was wrong nor what exists.
"""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from sqlalchemy import Connection

from backends.errors import StorageError
from backends.interface import Identity, Kind
from backends.paths import StoragePath
from gateway.authorized_keys import AuthorizedKeys
from gateway.errors import Unproven
from gateway.legacy import Legacy, Way
from gateway.mounts import Mounts
from gateway.ocm.errors import ProtocolError
from gateway.ocm.keys import JWKSet
from gateway.ocm.shares import Permission
from gateway.ocm.ssh_keys import PublicKey
from gateway.ocm.tokens import AccessTokenClaims, verify_access_token
from gateway.single_flight import SingleFlight
from gateway.store import sent_shares, share_keys, user_keys, users
from gateway.store.engine import Store
from gateway.store.sealing import secret_hash
from gateway.store.sent_shares import SentShare
from gateway.users import SHARE_LOGIN, USER_NAME, Passwords

GRANT_LIFE = 0.5  # seconds that a Grant may be used before it is read again; the promise to users is 1
CACHE_LIMIT = 10_000  # Grants
USE_NOTED = 60  # seconds between notes that a Share is being used


@dataclass(frozen=True, slots=True)
class SharedResource:
    """The Resource that a Share opens."""

    share_id: str
    backend: str
    path: StoragePath  # bounded twice: no link leads out of the owner's mount, nor out of the Resource
    kind: Kind
    identity: Identity | None
    owner: str  # with whose rights the storage is used, where it distinguishes them


@dataclass(frozen=True, slots=True)
class Grant:
    """Who may do what: all that a door knows of a caller."""

    principal: str  # stable name of the grantee for locks and logs: user:NAME or share:ID
    who: str  # user name, or the OCM Address that the Share is with
    permissions: frozenset[Permission]
    shared: SharedResource | None  # None: a local user's whole tree
    key: str | None = None  # fingerprint of the SSH key that it came with
    key_is_kept_elsewhere: bool = False  # by a program that is asked again now and then
    password: bytes | None = field(default=None, repr=False)  # which one it came with, as a digest of the stored hash
    read_at: float = field(default=float("-inf"), compare=False, repr=False)  # by the monotonic clock, in seconds


class Access:
    """Turns credentials into Grants and keeps them honest."""

    def __init__(
        self,
        store: Store,
        mounts: Mounts,
        passwords: Passwords,
        *,
        issuer: str,
        token_keys: Callable[[], JWKSet],
        legacy: Legacy | None = None,
        authorized_keys: AuthorizedKeys | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Without `legacy`, every way to bring a Share's secret is open.

        Without `authorized_keys`, users have the SSH keys that the state has.
        """
        self._store = store
        self._mounts = mounts
        self._passwords = passwords
        self._legacy = legacy or Legacy(store, clock=clock)
        self._authorized_keys = authorized_keys or AuthorizedKeys()
        self._issuer = issuer
        self._token_keys = token_keys
        self._clock = clock
        self._salt = os.urandom(32)  # cache keys tell nothing of the credentials
        self._cache: dict[bytes, Grant] = {}
        self._reading: SingleFlight[Grant] = SingleFlight()
        self._forgotten = float("-inf")  # what was read before this moment counts no more
        self._used: dict[str, float] = {}  # by Share: when its use was noted, by the monotonic clock in seconds

    async def by_password(self, user: str, password: str) -> Grant:
        """Return the Grant of a local user; raises Unproven."""

        async def read() -> Grant:
            # Read before the check, so that a password which is changed meanwhile ends the Grant.
            stored = await self._store.read(lambda tx: users.password_hash(tx, user))
            if not await self._passwords.verify(user, password) or stored is None:
                raise _refused("wrong user name or password")
            return replace(_of_tree(user), password=self.digest(stored.encode()))

        return await self._grant(f"password\0{user}\0{password}", read)

    async def by_secret(self, secret: str, way: Way = Way.BASIC) -> Grant:
        """Return the Grant of a Share's secret, sent as the user name of Basic or as Bearer; raises Unproven.

        A Share that requires the token exchange is not opened by its secret (wire.md, Share Creation Notification).
        The operator may have closed the `way` to the Share's receiver, which raises NotAllowed, or Unproven while the
        other one is open.
        """
        if not secret:
            raise _refused("an empty secret")
        digest = secret_hash(secret)

        async def read() -> Grant:
            grant, server = await self._store.read(lambda tx: self._of_secret(tx, digest))
            await self._legacy.use(way, server)
            return grant

        return await self._grant(f"{way}\0{secret}", read)

    async def by_bearer(self, token: str) -> Grant:
        """Return the Grant of an access token of ours, or else of a Share's secret; raises Unproven."""
        if "." not in token:  # a JWT has dots, no secret of ours has
            return await self.by_secret(token, Way.BEARER_SECRET)

        async def read() -> Grant:
            try:
                claims = verify_access_token(token, self._token_keys(), issuer=self._issuer, now=self._clock())
            except ProtocolError as error:
                raise _refused(str(error)) from error
            return await self._store.read(lambda tx: self._of_token(tx, claims))

        return await self._grant(f"token\0{token}", read)

    async def by_key(self, login: str, key: PublicKey, client: str = "") -> Grant:
        """Return the Grant of whoever has the private half of `key`, which the door makes sure of; raises Unproven.

        `login` is a user's name, or that of a Share, and `client` the address that it comes from. Everything that is
        looked up for one that exists is looked up for any other, so that also the time of a refusal tells nothing.
        Raises Unavailable when too many ask.
        """
        fingerprint = key.fingerprint

        async def read() -> Grant:
            if SHARE_LOGIN.fullmatch(login):
                return await self._store.read(lambda tx: self._of_share_key(tx, login, fingerprint))
            if USER_NAME.fullmatch(login):
                return await self._of_user_key(login, fingerprint, client)
            raise _refused("a name that nobody logs in by")

        return await self._grant(f"key\0{login}\0{fingerprint}", read, client)

    async def of_user(self, name: str) -> Grant:
        """Return the Grant of a user whom the operating system has proved (the admin socket); raises Unproven."""
        return await self._store.read(lambda tx: self._of_user(tx, name))

    async def renew(self, grant: Grant) -> Grant:
        """Return the Grant as it is now, for work that lasts; raises Unproven once it has ended.

        The expiry of a token is judged when a request begins, revocation and everything else always (wire.md). A Grant
        that came with an SSH key, or with a password, ends with it.
        """
        now = time.monotonic()
        again, has_key = await self._store.read(lambda tx: (self._again(tx, grant), self._has_key(tx, grant)))
        if not has_key and not await self._has_key_elsewhere(grant):
            raise _refused(f"the key {grant.key} is no longer authorised")
        return replace(grant, permissions=again.permissions, shared=again.shared, read_at=now)

    async def of_principal(self, principal: str) -> Grant:
        """Return the Grant that a principal has now, for what outlives a request; raises Unproven."""
        kind, _, name = principal.partition(":")
        if kind == "user":
            return await self.of_user(name)
        return await self._store.read(lambda tx: self._of_share(tx, sent_shares.get(tx, name)))

    async def note_use(self, grant: Grant) -> None:
        """Tell the owner that the Share, if it is one, is being used; a state that cannot be written keeps nobody out.

        Of a key the door says so, which alone has seen that the private half is there: anybody may ask about a key.
        """
        if grant.shared is None:
            return
        share_id, now = grant.shared.share_id, time.monotonic()
        if now - self._used.get(share_id, float("-inf")) < USE_NOTED:
            return
        if len(self._used) >= CACHE_LIMIT:
            self._used.clear()
        self._used[share_id] = now
        moment = int(self._clock())
        with suppress(StorageError):
            await self._store.run(lambda tx: sent_shares.set_used(tx, share_id, moment))

    def forget(self) -> None:
        """Drop every cached Grant, after a change in this process."""
        self._cache.clear()
        self._forgotten = time.monotonic()

    def is_fresh(self, grant: Grant) -> bool:
        """Tell whether a Grant that came with a credential may still be used without reading it again."""
        return self._forgotten < grant.read_at > time.monotonic() - GRANT_LIFE

    def digest(self, credential: bytes) -> bytes:
        """Return 32 bytes by which a credential can be known again, and which tell nothing of it."""
        return blake2b(credential, digest_size=32, key=self._salt).digest()

    async def _grant(self, credential: str, read: Callable[[], Awaitable[Grant]], client: str = "") -> Grant:
        """Return the Grant of `credential`, read anew when the one in the cache is older than GRANT_LIFE.

        A refusal may be for one `client` alone, so what is read at the same time is shared only among its connections.
        """
        key = self.digest(credential.encode("utf-8", "surrogatepass"))
        cached = self._cache.get(key)
        if cached and self.is_fresh(cached):
            return cached

        async def read_anew() -> Grant:
            now = time.monotonic()
            grant = replace(await read(), read_at=now)
            if grant.key is None:
                await self.note_use(grant)
            if len(self._cache) >= CACHE_LIMIT:
                self._cache.clear()
            self._cache[key] = grant
            return grant

        # Once for all connections of a client, and for none that comes after a `forget` what was read before.
        return await self._reading.run((key, client, self._forgotten), read_anew)

    def _again(self, tx: Connection, grant: Grant) -> Grant:
        if grant.shared is not None:
            return self._of_share(tx, sent_shares.get(tx, grant.shared.share_id))
        stored = users.password_hash(tx, grant.who) or ""
        if grant.password is not None and not hmac.compare_digest(grant.password, self.digest(stored.encode())):
            raise _refused(f"{grant.who} has another password now, or is disabled")
        return self._of_user(tx, grant.who)

    def _has_key(self, tx: Connection, grant: Grant) -> bool:
        """Tell whether the state still has the key of a Grant that came with one."""
        if grant.key is None:
            return True
        if grant.key_is_kept_elsewhere:
            return False
        if grant.shared is None:
            return user_keys.exists(tx, grant.who, grant.key)
        return share_keys.exists(tx, grant.shared.share_id, grant.key)

    async def _has_key_elsewhere(self, grant: Grant) -> bool:
        assert grant.key is not None
        if grant.key_is_kept_elsewhere:
            return await self._authorized_keys.still_by_command(grant.who, grant.key)
        return grant.shared is None and await self._authorized_keys.still_in_file(grant.who, grant.key)

    async def _of_user_key(self, name: str, fingerprint: str, client: str) -> Grant:
        kept_elsewhere = False
        known = await self._store.read(lambda tx: user_keys.exists(tx, name, fingerprint))
        known = known or await self._authorized_keys.in_file(name, fingerprint)
        if not known:
            known = kept_elsewhere = await self._authorized_keys.by_command(name, fingerprint, client)
        if not known:
            raise _refused("no such user, or not with this key")
        grant = await self._store.read(lambda tx: self._of_user(tx, name))
        return replace(grant, key=fingerprint, key_is_kept_elsewhere=kept_elsewhere)

    def _of_share_key(self, tx: Connection, login: str, fingerprint: str) -> Grant:
        share = sent_shares.by_ssh_key(tx, login, fingerprint)
        if share is None:
            raise _refused("no such Share, or not with this key")
        if share.requires_exchange:  # which no key is: ssh has no requirements (wire.md, Share Creation Notification)
            raise _refused(f"Share {share.id} requires the token exchange")
        return replace(self._of_share(tx, share), key=fingerprint)

    def _of_user(self, tx: Connection, name: str) -> Grant:
        if not users.is_enabled(tx, name):
            raise _refused(f"there is no enabled user {name}")
        return _of_tree(name)

    def _of_secret(self, tx: Connection, digest: bytes) -> tuple[Grant, str]:
        """Return the Grant and the server that the Share is with."""
        share = sent_shares.by_secret_hash(tx, digest)
        if share is None:
            raise _refused("no such Share")
        if share.requires_exchange:
            raise _refused(f"Share {share.id} requires the token exchange")
        return self._of_share(tx, share), share.server

    def _of_token(self, tx: Connection, claims: AccessTokenClaims) -> Grant:
        share = sent_shares.get(tx, claims.client_id)
        if share is None or (share.owner, share.share_with) != (claims.subject, claims.audience):
            raise _refused("a token of no Share")
        return self._of_share(tx, share)

    def _of_share(self, tx: Connection, share: SentShare | None) -> Grant:
        """Return Share ∩ the owner's present rights there ∩ owner enabled (design rule 9)."""
        if share is None:
            raise _refused("no such Share")
        if not share.opens(self._clock()):
            raise _refused(f"Share {share.id} has ended")
        if not users.is_enabled(tx, share.owner):
            raise _refused(f"the owner of Share {share.id} is disabled")
        mount = self._mounts.leading_to(share.owner, share.mount, share.backend, share.path)
        permissions = share.permissions & ((mount.rights if mount else frozenset()) | {Permission.SHARE})
        if mount is None or Permission.READ not in permissions:
            raise _refused(f"the owner of Share {share.id} may no longer read it")
        kind = Kind.FILE if share.resource_type == "file" else Kind.DIRECTORY
        path = mount.path.join(share.path.relative_to(mount.path)).bounded()
        resource = SharedResource(share.id, share.backend, path, kind, share.identity, share.owner)
        return Grant(sent_shares.principal(share.id), share.share_with, permissions, resource)


def _of_tree(user: str) -> Grant:
    return Grant(users.principal(user), user, frozenset(Permission), None)


def _refused(reason: str) -> Unproven:
    """Return the one answer; `reason` is for the log, the caller sees the code alone."""
    return Unproven("ACCESS_DENIED", reason)
