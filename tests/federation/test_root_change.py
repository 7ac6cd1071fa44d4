"""A root that is another one than before: nothing of it is served until the operator has confirmed the change."""

from __future__ import annotations

from pathlib import Path

from sites import Site

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


def read(site: Site) -> tuple[int, bytes]:
    reply = site.http("GET", "/dav/files/alice/home/a.txt", user="alice", password=PASSWORD)
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
        assert "storage is away" in site.log.read_text()


def test_a_root_that_never_was_there_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", backends={"storage": {"type": "local", "root": "/nowhere/at/all"}})
    done = site.cli("serve")
    assert done.returncode == 1
    assert "backends.storage.root" in done.stderr
    assert "mkdir -p /nowhere/at/all" in done.stderr


MOUNTS = (("home", "storage"), ("nas", "nas"))
