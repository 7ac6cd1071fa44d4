"""Every system call of every writing verb fails once, over HTTP: what is acknowledged is true, and nothing is lost."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.local import LocalBackend
from gateway.store import replacements

from ..dav.served import Served
from . import disks
from .injecting import CALLS, Fault, failing

Shown = dict[str, bytes | None]  # path -> content, None for a folder

BEFORE: Shown = {
    "file": b"file",
    "other": b"other",
    "folder": None,
    "folder/a": b"a",
    "folder/deep": None,
    "folder/deep/b": b"b",
    "target": None,
    "target/c": b"c",
}
NEW = b"new content " * 10_000
MOST = 400  # calls of one kind in one request, at most


def renamed(old: str, new: str) -> Shown:
    return {path.replace(old, new, 1): content for path, content in BEFORE.items() if path.split("/")[0] == old}


def gone(*names: str) -> Shown:
    return {path: content for path, content in BEFORE.items() if path.split("/")[0] not in names}


# verb, path, destination, and what is there once it is acknowledged
ACTS = {
    "PUT new": ("PUT", "new", None, BEFORE | {"new": NEW}),
    "PUT replacing": ("PUT", "file", None, BEFORE | {"file": NEW}),
    "MKCOL": ("MKCOL", "made", None, BEFORE | {"made": None}),
    "DELETE a file": ("DELETE", "file", None, gone("file")),
    "DELETE a folder": ("DELETE", "folder", None, gone("folder")),
    "MOVE to a free name": ("MOVE", "file", "new", gone("file") | {"new": b"file"}),
    "MOVE a folder": ("MOVE", "folder", "new", gone("folder") | renamed("folder", "new")),
    "MOVE over a file": ("MOVE", "file", "other", gone("file") | {"other": b"file"}),
    "MOVE over a folder": ("MOVE", "folder", "target", gone("folder", "target") | renamed("folder", "target")),
    "COPY to a free name": ("COPY", "file", "new", BEFORE | {"new": b"file"}),
    "COPY over a file": ("COPY", "file", "other", BEFORE | {"other": b"file"}),
    "COPY over a folder": (
        "COPY",
        "folder",
        "target",
        gone("target") | renamed("folder", "folder") | renamed("folder", "target"),
    ),
}
REFUSED = {503, 507}
IN_PARTS = {"DELETE a folder", "MOVE over a folder", "COPY over a folder"}  # 207: what became of the rest is told


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A door on a disk in memory, which is left without a trace of ours."""
    base = tmp_path_factory.mktemp("failing")
    with disks.tmpfs(base / "disk") as disk:
        with Served(disk / "site") as served:
            yield served
        journal = served.local._journal._file
        if journal is not None:
            journal.close()  # as the end of the process does
        LocalBackend(served.data, disk / "site" / "journals").close()
        assert not served.temporaries()


def plant(root: Path) -> None:
    for path in root.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif not path.name.startswith(".ocm-gateway-"):  # that is for the end
            path.unlink()
    for name, content in BEFORE.items():
        if content is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(content)


def on_the_disk(root: Path) -> Shown:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
        if not path.name.startswith(".ocm-gateway-")
    }


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[1])
@pytest.mark.parametrize("act", ACTS)
def test_a_call_that_fails_loses_nothing(served, act, call):
    for error in CALLS[call]:
        each_in_turn(served, act, [call], error, lasts=False)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.ESTALE], ids=errno.errorcode.__getitem__)
@pytest.mark.parametrize("act", ACTS)
def test_a_disk_that_fails_in_the_middle_and_comes_back_has_lost_nothing(served, act, error):
    """From one call on nothing works, not even what would clean up; then the storage is there again."""
    each_in_turn(served, act, CALLS, error, lasts=True)


def each_in_turn(served: Served, act: str, calls: Iterable[tuple[Any, str]], error: int, *, lasts: bool) -> None:
    """Let the first of `calls` fail, then in another request the second, until a request needs no more of them."""
    for number in range(1, MOST):
        plant(served.data)
        fault = Fault(number, error, lasts=lasts)
        with failing(calls, fault):
            status = perform(served, act)
        served.local._tree.root._checked = float("-inf")  # as a second later: the look at the root may have failed
        served.moves.replay(served.storages)
        check(served, act, status, fault)
        if not fault.happened:
            return
    raise AssertionError(f"more than {MOST} calls in one request")


def perform(served: Served, act: str) -> int:
    method, path, destination, _ = ACTS[act]
    headers = {"Destination": f"/dav/files/alice/home/{destination}"} if destination else {}
    return served.alice(method, f"/home/{path}", NEW if method == "PUT" else None, **headers).status


def check(served: Served, act: str, status: int, fault: Fault) -> None:
    after, found = ACTS[act][3], on_the_disk(served.data)
    if status in (201, 204):
        assert found == after
    elif status == 207 and act in IN_PARTS:
        assert fault.happened
        assert whole_parts(found, after), found
    else:
        assert fault.happened
        assert status in REFUSED, status
        assert found in (BEFORE, after) or (act in IN_PARTS and whole_parts(found, after)), found
    assert served.store.read_sync(replacements.unfinished) == []


def whole_parts(found: Shown, after: Shown) -> bool:
    """Tell whether each name has what it had or what it was to have, and none is lost that had to stay."""
    stays = BEFORE.keys() & after.keys()
    return stays <= found.keys() and all(
        found[name] in [tree[name] for tree in (BEFORE, after) if name in tree] for name in found
    )
