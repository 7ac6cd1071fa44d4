"""Local users: names, passwords by argon2id, and how much a guess costs whoever guesses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import VerifyMismatchError
from parts import NOW, Clock, new_store

from backends.errors import Unavailable
from gateway import users as module
from gateway.errors import Conflict, Invalid, NoSuch
from gateway.store import events, users
from gateway.store.engine import Store
from gateway.store.users import User
from gateway.users import Passwords, Users

PASSWORD = "correct horse"


class Hasher(PasswordHasher):
    """A quick hasher that counts the checks, can be held up, and notes against what it checks."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.checked: list[str] = []
        self.free = threading.Event()
        self.free.set()

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # noqa: A002 -- the library's own name
        self.checked.append(str(hash))
        assert self.free.wait(10)
        return super().verify(hash, password)


class Place:
    def __init__(self, store: Store, hasher: Hasher) -> None:
        self.store = store
        self.hasher = hasher
        self.passwords = Passwords(store)
        self.users = Users(store, self.passwords, Clock())

    def hash_of(self, name: str) -> str | None:
        return self.store.read_sync(lambda tx: users.password_hash(tx, name))


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """The users alice and bob, whose passwords are those of the test."""
    hasher = Hasher()
    monkeypatch.setattr(module, "PasswordHasher", lambda: hasher)
    store = new_store(tmp_path)
    place = Place(store, hasher)
    for name in ("alice", "bob"):
        await place.users.add(name, PASSWORD, "operator")
    yield place
    hasher.free.set()
    place.passwords.close()
    store.close()


# --- passwords ------------------------------------------------------------------------------------------------------


async def test_the_right_password_is_right_and_nothing_else_is(place: Place) -> None:
    assert await place.passwords.verify("alice", PASSWORD)
    for wrong in ("", "wrong", PASSWORD + " ", PASSWORD.upper(), PASSWORD + "\0", "\ud800", "x" * 100_000):
        assert not await place.passwords.verify("alice", wrong), wrong


async def test_the_hash_is_argon2id_with_the_librarys_own_parameters(tmp_path: Path) -> None:
    """RFC 9106 section 4, second recommended option: 64 MiB, 3 passes."""
    store = new_store(tmp_path)
    passwords = Passwords(store)
    assert (await passwords.hash(PASSWORD)).startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    passwords.close()
    store.close()


def test_what_an_unknown_user_is_checked_against_costs_as_much_and_matches_nothing() -> None:
    hasher = PasswordHasher()
    nobody = module._hash_of_nothing(hasher)
    assert extract_parameters(nobody) == extract_parameters(hasher.hash(PASSWORD))
    assert len(nobody) == len(hasher.hash(PASSWORD))
    with pytest.raises(VerifyMismatchError):  # as for a wrong password, and not InvalidHashError, which costs nothing
        hasher.verify(nobody, PASSWORD)
    assert nobody != module._hash_of_nothing(hasher)


@pytest.mark.parametrize("name", ["nobody", "", "Alice", "alice\0", "' or 1=1 --"])
async def test_an_unknown_user_costs_a_check_as_well(place: Place, name: str) -> None:
    """The time tells nobody which users there are."""
    assert not await place.passwords.verify(name, PASSWORD)
    (checked,) = place.hasher.checked
    assert checked.startswith("$argon2id$")
    assert checked not in (place.hash_of("alice"), place.hash_of("bob"))


async def test_a_disabled_user_is_refused_at_the_same_price(place: Place) -> None:
    assert await place.passwords.verify("alice", PASSWORD)
    await place.users.set_disabled("alice", True, "operator")
    place.hasher.checked.clear()
    assert not await place.passwords.verify("alice", PASSWORD)
    assert len(place.hasher.checked) == 1
    await place.users.set_disabled("alice", False, "operator")
    assert await place.passwords.verify("alice", PASSWORD)


async def test_a_right_password_is_checked_once(place: Place) -> None:
    for _ in range(5):
        assert await place.passwords.verify("alice", PASSWORD)
    assert len(place.hasher.checked) == 1
    assert await place.passwords.verify("bob", PASSWORD)
    assert len(place.hasher.checked) == 2


async def test_a_wrong_password_is_checked_each_time_and_does_not_push_the_right_one_out(place: Place) -> None:
    await place.passwords.verify("alice", PASSWORD)
    for _ in range(3):
        assert not await place.passwords.verify("alice", "wrong horse")
    assert len(place.hasher.checked) == 4
    assert await place.passwords.verify("alice", PASSWORD)
    assert len(place.hasher.checked) == 4


async def test_what_is_remembered_is_worthless_once_the_password_has_changed(place: Place) -> None:
    await place.passwords.verify("alice", PASSWORD)
    await place.users.set_password("alice", "another horse", "operator")
    assert not await place.passwords.verify("alice", PASSWORD)
    assert await place.passwords.verify("alice", "another horse")
    await place.users.set_password("alice", PASSWORD, "operator")
    assert not await place.passwords.verify("alice", "another horse")
    assert await place.passwords.verify("alice", PASSWORD)


async def test_a_password_is_remembered_for_a_while_only(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 0.1)
    await place.passwords.verify("alice", PASSWORD)
    await asyncio.sleep(0.15)
    await place.passwords.verify("alice", PASSWORD)
    assert len(place.hasher.checked) == 2


async def test_what_is_remembered_is_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_LIMIT", 1)
    for name in ("alice", "bob", "alice"):
        assert await place.passwords.verify(name, PASSWORD)
    assert len(place.hasher.checked) == 3


async def test_the_same_check_runs_once_however_many_ask(place: Place) -> None:
    answers = await asyncio.gather(*(place.passwords.verify("alice", PASSWORD) for _ in range(30)))
    assert answers == [True] * 30
    assert len(place.hasher.checked) == 1


async def test_a_right_answer_is_kept_before_anybody_could_ask_anew(place: Place) -> None:
    place.hasher.free.clear()
    asking = asyncio.create_task(place.passwords.verify("alice", PASSWORD))
    while not place.passwords._checks._running:
        await asyncio.sleep(0)
    (check,) = place.passwords._checks._running.values()
    kept: list[bool] = []
    check.add_done_callback(lambda _: kept.append("alice" in place.passwords._known))
    place.hasher.free.set()
    assert await asking
    assert kept == [True]


async def test_two_unknown_users_cost_two_checks_also_at_the_same_time(place: Place) -> None:
    """As two known ones do: otherwise asking for both at once tells which there are."""
    for names in (("nobody", "no one"), ("alice", "bob"), ("alice", "nobody")):
        place.hasher.checked.clear()
        place.hasher.free.clear()
        checks = [asyncio.create_task(place.passwords.verify(name, "wrong horse")) for name in names]
        await asyncio.sleep(0.05)
        place.hasher.free.set()
        assert await asyncio.gather(*checks) == [False, False]
        assert len(place.hasher.checked) == 2, names


async def test_too_many_different_checks_are_refused_and_not_queued_for_ever(place: Place) -> None:
    place.hasher.free.clear()
    checks = [asyncio.create_task(place.passwords.verify("alice", f"guess {number}")) for number in range(100)]
    done, waiting = await asyncio.wait(checks, timeout=1)
    assert {type(check.exception()) for check in done} == {Unavailable}
    assert len(waiting) == 2 + 64
    place.hasher.free.set()
    assert await asyncio.gather(*waiting) == [False] * len(waiting)


@pytest.mark.parametrize("password", ["", "short", "1234567"])
async def test_a_short_password_is_refused(place: Place, password: str) -> None:
    with pytest.raises(Invalid) as refused:
        await place.users.set_password("alice", password, "operator")
    assert refused.value.code == "PASSWORD_TOO_SHORT"
    assert password == "" or password not in str(refused.value)
    assert await place.passwords.verify("alice", PASSWORD)


async def test_a_password_that_nobody_can_send_is_refused(place: Place) -> None:
    with pytest.raises(Invalid) as refused:
        await place.users.add("carol", "lone \ud800 surrogate", "operator")
    assert refused.value.code == "INVALID_PASSWORD"


@pytest.mark.parametrize("password", ["12345678", "pässwörd", "密码密码密码密码", "a\0nul-byte", "x" * 5000, " " * 8])
async def test_any_other_password_will_do(place: Place, password: str) -> None:
    """NIST SP 800-63B-4 asks for a length and for no other rule."""
    await place.users.set_password("alice", password, "operator")
    assert await place.passwords.verify("alice", password)
    assert not await place.passwords.verify("alice", password[:-1])


# --- users ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "0", "carol", "c.d_e-f", "s-short", "x" * 64, "s-" + "x" * 21])
async def test_names_that_can_be(place: Place, name: str) -> None:
    assert await place.users.add(name, PASSWORD, "operator") == User(name, disabled=False, created=NOW)
    assert name in {user.name for user in await place.users.everybody()}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Carol",
        ".hidden",
        "-option",
        "_x",
        "a b",
        "a/b",
        "..",
        "a@b",
        "a\n",
        "a\0",
        "ä",
        "x" * 65,
        "s-" + "x" * 22,
        "s-0123456789abcdef-_ABC",
        "\ud800",
    ],
)
async def test_names_that_cannot_be(place: Place, name: str) -> None:
    """The log-in of a Share at the SSH door is a name that no user may have."""
    with pytest.raises(Invalid) as refused:
        await place.users.add(name, PASSWORD, "operator")
    assert refused.value.code == "INVALID_USER_NAME"
    assert [user.name for user in await place.users.everybody()] == ["alice", "bob"]


async def test_a_name_is_given_once(place: Place) -> None:
    with pytest.raises(Conflict) as refused:
        await place.users.add("alice", "another horse", "operator")
    assert refused.value.code == "USER_EXISTS"
    assert await place.passwords.verify("alice", PASSWORD)


async def test_of_two_who_add_one_name_at_once_one_is_refused(place: Place) -> None:
    both = await asyncio.gather(
        *(place.users.add("carol", PASSWORD, "operator") for _ in range(2)), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in both) == ["Conflict", "User"]


async def test_what_is_done_to_a_user_is_kept(place: Place) -> None:
    await place.users.set_password("alice", "another horse", "operator")
    await place.users.set_disabled("alice", True, "operator")
    await place.users.set_disabled("alice", False, "operator")
    history = place.store.read_sync(lambda tx: events.about(tx, "alice"))
    assert [event.action for event in history] == ["user.add", "user.passwd", "user.disable", "user.enable"]
    assert {(event.at, event.actor, str(event.detail)) for event in history} == {(NOW, "operator", "{}")}


async def test_an_unknown_user_cannot_be_changed(place: Place) -> None:
    for attempt in (
        place.users.set_password("carol", PASSWORD, "operator"),
        place.users.set_disabled("carol", True, "operator"),
        place.users.set_disabled("carol", False, "operator"),
    ):
        with pytest.raises(NoSuch) as refused:
            await attempt
        assert refused.value.code == "NO_SUCH_USER"
    assert place.store.read_sync(lambda tx: events.about(tx, "carol")) == []


# --- what others see of them ----------------------------------------------------------------------------------------


async def test_a_user_has_a_name_and_an_address_to_show(place: Place) -> None:
    given = {"email": "carol@uni.example", "display_name": "Carol Dée"}
    assert await place.users.add("carol", PASSWORD, "operator", **given) == User("carol", False, NOW, *given.values())
    await place.users.set_identity("carol", "operator", email=None, display_name="C.")
    user = place.store.read_sync(lambda tx: users.get(tx, "carol"))
    assert user == User("carol", disabled=False, created=NOW, email="carol@uni.example", display_name="C.")
    assert [event.action for event in place.store.read_sync(lambda tx: events.about(tx, "carol"))] == [
        "user.add",
        "user.update",
    ]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        *(
            ({"email": email}, "INVALID_EMAIL")
            for email in ("", "carol", "@x", "carol@", "a b@x", "a@b@c", "a@x\n", "<a@x>", "a@" + "x" * 260, "a@-x")
        ),
        *(({"display_name": name}, "INVALID_DISPLAY_NAME") for name in ("", " ", "a\u202eb", "x\n", "x" * 101)),
    ],
)
async def test_what_cannot_be_shown_is_refused(place: Place, given: dict[str, str], code: str) -> None:
    with pytest.raises(Invalid) as refused:
        await place.users.add("carol", PASSWORD, "operator", **given)
    assert refused.value.code == code
    with pytest.raises(Invalid):
        await place.users.set_identity("alice", "operator", **({"email": None, "display_name": None} | given))
    assert place.hash_of("carol") is None


async def test_a_change_needs_something_to_change_and_somebody(place: Place) -> None:
    with pytest.raises(Invalid):
        await place.users.set_identity("alice", "operator", email=None, display_name=None)
    with pytest.raises(NoSuch):
        await place.users.set_identity("nobody", "operator", email="a@x.example", display_name=None)
