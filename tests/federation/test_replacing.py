"""A folder that takes the place of another in a received Share, where the other server is a gateway as well."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from pairs import Pair
from sites import eventually


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_a_copy_and_a_move_replace_folders_in_a_received_share(pair: Pair, as_bob) -> None:
    folder = pair.folder("replaced")
    received = pair.accept(pair.share("replaced", "read,write"))
    for name in ("new", "old", "older"):
        assert as_bob("MKCOL", pair.bobs_url(received, name)).status == 201
        assert as_bob("PUT", pair.bobs_url(received, f"{name}/{name}.txt"), name.encode()).status == 201
    for method, target in (("COPY", "old"), ("MOVE", "older")):
        reply = as_bob(method, pair.bobs_url(received, "new"), Destination=pair.bobs_url(received, target))
        assert reply.status == 204, reply.body
    expected = {"old": None, "old/new.txt": b"new", "older": None, "older/new.txt": b"new"}
    assert tree(folder) == expected


def test_what_a_crash_has_left_at_the_other_server_is_settled_once_it_answers(pair: Pair, as_bob) -> None:
    folder = pair.folder("settled")
    received = pair.accept(pair.share("settled", "read,write"))
    pair.bob.kill()
    aside, arriving = (f".ocm-arriving-{digit * 32}" for digit in "ab")
    for name in (aside, arriving):
        (folder / name).mkdir()
        (folder / name / "file").write_bytes(name.encode())
    with closing(sqlite3.connect(pair.bob.directory / "state" / "state.sqlite")) as state:
        columns = "backend, target, aside, arriving, is_copy, process"
        row = (f"received:{received['id']}", b"folder", aside.encode(), arriving.encode(), 1, "dead")
        state.execute(f"INSERT INTO replacements ({columns}) VALUES (?, ?, ?, ?, ?, ?)", row)
        state.commit()
    pair.bob.start()
    assert aside.encode() not in as_bob("PROPFIND", pair.bobs_url(received), Depth="1").body
    eventually(lambda: tree(folder), {"folder": None, "folder/file": aside.encode()})


def test_rows_of_a_share_that_has_ended_are_forgotten(pair: Pair) -> None:
    pair.bob.kill()
    state = sqlite3.connect(pair.bob.directory / "state" / "state.sqlite", timeout=30)
    columns = "backend, target, aside, arriving, is_copy, process"
    row = ("received:no-such-share", b"a", b"b", b"c", 1, "dead")
    with closing(state):
        state.execute(f"INSERT INTO replacements ({columns}) VALUES (?, ?, ?, ?, ?, ?)", row)
        state.commit()
        pair.bob.start()
        eventually(lambda: state.execute("SELECT count(*) FROM replacements").fetchone(), (0,))
