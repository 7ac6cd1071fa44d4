"""A folder's ETag, as sync clients use it: it tells of every change below, however deep, and of nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends.errors import PermissionDenied, Unavailable
from backends.paths import StoragePath
from gateway.noticing import LOOK_EVERY

from .served import WRITE, Served, bearer
from .test_propfind import parsed, prop

GETETAG = "{DAV:}getetag"
BODY = prop(GETETAG)
DEEP = ("", "a", "a/b", "a/b/c")  # each holds the next, and the last one `file`
ASIDE = ("a/b/aside", "a/aside", "aside")  # never touched

TOUCH = b'<propertyupdate xmlns="DAV:"><set><prop><lastmodified>1000000000</lastmodified></prop></set></propertyupdate>'


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as served:
        make_tree(served.data)
        yield served


def make_tree(root: Path) -> None:
    for folder in (*DEEP, *ASIDE):
        (root / folder).mkdir(exist_ok=True)
        (root / folder / "file").write_bytes(b"old")


def etag(served: Served, path: str) -> str:
    """Return the ETag of the folder that alice sees at /home/`path`."""
    ((_, propstats),) = parsed(served.alice("PROPFIND", f"/home/{path}", BODY, Depth="0")).items()
    return propstats["200"][GETETAG].text


def etags(served: Served) -> dict[str, str]:
    """Return the ETags of all folders, and of the two that are only names."""
    shown = {path: etag(served, path) for path in (*DEEP, *ASIDE)}
    top = parsed(served.alice("PROPFIND", "/", BODY))
    return shown | {f"top {name}": top[f"/dav/files/alice/{name}"]["200"][GETETAG].text for name in ("", "home/")}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {path for path in before if before[path] != after[path]}


ABOVE = {"", "a", "a/b", "a/b/c", "top ", "top home/"}

CHANGES: dict[str, Callable[[Served], int]] = {
    "PUT of a new file": lambda served: served.alice("PUT", "/home/a/b/c/new", b"x").status,
    "PUT over a file": lambda served: served.alice("PUT", "/home/a/b/c/file", b"other").status,
    "DELETE of a file": lambda served: served.alice("DELETE", "/home/a/b/c/file").status,
    "MKCOL": lambda served: served.alice("MKCOL", "/home/a/b/c/folder").status,
    "MOVE of a file": lambda served: (
        served.alice("MOVE", "/home/a/b/c/file", Destination="/dav/files/alice/home/a/b/c/renamed").status
    ),
    "COPY of a file": lambda served: (
        served.alice("COPY", "/home/aside/file", Destination="/dav/files/alice/home/a/b/c/copied").status
    ),
    "COPY from another storage": lambda served: (
        served.alice("PUT", "/other/file", b"x")
        and served.alice("COPY", "/other/file", Destination="/dav/files/alice/home/a/b/c/copied").status
    ),
    "PROPPATCH of a time": lambda served: served.alice("PROPPATCH", "/home/a/b/c/file", TOUCH).status,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_change_shows_in_every_folder_above_and_in_no_other(served: Served, change: Callable[[Served], int]) -> None:
    before = etags(served)
    assert etags(served) == before, "polling is no change"
    assert change(served) in (201, 204, 207)
    after = etags(served)
    assert changed(before, after) == ABOVE
    assert etags(served) == after, "one change is seen once"


def test_members_show_the_etags_that_they_have_themselves(served: Served) -> None:
    for _ in range(2):
        listed = parsed(served.alice("PROPFIND", "/home/a", BODY))
        for name in ("", "b/", "aside/"):
            shown = listed[f"/dav/files/alice/home/a/{name}"]["200"][GETETAG].text
            assert shown == etag(served, f"a/{name}")
        served.alice("PUT", "/home/a/b/c/file", os.urandom(8))


def test_etags_are_strong_and_short(served: Served) -> None:
    shown = etag(served, "a").strip('"')
    assert shown.isalnum()
    assert len(shown) <= 40


def test_the_sharee_sees_what_the_owner_does_and_the_other_way_round(served: Served) -> None:
    share = served.share("a/b", WRITE)

    def sharee(path: str = "") -> str:
        reply = served.request("PROPFIND", f"/dav/ocm/{path}", BODY, bearer(share.secret) | {"Depth": "0"})
        return parsed(reply).popitem()[1]["200"][GETETAG].text

    seen, aside = {(etag(served, "a"), sharee(), sharee("c"))}, sharee("aside")
    served.alice("PUT", "/home/a/b/c/file", b"by the owner")
    seen.add((etag(served, "a"), sharee(), sharee("c")))
    assert served.request("PUT", "/dav/ocm/c/file", b"by the sharee", bearer(share.secret)).status == 204
    seen.add((etag(served, "a"), sharee(), sharee("c")))
    assert [len(set(column)) for column in zip(*seen, strict=True)] == [3, 3, 3]
    assert sharee() == etag(served, "a/b")
    assert sharee("aside") == aside


def test_a_move_between_two_folders_shows_in_both(served: Served) -> None:
    before = etags(served)
    assert served.alice("MOVE", "/home/a/b/c", Destination="/dav/files/alice/home/aside/c").status == 201
    after = {path: etag(served, path) for path in before if not path.startswith(("top", "a/b/c"))}
    assert {path for path in after if after[path] != before[path]} == {"", "a", "a/b", "aside"}


def test_what_is_below_a_moved_folder_never_shows_an_etag_that_it_had_there_before(served: Served) -> None:
    """The folder `c` is moved away, changed deep inside, and moved back: its own directory is as it was."""
    (served.data / "a/b/c/d/e").mkdir(parents=True)
    (served.data / "a/b/c/d/e/file").write_bytes(b"x")
    before = {path: etag(served, f"a/b/c/{path}") for path in ("", "d", "d/e")}
    assert served.alice("MOVE", "/home/a/b/c", Destination="/dav/files/alice/home/away").status == 201
    assert served.alice("PROPPATCH", "/home/away/d/e/file", TOUCH).status == 207
    assert served.alice("MOVE", "/home/away", Destination="/dav/files/alice/home/a/b/c").status == 201
    assert all(etag(served, f"a/b/c/{path}") != old for path, old in before.items())


def test_a_refused_change_is_none(served: Served) -> None:
    before = etags(served)
    assert served.alice("PUT", "/home/a/b/c/file", b"x", If_Match='"other"').status == 412
    assert served.alice("MKCOL", "/home/a/b/c").status == 405
    assert served.alice("DELETE", "/home/a/b/c/none").status == 404
    assert served.alice("PUT", "/frozen/a/b/c/file", b"x").status == 403
    answer = served.alice("COPY", "/home/file", Destination="/dav/files/alice/home/a/file", Overwrite="F")
    assert answer.status == 412
    assert etags(served) == before


def test_conditions_mean_the_etag_that_was_shown(served: Served) -> None:
    for header in ("If_Match", "If"):
        shown = etag(served, "a/b")
        value = shown if header == "If_Match" else f"([{shown}])"
        served.alice("PUT", "/home/a/b/c/file", os.urandom(8))
        assert served.alice("PROPPATCH", "/home/a/b", TOUCH, **{header: value}).status == 412
        shown = etag(served, "a/b")
        value = shown if header == "If_Match" else f"([{shown}])"
        assert served.alice("PROPPATCH", "/home/a/b", TOUCH, **{header: value}).status == 207


def test_a_deletion_that_fails_in_parts_shows(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    (served.data / "a/b/c/folder").mkdir()
    (served.data / "a/b/c/folder/kept").write_bytes(b"x")
    before = etags(served)
    remove = served.local.remove

    def refuse(path: StoragePath) -> None:
        if path.name == b"kept":
            raise PermissionDenied("not this one")
        remove(path)

    monkeypatch.setattr(served.local, "remove", refuse)
    assert served.alice("DELETE", "/home/a/b/c").status == 207
    assert changed(before, etags(served)) == ABOVE


def test_work_that_ends_in_doubt_shows(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 after the rename: the new content may be there, and is."""
    before = etags(served)
    rename = served.local.rename

    def fail(*args: StoragePath, **named: bool) -> None:
        rename(*args, **named)
        raise Unavailable("the directory could not be synced")

    monkeypatch.setattr(served.local, "rename", fail)
    answer = served.alice("MOVE", "/home/a/b/c/file", Destination="/dav/files/alice/home/a/b/c/renamed")
    assert answer.status == 503
    assert changed(before, etags(served)) == ABOVE


def etag_of_other(served: Served) -> str:
    """Return the ETag of the root of the storage in memory, which tells of nothing by itself."""
    ((_, propstats),) = parsed(served.alice("PROPFIND", "/other/", BODY, Depth="0")).items()
    return propstats["200"][GETETAG].text


def refused(*_args: object, **_named: object) -> None:
    raise PermissionDenied("not this")


def test_a_move_between_storages_that_is_refused_half_way_shows(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content is there, and its time is refused."""
    assert served.alice("MKCOL", "/other/folder").status == 201
    assert served.alice("PUT", "/other/folder/file", b"old").status == 201
    before = etag_of_other(served)
    monkeypatch.setattr(served.memory, "set_modified", refused)
    answer = served.alice("MOVE", "/home/a/file", Destination="/dav/files/alice/other/folder/file")
    assert answer.status == 403
    assert etag_of_other(served) != before


def test_a_copy_of_a_folder_that_cannot_be_listed_shows(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused as a whole, though the folder itself was made."""
    assert served.alice("MKCOL", "/other/folder").status == 201
    before = etag_of_other(served)
    monkeypatch.setattr(served.local, "scan", refused)
    answer = served.alice("COPY", "/home/a", Destination="/dav/files/alice/other/folder/a")
    assert answer.status == 403
    assert served.memory.stat(StoragePath.parse("folder/a")).is_directory
    assert etag_of_other(served) != before


def test_a_move_whose_old_content_cannot_be_removed_shows(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("folder", "folder/new", "folder/old"):
        assert served.alice("MKCOL", f"/other/{path}").status == 201
    before = etag_of_other(served)
    monkeypatch.setattr(served.memory, "remove", refused)
    answer = served.alice("MOVE", "/other/folder/new", Destination="/dav/files/alice/other/folder/old")
    assert answer.status == 403
    assert etag_of_other(served) != before


def test_a_deletion_that_empties_a_folder_and_may_not_remove_it_shows(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("folder", "folder/sub"):
        assert served.alice("MKCOL", f"/other/{path}").status == 201
    assert served.alice("PUT", "/other/folder/sub/file", b"x").status == 201
    before = etag_of_other(served)
    remove, asked = served.memory.remove, []

    def refuse(path: StoragePath) -> None:
        asked.append(str(path))
        refused() if asked.count("folder/sub") > 1 else remove(path)

    monkeypatch.setattr(served.memory, "remove", refuse)
    assert served.alice("DELETE", "/other/folder/sub").status == 403
    assert etag_of_other(served) != before


# Behind the gateway's back


def eventually(look: Callable[[], bool], seconds: float = 10.0) -> float:
    """Return after how many seconds `look` was true."""
    begun = time.monotonic()
    while not look():
        assert time.monotonic() < begun + seconds
        time.sleep(0.02)
    return time.monotonic() - begun


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


BEHIND: dict[str, Callable[[Path], object]] = {
    "a new file": lambda folder: (folder / "new").write_bytes(b"x"),
    "a file in place": lambda folder: (folder / "file").write_bytes(b"new"),
    "an appended line": lambda folder: append(folder / "file"),
    "a removed file": lambda folder: (folder / "file").unlink(),
    "a renamed file": lambda folder: (folder / "file").rename(folder / "renamed"),
    "a new folder": lambda folder: (folder / "folder").mkdir(),
    "a changed time": lambda folder: os.utime(folder / "file", (1, 1)),
    "changed rights": lambda folder: (folder / "file").chmod(0o600),
}


@pytest.mark.parametrize("change", BEHIND.values(), ids=list(BEHIND))
def test_a_change_in_a_folder_that_was_listed_shows_above_it_within_a_second(
    served: Served, change: Callable[[Path], object]
) -> None:
    before = etags(served)
    change(served.data / "a/b/c")
    assert eventually(lambda: etag(served, "") != before[""]) < 2.0
    assert changed(before, etags(served)) == ABOVE


def test_a_folder_that_came_with_its_content_is_new_throughout(served: Served) -> None:
    (served.data / "a/b/c/d").mkdir()
    before = {path: etag(served, path) for path in ("a", "a/b", "a/b/c", "a/b/c/d")}
    (served.data / "a/b").rename(served.data / "a/elsewhere")
    (served.data / "a/elsewhere").rename(served.data / "a/b")
    eventually(lambda: all(etag(served, path) != old for path, old in before.items()))


def test_a_change_of_our_own_is_not_noticed_as_one_of_others(served: Served) -> None:
    """The events of our own changes come too, half a second later."""
    etags(served)
    for change in CHANGES.values():
        change(served)
    after = {path: etag(served, path) for path in DEEP}
    time.sleep(1.2)
    assert {path: etag(served, path) for path in DEEP} == after


def test_a_folder_moved_behind_the_back_is_not_watched_under_its_old_name(served: Served) -> None:
    etags(served)
    (served.data / "a/b").rename(served.data / "b")
    eventually(lambda: bool(served.alice("PROPFIND", "/home/b/c", BODY).status == 207))
    before = etag(served, ""), etag(served, "a"), etag(served, "b")
    time.sleep(1.2)
    settled = etag(served, ""), etag(served, "a"), etag(served, "b")
    (served.data / "b/c/file").write_bytes(b"changed")
    eventually(lambda: etag(served, "b") != settled[2])
    assert etag(served, "a") == settled[1] != before[0]


@pytest.fixture
def unwatched(tmp_path: Path) -> Iterator[Served]:
    """A gateway whose storage tells nothing by itself, as one on NFS."""
    with Served(tmp_path, watches=0) as served:
        make_tree(served.data)
        yield served


def test_a_folder_that_is_passed_again_tells_those_above_it(unwatched: Served) -> None:
    before = etags(unwatched)
    (unwatched.data / "a/b/c/new").write_bytes(b"x")
    assert changed(before, {**before, "": etag(unwatched, "")}) == set(), "nobody has been there yet"
    parsed(unwatched.alice("PROPFIND", "/home/a/b", BODY))  # which shows `c`
    assert changed(before, etags(unwatched)) == ABOVE
    assert etags(unwatched) == etags(unwatched)


@pytest.mark.parametrize("method", ["GET", "PROPFIND"])
def test_a_folder_on_the_way_to_something_else_tells_those_above_it(unwatched: Served, method: str) -> None:
    before = etags(unwatched)
    time.sleep(LOOK_EVERY + 0.1)
    (unwatched.data / "a/b/new").write_bytes(b"x")
    assert etag(unwatched, "") == before[""]
    unwatched.alice(method, "/home/a/b/c/file")
    eventually(lambda: etag(unwatched, "") != before[""])
    assert changed(before, etags(unwatched)) == ABOVE - {"a/b/c"}


def test_our_own_change_is_not_taken_for_one_of_others_where_nothing_is_watched(unwatched: Served) -> None:
    etags(unwatched)
    for change in CHANGES.values():
        change(unwatched)
        after = etags(unwatched)
        time.sleep(0.01)
        assert etags(unwatched) == after


def test_a_change_in_place_where_nothing_is_watched_is_not_noticed(unwatched: Served) -> None:
    """The limit that the README states: the folder itself looks as before."""
    before = etags(unwatched)
    (unwatched.data / "a/b/c/file").write_bytes(b"new")
    unwatched.alice("PROPFIND", "/home/a/b/c", BODY)
    assert etags(unwatched) == before
