"""From a user's name to the ids that the kernel knows: who is refused, and for how long an answer is remembered."""

from __future__ import annotations

import errno
import os
import pwd

import pytest
from two_users import ALICE, without_account

from backends import accounts as module
from backends.accounts import KNOWN_FOR, UNKNOWN_FOR, Account, Accounts, look_up
from backends.credentials import Credentials
from backends.errors import NoAccount, Unavailable


class Directory:
    """A machine's accounts, and how often they were asked for."""

    def __init__(self, **accounts: Account) -> None:
        self.accounts = accounts
        self.asked = 0
        self.time = 1000.0

    def look_up(self, name: str) -> Account | None:
        self.asked += 1
        return self.accounts.get(name)

    def open(self, minimum_uid: int = 1000) -> Accounts:
        return Accounts(minimum_uid, self.look_up, lambda: self.time)


def test_a_user_has_the_ids_of_the_account_of_his_name() -> None:
    """Groups once each and in order, the primary one among them, as the kernel shows them."""
    accounts = Directory(alice=Account(2001, 3001, (3009, 3001, 3005, 3009))).open()
    assert accounts.credentials_of("alice") == Credentials(2001, 3001, (3001, 3005, 3009), capabilities=0)
    alone = Directory(alice=Account(2001, 3001, ())).open()
    assert alone.credentials_of("alice").groups == (3001,)


def test_who_has_no_account_is_refused_and_the_operator_told_what_to_do() -> None:
    with pytest.raises(NoAccount, match=r"getent passwd alice.*make one, or choose another ownership\.mode"):
        Directory().open().credentials_of("alice")


@pytest.mark.parametrize("uid", [0, 1, 999, 65_534, 0xFFFF_FFFF])
def test_the_systems_own_accounts_are_nobodys(uid: int) -> None:
    with pytest.raises(NoAccount, match=rf"uid {uid} .*minimum_uid"):
        Directory(alice=Account(uid, 2001, ())).open().credentials_of("alice")


def test_the_lowest_uid_is_the_operators_choice_but_root_never() -> None:
    people = Directory(old=Account(500, 100, ()), root=Account(0, 0, ()), young=Account(1000, 100, ()))
    assert people.open(minimum_uid=500).credentials_of("old").uid == 500
    with pytest.raises(NoAccount):
        people.open(minimum_uid=1001).credentials_of("young")
    with pytest.raises(NoAccount):
        people.open(minimum_uid=1).credentials_of("root")


def test_an_answer_is_remembered_for_a_minute_at_most() -> None:
    people = Directory(alice=ALICE)
    accounts = people.open()
    accounts.credentials_of("alice")
    people.accounts["alice"] = Account(2001, 2001, ())
    people.time += KNOWN_FOR - 0.1
    assert (accounts.credentials_of("alice").uid, people.asked) == (ALICE.uid, 1)
    people.time += 0.1
    assert (accounts.credentials_of("alice").uid, people.asked) == (2001, 2)
    assert KNOWN_FOR <= 60


def test_who_has_just_been_given_an_account_does_not_wait_long() -> None:
    people = Directory()
    accounts = people.open()
    for _ in range(2):
        with pytest.raises(NoAccount):
            accounts.credentials_of("alice")
    assert people.asked == 1
    people.accounts["alice"] = ALICE
    people.time += UNKNOWN_FOR
    assert accounts.credentials_of("alice").uid == ALICE.uid


def test_the_machine_is_asked_as_initgroups_asks() -> None:
    for entry in pwd.getpwall():
        found = look_up(entry.pw_name)
        assert found is not None
        assert (found.uid, found.gid) == (entry.pw_uid, entry.pw_gid)
        assert sorted(found.groups) == sorted(os.getgrouplist(entry.pw_name, entry.pw_gid))
    assert look_up(without_account()) is None


def test_a_directory_server_that_does_not_answer_is_not_taken_for_a_name_that_does_not_exist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """503 and not 403; and the next request asks again."""
    monkeypatch.setattr(module, "_getpwnam_r", lambda *arguments: errno.ECONNREFUSED)
    accounts = Accounts()
    for _ in range(2):
        with pytest.raises(Unavailable, match="root cannot be looked up: Connection refused"):
            accounts.credentials_of("root")
    monkeypatch.undo()
    with pytest.raises(NoAccount, match="uid 0"):
        accounts.credentials_of("root")


def test_an_account_whose_entry_is_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """getpwnam_r(3) answers ERANGE until there is room."""
    getpwnam_r, rooms = module._getpwnam_r, []

    def want_more(name: bytes, entry: object, buffer: object, room: int, result: object) -> int:
        rooms.append(room)
        return errno.ERANGE if room < 10_000 else int(getpwnam_r(name, entry, buffer, room, result))

    monkeypatch.setattr(module, "_getpwnam_r", want_more)
    found = look_up("root")
    assert found is not None
    assert (found.uid, rooms) == (0, [1024, 4096, 16384])


def test_more_groups_than_there_is_room_for_are_all_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """getgrouplist(3) answers -1 then, and says how many there are."""

    def many(name: bytes, gid: int, groups: list[int], count: object) -> int:
        room, count._obj.value = count._obj.value, 300  # type: ignore[attr-defined]  # what byref() points to
        if room < 300:
            return -1
        groups[:300] = list(range(300))
        return 300

    monkeypatch.setattr(module, "_getgrouplist", many)
    assert module._groups("alice", 5) == tuple(range(300))
