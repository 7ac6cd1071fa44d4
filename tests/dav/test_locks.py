"""Locks from outside: two clients, by two ways in, meet the same ones (RFC 4918 §6, §7, §9.10, §9.11)."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.errors import OutOfSpace, Unavailable
from gateway.locks import LOCKS_MAX, TIME_DEFAULT, TIME_MAX
from gateway.store import locks as locks_table

from .locking import LOCKINFO, SHARED, Client, owner, sharee, shown, token
from .served import READ, WRITE, Reply, Served, bearer
from .test_files import Refusing
from .test_longtail import update
from .test_propfind import parsed, prop

FOREIGN = "urn:uuid:00000000-0000-4000-8000-000000000000"


class Two:
    """alice by her own root and carol by a Share of the same folder, which has a file and a folder with one in it."""

    def __init__(self, served: Served, name: str) -> None:
        self.served = served
        self.folder = served.data / name
        (self.folder / "sub").mkdir(parents=True)
        (self.folder / "file").write_bytes(b"old")
        (self.folder / "sub" / "deep").write_bytes(b"deep")
        self.share = served.share(name, WRITE)
        self.alice = owner(served, f"/home/{name}")
        self.carol = sharee(served, self.share)

    def content(self) -> dict[str, bytes | None]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else None
            for path in self.folder.rglob("*")
        }


@pytest.fixture
def two(served: Served, request: pytest.FixtureRequest) -> Iterator[Two]:
    made = Two(served, f"locks-{abs(hash(request.node.name))}")
    yield made
    served.store.run_sync(
        lambda tx: [locks_table.remove_of(tx, who) for who in ("user:alice", f"share:{made.share.id}")]
    )
    served.now = time.time


def error(reply: Reply) -> Element:
    """Return the condition code of a refusal."""
    return fromstring(reply.body)[0]


def discovered(client: Client, path: str, depth: str = "0") -> dict[str, list[Element]]:
    """Return the active locks that a PROPFIND shows, by href."""
    found = parsed(client("PROPFIND", path, prop("{DAV:}lockdiscovery"), Depth=depth))
    return {href: list(propstats["200"]["{DAV:}lockdiscovery"]) for href, propstats in found.items()}


def everything(client: Client, folder: str = "") -> dict[str, tuple[str, str, bytes | None, dict[str, str]]]:
    """Return every way to change `file` in a folder, or the folder by it."""
    file, new = f"{folder}/file", f"{folder}/new"
    return {
        "PUT": ("PUT", file, b"new", {}),
        "PROPPATCH": ("PROPPATCH", file, update("<x xmlns='my:'>1</x>"), {}),
        "DELETE": ("DELETE", file, None, {}),
        "MOVE": ("MOVE", file, None, {"Destination": f"{client.root}{new}"}),
        "MOVE onto": ("MOVE", f"{folder}/sub/deep", None, {"Destination": client.root + file}),
        "COPY onto": ("COPY", f"{folder}/sub/deep", None, {"Destination": client.root + file}),
        "COPY of a folder onto": ("COPY", f"{folder}/sub", None, {"Destination": client.root + file}),
        "LOCK": ("LOCK", file, LOCKINFO, {}),
        "LOCK shared": ("LOCK", file, SHARED, {}),
    }


@pytest.mark.parametrize("holder", ["alice", "carol"])
def test_a_lock_of_one_is_in_the_way_of_the_other_in_every_verb(two, holder):
    mine, theirs = (two.alice, two.carol) if holder == "alice" else (two.carol, two.alice)
    held = mine.lock("/file")
    before = two.content()
    for name, (method, path, body, headers) in everything(theirs).items():
        for shows in ({}, {"If": shown(FOREIGN)}, {"If": shown(held)}):  # also a token that was overheard
            reply = theirs(method, path, body, **headers, **shows)
            assert reply.status == 423, (name, shows)
            condition = error(reply)
            expected = "no-conflicting-lock" if method == "LOCK" else "lock-token-submitted"
            assert condition.tag == f"{{DAV:}}{expected}"
            assert [href.text for href in condition] == [f"{theirs.root}/file"], name
        assert two.content() == before, name
    for method in ("GET", "HEAD", "OPTIONS", "PROPFIND"):
        assert theirs(method, "/file").status in (200, 207)
    assert theirs("COPY", "/file", Destination=f"{theirs.root}/copy").status == 201
    assert mine("PUT", "/file", b"mine").status == 423  # the token has to be shown
    assert mine("PUT", "/file", b"mine", If=f"(<{held}>)").status == 204
    mine.unlock("/file", held)
    assert theirs("PUT", "/file", b"free").status == 204


@pytest.mark.parametrize("name", ["file", "new"])
def test_a_lock_is_met_that_is_taken_while_an_upload_becomes_durable(two, name, monkeypatch):
    fsync, held, before = os.fsync, [], two.content()

    def slow(descriptor: int) -> None:
        fsync(descriptor)
        if not held and stat.S_ISREG(os.fstat(descriptor).st_mode):
            held.append("")
            held[0] = two.carol.lock("" if name == "new" else f"/{name}")

    monkeypatch.setattr(os, "fsync", slow)
    reply = two.alice("PUT", f"/{name}", b"alice was here first")
    assert (reply.status, error(reply).tag) == (423, "{DAV:}lock-token-submitted")
    assert held[0]
    assert two.content() == before
    assert not two.served.temporaries()


def test_each_verb_succeeds_when_the_token_is_shown(two):
    for name, (method, path, body, headers) in everything(two.alice).items():
        if method == "LOCK":
            continue
        for file in ("file", "sub/deep"):
            (two.folder / "sub").mkdir(exist_ok=True)
            (two.folder / file).write_bytes(b"old")
        held = two.alice.lock("/file")
        reply = two.alice(method, path, body, **headers, If=f"<{two.alice.root}/file> (<{held}>)")
        assert reply.status in (201, 204, 207), (name, reply)
        two.served.store.run_sync(lambda tx: locks_table.remove_of(tx, "user:alice"))
        if (two.folder / "file").is_dir():
            two.alice("DELETE", "/file")


def test_everybody_sees_a_lock_and_only_its_holder_the_token(two):
    held = two.alice.lock("/file", Timeout="Second-100")
    (mine,) = discovered(two.alice, "/file")[f"{two.alice.root}/file"]
    assert mine.findtext("{DAV:}locktoken/{DAV:}href") == held
    assert mine.findtext("{DAV:}owner/{DAV:}href") == "mailto:alice@example.org"
    assert mine.findtext("{DAV:}depth") == "infinity"
    assert mine.findtext("{DAV:}lockroot/{DAV:}href") == f"{two.alice.root}/file"
    assert mine.find("{DAV:}lockscope/{DAV:}exclusive") is not None
    assert mine.find("{DAV:}locktype/{DAV:}write") is not None
    assert 90 <= int(mine.findtext("{DAV:}timeout").removeprefix("Second-")) <= 100
    for client in (two.carol, sharee(two.served, two.served.share(two.folder.name, READ))):
        reply = client("PROPFIND", "/file")  # allprop
        assert held.encode() not in reply.body
        (theirs,) = parsed(reply)["/dav/ocm/file"]["200"]["{DAV:}lockdiscovery"]
        assert theirs.find("{DAV:}locktoken") is None
        assert theirs.findtext("{DAV:}lockroot/{DAV:}href") == "/dav/ocm/file"


def test_a_listing_shows_the_locks_of_members_and_those_handed_down(two):
    on_file, on_folder = two.alice.lock("/file"), two.alice.lock("/sub", SHARED, Depth="0")
    (two.folder / "free").touch()
    found = discovered(two.alice, "/", "1")
    tokens = {href.removeprefix(two.alice.root): [lock.findtext("{DAV:}locktoken/{DAV:}href") for lock in locks]
              for href, locks in found.items()}  # fmt: skip
    assert tokens == {"/": [], "/file": [on_file], "/sub/": [on_folder], "/free": []}
    assert found[f"{two.alice.root}/sub/"][0].findtext("{DAV:}lockroot/{DAV:}href") == f"{two.alice.root}/sub/"
    assert discovered(two.alice, "/sub", "1")[f"{two.alice.root}/sub/deep"] == []  # Depth 0
    two.alice.unlock("/file", on_file)
    two.alice.unlock("/sub", on_folder)
    above = owner(two.served, "/home").lock(f"/{two.folder.name}")
    for href, locks in discovered(two.alice, "/", "1").items():
        assert [lock.findtext("{DAV:}locktoken/{DAV:}href") for lock in locks] == [above], href
    (seen,) = discovered(two.carol, "/sub/deep")["/dav/ocm/sub/deep"]
    assert seen.findtext("{DAV:}lockroot/{DAV:}href") == "/dav/ocm/"


def test_a_lock_above_the_share_shows_no_more_than_its_root(served):
    (served.data / "above" / "shared").mkdir(parents=True)
    carol = sharee(served, served.share("above/shared", WRITE))
    alice = owner(served, "/home")
    held = alice.lock("/above")
    reply = carol("PUT", "/new", b"x")
    assert (reply.status, [href.text for href in error(reply)]) == (423, ["/dav/ocm/"])
    assert b"above" not in reply.body + carol("PROPFIND", "/").body
    alice.unlock("/above", held)
    assert carol("PUT", "/new", b"x").status == 201


def test_a_lock_on_a_folder_alone_protects_who_is_in_it_and_not_what(two):
    held = two.alice.lock("", Depth="0")
    root, before = two.carol.root, two.content()
    for method, path, body, destination in (
        ("PUT", "/new", b"x", None),
        ("MKCOL", "/new", None, None),
        ("LOCK", "/new", LOCKINFO, None),
        ("DELETE", "/file", None, None),
        ("MOVE", "/file", None, "/renamed"),
        ("MOVE", "/file", None, "/sub/out"),
        ("MOVE", "/sub/deep", None, "/into"),
        ("MOVE", "/sub/deep", None, "/file"),
        ("COPY", "/sub/deep", None, "/into"),
        ("PROPPATCH", "", update("<x xmlns='my:'>1</x>"), None),
    ):
        headers = {"Destination": root + destination} if destination else {}
        reply = two.carol(method, path, body, **headers)
        assert reply.status == 423, (method, path)
        assert [href.text for href in error(reply)] == ["/dav/ocm/"]
    assert two.content() == before
    for method, path, body in (
        ("PUT", "/file", b"changed"),
        ("PROPPATCH", "/file", update("<x xmlns='my:'>1</x>")),
        ("PUT", "/sub/new", b"x"),
        ("MKCOL", "/sub/made", None),
        ("DELETE", "/sub/made", None),
    ):
        assert two.carol(method, path, body).status in (201, 204, 207), (method, path)
    assert two.alice("PUT", "/new", b"x", If=f"<{two.alice.root}/> (<{held}>)").status == 201


def test_a_lock_on_a_tree_protects_all_of_it_and_what_is_added(two):
    held = two.alice.lock("/sub")
    root, before = two.carol.root, two.content()
    for method, path, body, destination in (
        ("PUT", "/sub/new", b"x", None),
        ("PUT", "/sub/deep", b"x", None),
        ("MKCOL", "/sub/new", None, None),
        ("LOCK", "/sub/deep", LOCKINFO, None),
        ("LOCK", "/sub/new", SHARED, None),
        ("DELETE", "/sub/deep", None, None),
        ("DELETE", "/sub", None, None),
        ("PROPPATCH", "/sub/deep", update("<x xmlns='my:'>1</x>"), None),
        ("MOVE", "/sub/deep", None, "/out"),
        ("MOVE", "/sub", None, "/elsewhere"),
        ("MOVE", "/file", None, "/sub/in"),
        ("COPY", "/file", None, "/sub/in"),
    ):
        headers = {"Destination": root + destination} if destination else {}
        assert two.carol(method, path, body, **headers).status == 423, (method, path)
    assert two.content() == before
    assert two.alice("PUT", "/sub/new", b"x", If=f"(<{held}>)").status == 201  # the lock is on it too
    assert two.carol("PUT", "/sub/new", b"y").status == 423


def test_a_tree_is_not_removed_moved_or_replaced_while_something_in_it_is_locked(two):
    held = two.alice.lock("/sub/deep")
    root, before = two.carol.root, two.content()
    for method, path, headers in (
        ("DELETE", "/sub", {}),
        ("MOVE", "/sub", {"Destination": f"{root}/elsewhere"}),
        ("MOVE", "/file", {"Destination": f"{root}/sub"}),
        ("COPY", "/file", {"Destination": f"{root}/sub"}),
    ):
        reply = two.carol(method, path, **headers)
        assert reply.status == 423, (method, path)
        assert [href.text for href in error(reply)] == ["/dav/ocm/sub/deep"]
        assert two.content() == before
    assert two.alice("DELETE", "/sub", If=f"<{two.alice.root}/sub/deep> (<{held}>)").status == 204
    assert "sub" not in two.content()
    assert two.carol("MKCOL", "/sub").status == 201
    assert two.carol("PUT", "/sub/deep", b"x").status == 201  # a lock ends with what it was on


def test_a_lock_on_a_tree_conflicts_with_those_in_it(two):
    held = two.alice.lock("/sub/deep", SHARED)
    reply = two.carol("LOCK", "/sub", LOCKINFO)
    assert reply.status == 207
    answers = {response.findtext("{DAV:}href"): response for response in fromstring(reply.body)}
    assert answers["/dav/ocm/sub/deep"].findtext("{DAV:}status") == "HTTP/1.1 423 Locked"
    assert answers["/dav/ocm/sub/deep"].find("{DAV:}error/{DAV:}no-conflicting-lock/{DAV:}href") is not None
    assert answers["/dav/ocm/sub/"].findtext("{DAV:}status") == "HTTP/1.1 424 Failed Dependency"
    assert "lock-token" not in reply.headers
    on_folder = two.carol.lock("/sub", SHARED)  # shared ones go together, and so does Depth 0
    two.carol.unlock("/sub", on_folder)
    two.carol.unlock("/sub", two.carol.lock("/sub", Depth="0"))
    two.alice.unlock("/sub/deep", held)
    two.carol.lock("/sub")


def test_of_shared_locks_each_holder_needs_the_own_token(two):
    hers, others = two.alice.lock("/file", SHARED), two.carol.lock("/file", SHARED)
    assert len(discovered(two.alice, "/file")[f"{two.alice.root}/file"]) == 2
    assert two.alice("LOCK", "/file", LOCKINFO).status == 423
    assert two.alice("PUT", "/file", b"x", If=shown(others)).status == 423
    assert two.alice("PUT", "/file", b"a", If=shown(hers)).status == 204
    assert two.carol("PUT", "/file", b"c", If=shown(others)).status == 204
    assert owner(two.served, "/home", "bob")("PUT", f"/{two.folder.name}/file", b"b").status == 423


def test_a_name_that_is_free_can_be_locked_and_is_an_empty_file_then(two):
    reply = two.alice("LOCK", "/new", LOCKINFO)
    assert (reply.status, (two.folder / "new").read_bytes()) == (201, b"")
    held = token(reply)
    assert fromstring(reply.body).findtext(".//{DAV:}lockroot/{DAV:}href") == f"{two.alice.root}/new"
    assert two.carol("PUT", "/new", b"x").status == 423
    assert two.alice("PUT", "/new", b"content", If=f"(<{held}>)").status == 204
    for path, status in (("/gone/new", 409), ("/file/new", 409), ("/.ocm-gateway-0", 403), ("/file", 200)):
        assert two.alice("LOCK", path, LOCKINFO).status == status, path
    found = two.served.store.read_sync(lambda tx: locks_table.count_of(tx, "user:alice"))
    assert found == 2, "a lock that was refused has left a row"


def test_the_file_that_a_lock_has_made_is_noticed_by_who_syncs(two):
    def etag() -> str | None:
        (found,) = parsed(two.carol("PROPFIND", "/", prop("{DAV:}getetag"), Depth="0")).values()
        return found["200"]["{DAV:}getetag"].text

    before = etag()
    two.alice.lock("/file")
    assert etag() == before
    two.alice.lock("/sub/new")
    assert etag() != before


def test_where_no_file_can_be_made_there_is_no_lock_either(tmp_path):
    def full(local):
        return Refusing(local, "open_write", {"new"}, OutOfSpace("full"))

    with Served(tmp_path, wrap=full) as served:
        reply = owner(served)("LOCK", "/new", LOCKINFO)
        assert (reply.status, reply.code) == (507, "OUT_OF_SPACE")
        assert served.store.read_sync(lambda tx: locks_table.count_of(tx, "user:alice")) == 0


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        (None, TIME_DEFAULT), ("Second-100", 100), ("Infinite", TIME_MAX), ("Second-4100000000", TIME_MAX),
        ("Second-" + "9" * 5000, TIME_MAX), ("Second-0", 1), ("nonsense", TIME_DEFAULT), ("", TIME_DEFAULT),
        ("Extended-5, Second-7", 7), ("Second-, second-9 , Infinite", 9), ("Second--5", TIME_DEFAULT),
        ("Second-\u0665", TIME_DEFAULT),
    ],
)  # fmt: skip
def test_the_time_asked_for_is_granted_up_to_the_most(two, asked, granted):
    two.served.now = lambda: 1000.0
    headers = {} if asked is None else {"Timeout": asked.encode().decode("latin-1")}
    reply = two.alice("LOCK", "/file", LOCKINFO, **headers)
    assert fromstring(reply.body).findtext(".//{DAV:}timeout") == f"Second-{granted}"


def test_a_lock_expires_unless_it_is_refreshed(two):
    now = 1000.0
    two.served.now = lambda: now
    held = two.alice.lock("/file", Timeout="Second-100")
    now += 90
    reply = two.alice("LOCK", "/file", If=f"(<{held}>)", Timeout="Second-60")
    assert (reply.status, "lock-token" in reply.headers) == (200, False)
    assert fromstring(reply.body).findtext(".//{DAV:}timeout") == "Second-60"
    now += 59
    assert two.carol("PUT", "/file", b"x").status == 423
    now += 1
    assert discovered(two.alice, "/file")[f"{two.alice.root}/file"] == []
    assert two.alice("PUT", "/file", b"x", If=f"(<{held}>)").status == 412
    assert two.alice("LOCK", "/file", If=shown(held)).status == 412
    assert two.alice("UNLOCK", "/file", Lock_Token=f"<{held}>").status == 409
    assert two.carol("PUT", "/file", b"x").status == 204
    two.carol.lock("/file")
    assert two.served.store.read_sync(lambda tx: locks_table.count_of(tx, "user:alice")) == 0, "it was not swept"


def test_a_lock_is_refreshed_by_its_holder_alone_and_also_from_below(two):
    held = two.alice.lock("/sub", Timeout="Second-100")
    assert two.alice("LOCK", "/sub/deep", If=f"(<{held}>)", Timeout="Second-900").status == 200
    (lock,) = discovered(two.alice, "/sub")[f"{two.alice.root}/sub/"]
    assert int(lock.findtext("{DAV:}timeout").removeprefix("Second-")) > 800
    for client, path, headers, status in (
        (two.alice, "/sub", {}, 400),
        (two.alice, "/sub", {"If": shown(FOREIGN)}, 412),
        (two.alice, "/file", {"If": shown(held)}, 412),
        (two.carol, "/sub", {"If": shown(held)}, 412),
    ):
        reply = client("LOCK", path, **headers)
        assert reply.status == status
    assert error(reply).tag == "{DAV:}lock-token-matches-request-uri"


def test_only_the_holder_unlocks_and_only_with_the_right_token(two):
    held = two.alice.lock("/sub")
    for client, path, header, status, code in (
        (two.carol, "/sub", f"<{held}>", 403, "NOT_YOUR_LOCK"),
        (two.carol, "/sub", f"<{FOREIGN}>", 409, "NO_SUCH_LOCK"),
        (two.alice, "/sub", f"<{FOREIGN}>", 409, "NO_SUCH_LOCK"),
        (two.alice, "/file", f"<{held}>", 409, "NO_SUCH_LOCK"),
        (owner(two.served, "/other"), "/", f"<{held}>", 409, "NO_SUCH_LOCK"),
        (two.alice, "/sub", held, 400, "NO_LOCK_TOKEN"),
        (two.alice, "/sub", "<>", 400, "NO_LOCK_TOKEN"),
        (two.alice, "/sub", "", 400, "NO_LOCK_TOKEN"),
    ):
        reply = client("UNLOCK", path, Lock_Token=header)
        assert (reply.status, reply.code) == (status, code), (path, header)
        assert held.encode() not in reply.body
    two.alice.unlock("/sub/deep", held)  # anything that it is on
    assert two.carol("DELETE", "/sub").status == 204


def test_locks_neither_move_nor_multiply(two):
    held = two.alice.lock("/file")
    assert two.alice("COPY", "/file", Destination=f"{two.alice.root}/copy").status == 201
    assert two.carol("PUT", "/copy", b"free").status == 204
    assert two.alice("MOVE", "/file", Destination=f"{two.alice.root}/moved", If=f"(<{held}>)").status == 201
    assert two.carol("PUT", "/moved", b"free").status == 204
    assert two.carol("PUT", "/file", b"a new one").status == 201
    assert two.alice("UNLOCK", "/file", Lock_Token=f"<{held}>").status == 409


@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_a_lock_on_a_name_that_is_replaced_holds_on_and_those_below_it_end(two, method):
    on_name, below = two.alice.lock("/sub", Depth="0"), two.alice.lock("/sub/deep")
    headers = {"Destination": f"{two.alice.root}/sub", "If": shown(on_name, below)}
    assert two.alice(method, "/file", **headers).status == 204
    assert two.carol("PUT", "/sub", b"x").status == 423
    assert len(two.served.store.read_sync(lambda tx: locks_table.near(
        tx, "storage", two.served.stored(two.share).path, 0, tree=True))) == 1  # fmt: skip


def test_a_lock_that_is_taken_during_an_upload_is_met_at_its_end(two):
    proceed = threading.Event()

    def body() -> Iterator[bytes]:
        yield b"first"
        assert proceed.wait(20)
        yield b"second"

    replies: list[Reply] = []
    upload = threading.Thread(
        target=lambda: replies.append(two.served.request("PUT", "/dav/ocm/file", body(), bearer(two.share.secret)))
    )
    upload.start()
    time.sleep(0.3)
    held = two.alice.lock("/file")
    proceed.set()
    upload.join(20)
    assert replies[0].status == 423
    assert (two.folder / "file").read_bytes() == b"old"
    assert not two.served.temporaries()
    two.alice.unlock("/file", held)


def test_a_token_is_a_condition_as_well(two):
    held = two.alice.lock("/file")
    etag = two.alice("HEAD", "/file").headers["etag"]
    root = two.alice.root
    for header, status in (
        (f"(<{held}> [{etag}])", 204),
        (f"(<{held}> [{etag}])", 412),  # it has another one now
        (f"(<{FOREIGN}>)", 412),
        (f"(Not <{held}>)", 412),
        (f"(<{FOREIGN}>) (<{held}>)", 204),
        (f"<{root}/file> (<{held}>)", 204),
        (f"<{two.served.origin}{root}/file> (<{held}>)", 204),
        (f"<{root}/sub> (<{held}>)", 412),
        (f"<{root}/sub> (Not <{held}>)", 204),  # shown is shown
        ("(Not <DAV:no-lock>)", 423),
    ):
        assert two.alice("PUT", "/file", b"x", If=header).status == status, header
    assert two.carol("GET", "/file", If=f"(<{held}>)").status == 200


def test_who_may_only_read_cannot_lock_and_is_not_told_to(two):
    reader = sharee(two.served, two.served.share(two.folder.name, READ))
    reply = reader("LOCK", "/file", LOCKINFO)
    assert (reply.status, reply.code) == (403, "READ_ONLY")
    assert reader("LOCK", "/new", LOCKINFO).status == 403
    found = parsed(reader("PROPFIND", "/file", prop("{DAV:}supportedlock")))["/dav/ocm/file"]
    assert len(found["200"]["{DAV:}supportedlock"]) == 0
    assert not {"LOCK", "PUT"} & set(reader("OPTIONS", "/file").headers["allow"].split(", "))


def test_mere_names_cannot_be_locked(served):
    for path in ("/", "/received", "/received/"):
        assert served.alice("LOCK", path, LOCKINFO).status == 405
        assert served.alice("UNLOCK", path, Lock_Token=f"<{FOREIGN}>").status == 405
    assert served.alice("LOCK", "/nowhere/x", LOCKINFO).status == 404


def test_nobody_holds_more_locks_than_there_is_room_for(two):
    def fill(tx) -> None:
        for number in range(LOCKS_MAX):
            lock = locks_table.Lock(f"urn:x:{number}", "memory", two.served.stored(two.share).path, False, False,
                                    f"share:{two.share.id}", None, 2**40)  # fmt: skip
            locks_table.add(tx, lock)

    two.served.store.run_sync(fill)
    reply = two.carol("LOCK", "/file", LOCKINFO)
    assert (reply.status, reply.code) == (507, "TOO_MANY_LOCKS")
    two.alice.unlock("/file", two.alice.lock("/file"))


def info(scope: str = "<exclusive/>", kind: str = "<write/>", rest: str = "") -> bytes:
    inner = f"<lockscope>{scope}</lockscope><locktype>{kind}</locktype>{rest}"
    return f'<lockinfo xmlns="DAV:">{inner}</lockinfo>'.encode()


@pytest.mark.parametrize(
    "body",
    [b"x", b"<lockinfo/>", b'<lockinfo xmlns="DAV:"/>', info(""), info("<exclusive/><shared/>"), info("<other/>"),
     info(kind=""), info(kind="<read/>"), info(rest=f"<owner>{'x' * 5000}</owner>"),
     b'<propfind xmlns="DAV:"><allprop/></propfind>',
     b'<!DOCTYPE a [<!ENTITY b "c">]>' + info(rest="<owner>&b;</owner>")],
)  # fmt: skip
def test_a_body_that_is_no_lockinfo_is_400(two, body):
    reply = two.alice("LOCK", "/file", body)
    assert (reply.status, reply.code) == (400, "INVALID_XML")


def test_depth_is_0_or_infinity(two):
    for depth in ("1", "2", "", "deep"):
        assert two.alice("LOCK", "/file", LOCKINFO, Depth=depth).status == 400
    assert b"<d:depth>0</d:depth>" in two.alice("LOCK", "/file", LOCKINFO, Depth=" 0 ").body


def test_an_owner_may_be_any_xml(two):
    words = "<owner xml:lang='de'>Käthe &amp; <b xmlns='my:' c='&lt;'>100 %s</b></owner>"
    for text in (words, "<owner/>", ""):
        held = two.alice.lock("/file", info(rest=text))
        (lock,) = discovered(two.carol, "/file")["/dav/ocm/file"]
        shown_owner = lock.find("{DAV:}owner")
        assert (shown_owner is None) == (not text)
        if text == words:
            assert "".join(shown_owner.itertext()) == "Käthe & 100 %s"
            assert shown_owner[0].attrib == {"c": "<"}
        two.alice.unlock("/file", held)


headers = st.text(alphabet=st.sampled_from('()<>[]"/:-, 0159NotSecondInfiniteurn:uuid'), max_size=40).map(str.strip)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["LOCK", "UNLOCK"]),
    path=st.sampled_from(["/file", "/sub", "", "/sub/deep"]),
    body=st.sampled_from([None, LOCKINFO, SHARED, b"<", info(rest="<owner><owner/></owner>")]),
    fields=st.dictionaries(st.sampled_from(["If", "Timeout", "Depth", "Lock_Token", "Overwrite", "If_Match"]), headers),
)
def test_any_headers_get_an_answer(two, method, path, body, fields):
    reply = two.alice(method, path, body, **fields)
    assert reply.status < 500
    if reply.status in (200, 201) and "lock-token" in reply.headers:
        two.alice.unlock(path, token(reply))


@pytest.mark.parametrize(
    ("error", "status"), [(OutOfSpace("full"), 507), (Unavailable("the NAS hangs", retry_after=9), 503)]
)
def test_storage_that_is_full_or_away_says_so_in_every_verb_that_writes(tmp_path, error, status):
    broken = ["open_write", "make_directory", "rename", "copy", "set_modified"]
    broken += ["remove", "stat"] if status == 503 else []

    def wrap(local):
        for method in broken:
            local = Refusing(local, method, {"new", "file"}, error)
        return local

    with Served(tmp_path, wrap=wrap) as served:
        (served.data / "file").write_bytes(b"old")
        alice = owner(served)
        replies = {
            "PUT": alice("PUT", "/new", b"x"),
            "PUT over": alice("PUT", "/file", b"x"),
            "MKCOL": alice("MKCOL", "/new"),
            "COPY": alice("COPY", "/file", Destination=f"{alice.root}/new"),
            "MOVE": alice("MOVE", "/file", Destination=f"{alice.root}/new"),
            "LOCK": alice("LOCK", "/new", LOCKINFO),
        }
        if status == 503:
            replies |= {
                "DELETE": alice("DELETE", "/file"),
                "PROPPATCH": alice("PROPPATCH", "/file", update("<x xmlns='my:'/>")),
                "PROPFIND": alice("PROPFIND", "/file"),
            }
            assert {reply.headers["retry-after"] for reply in replies.values()} == {"9"}
        assert {name: reply.status for name, reply in replies.items()} == dict.fromkeys(replies, status)
        assert (served.data / "file").read_bytes() == b"old"
        assert sorted(path.name for path in served.data.iterdir()) == ["file"]
        assert not served.temporaries()
