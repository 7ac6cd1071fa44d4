"""A neighbour with write access swaps a file and a folder for links that lead out, while clients do everything.

Not one byte from outside is served and nothing outside is changed, whatever the moment.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import pytest
from sites import Site

from .clients import Client, running

DURATION = 4.0  # seconds
TOUCH = (
    b'<d:propertyupdate xmlns:d="DAV:"><d:set><d:prop><d:getlastmodified>5</d:getlastmodified></d:prop></d:set>'
    b"</d:propertyupdate>"
)
SECRET, INSIDE = b"SECRET of somebody else", b"inside"


class Neighbour:
    """Swaps `data/folder`, `data/file` and the folder between, each for a link to what lies outside, and back."""

    def __init__(self, data: Path, outside: Path, absolute: bool) -> None:
        self._data, self.swaps = data, 0
        self._out = str(outside) if absolute else os.path.relpath(outside, data)

    def swap(self) -> None:
        data = self._data
        self._swap(data / "folder", f"{self._out}/folder")
        self._swap(
            data / "deep" / "folder", f"{self._out}/folder" if self._out.startswith("/") else f"../{self._out}/folder"
        )
        with contextlib.suppress(OSError):  # a client may have been faster at any of these
            os.symlink(f"{self._out}/secret", data / "new-link")
            os.replace(data / "new-link", data / "file")
        (data / "new-file").write_bytes(INSIDE)
        os.replace(data / "new-file", data / "file")
        self.swaps += 1

    def _swap(self, folder: Path, target: str) -> None:
        spare = folder.with_name("spare")
        with contextlib.suppress(OSError):
            os.rename(folder, spare)
        with contextlib.suppress(OSError):
            os.symlink(target, folder)
            time.sleep(0)
        with contextlib.suppress(OSError):
            os.unlink(folder)
        with contextlib.suppress(OSError):
            os.rename(spare, folder)
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True)
        with contextlib.suppress(OSError):
            (folder / "secret").write_bytes(INSIDE)


def everything(directory: Path) -> dict[str, object]:
    """Return all that a client could have changed outside."""
    return {
        str(path): (
            path.read_bytes() if path.is_file() else sorted(os.listdir(path)),
            path.stat().st_mtime_ns,
            path.stat().st_mode,
        )
        for path in (directory, *directory.rglob("*"))
    }


READING = [
    ("GET", "folder/secret", None, {}),
    ("GET", "deep/folder/secret", None, {"Range": "bytes=0-5"}),
    ("GET", "file", None, {}),
    ("PROPFIND", "folder", None, {"Depth": "1"}),
    ("PROPFIND", "file", None, {"Depth": "0"}),
    ("COPY", "folder/secret", None, {"Destination": "copied"}),
    ("COPY", "folder", None, {"Destination": "copied-folder"}),
    ("COPY", "file", None, {"Destination": "copied-file"}),
]
WRITING = [
    ("PUT", "folder/secret", INSIDE, {}),
    ("PUT", "folder/new", INSIDE, {}),
    ("PUT", "file", INSIDE, {}),
    ("MKCOL", "folder/made", None, {}),
    ("PROPPATCH", "folder/secret", TOUCH, {}),
    ("COPY", "file", None, {"Destination": "deep/folder/copy"}),
    ("MOVE", "deep/folder/secret", None, {"Destination": "moved"}),
    ("MOVE", "moved", None, {"Destination": "folder/moved"}),
    ("MOVE", "copied-folder", None, {"Destination": "deep/folder"}),
    ("DELETE", "folder/secret", None, {}),
    ("DELETE", "deep/folder", None, {}),
    ("DELETE", "folder", None, {}),
]  # fmt: skip


@pytest.mark.parametrize("absolute", [False, True])
def test_a_link_that_is_swapped_in_leaks_nothing_and_costs_nothing(tmp_path: Path, absolute: bool) -> None:
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    for secret in (outside / "secret", outside / "folder" / "secret"):
        secret.write_bytes(SECRET)
    before = everything(outside)
    with running(Site(tmp_path / "site")) as alice, contextlib.ExitStack() as closing:
        neighbour = Neighbour(alice.site.data, outside, absolute)
        read: list[bytes] = []
        statuses: dict[tuple[str, int], int] = {}
        loops = [neighbour.swap]
        for acts in (READING, READING, WRITING):
            client = Client(alice.site)
            closing.callback(client.close)
            loops.append(requests(client, acts, read, statuses))
        neighbour.swap()
        assert run(loops) == []
        print(f"{neighbour.swaps} swaps, {statuses}")
        data = alice.site.data
    assert not [body for body in read if b"SECRET" in body or b">%d<" % len(SECRET) in body]
    assert everything(outside) == before
    kept = [path.read_bytes() for path in data.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [content for content in kept if SECRET in content]
    assert neighbour.swaps > 20
    answered = {method for method, status in statuses if status < 300}
    assert answered >= {"GET", "PROPFIND", "COPY", "PUT", "MOVE", "DELETE"}, statuses


def requests(client: Client, acts: list, read: list[bytes], statuses: dict[tuple[str, int], int]) -> Callable[[], None]:
    def go_through() -> None:
        for method, path, body, headers in acts:
            try:
                reply = client(method, path, body, **headers)
            except (OSError, HTTPException):  # an answer that cannot be finished is cut
                continue
            read.append(reply.body)
            statuses[method, reply.status] = statuses.get((method, reply.status), 0) + 1

    return go_through


def run(loops: list[Callable[[], None]]) -> list[BaseException]:
    """Go through each loop again and again, side by side; return what went wrong."""
    stop, wrong = threading.Event(), []

    def repeat(act: Callable[[], None]) -> None:
        while not stop.is_set():
            try:
                act()
            except BaseException as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=repeat, args=(act,)) for act in loops]
    for thread in threads:
        thread.start()
    time.sleep(DURATION)
    stop.set()
    for thread in threads:
        thread.join()
    return wrong
