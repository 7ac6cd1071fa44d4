"""Ownership mode `map` through the door: what a user makes is his, and what the kernel does not permit is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from two_users import ALICE, BOB, LAB, belongs_to, homes, mapped, owner, permissions

from . import locking
from .served import WRITE, Served, basic

TO_1970 = (
    '<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><D:lastmodified>1</D:lastmodified></D:prop></D:set>'
    "</D:propertyupdate>"
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A door on which only `other` is not mapped; alice and bob have accounts."""
    directory = tmp_path_factory.mktemp("mapped")
    with Served(directory, wrap=lambda local: mapped(directory / "data", directory / "journals")) as door:
        homes(door.data)
        (door.data / "lab").chmod(0o2770)
        yield door


def ask(served: Served, user: str, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
    reply = served.request(method, f"/dav/files/{user}{path}", body, basic(user) | headers)
    return reply.status, reply.code


def read(served: Served, user: str, path: str) -> bytes:
    reply = served.request("GET", f"/dav/files/{user}{path}", None, basic(user))
    assert reply.status == 200
    return reply.body


def destination(served: Served, user: str, path: str) -> dict[str, str]:
    return {"Destination": served.url(f"/dav/files/{user}{path}")}


# --- the kernel decides ---------------------------------------------------------------------------------------------


def test_nobody_reads_a_file_that_only_its_owner_may_read(served: Served) -> None:
    """Small and cached, so that it would be read on the loop thread where files are not mapped."""
    assert ask(served, "bob", "PUT", "/home/lab/secret", b"of bob")[0] == 201
    (served.data / "lab/secret").chmod(0o600)
    for _ in range(2):
        assert read(served, "bob", "/home/lab/secret") == b"of bob"
        for method in ("GET", "HEAD"):
            status, code = ask(served, "alice", method, "/home/lab/secret")
            assert (status, code) == (403, "PERMISSION_DENIED" if method == "GET" else "")
        assert ask(served, "alice", "GET", "/home/lab/secret", Range="bytes=0-0")[0] == 403
    copy = ask(served, "alice", "COPY", "/home/lab/secret", **destination(served, "alice", "/other/secret"))
    assert copy == (403, "PERMISSION_DENIED")
    assert ask(served, "alice", "GET", "/other/secret")[0] == 404


def test_a_closed_folder_is_closed_for_every_method(served: Served) -> None:
    assert ask(served, "bob", "PUT", "/home/bob/file", b"x")[0] == 201
    for method, path, body in (
        ("PROPFIND", "/home/bob/", None),
        ("PROPFIND", "/home/bob/file", None),
        ("GET", "/home/bob/file", None),
        ("PUT", "/home/bob/file", b"y"),
        ("PUT", "/home/bob/new", b"y"),
        ("MKCOL", "/home/bob/new", None),
        ("DELETE", "/home/bob/file", None),
        ("OPTIONS", "/home/bob/file", None),
    ):
        assert ask(served, "alice", method, path, body)[0] == 403, method
    for method in ("MOVE", "COPY"):
        for where, to in (("/home/bob/file", "/home/alice/file"), ("/home/alice/own", "/home/bob/own")):
            ask(served, "alice", "PUT", "/home/alice/own", b"x")
            assert ask(served, "alice", method, where, **destination(served, "alice", to))[0] == 403
    assert [found.name for found in (served.data / "bob").iterdir()] == ["file"]


def test_an_acl_is_obeyed(served: Served) -> None:
    assert ask(served, "bob", "PUT", "/home/lab/acl", b"x")[0] == 201
    subprocess.run(["setfacl", "-m", f"u:{ALICE.uid}:---", served.data / "lab/acl"], check=True)
    assert ask(served, "alice", "GET", "/home/lab/acl") == (403, "PERMISSION_DENIED")
    subprocess.run(["setfacl", "-m", f"u:{ALICE.uid}:r--", served.data / "lab/acl"], check=True)
    assert read(served, "alice", "/home/lab/acl") == b"x"


def test_who_has_no_account_is_told_so_and_the_log_says_what_to_do(tmp_path: Path, log: list[dict[str, Any]]) -> None:
    with Served(
        tmp_path, wrap=lambda local: mapped(tmp_path / "data", tmp_path / "journals", {"bob": BOB}.get)
    ) as door:
        door.data.chmod(0o777)
        for method, path, body in (
            ("GET", "/home/x", None),
            ("PUT", "/home/x", b"x"),
            ("MKCOL", "/home/x/", None),
            ("DELETE", "/home/x", None),
            ("PROPFIND", "/home/", None),
        ):
            assert ask(door, "alice", method, path, body) == (403, "NO_ACCOUNT")
        assert ask(door, "bob", "PUT", "/home/x", b"x")[0] == 201
        assert ask(door, "alice", "PUT", "/other/x", b"x")[0] == 201, "another storage needs no account"
        assert ask(door, "alice", "PROPFIND", "/")[0] == 207
    reasons = {line["reason"] for line in log if line.get("code") == "NO_ACCOUNT"}
    assert len(reasons) == 1
    assert "make one, or choose another ownership.mode" in reasons.pop()


# --- whose files are ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_whatever_makes_a_file_or_a_folder_it_is_the_users(served: Served, user: str) -> None:
    account = {"alice": ALICE, "bob": BOB}[user]
    home = f"/home/{user}"
    assert ask(served, user, "PUT", f"{home}/put", b"x" * 3_000_000)[0] == 201
    assert ask(served, user, "PUT", f"{home}/put", b"replaced")[0] == 204
    assert ask(served, user, "MKCOL", f"{home}/made")[0] == 201
    assert ask(served, user, "PUT", f"{home}/made/inner", b"x")[0] == 201
    for number, (method, source, target) in enumerate(
        [
            ("COPY", f"{home}/put", f"{home}/copy"),
            ("COPY", f"{home}/made", f"{home}/copy-of-made"),
            ("COPY", f"{home}/made", f"/other/{user}"),
            ("COPY", f"/other/{user}", f"{home}/back"),
            ("MOVE", f"/other/{user}", f"{home}/moved-back"),
            ("MOVE", f"{home}/copy", f"{home}/renamed"),
        ]
    ):
        assert ask(served, user, method, source, **destination(served, user, target))[0] == 201, number
    assert ask(served, user, "PROPPATCH", f"{home}/put", TO_1970)[0] == 207
    found = sorted((served.data / user).rglob("*"))
    made = {str(one.relative_to(served.data / user)) for one in found}
    assert made >= {"put", "made/inner", "copy-of-made/inner", "back/inner", "moved-back/inner", "renamed"}
    assert {owner(one) for one in found} == {belongs_to(account)}
    assert {permissions(one) for one in found} == {0o640, 0o750}
    assert (served.data / user / "put").stat().st_mtime == 1


def test_a_setgid_folder_gives_its_group_on(served: Served) -> None:
    assert ask(served, "alice", "MKCOL", "/home/lab/folder")[0] == 201
    assert ask(served, "alice", "PUT", "/home/lab/folder/file", b"x")[0] == 201
    assert owner(served.data / "lab/folder") == owner(served.data / "lab/folder/file") == (ALICE.uid, LAB)
    assert permissions(served.data / "lab/folder") == 0o2750


def test_a_share_is_used_with_the_rights_of_its_owner(served: Served) -> None:
    """Whoever it is shared with: what is put there belongs to the owner, and what the owner may not, nobody may."""
    served.data.joinpath("alice/shared").mkdir()
    os.chown(served.data / "alice/shared", ALICE.uid, ALICE.gid)
    share = served.share("alice/shared", WRITE)
    headers = {"Authorization": f"Bearer {share.secret}"}

    def sharee(method: str, path: str, body: bytes | None = None) -> int:
        return served.request(method, f"/dav/ocm/{share.id}{path}", body, headers).status

    assert sharee("PUT", "/file", b"x") == 201
    assert sharee("MKCOL", "/folder") == 201
    for name in ("file", "folder"):
        assert owner(served.data / "alice/shared" / name) == belongs_to(ALICE)
    closed = served.data / "alice/shared/of-root"
    closed.write_bytes(b"x")
    closed.chmod(0o600)
    assert sharee("GET", "/of-root") == 403
    closed.unlink()
    served.data.joinpath("alice").chmod(0o000)
    try:
        assert sharee("GET", "/file") == 403, "the owner may not go there any more"
    finally:
        served.data.joinpath("alice").chmod(0o700)
    assert sharee("GET", "/file") == 200


# --- locks and properties, which the kernel knows nothing of --------------------------------------------------------

PAINT = b'<propertyupdate xmlns="DAV:"><set><prop><colour xmlns="my:">red</colour></prop></set></propertyupdate>'


@pytest.fixture
def shown(served: Served) -> Iterator[Path]:
    """A folder that everybody may read and nobody may write to, with a file of bob's."""
    folder = served.data / "shown"
    folder.mkdir()
    (folder / "file").write_bytes(b"of bob")
    os.chown(folder / "file", *belongs_to(BOB))
    for found, mode in ((folder, 0o755), (folder / "file", 0o644)):
        found.chmod(mode)
    yield folder
    shutil.rmtree(folder)


def as_user(served: Served, user: str) -> locking.Client:
    return locking.owner(served, "/home", user)


def test_nobody_locks_or_describes_what_he_may_not_change(served: Served, shown: Path) -> None:
    alice, bob = as_user(served, "alice"), as_user(served, "bob")
    for path in ("/shown/file", "/shown/", "/"):
        reply = alice("LOCK", path, locking.LOCKINFO)
        assert (reply.status, reply.code) == (403, "PERMISSION_DENIED"), path
        assert b"HTTP/1.1 403" in alice("PROPPATCH", path, PAINT).body
    assert b"HTTP/1.1 403" in bob("PROPPATCH", "/shown/", PAINT).body
    assert alice("LOCK", "/shown/new", locking.LOCKINFO).status == 403
    assert b">red<" not in bob("PROPFIND", "/shown/", Depth="1").body
    held = bob.lock("/shown/file")
    assert b"HTTP/1.1 200" in bob("PROPPATCH", "/shown/file", PAINT, If=f"(<{held}>)").body
    bob.unlock("/shown/file", held)
    subprocess.run(["setfacl", "-m", f"u:{ALICE.uid}:rw-", shown / "file"], check=True)
    alice.unlock("/shown/file", alice.lock("/shown/file"))
    assert bob("PROPPATCH", "/shown/file", PAINT.replace(b"set>", b"remove>")).status == 207


def test_what_may_be_replaced_may_be_locked_before(served: Served) -> None:
    """As by an editor that locks, saves and unlocks in a folder of a group."""
    alice, bob = as_user(served, "alice"), as_user(served, "bob")
    assert bob("PUT", "/lab/text", b"of bob").status == 201
    assert permissions(served.data / "lab/text") == 0o640
    held = alice.lock("/lab/text")
    assert bob("PUT", "/lab/text", b"late").status == 423
    assert alice("PUT", "/lab/text", b"of alice", If=f"(<{held}>)").status == 204
    alice.unlock("/lab/text", held)
    assert bob("DELETE", "/lab/text").status == 204


def test_the_owner_and_whoever_it_is_shared_with_meet_the_same_locks(served: Served) -> None:
    """The Share is used with the rights of its owner, and a lock is its holder's own all the same."""
    folder = served.data / "alice/together"
    folder.mkdir()
    os.chown(folder, *belongs_to(ALICE))
    alice, carol = as_user(served, "alice"), locking.sharee(served, served.share("alice/together", WRITE))
    new = carol.lock("/text")
    assert owner(folder / "text") == belongs_to(ALICE)
    for method, body in (("PUT", b"late"), ("DELETE", None), ("LOCK", locking.LOCKINFO)):
        assert alice(method, "/alice/together/text", body).status == 423, method
    assert carol("PUT", "/text", b"of carol", If=f"(<{new}>)").status == 204
    carol.unlock("/text", new)
    held = alice.lock("/alice/together/text")
    assert carol("PUT", "/text", b"late").status == 423
    assert carol("UNLOCK", "/text", Lock_Token=f"<{held}>").status == 403
    alice.unlock("/alice/together/text", held)
    assert carol("PROPPATCH", "/text", PAINT).status == 207
    assert b">red<" in alice("PROPFIND", "/alice/together/text", Depth="0").body
    (folder / "of-root").write_bytes(b"x")
    (folder / "of-root").chmod(0o600)
    folder.chmod(0o500)
    assert carol("LOCK", "/of-root", locking.LOCKINFO).status == 403
    assert b"HTTP/1.1 403" in carol("PROPPATCH", "/of-root", PAINT).body
    folder.chmod(0o700)


# --- uploads that end -----------------------------------------------------------------------------------------------


def test_rights_that_end_during_an_upload_leave_nothing(served: Served) -> None:
    begun, ended = threading.Event(), threading.Event()

    def body() -> Iterator[bytes]:
        yield b"x" * 2_000_000
        begun.set()
        ended.wait(10)
        yield b"y"

    done: list[tuple[int, str]] = []
    upload = threading.Thread(
        target=lambda: done.append(ask(served, "bob", "PUT", "/home/bob/late", body(), **{"Content-Length": "2000001"}))
    )
    upload.start()
    begun.wait(10)
    (served.data / "bob").chmod(0o500)
    ended.set()
    upload.join()
    (served.data / "bob").chmod(0o700)
    assert done == [(403, "PERMISSION_DENIED")]
    assert not (served.data / "bob/late").exists()
    assert not served.temporaries()


def test_users_at_the_same_time_are_not_taken_for_each_other(served: Served) -> None:
    wrong: list[object] = []

    def work(user: str, number: int) -> None:
        account = {"alice": ALICE, "bob": BOB}[user]
        other = {"alice": "bob", "bob": "alice"}[user]
        for turn in range(15):
            name = f"many-{number}-{turn}"
            try:
                if ask(served, user, "PUT", f"/home/{user}/{name}", name.encode())[0] != 201:
                    wrong.append(("PUT", user, name))
                if read(served, user, f"/home/{user}/{name}") != name.encode():
                    wrong.append(("GET", user, name))
                if ask(served, user, "GET", f"/home/{other}/{name}")[0] != 403:
                    wrong.append(("GET of the other", user, name))
                if owner(served.data / user / name) != belongs_to(account):
                    wrong.append(("owner", user, name))
            except AssertionError as error:
                wrong.append(error)

    callers: list[Callable[[], None]] = [
        lambda user=user, number=number: work(user, number)  # type: ignore[misc]
        for user in ("alice", "bob")
        for number in range(4)
    ]
    threads = [threading.Thread(target=caller) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
