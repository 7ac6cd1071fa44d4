"""SSH keys become Grants: for a user or for one Share, as long as the key is authorised; a refusal gives no reason."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from parts import CHEAP, NOW, READ, WRITE
from sqlalchemy import event
from ssh_lines import new_key
from test_access import Place, refused

from backends.errors import Unavailable
from backends.interface import Kind
from backends.paths import StoragePath
from gateway import access as module
from gateway import authorized_keys
from gateway.access import Grant, SharedResource
from gateway.authorized_keys import AuthorizedKeys
from gateway.ocm.shares import Permission
from gateway.ocm.ssh_keys import PublicKey
from gateway.store import sent_shares, share_keys, user_keys, users
from gateway.store.user_keys import UserKey

KEY, OTHER = new_key(), new_key()
LOGIN = "s-" + "Ab0_-" * 4 + "xy"


class Keyed(Place):
    """alice has KEY, and so has the receiver of a Share; both have other keys, too."""

    def give(self, user: str = "alice", key: PublicKey = KEY) -> None:
        self.store.run_sync(lambda tx: user_keys.add(tx, user, UserKey(key, "laptop", 0)))

    def take(self, user: str = "alice", key: PublicKey = KEY) -> None:
        assert self.store.run_sync(lambda tx: user_keys.remove(tx, user, key.fingerprint))

    def share_with_key(self, *keys: PublicKey, **changes: Any) -> None:
        self.share(**({"ssh_login": LOGIN} | changes))
        self.store.run_sync(lambda tx: share_keys.put(tx, "share-1", keys or (OTHER, KEY)))

    def also_from(self, authorized_keys: AuthorizedKeys) -> None:
        self.authorized_keys = authorized_keys
        self.mount()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyed]:
    """Nothing is remembered, unless a test sets GRANT_LIFE."""
    monkeypatch.setattr("gateway.users.PasswordHasher", lambda: CHEAP)
    monkeypatch.setattr(module, "GRANT_LIFE", 0.0)
    place = Keyed(tmp_path)
    yield place
    place.passwords.close()
    place.store.close()


# --- what a key opens -----------------------------------------------------------------------------------------------


async def test_a_users_key_opens_the_whole_tree_and_is_remembered(place: Keyed) -> None:
    place.give()
    grant = await place.access.by_key("alice", KEY)
    assert grant == Grant("user:alice", "alice", frozenset(Permission), None, key=KEY.fingerprint)
    assert await place.access.renew(grant) == grant


async def test_each_key_of_the_receiver_opens_the_share_alone(place: Keyed) -> None:
    place.share_with_key(permissions=WRITE)
    resource = SharedResource("share-1", "storage", StoragePath.parse("data"), Kind.DIRECTORY, None, "alice")
    for key in (KEY, OTHER):
        grant = await place.access.by_key(LOGIN, key)
        assert grant == Grant("share:share-1", "bob@peer.example", WRITE, resource, key=key.fingerprint)
        assert await place.access.renew(grant) == grant


async def test_a_renewed_grant_is_as_fresh_as_a_new_one(place: Keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session asks with the Grant that it has, and reads it anew only when it has become old."""
    monkeypatch.setattr(module, "GRANT_LIFE", 3600)
    place.give()
    renewed = await place.access.renew(await place.access.by_key("alice", KEY))
    assert place.access.is_fresh(renewed)
    place.access.forget()
    assert not place.access.is_fresh(renewed)


# --- what it does not -----------------------------------------------------------------------------------------------

REFUSED: dict[str, Callable[[Keyed], tuple[str, PublicKey]]] = {
    "a user that there is not": lambda place: (place.give(), ("nobody", KEY))[1],
    "a key that there is not": lambda place: (place.give(), ("alice", OTHER))[1],
    "another user's key": lambda place: (place.give(), ("bob", KEY))[1],
    "no name": lambda place: (place.give(), ("", KEY))[1],
    "a name in capitals": lambda place: (place.give(), ("Alice", KEY))[1],
    "a name that is no text": lambda place: ("\ud800", KEY),
    "a name that leads elsewhere": lambda place: ("../alice", KEY),
    "a disabled user": lambda place: (
        place.give(),
        place.store.run_sync(lambda tx: users.set_disabled(tx, "alice", True)),
        ("alice", KEY),
    )[2],
    "a Share that there is not": lambda place: (place.share_with_key(), (LOGIN + "x", KEY))[1],
    "a Share by its id": lambda place: (place.share_with_key(), ("share-1", KEY))[1],
    "the owner's key for a Share": lambda place: (place.give(), place.share_with_key(OTHER), (LOGIN, KEY))[2],
    "the key of a Share for its owner": lambda place: (place.share_with_key(), ("alice", KEY))[1],
    "the key of another Share": lambda place: (
        place.share_with_key(OTHER),
        place.share("t" * 43, id="share-2", provider_id="share-2", ssh_login=LOGIN + "2"),
        (LOGIN + "2", OTHER),
    )[2],
    "a Share without keys": lambda place: (place.share(ssh_login=LOGIN), (LOGIN, KEY))[1],
    "a revoked Share": lambda place: (place.share_with_key(state="revoked"), (LOGIN, KEY))[1],
    "a declined Share": lambda place: (place.share_with_key(state="declined"), (LOGIN, KEY))[1],
    "an expired Share": lambda place: (place.share_with_key(expiration=NOW), (LOGIN, KEY))[1],
    "a Share whose owner is disabled": lambda place: (
        place.share_with_key(),
        place.store.run_sync(lambda tx: users.set_disabled(tx, "alice", True)),
        (LOGIN, KEY),
    )[2],
    "a Share whose secrets are wiped": lambda place: (
        place.share_with_key(),
        place.store.run_sync(lambda tx: sent_shares.wipe_secret(tx, "share-1")),
        (LOGIN, KEY),
    )[2],
    "a Share that requires the token exchange": lambda place: (
        place.share_with_key(requires_exchange=True),
        (LOGIN, KEY),
    )[1],
    "a Share that may not be read": lambda place: (
        place.share_with_key(permissions=frozenset({Permission.WRITE})),
        (LOGIN, KEY),
    )[1],
}


@pytest.mark.parametrize("case", REFUSED)
async def test_every_refusal_is_the_same(place: Keyed, case: str) -> None:
    login, key = REFUSED[case](place)
    await refused(place.access.by_key(login, key))


def test_what_is_wiped_with_the_secret_is_gone(place: Keyed) -> None:
    place.share_with_key()
    assert place.store.read_sync(lambda tx: set(share_keys.of_share(tx, "share-1"))) == {KEY, OTHER}
    place.store.run_sync(lambda tx: sent_shares.wipe_secret(tx, "share-1"))
    ended = place.store.read_sync(lambda tx: (sent_shares.get(tx, "share-1"), share_keys.of_share(tx, "share-1")))
    assert ended[0] is not None
    assert (ended[0].ssh_login, ended[1]) == (None, [])


@pytest.mark.parametrize("names", [("alice", "nobody"), (LOGIN, LOGIN + "x")])
async def test_the_same_is_looked_up_for_whoever_is_refused(
    place: Keyed, tmp_path: Path, names: tuple[str, str]
) -> None:
    """So that the time of a refusal does not tell who exists: the same statements, and the same program is run."""
    place.give()
    place.share_with_key(KEY)
    asked = tmp_path / "asked"
    place.also_from(AuthorizedKeys(command=(sys.executable, "-c", f"print(file=open('{asked}', 'a'))", "{user}")))
    statements: list[str] = []
    event.listen(place.store._engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    seen = []
    for name in names:
        await refused(place.access.by_key(name, OTHER))
        seen.append((tuple(statements), asked.read_text() if asked.exists() else ""))
        statements.clear()
        asked.unlink(missing_ok=True)
    assert seen[0] == seen[1]
    assert seen[0][0]


# --- for how long ---------------------------------------------------------------------------------------------------

ENDED: dict[str, Callable[[Keyed], object]] = {
    "the key is taken away": lambda place: place.take(),
    "the user is disabled": lambda place: place.store.run_sync(lambda tx: users.set_disabled(tx, "alice", True)),
}
SHARE_ENDED: dict[str, Callable[[Keyed], object]] = {
    "the key is another now": lambda place: place.store.run_sync(lambda tx: share_keys.put(tx, "share-1", [OTHER])),
    "the Share is revoked": lambda place: place.store.run_sync(
        lambda tx: sent_shares.set_state(tx, "share-1", "revoked", NOW)
    ),
    "the Share has expired": lambda place: place.store.run_sync(
        lambda tx: sent_shares.set_expiration(tx, "share-1", NOW, NOW)
    ),
    "the owner is disabled": lambda place: place.store.run_sync(lambda tx: users.set_disabled(tx, "alice", True)),
}


@pytest.mark.parametrize("how", ENDED)
async def test_what_ends_a_users_key_ends_the_grant(place: Keyed, how: str) -> None:
    place.give()
    place.give(key=OTHER)
    grant = await place.access.by_key("alice", KEY)
    ENDED[how](place)
    await refused(place.access.by_key("alice", KEY))
    await refused(place.access.renew(grant))


@pytest.mark.parametrize("how", SHARE_ENDED)
async def test_what_ends_a_shares_key_ends_the_grant(place: Keyed, how: str) -> None:
    place.share_with_key()
    grant = await place.access.by_key(LOGIN, KEY)
    SHARE_ENDED[how](place)
    await refused(place.access.by_key(LOGIN, KEY))
    await refused(place.access.renew(grant))


@pytest.mark.parametrize("login", ["alice", LOGIN])
async def test_a_key_is_looked_up_anew_within_the_life_of_a_grant(
    place: Keyed, monkeypatch: pytest.MonkeyPatch, login: str
) -> None:
    """Another process has taken it away."""
    monkeypatch.setattr(module, "GRANT_LIFE", 0.3)
    place.give()
    place.share_with_key()
    begun = time.monotonic()
    grant = await place.access.by_key(login, KEY)
    place.take()
    place.store.run_sync(lambda tx: share_keys.put(tx, "share-1", []))
    if time.monotonic() - begun < 0.2:
        assert await place.access.by_key(login, KEY) == grant
    time.sleep(max(0, begun + 0.31 - time.monotonic()))
    assert not place.access.is_fresh(grant)
    await refused(place.access.by_key(login, KEY))


async def test_less_that_is_permitted_shows_in_the_renewed_grant(place: Keyed) -> None:
    place.share_with_key(permissions=WRITE)
    grant = await place.access.by_key(LOGIN, KEY)
    place.store.run_sync(lambda tx: sent_shares.set_permissions(tx, "share-1", READ, NOW))
    assert (await place.access.renew(grant)).permissions == READ


# --- keys that are kept elsewhere -----------------------------------------------------------------------------------


async def test_a_key_in_a_file_is_good_for_as_long_as_it_is_there(place: Keyed, tmp_path: Path) -> None:
    place.also_from(AuthorizedKeys(tmp_path / "{user}.keys"))
    file = tmp_path / "alice.keys"
    file.write_text(f"{KEY.line}\n{OTHER.line}\n")
    grant = await place.access.by_key("alice", KEY)
    assert grant.key == KEY.fingerprint
    await refused(place.access.by_key("bob", KEY))
    assert await place.access.renew(grant) == grant
    file.write_text(f"{OTHER.line}\n")
    await refused(place.access.renew(grant))
    file.unlink()
    await refused(place.access.by_key("alice", OTHER))
    place.give()
    assert await place.access.renew(grant) == grant, "wherever the key is now"


async def test_a_key_of_the_program_stays_while_it_fails(
    place: Keyed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session does not end because a directory server is away; one whose user is disabled ends."""
    monkeypatch.setattr(authorized_keys, "COMMAND_AGAIN", 0.0)
    keys = tmp_path / "printed"
    keys.write_text(KEY.line)
    place.also_from(AuthorizedKeys(command=("/bin/cat", str(keys), "{user}")))
    await refused(place.access.by_key("alice", KEY))  # cat fails for a file named alice
    place.also_from(AuthorizedKeys(command=("/bin/sh", "-c", f"cat {keys}", "{user}")))
    grant = await place.access.by_key("alice", KEY)
    keys.rename(tmp_path / "away")
    assert await place.access.renew(grant) == grant
    keys.write_text(OTHER.line)
    await refused(place.access.renew(grant))
    keys.write_text(KEY.line)
    assert await place.access.renew(grant) == grant
    place.store.run_sync(lambda tx: users.set_disabled(tx, "alice", True))
    await refused(place.access.renew(grant))


async def test_nobody_is_refused_with_a_stranger_who_asks_for_the_same_at_the_same_time(place: Keyed) -> None:
    """A key is public: whoever knows it may offer it in its owner's name, again and again."""
    keys = AuthorizedKeys(command=("/bin/sh", "-c", f"echo {KEY.line}", "{user}"))
    place.also_from(keys)
    keys._unanswered["192.0.2.1"] = authorized_keys.COMMANDS_OF_ONE + authorized_keys.WAITING_OF_ONE
    both = [place.access.by_key("alice", KEY, client) for client in ("192.0.2.1", "192.0.2.2")]
    stranger, alice = await asyncio.gather(*both, return_exceptions=True)
    assert isinstance(stranger, Unavailable)
    assert isinstance(alice, Grant)


async def test_nothing_kept_elsewhere_opens_a_share(place: Keyed, tmp_path: Path) -> None:
    place.share_with_key(OTHER)
    (tmp_path / LOGIN).write_text(KEY.line)
    place.also_from(AuthorizedKeys(tmp_path / "{user}", ("/bin/echo", KEY.line, "{user}")))
    await refused(place.access.by_key(LOGIN, KEY))
