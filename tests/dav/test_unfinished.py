"""Names of what is not finished: no client sees one, reaches one, or makes one."""

from __future__ import annotations

import pytest

from backends.errors import NotFound
from backends.paths import StoragePath
from gateway import unfinished
from gateway.tree import READ_WRITE, Place

from .served import WRITE, Served, bearer

NAME = unfinished.new_name(received=False).decode()


@pytest.fixture(scope="module", autouse=True)
def planted(served: Served) -> None:
    for storage in served.storages.values():
        folder = StoragePath.parse("folder")
        for path in (folder, folder.child(NAME.encode())):
            storage.backend.make_directory(path)
            with storage.backend.open_write(path.child(b"file")) as writer:
                writer.write(b"content")
                writer.commit()


def to(path: str) -> dict[str, str]:
    return {"Destination": f"/dav/files/alice{path}"}


@pytest.mark.parametrize("mount", ["home", "other"])
@pytest.mark.parametrize("below", ["", "/file"])
def test_a_client_cannot_reach_them(served, mount, below):
    for method in ("GET", "HEAD", "PROPFIND", "DELETE", "MOVE", "COPY", "PROPPATCH"):
        assert served.alice(method, f"/{mount}/folder/{NAME}{below}", **to(f"/{mount}/x")).status == 404, method
    for method in ("PUT", "MKCOL"):
        assert served.alice(method, f"/{mount}/folder/{NAME}{below}").status == 403, method
    for method in ("MOVE", "COPY"):
        reply = served.alice(method, f"/{mount}/folder/file", **to(f"/{mount}/folder/{NAME}{below}"))
        assert reply.status == 403, method
    assert served.alice("GET", f"/{mount}/folder/file").body == b"content"


@pytest.mark.parametrize("mount", ["home", "other"])
def test_they_are_neither_listed_nor_copied_but_go_with_their_folder(served, mount):
    listing = served.alice("PROPFIND", f"/{mount}/folder/", Depth="1").body
    assert b"/folder/file" in listing
    assert b"unfinished" not in listing
    assert served.alice("COPY", f"/{mount}/folder", **to(f"/{mount}/copy")).status == 201
    backend = served.storages["storage" if mount == "home" else "memory"].backend
    with backend.scan(StoragePath.parse("copy")) as scan:
        assert [entry.name for entry in scan] == [b"file"]
    backend.make_directory(StoragePath.parse(f"copy/{NAME}"))
    assert served.alice("DELETE", f"/{mount}/copy").status == 204
    assert served.alice("PROPFIND", f"/{mount}/copy").status == 404


def test_a_share_hides_them_as_well(served):
    share = served.share("folder", WRITE)
    assert b"unfinished" not in served.request("PROPFIND", "/dav/ocm/", headers=bearer(share.secret)).body
    assert served.request("GET", f"/dav/ocm/{NAME}/file", headers=bearer(share.secret)).status == 404
    assert served.request("PUT", f"/dav/ocm/{NAME}", b"x", bearer(share.secret)).status == 403


def test_on_a_received_share_they_have_other_names_which_the_other_server_takes(served):
    """The peer may be a gateway like this one: what it hides it would not let us make."""
    theirs = unfinished.new_name(received=True)
    assert served.alice("MKCOL", f"/home/{theirs.decode()}").status == 201
    received = Place(served.storages["storage"], StoragePath(), StoragePath(), READ_WRITE, received="share")
    with pytest.raises(NotFound):
        received.address(StoragePath((theirs, b"file")))
    with received.scan() as scan:
        assert theirs not in {entry.name for entry in scan}
