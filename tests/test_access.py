"""Credentials become Grants, and every way in that fails, fails alike."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from parts import CHEAP, NOW, READ, WRITE, Clock, new_store, sent

from backends.interface import Identity, Kind
from backends.paths import StoragePath
from gateway import access as module
from gateway.access import Access, Grant, SharedResource
from gateway.authorized_keys import AuthorizedKeys
from gateway.config import MountConfig
from gateway.errors import NotAllowed, Unproven
from gateway.legacy import Legacy, Way
from gateway.mounts import Mounts
from gateway.ocm.shares import Permission
from gateway.ocm.tokens import mint_access_token
from gateway.signing_keys import SigningKeys
from gateway.store import sent_shares, users
from gateway.store.sealing import secret_hash
from gateway.store.sent_shares import SentShare
from gateway.users import Passwords

PASSWORD = "correct horse"
SECRET = "s" * 43
ISSUER = "https://gateway.example"


class Place:
    """Access over a real state, where alice's `home` may be written and `frozen` may not."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.store = new_store(directory)
        self.store.run_sync(lambda tx: [users.add(tx, name, CHEAP.hash(PASSWORD), 0) for name in ("alice", "bob")])
        self.keys = SigningKeys(directory / "keys", ISSUER, self.clock)
        self.passwords = Passwords(self.store)
        self.authorized_keys: AuthorizedKeys | None = None
        self.mount(
            MountConfig(name="home", backend="storage", path="", rights="write"),
            MountConfig(name="frozen", backend="storage", path="", rights="read"),
        )

    def mount(self, *mounts: MountConfig) -> None:
        """Configure other mounts, as a restart would."""
        self.access = Access(
            *(self.store, Mounts(mounts, {}), self.passwords),
            issuer=ISSUER,
            token_keys=self.keys.public,
            authorized_keys=self.authorized_keys,
            clock=self.clock,
        )

    def set_password(self, password: str, user: str = "alice") -> None:
        self.store.run_sync(lambda tx: users.set_password_hash(tx, user, CHEAP.hash(password)))

    def share(self, secret: str = SECRET, **changes: Any) -> SentShare:
        share = sent(**changes)
        self.store.run_sync(lambda tx: sent_shares.add(tx, share, secret_hash(secret), b"sealed"))
        return share

    def token(self, key: Any = None, **changes: Any) -> str:
        values: dict[str, Any] = {
            "issuer": ISSUER,
            "subject": "alice",
            "audience": "bob@peer.example",
            "client_id": "share-1",
            "issued_at": int(self.clock()),
            "expires_at": int(self.clock()) + 300,
            "jwt_id": "jti",
        }
        return mint_access_token(key or self.keys.signing_key(), **(values | changes)).reveal()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Nothing is remembered, unless a test sets GRANT_LIFE."""
    monkeypatch.setattr("gateway.users.PasswordHasher", lambda: CHEAP)
    monkeypatch.setattr(module, "GRANT_LIFE", 0.0)
    place = Place(tmp_path)
    yield place
    place.passwords.close()
    place.store.close()


async def refused(attempt: Awaitable[Grant]) -> str:
    """Return why, which is for the log; the caller learns one code, whatever it is."""
    with pytest.raises(Unproven) as error:
        await attempt
    assert error.value.code == "ACCESS_DENIED"
    return str(error.value)


# --- passwords ------------------------------------------------------------------------------------------------------


async def test_a_password_opens_the_users_own_tree(place: Place) -> None:
    expected = Grant("user:alice", "alice", frozenset(Permission), None)
    grant = await place.access.by_password("alice", PASSWORD)
    assert replace(grant, password=None) == expected
    assert await place.access.renew(grant) == grant
    assert await place.access.of_user("alice") == expected


@pytest.mark.parametrize(("user", "password"), [("alice", ""), ("alice", "wrong"), ("nobody", PASSWORD), ("", "")])
async def test_a_wrong_user_or_password_is_refused_in_one_way(place: Place, user: str, password: str) -> None:
    assert await refused(place.access.by_password(user, password)) == "wrong user name or password"


async def test_what_a_password_has_opened_ends_with_it(place: Place) -> None:
    """Also where the same one is set again, as after a leak."""
    grant = await place.access.by_password("alice", PASSWORD)
    known_by_the_system = await place.access.of_user("alice")
    for password in ("another one", PASSWORD):
        place.set_password(password)
        assert "another password" in await refused(place.access.renew(grant))
        grant = await place.access.by_password("alice", password)
        assert await place.access.renew(grant) == grant
    assert await place.access.renew(known_by_the_system) == known_by_the_system
    stored = place.store.read_sync(lambda tx: users.password_hash(tx, "alice"))
    assert stored is not None
    assert stored not in repr(grant)
    assert str(grant.password) not in repr(grant)


async def test_a_password_that_is_changed_while_it_is_checked_opens_nothing_for_long(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = place.passwords.verify

    async def overtaken(user: str, password: str) -> bool:
        is_right = await verify(user, password)
        place.set_password("another one")
        return is_right

    monkeypatch.setattr(place.passwords, "verify", overtaken)
    await refused(place.access.renew(await place.access.by_password("alice", PASSWORD)))


async def test_a_disabled_user_is_refused_everywhere(place: Place) -> None:
    grant = await place.access.by_password("alice", PASSWORD)
    place.store.run_sync(lambda tx: users.set_disabled(tx, "alice", True))
    await refused(place.access.by_password("alice", PASSWORD))
    await refused(place.access.of_user("alice"))
    await refused(place.access.renew(grant))
    place.store.run_sync(lambda tx: users.set_disabled(tx, "alice", False))
    assert await place.access.renew(grant) == grant


async def test_a_user_of_the_operating_system_has_to_be_a_user_here(place: Place) -> None:
    await refused(place.access.of_user("root"))


# --- secrets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["pending", "sent", "accepted"])
async def test_a_secret_opens_its_share_alone(place: Place, state: str) -> None:
    """Also before the receiver has answered: Seafile looks while the notification is still on its way."""
    place.share(state=state, identity=Identity(1, 2), resource_type="file", permissions=WRITE)
    resource = SharedResource("share-1", "storage", StoragePath.parse("data"), Kind.FILE, Identity(1, 2), "alice")
    expected = Grant("share:share-1", "bob@peer.example", WRITE, resource)
    assert await place.access.by_secret(SECRET) == expected
    assert await place.access.by_bearer(SECRET) == expected


@pytest.mark.parametrize("secret", ["", "x", SECRET[:-1], SECRET + "s", SECRET.upper(), "\ud800", "ü", "share-1"])
async def test_another_secret_opens_nothing(place: Place, secret: str) -> None:
    place.share()
    await refused(place.access.by_secret(secret))
    await refused(place.access.by_bearer(secret))


async def test_no_secret_opens_a_share_whose_secret_is_wiped(place: Place) -> None:
    place.share()
    place.store.run_sync(lambda tx: sent_shares.wipe_secret(tx, "share-1"))
    for secret in (SECRET, "", "None", "null"):
        await refused(place.access.by_secret(secret))


async def test_the_secret_of_a_share_that_requires_the_exchange_opens_no_door(place: Place) -> None:
    """wire.md, Share Creation Notification: as Basic and as Bearer; the token opens it."""
    place.share(requires_exchange=True)
    assert "requires the token exchange" in await refused(place.access.by_secret(SECRET))
    assert "requires the token exchange" in await refused(place.access.by_bearer(SECRET))
    assert (await place.access.by_bearer(place.token())).principal == "share:share-1"


@pytest.mark.parametrize("state", ["declined", "refused", "revoked", "expired", "missing", "something new"])
async def test_an_ended_share_opens_to_nobody(place: Place, state: str) -> None:
    place.share(state=state)
    await refused(place.access.by_secret(SECRET))
    await refused(place.access.by_bearer(place.token()))


async def test_an_expired_share_is_refused_at_access(place: Place) -> None:
    place.share(expiration=NOW + 10)
    grant = await place.access.by_secret(SECRET)
    place.clock.advance(9)
    assert await place.access.by_secret(SECRET) == grant
    place.clock.advance(1)
    await refused(place.access.by_secret(SECRET))
    await refused(place.access.by_bearer(place.token()))
    await refused(place.access.renew(grant))


# --- what bounds a Share --------------------------------------------------------------------------------------------


async def test_a_disabled_owner_closes_every_share(place: Place) -> None:
    place.share()
    grant = await place.access.by_secret(SECRET)
    place.store.run_sync(lambda tx: users.set_disabled(tx, "alice", True))
    await refused(place.access.by_secret(SECRET))
    await refused(place.access.by_bearer(place.token()))
    await refused(place.access.renew(grant))


@pytest.mark.parametrize(
    ("granted", "mount", "effective"),
    [
        (READ, "home", READ),
        (WRITE, "home", WRITE),
        (WRITE, "frozen", READ),
        (frozenset(Permission), "frozen", READ | {Permission.SHARE}),
        (frozenset(Permission), "home", frozenset(Permission)),
    ],
)
async def test_a_share_is_bounded_by_its_owners_rights(
    place: Place, granted: frozenset[Permission], mount: str, effective: frozenset[Permission]
) -> None:
    place.share(permissions=granted, mount=mount)
    assert (await place.access.by_secret(SECRET)).permissions == effective


async def test_a_right_that_is_taken_from_the_owner_is_taken_from_the_share(place: Place) -> None:
    place.share(permissions=WRITE)
    grant = await place.access.by_secret(SECRET)
    place.mount(MountConfig(name="home", backend="storage", path="", rights="read"))
    assert (await place.access.by_secret(SECRET)).permissions == READ
    assert (await place.access.renew(grant)).permissions == READ


@pytest.mark.parametrize(
    "mounts",
    [
        [],
        [MountConfig(name="other", backend="elsewhere", path="", rights="write")],
        [MountConfig(name="home", backend="elsewhere", path="", rights="write")],
        [MountConfig(name="home", backend="storage", path="users/{user}", rights="write")],
        [MountConfig(name="home", backend="storage", path="dat", rights="write")],
        [MountConfig(name="home", backend="storage", path="", rights="write", users=("bob",))],
    ],
)
async def test_what_the_owner_does_not_reach_any_more_is_not_shared_either(
    place: Place, mounts: list[MountConfig]
) -> None:
    """Also when the mount's name stays, and leads to another place."""
    place.share(permissions=WRITE)
    place.mount(*mounts)
    await refused(place.access.by_secret(SECRET))
    await refused(place.access.by_bearer(place.token()))


async def test_a_share_that_has_moved_into_another_mount_is_bounded_by_that_one(place: Place) -> None:
    place.share(permissions=WRITE, path=StoragePath.parse("projects/data"))
    place.mount(
        MountConfig(name="home", backend="storage", path="users/{user}", rights="write"),
        MountConfig(name="projects", backend="storage", path="projects", rights="read"),
    )
    assert (await place.access.by_secret(SECRET)).permissions == READ


async def test_a_share_that_may_not_even_be_read_is_none(place: Place) -> None:
    place.share(permissions=frozenset({Permission.WRITE}))
    await refused(place.access.by_secret(SECRET))


# --- access tokens --------------------------------------------------------------------------------------------------


async def test_a_token_opens_its_share(place: Place) -> None:
    place.share()
    grant = await place.access.by_bearer(place.token())
    assert grant == await place.access.by_secret(SECRET)


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://other.example"},
        {"issuer": ISSUER + "/"},
        {"subject": "bob"},
        {"audience": "mallory@peer.example"},
        {"audience": "bob@other.example"},
        {"client_id": "share-2"},
        {"client_id": "peer.example"},
        {"client_id": ""},
        {"expires_at": NOW},
        {"expires_at": NOW - 1},
    ],
)
async def test_a_token_with_another_claim_opens_nothing(place: Place, changes: dict[str, Any]) -> None:
    place.share()
    await refused(place.access.by_bearer(place.token(**changes)))


async def test_a_token_of_another_key_opens_nothing(place: Place, tmp_path: Path) -> None:
    place.share()
    foreign = SigningKeys(tmp_path / "foreign", ISSUER, place.clock).signing_key()
    assert foreign.kid == place.keys.signing_key().kid
    await refused(place.access.by_bearer(place.token(foreign)))


@pytest.mark.parametrize("token", [".", "..", "a.b.c", "a" * 5000 + ".b.c", "\ud800.x.y", "ü.ü.ü", "{}.{}.{}"])
async def test_what_only_looks_like_a_token_opens_nothing(place: Place, token: str) -> None:
    place.share()
    await refused(place.access.by_bearer(token))


async def test_a_changed_token_opens_nothing(place: Place) -> None:
    place.share()
    head, body, signature = place.token().split(".")
    for token in (f"{head}.{body}.", f"{head}.{body}.{signature[:-4]}AAAA", f"{head}..{signature}", f"{head}.{body}"):
        await refused(place.access.by_bearer(token))


async def test_a_token_expires_at_its_time(place: Place) -> None:
    place.share()
    token = place.token()
    place.clock.advance(299)
    grant = await place.access.by_bearer(token)
    place.clock.advance(1)
    await refused(place.access.by_bearer(token))
    assert await place.access.renew(grant) == grant, "expiry is judged when a request begins (wire.md, Code Flow)"


async def test_a_token_outlives_neither_its_share_nor_a_rotation_of_keys_for_the_worse(place: Place) -> None:
    place.share()
    token = place.token()
    place.keys.rotate()
    assert (await place.access.by_bearer(token)).principal == "share:share-1"
    place.store.run_sync(lambda tx: sent_shares.set_state(tx, "share-1", "revoked", NOW))
    await refused(place.access.by_bearer(token))


# --- for how long ---------------------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[Place], Awaitable[Grant]]] = {
    "secret": lambda place: place.access.by_secret(SECRET),
    "token": lambda place: place.access.by_bearer(place.token()),
    "password": lambda place: place.access.by_password("alice", PASSWORD),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_grant_is_read_anew_within_its_life(place: Place, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Revocation by another process bites within GRANT_LIFE, and until then the state is not asked."""
    monkeypatch.setattr(module, "GRANT_LIFE", 0.3)
    place.share()
    grant = await WAYS[way](place)
    begun = time.monotonic()
    place.store.run_sync(lambda tx: sent_shares.set_state(tx, "share-1", "revoked", NOW))
    place.store.run_sync(lambda tx: users.set_disabled(tx, "alice", True))
    if time.monotonic() - begun < 0.2:
        assert await WAYS[way](place) == grant
    time.sleep(max(0, begun + 0.31 - time.monotonic()))
    await refused(WAYS[way](place))


@pytest.mark.parametrize("way", WAYS)
async def test_a_change_in_this_process_bites_at_once(place: Place, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(module, "GRANT_LIFE", 3600)
    place.share()
    await WAYS[way](place)
    place.store.run_sync(lambda tx: users.set_disabled(tx, "alice", True))
    place.access.forget()
    await refused(WAYS[way](place))


def test_the_life_of_a_grant_keeps_the_promise_of_a_second() -> None:
    assert module.GRANT_LIFE <= 1


async def test_a_refusal_is_not_remembered(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRANT_LIFE", 3600)
    await refused(place.access.by_secret(SECRET))
    place.share()
    assert (await place.access.by_secret(SECRET)).principal == "share:share-1"


async def test_what_one_credential_opens_is_never_given_to_another(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kinds and values of credentials are kept apart."""
    monkeypatch.setattr(module, "GRANT_LIFE", 3600)
    place.share()
    await place.access.by_secret(SECRET)
    await place.access.by_password("alice", PASSWORD)
    await refused(place.access.by_password(SECRET, ""))
    await refused(place.access.by_password("", SECRET))
    await refused(place.access.by_secret(f"alice\0{PASSWORD}"))
    await refused(place.access.by_password("bob", "wrong"))


async def test_the_cache_is_bounded_and_holds_no_credential(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRANT_LIFE", 3600)
    monkeypatch.setattr(module, "CACHE_LIMIT", 3)
    for number in range(10):
        place.share(f"{number}" * 43, share_id=f"share-{number}")
        await place.access.by_secret(f"{number}" * 43)
        assert len(place.access._cache) <= 3
    assert "9" * 43 not in repr(vars(place.access))


async def test_renewing_follows_the_share_wherever_it_moves(place: Place) -> None:
    place.share()
    grant = await place.access.by_secret(SECRET)
    moved = StoragePath.parse("elsewhere/data")
    place.store.run_sync(lambda tx: sent_shares.set_path(tx, "share-1", moved))
    renewed = await place.access.renew(grant)
    assert renewed.shared is not None
    assert renewed.shared.path == moved


# --- ways that the operator has closed ------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [{Way.BASIC}, {Way.BEARER_SECRET}, {Way.BASIC, Way.BEARER_SECRET}])
async def test_a_secret_that_comes_by_a_closed_way_opens_nothing(place: Place, closed: set[Way]) -> None:
    """401 while the other way is open, so that a client tries it; else 403, which no product takes for the end."""
    place.share()
    used: list[str] = []
    place.access._legacy = Legacy(place.store, lambda way, _: way not in closed, count=used.append)
    ways = {Way.BASIC: place.access.by_secret, Way.BEARER_SECRET: place.access.by_bearer}
    for way, ask in ways.items():
        if way not in closed:
            assert (await ask(SECRET)).principal == "share:share-1"
            continue
        with pytest.raises(Unproven if len(closed) == 1 else NotAllowed) as caught:
            await ask(SECRET)
        assert caught.value.code == "LEGACY_DENIED"
        assert f"federation.legacy.{way} opens it" in str(caught.value)
    assert used == [way for way in ways if way not in closed]
    assert (await place.access.by_bearer(place.token())).principal == "share:share-1"


async def test_a_closed_way_tells_nobody_what_exists(place: Place) -> None:
    place.share(requires_exchange=True)
    place.access._legacy = Legacy(place.store, lambda _way, _server: False)
    for secret in (SECRET, "unknown"):
        await refused(place.access.by_secret(secret))
        await refused(place.access.by_bearer(secret))


async def test_one_way_in_is_not_remembered_for_the_other(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRANT_LIFE", 60.0)
    place.share()
    place.access._legacy = Legacy(place.store, lambda way, _: way is Way.BASIC)
    await place.access.by_secret(SECRET)
    with pytest.raises(Unproven, match=r"federation\.legacy\.bearer_secret"):
        await place.access.by_bearer(SECRET)
