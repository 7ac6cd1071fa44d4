"""One thread's credentials are changed, read back and restored, and no other thread notices."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from two_users import ALICE, BOB, credentials, require_root

from backends import credentials as module
from backends.credential_threads import CredentialThreads
from backends.credentials import NO_ID, Credentials, acting_with
from backends.errors import NotFound, Unavailable

T = TypeVar("T")


@pytest.fixture(autouse=True)
def root() -> None:
    require_root()


def in_a_thread(function: Callable[[], T]) -> T:
    """Run `function` in a thread that nobody uses afterwards."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def as_the_kernel_has_them(thread: int) -> dict[str, str]:
    lines = Path(f"/proc/self/task/{thread}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


# --- one thread -----------------------------------------------------------------------------------------------------


def test_a_thread_has_what_it_takes_and_no_other_thread_has() -> None:
    def look() -> tuple[dict[str, str], dict[str, str]]:
        with acting_with(credentials(ALICE)):
            return as_the_kernel_has_them(threading.get_native_id()), as_the_kernel_has_them(os.getpid())

    before = as_the_kernel_has_them(os.getpid())
    here, there = in_a_thread(look)
    assert here["Uid"].split() == ["0", "0", "0", "70001"]
    assert here["Gid"].split()[3] == "70001"
    assert here["Groups"].split() == ["70001", "71000"]
    assert int(here["CapEff"], 16) == 0
    assert here["CapPrm"] == there["CapPrm"], "or there would be no way back"
    for key in ("Uid", "Gid", "Groups", "CapEff"):
        assert there[key] == before[key]


def test_a_thread_is_the_services_again_afterwards_also_after_an_error() -> None:
    def work() -> Credentials:
        with pytest.raises(NotFound), acting_with(credentials(ALICE)):
            raise NotFound("nothing")
        return Credentials.of_thread()

    assert in_a_thread(work) == Credentials.of_thread()


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 2000])
def test_any_number_of_groups_is_set_and_read_back(count: int) -> None:
    many = Credentials(ALICE.uid, ALICE.gid, tuple(range(80_000, 80_000 + count)))

    def work() -> Credentials:
        with acting_with(many):
            return Credentials.of_thread()

    assert in_a_thread(work) == many


def test_credentials_nest(tmp_path: Path) -> None:
    """What is the gateway's own is done as the service in the middle of a user's call."""
    secret = tmp_path / "secret"
    secret.write_text("of the service")
    secret.chmod(0o600)
    tmp_path.chmod(0o755)
    own = Credentials.of_thread()

    def readable() -> bool:
        try:
            return bool(os.close(os.open(secret, os.O_RDONLY)) is None)
        except PermissionError:
            return False

    def work() -> list[bool]:
        with acting_with(credentials(ALICE)):
            first = readable()
            with acting_with(own):
                second = readable()
            return [first, second, readable()]

    assert in_a_thread(work) == [False, True, False]


def test_a_capability_that_uid_0_does_not_bring_is_out_of_effect_too() -> None:
    """A service that is not root, with CAP_DAC_OVERRIDE in effect, keeps it when setfsuid(2) goes to another uid."""

    def work() -> tuple[int, int]:
        Credentials(65_534, 65_534, (), module.CAPABILITIES["CAP_DAC_OVERRIDE"]).take()
        alone = module._call(module._numbers().setfsuid, ALICE.uid)
        kept = Credentials.of_thread().capabilities
        credentials(ALICE).take()
        assert alone == 65_534
        return kept, Credentials.of_thread().capabilities

    assert in_a_thread(work) == (module.CAPABILITIES["CAP_DAC_OVERRIDE"], 0)


def test_what_the_kernel_has_not_taken_is_found_by_reading_it_back() -> None:
    """setfsuid(2) reports no failure."""

    def work() -> str:
        with pytest.raises(Unavailable) as caught:
            Credentials(NO_ID, ALICE.gid, ()).take()
        return str(caught.value)

    assert "does not let a thread of the service act as uid 4294967295" in in_a_thread(work)


def test_what_is_not_permitted_is_named() -> None:
    def work() -> list[str]:
        numbers = module._numbers()
        sets = module._capabilities(numbers)
        for half in ("effective", "permitted"):
            setattr(sets, f"{half}_low", module.CAPABILITIES["CAP_SETGID"])
            setattr(sets, f"{half}_high", 0)
        header = module._Header(module._VERSION_3, 0)
        module._call(numbers.capset, module.ctypes.byref(header), module.ctypes.byref(sets))
        return module.missing(("CAP_SETUID", "CAP_SETGID"))

    assert in_a_thread(work) == ["CAP_SETUID"]
    assert module.missing(("CAP_SETUID", "CAP_SETGID")) == []


def test_an_unknown_architecture_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NUMBERS", None)
    assert not module.is_supported()
    with pytest.raises(OSError, match="not implemented"):
        credentials(ALICE).take()


# --- threads for users ----------------------------------------------------------------------------------------------


def test_a_call_runs_as_the_user_and_gives_back_result_and_error() -> None:
    threads = CredentialThreads("test")

    def fail() -> None:
        raise NotFound("nothing there")

    assert threads.run(credentials(ALICE), lambda a, *, b: (a, b, Credentials.of_thread()), 1, b=2) == (
        1,
        2,
        credentials(ALICE),
    )
    with pytest.raises(NotFound, match="nothing there"):
        threads.run(credentials(BOB), fail)
    assert threads.run(credentials(BOB), Credentials.of_thread) == credentials(BOB)
    assert Credentials.of_thread() == threads.own
    threads.close()


def test_one_caller_needs_one_thread() -> None:
    threads = CredentialThreads("test")
    used = {threads.run(credentials(who), threading.get_ident) for who in (ALICE, BOB) * 50}
    assert len(used) == 1
    threads.close()


def test_a_thread_that_does_not_get_the_services_credentials_back_ends(caplog: pytest.LogCaptureFixture) -> None:
    """The call that was done is done; the next one gets a new thread, and the operator a line."""
    kept: list[int] = []

    def forget(own: Credentials) -> None:
        kept.append(threading.get_ident())

    threads = CredentialThreads("test", give_back=forget)
    seen = []
    for who in (ALICE, BOB, ALICE):
        work = threads.run(credentials(who), threading.current_thread)
        work.join(10)
        assert not work.is_alive()
        seen.append(work)
    assert len(set(map(id, seen))) == len(kept) == 3
    assert [record.getMessage() for record in caplog.records] == [
        f"test: a thread is not the service's again after uid {who.uid}, and ends" for who in (ALICE, BOB, ALICE)
    ]
    threads.close()


def test_a_thread_whose_return_raises_ends() -> None:
    def refuse(own: Credentials) -> None:
        raise PermissionError(1, "Operation not permitted")

    threads = CredentialThreads("test", give_back=refuse)
    work = threads.run(credentials(ALICE), threading.current_thread)
    work.join(10)
    assert not work.is_alive()
    threads.close()


def test_a_thread_that_was_begun_with_a_users_credentials_does_nothing() -> None:
    """A thread inherits from the one that starts it."""
    threads = CredentialThreads("test")
    done: list[str] = []

    def work() -> str:
        with acting_with(credentials(ALICE)), pytest.raises(Unavailable) as caught:
            threads.run(credentials(BOB), done.append, "done")
        return str(caught.value)

    assert "begun without the credentials of the service" in in_a_thread(work)
    assert done == []
    assert threads.run(credentials(BOB), Credentials.of_thread) == credentials(BOB)
    threads.close()


def test_a_call_that_nobody_may_make_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = CredentialThreads("test")
    done: list[str] = []
    call = module._call

    def refuse(number: int, first: object, second: object = None) -> int:
        if number == module._numbers().setgroups and threading.current_thread() is not threading.main_thread():
            raise PermissionError(1, "Operation not permitted")
        return call(number, first, second)

    monkeypatch.setattr(module, "_call", refuse)
    with pytest.raises(Unavailable, match="no thread can act as uid 70001: Operation not permitted"):
        threads.run(credentials(ALICE), done.append, "done")
    assert done == []
    threads.close()


def test_threads_at_the_same_time_do_not_mix() -> None:
    threads = CredentialThreads("test")
    mixed: list[object] = []
    everybody = [Credentials(70_000 + number, 71_000 + number, (number, 72_000)) for number in range(1, 9)]

    def work(who: Credentials) -> None:
        for _ in range(200):
            if (seen := threads.run(who, Credentials.of_thread)) != who:
                mixed.append((who, seen))

    callers = [threading.Thread(target=work, args=(who,)) for who in everybody]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert mixed == []
    threads.close()
