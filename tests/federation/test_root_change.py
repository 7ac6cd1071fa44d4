"""A root that is another one than before: nothing of it is served until the operator has confirmed the change."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pairs import ALICE, Pair
from sites import Site, eventually

PASSWORD = "alice-password"


def test_a_replaced_root_is_unavailable_until_it_is_accepted(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    with site:
        site.add_user("alice", PASSWORD)
        (site.data / "a.txt").write_bytes(b"alpha")
        assert read(site) == (200, b"alpha")
    site.data.rename(tmp_path / "unmounted")
    site.data.mkdir()
    (site.data / "a.txt").write_bytes(b"of another disk")
    with site:
        status, body = read(site)
        assert status == 503
        assert b"another disk" not in body
        assert "accept-root storage" in site.log.read_text()
        (backend,) = site.json("backend", "list")
        assert (backend["name"], backend["type"]) == ("storage", "local")
        assert "is it mounted?" in backend["problem"]
        assert site.cli("backend", "accept-root", "nothing").returncode == 1
        assert site.cli("backend", "accept-root", "storage").returncode == 0
        assert read(site) == (200, b"of another disk")
    with site:
        assert read(site) == (200, b"of another disk")
        assert site.json("backend", "list")[0]["problem"] is None


def read(site: Site, path: str = "a.txt", password: str = PASSWORD) -> tuple[int, bytes]:
    reply = site.http("GET", f"/dav/files/alice/home/{path}", user="alice", password=password)
    return reply.status, reply.body


def test_a_root_that_is_away_keeps_nothing_else_from_starting(tmp_path: Path) -> None:
    """An unmounted NAS, with the root below the mount point: its backend is unavailable, the rest works."""
    nas, local = tmp_path / "mnt/nas/data", tmp_path / "local"
    nas.mkdir(parents=True)
    local.mkdir()
    (local / "a.txt").write_bytes(b"alpha")
    site = Site(
        tmp_path / "site",
        backends={"storage": {"type": "local", "root": str(local)}, "nas": {"type": "local", "root": str(nas)}},
        mounts=[{"name": name, "backend": backend, "rights": "write"} for name, backend in MOUNTS],
    )
    with site:
        site.add_user("alice", PASSWORD)
    nas.rmdir()
    with site:
        assert read(site) == (200, b"alpha")
        assert site.http("PUT", "/dav/files/alice/nas/x", b"x", user="alice", password=PASSWORD).status == 503
        eventually(lambda: "storage is away" in site.log.read_text(), True)


LOCKINFO = (
    b'<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>'
)  # fmt: skip
PAINT = b'<propertyupdate xmlns="DAV:"><set><prop><colour xmlns="my:">red</colour></prop></set></propertyupdate>'
PART = {"Content-Range": "bytes 0-0/2"}


def test_while_a_nas_is_unmounted_every_request_is_told_to_come_again(pair: Pair, as_bob: Callable[..., Any]) -> None:
    """Its owner's, and those of whom it is shared with, here and at another server; and then it is as before."""
    nas = pair.alice.directory / "nas"
    pair.folder("kept", a_txt=b"alpha")
    pair.alice.data.rename(nas)
    pair.alice.data.mkdir()
    mount(nas, pair.alice.data)
    try:
        received = pair.accept(pair.share("kept", "read,write"))
        bearer = {"Authorization": f"Bearer {pair.bobs_token(received)}"}
        assert read(pair.alice, "kept/a.txt", ALICE) == (200, b"alpha")
        unmount(pair.alice.data)
        eventually(lambda: read(pair.alice, "kept/a.txt", ALICE)[0], 503)
        for method, body, more in (
            *(("GET", None, {}), ("HEAD", None, {}), ("PUT", b"x", {}), ("PUT", b"x", PART), ("DELETE", None, {})),
            *(("PROPFIND", None, {"Depth": depth}) for depth in ("0", "1")),
            *(("LOCK", LOCKINFO, {}), ("PROPPATCH", PAINT, {}), ("MKCOL", None, {})),
            *(
                (method, None, {"Destination": f"{pair.alice.url}/dav/files/alice/home/b.txt"})
                for method in ("COPY", "MOVE")
            ),
        ):
            target = f"/dav/files/alice/home/kept/{'new' if method == 'MKCOL' else 'a.txt'}"
            answers = [pair.alice.http(method, target, body, more, user="alice", password=ALICE)]
            if "Destination" not in more:
                answers.append(pair.alice.http(method, "/dav/ocm/a.txt", body, bearer | more))
            for answer in answers:
                assert answer.status == 503, (method, answer)
                assert int(answer.headers["Retry-After"]) > 0, method
        assert as_bob("GET", pair.bobs_url(received, "a.txt")).status == 503
        assert list(pair.alice.data.iterdir()) == [], "nothing was written below the mount point"
        mount(nas, pair.alice.data)
        eventually(lambda: read(pair.alice, "kept/a.txt", ALICE), (200, b"alpha"))
    finally:
        unmount(pair.alice.data)


def mount(source: Path, target: Path) -> None:
    subprocess.run(["mount", "--bind", source, target], check=True)


def unmount(target: Path) -> None:
    """Take the mount away from its place at once, whatever is still open there."""
    while f" {target} " in Path("/proc/self/mountinfo").read_text():
        subprocess.run(["umount", "--lazy", target], check=True)


def test_a_root_that_never_was_there_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", backends={"storage": {"type": "local", "root": "/nowhere/at/all"}})
    done = site.cli("serve")
    assert done.returncode == 1
    assert "backends.storage.root" in done.stderr
    assert done.stderr.endswith("to make it: mkdir -p /nowhere/at/all\n")  # and nothing about coroutines


MOUNTS = (("home", "storage"), ("nas", "nas"))
