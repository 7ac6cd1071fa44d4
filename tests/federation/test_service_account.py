"""A gateway that is not root, with the capabilities that README names and no other."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from machine_accounts import Accounts
from sites import Reply, Site, eventually
from two_users import ALICE, belongs_to, owner, permissions, require_root

from backends.mapped import MappedBackend
from backends.ownership import NewFiles, Owner

PASSWORD = "a password"
SERVICE = 70_900  # uid and gid of the service
FIXED = NewFiles(Owner(*belongs_to(ALICE)), umask=0o027).needed()
OLD = (
    b'<propertyupdate xmlns="DAV:"><set><prop><getlastmodified>Thu, 01 Jan 1970 00:00:01 GMT</getlastmodified></prop>'
    b"</set></propertyupdate>"
)


class ServiceSite(Site):
    """A site whose gateway and commands run as User= and AmbientCapabilities= in a unit would have them."""

    capabilities: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        names = ["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in self.capabilities)]
        sets = [f"--{kind}={','.join(names)}" for kind in ("bounding-set", "inh-caps", "ambient-caps")]
        return ["setpriv", f"--reuid={SERVICE}", f"--regid={SERVICE}", "--clear-groups", *sets, *super().command]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every account can reach."""
    require_root()
    directory = Path(tempfile.mkdtemp(prefix="ocm-service-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def serve(place: Path, capabilities: tuple[str, ...], **settings: Any) -> ServiceSite:
    backend = {"type": "local", "root": str(place / "site/data"), **settings.pop("backend")}
    site = ServiceSite(place / "site", backends={"storage": backend}, **settings)
    os.chown(site.directory, SERVICE, SERVICE)
    site.capabilities = capabilities
    return site


def ask(site: Site, user: str, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return site.http(method, f"/dav/files/{user}/home/{path}", body, sent, user=user, password=PASSWORD)


def crash_while_replacing(site: Site, *folders: Path) -> None:
    """Leave what a crash does between setting a folder aside and the arrival of the copy that replaces it."""
    site.kill()
    names = "target", "aside", "arriving"
    with closing(sqlite3.connect(site.directory / "state/state.sqlite")) as state:
        for folder in folders:
            paths = [os.fsencode((folder / f".ocm-arriving-{digit * 32}").relative_to(site.data)) for digit in "ab"]
            for path in paths:
                (site.data / os.fsdecode(path)).mkdir(mode=0o700)
                (site.data / os.fsdecode(path) / "file").write_bytes(b"old")
                for made in (site.data / os.fsdecode(path), site.data / os.fsdecode(path) / "file"):
                    os.chown(made, *owner(folder))
            row = (os.fsencode(folder.relative_to(site.data) / "replaced"), *paths)
            state.execute(
                f"INSERT INTO replacements (backend, {', '.join(names)}, is_copy, process) "
                "VALUES ('storage', ?, ?, ?, 1, 'dead')",
                row,
            )
        state.commit()


def below(folder: Path) -> set[str]:
    return {str(found.relative_to(folder)) for found in folder.rglob("*")}


def test_its_own_files_need_no_capability(place: Path) -> None:
    """An upload over a file that is closed even to its owner is left twice, by a kill too, and gone on with."""
    site = serve(place, (), backend={})
    os.chown(site.data, SERVICE, SERVICE)
    with site:
        site.add_user("alice", PASSWORD)
        assert ask(site, "alice", "PUT", "file", b"old").status == 201
        (site.data / "file").chmod(0o400)
        assert ask(site, "alice", "PUT", "file", b"on", Content_Range="bytes 0-1/6").status == 202
        assert ask(site, "alice", "PUT", "file", b"e ", Content_Range="bytes 2-3/6").status == 202
        site.kill()
        site.start()
        assert ask(site, "alice", "PUT", "file", b"", Content_Range="bytes */6").headers["Range"] == "bytes=0-3"
        assert ask(site, "alice", "PUT", "file", b"by", Content_Range="bytes 4-5/6").status == 204
    assert (site.data / "file").read_bytes() == b"one by"
    assert (below(site.data), permissions(site.data / "file")) == ({"file"}, 0o400)


def test_files_of_a_fixed_account(place: Path) -> None:
    ownership = {"mode": "fixed", "user": ALICE.uid, "group": ALICE.gid, "umask": "027"}
    site = serve(place, FIXED, backend={"ownership": ownership})
    os.chown(site.data, *belongs_to(ALICE))
    site.data.chmod(0o700)
    with site:
        site.add_user("alice", PASSWORD)
        assert ask(site, "alice", "MKCOL", "folder").status == 201
        assert ask(site, "alice", "PUT", "folder/file", b"old").status == 201
        assert ask(site, "alice", "PUT", "folder/file", b"new").status == 204
        assert b"200 OK" in ask(site, "alice", "PROPPATCH", "folder/file", OLD).body
        assert (site.data / "folder/file").stat().st_mtime == 1
        (site.data / "folder/file").chmod(0o400)
        assert ask(site, "alice", "PUT", "folder/file", b"half", Content_Range="bytes 0-3/8").status == 202
        assert ask(site, "alice", "PUT", "folder/file", b"+end", Content_Range="bytes 4-7/8").status == 204
        assert ask(site, "alice", "GET", "folder/file").body == b"half+end"
        assert {owner(found) for found in site.data.rglob("*")} == {belongs_to(ALICE)}
        assert (permissions(site.data / "folder"), permissions(site.data / "folder/file")) == (0o750, 0o400)
        crash_while_replacing(site, site.data / "folder")
        site.start()
        eventually(lambda: below(site.data), {"folder", "folder/file", "folder/replaced", "folder/replaced/file"})
        assert ask(site, "alice", "DELETE", "folder").status == 204
        assert below(site.data) == set()
    assert "Traceback" not in site.log.read_text()


def test_files_of_each_user(place: Path, accounts: Accounts) -> None:
    mounts = [{"name": "home", "backend": "storage", "path": "", "rights": "write"}]
    site = serve(place, MappedBackend.NEEDED, backend={"ownership": {"mode": "map", "umask": "007"}}, mounts=mounts)
    anna = accounts.anna
    for name, mode, owned in (("anna", 0o700, accounts.ids(anna)), ("sticky", 0o3770, (0, accounts.group_id))):
        (site.data / name).mkdir()
        os.chown(site.data / name, *owned)
        (site.data / name).chmod(mode)
    with site:
        site.add_user(anna, PASSWORD)
        for folder in ("anna", "sticky"):
            assert ask(site, anna, "MKCOL", f"{folder}/inner").status == 201
            assert ask(site, anna, "PUT", f"{folder}/inner/file", b"old").status == 201
            assert ask(site, anna, "PUT", f"{folder}/inner/file", b"new").status == 204
            assert {owner(found)[0] for found in (site.data / folder).rglob("*")} == {accounts.ids(anna)[0]}
            assert ask(site, anna, "DELETE", f"{folder}/inner/file").status == 204
        crash_while_replacing(site, site.data / "anna", site.data / "anna/inner", site.data / "sticky")
        os.chown(site.data / f"sticky/.ocm-arriving-{'a' * 32}", *accounts.ids(anna))
        site.start()
        settled = {"inner", "replaced", "replaced/file"}
        eventually(lambda: below(site.data / "sticky"), settled)
        eventually(lambda: below(site.data / "anna"), settled | {"inner/replaced", "inner/replaced/file"})
    assert "Traceback" not in site.log.read_text()


@pytest.mark.parametrize(
    ("ownership", "needed"),
    [
        ({"mode": "fixed", "user": ALICE.uid, "group": ALICE.gid, "umask": "027"}, FIXED),
        ({"mode": "map"}, MappedBackend.NEEDED),
    ],
    ids=["fixed", "map"],
)
def test_it_does_not_start_without_one_of_them_and_names_it(
    place: Path, ownership: dict[str, Any], needed: tuple[str, ...]
) -> None:
    site = serve(place, needed, backend={"ownership": ownership})
    assert site.cli("check-config").returncode == 0
    for name in needed:
        site.capabilities = tuple(other for other in needed if other != name)
        refused = site.cli("serve")
        assert refused.returncode == 1
        assert f"in a process of uid {SERVICE} without {name}; allowed: service" in refused.stderr
