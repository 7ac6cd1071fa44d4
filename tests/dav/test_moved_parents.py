"""A folder is moved while something below it is being replaced or moved, at every step of that: nothing gets lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from planted import Shown, disk, named, plant

from backends.errors import Unavailable
from gateway.files import Moves
from gateway.living import Living
from gateway.store import moves as moves_table
from gateway.store import replacements
from gateway.store.engine import Store

from .served import Reply, Served
from .test_files import place

CHANGES = frozenset({"open_write", "make_directory", "remove", "rename", "copy", "set_modified"})
MOST = 40  # changes of storage in one request here, at most
WAIT = 20  # seconds

NEW: Shown = {"": None, "/a": b"a", "/deep": None, "/deep/b": b"b"}
OLD: Shown = {"": None, "/c": b"c", "/d": None}
FILE: Shown = {"": b"file"}


class Interrupted:
    """A backend in which something else happens before or after the change of storage with this number."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._left = 0
        self._after = False
        self.meanwhile: Callable[[], object] = lambda: None
        self.renamed: Callable[[str], None] = lambda _path: None

    def at(self, number: int, after: bool, meanwhile: Callable[[], object]) -> None:
        self._left, self._after, self.meanwhile = number, after, meanwhile

    @property
    def has_happened(self) -> bool:
        return self._left <= 0

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._inner, name)
        return inner if name not in CHANGES else lambda *given, **named: self._change(inner, *given, **named)

    def _change(self, change: Any, *given: Any, **named: Any) -> Any:
        self._left -= 1
        now = self._left == 0
        if now and not self._after:
            self.meanwhile()
        try:
            return change(*given, **named)
        finally:
            if now and self._after:
                self.meanwhile()
            self.renamed(str(given[0]))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path / "site", wrap=Interrupted) as served:
        yield served
        for table in (replacements, moves_table):
            assert served.store.read_sync(table.unfinished) == []


@pytest.fixture
def other(served: Served, tmp_path: Path) -> Iterator[Moves]:
    """What another process of the gateway has."""
    store, living = Store(f"sqlite:///{tmp_path / 'site' / 'state.db'}"), Living(served.living.directory)
    yield Moves(store, living)
    living.close()
    store.close()


def send(served: Served, method: str, source: str, target: str) -> Reply:
    return served.alice(method, f"/home/{source}", Destination=f"/dav/files/alice/home/{target}")


def begin(served: Served, round_: int, new: Shown, old: Shown) -> tuple[str, Shown, Shown]:
    """Make a tree for one round, and return its name and the source and the target that are in it."""
    base = f"round{round_}"
    (served.data / base / "parent").mkdir(parents=True)
    return base, plant(served.data, f"{base}/new", new), plant(served.data, f"{base}/parent/old", old)


def check(served: Served, base: str, method: str, status: int, new: Shown, old: Shown, *anew: str) -> None:
    """See that the target has its old or its new content in the moved folder, and that nothing is left but `anew`.

    That is what somebody has made of the old names meanwhile, and may be what was replaced, as the client has asked.
    """
    stays = {base: None, f"{base}/moved": None} | (named(f"{base}/new", new) if method == "COPY" else {})
    theirs = dict.fromkeys(f"{base}/{path}" for path in anew)
    undone = stays | named(f"{base}/new", new) | named(f"{base}/moved/old", old) | theirs
    done = [stays | named(f"{base}/moved/old", new) | theirs]
    if anew:
        parent = {f"{base}/parent": None} | named(f"{base}/parent/old", new)
        done.append(stays | named(f"{base}/moved/old", old) | parent)
    found = {path: content for path, content in disk(served.data).items() if path.split("/")[0] == base}
    assert status in (204, 404, 409, 412, 503)
    assert found in (done if status == 204 else [undone])


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("new", "old"), [(NEW, OLD), (NEW, FILE), (FILE, OLD)], ids=["dd", "df", "fd"])
@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_whatever_is_under_way_below_a_moved_folder_is_done_or_undone(served, other, method, new, old, after):
    """Every second time by another process."""
    backend = served.backend
    statuses = set()
    for number in range(1, MOST):
        base, _, _ = begin(served, number, new, old)

        def meanwhile(base: str = base, number: int = number) -> None:
            if number % 2:
                assert send(served, "MOVE", f"{base}/parent", f"{base}/moved").status == 201
                return
            storage = served.storages["storage"]
            other.move(place(storage, f"{base}/parent"), place(storage, f"{base}/moved"), overwrite=False)

        backend.at(number, after, meanwhile)
        status = send(served, method, f"{base}/new", f"{base}/parent/old").status
        if not backend.has_happened:
            break
        check(served, base, method, status, new, old)
        statuses.add(status)
    assert 3 < number < MOST - 1, "the folder was not moved at each of the changes"
    assert 204 in statuses
    assert len(statuses) > 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("anew", [("parent",), ("parent", "parent/old", "parent/old/theirs")], ids=["empty", "full"])
@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_nor_is_anything_lost_where_somebody_makes_the_folder_anew(served, method, anew, after):
    backend = served.backend
    for number in range(1, MOST):
        base, _, _ = begin(served, number, NEW, OLD)

        def meanwhile(base: str = base) -> None:
            assert send(served, "MOVE", f"{base}/parent", f"{base}/moved").status == 201
            for path in anew:
                assert served.alice("MKCOL", f"/home/{base}/{path}").status == 201

        backend.at(number, after, meanwhile)
        status = send(served, method, f"{base}/new", f"{base}/parent/old").status
        if not backend.has_happened:
            break
        check(served, base, method, status, NEW, OLD, *anew)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_what_fails_while_a_folder_above_is_on_its_way_is_settled_when_that_has_come(served, other, method, after):
    """The folder has its new name on the disk and the old one in the state, until the request is answered."""
    backend = served.backend
    storage = served.storages["storage"]
    failed = 0
    for number in range(1, MOST):
        base, _, _ = begin(served, number, NEW, OLD)
        has_new_name, is_answered = threading.Event(), threading.Event()

        def hold(path: str, base: str = base, new: Any = has_new_name, answered: Any = is_answered) -> None:
            if path == f"{base}/parent":
                new.set()
                assert answered.wait(WAIT)

        def move(base: str = base) -> None:
            other.move(place(storage, f"{base}/parent"), place(storage, f"{base}/moved"), overwrite=False)

        moving = threading.Thread(target=move)

        def meanwhile(moving: threading.Thread = moving, new: Any = has_new_name) -> None:
            moving.start()
            assert new.wait(WAIT)

        backend.renamed = hold
        backend.at(number, after, meanwhile)
        status = send(served, method, f"{base}/new", f"{base}/parent/old").status
        is_answered.set()
        if not backend.has_happened:
            break
        moving.join(WAIT)
        check(served, base, method, status, NEW, OLD)
        failed += status != 204
    assert failed


def test_nothing_that_is_kept_by_path_begins_where_a_move_is_on_its_way(served):
    """It would be carried along, though it may be about a new folder of the old name."""
    plant(served.data, "parent", OLD)
    plant(served.data, "parent/old", OLD)
    plant(served.data, "new", NEW)
    seen = []

    def meanwhile() -> None:
        plant(served.data, "parent", OLD)  # after the rename, by another program
        for method, source, target in (
            ("COPY", "new", "parent/d"),
            ("MOVE", "new", "parent/d"),
            ("MOVE", "parent/d", "parent/e"),
            ("MOVE", "parent/d", "elsewhere"),
        ):
            reply = send(served, method, source, target)
            seen.append((reply.status, reply.code, reply.headers.get("retry-after")))
        assert send(served, "MOVE", "new/a", "parent/free").status == 201  # a file of which nothing is kept

    served.backend.at(1, True, meanwhile)
    assert send(served, "MOVE", "parent", "moved").status == 201
    assert seen == [(503, "BEING_MOVED", "1")] * 4
    assert send(served, "MOVE", "parent/d", "parent/e").status == 201


@pytest.mark.parametrize("by_another", [False, True])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_shares_follow_both_of_two_moves_one_in_the_other(served, other, after, by_another):
    plant(served.data, "parent/inner", NEW)
    share = served.share("parent/inner/deep")

    def meanwhile() -> None:
        if not by_another:
            assert send(served, "MOVE", "parent", "moved").status == 201
            return
        storage = served.storages["storage"]
        other.move(place(storage, "parent"), place(storage, "moved"), overwrite=False)

    served.backend.at(1, after, meanwhile)
    status = send(served, "MOVE", "parent/inner", "parent/other").status
    name = "other" if after else "inner"
    assert status == (201 if after else 404)
    assert (served.data / "moved" / name / "deep" / "b").read_bytes() == b"b"
    assert str(served.stored(share).path) == f"moved/{name}/deep"


def test_a_folder_does_not_go_where_what_is_under_way_in_it_would_have_no_name(served):
    """A name of ours is longer than that of the target, and has to be written down."""
    plant(served.data, "parent/old", OLD)
    plant(served.data, "new", NEW)
    deep = "/".join(["d" * 255] * 15)
    for depth in range(15):
        assert served.alice("MKCOL", f"/home/{deep[: depth * 256 + 255]}").status == 201
    answers = []
    served.backend.at(2, True, lambda: answers.append(send(served, "MOVE", "parent", f"{deep}/{'p' * 210}")))
    assert send(served, "COPY", "new", "parent/old").status == 204
    assert [(answer.status, answer.code) for answer in answers] == [(400, "INVALID_PATH")]
    assert disk(served.data / "parent") == named("old", NEW)
    assert send(served, "MOVE", "parent", f"{deep}/{'p' * 210}").status == 201


def test_a_share_follows_a_move_in_doubt_whose_folder_is_on_its_way(served, other):
    """The storage fails after the rename, and then nothing is found under either name."""
    plant(served.data, "parent/inner", NEW)
    share = served.share("parent/inner/deep")
    has_new_name, is_answered = threading.Event(), threading.Event()
    storage = served.storages["storage"]

    def hold(path: str) -> None:
        if path == "parent":
            has_new_name.set()
            assert is_answered.wait(WAIT)

    def move() -> None:
        other.move(place(storage, "parent"), place(storage, "moved"), overwrite=False)

    moving = threading.Thread(target=move)

    def meanwhile() -> None:
        moving.start()
        assert has_new_name.wait(WAIT)
        raise Unavailable("the directory could not be synced")

    served.backend.renamed = hold
    served.backend.at(1, True, meanwhile)
    assert send(served, "MOVE", "parent/inner", "parent/other").status == 503
    is_answered.set()
    moving.join(WAIT)
    assert str(served.stored(share).path) == "moved/other/deep"
