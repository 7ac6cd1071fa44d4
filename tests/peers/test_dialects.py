"""Sharing with each product, from us to it and from it to us: create, accept, list, read, write, decline, revoke.

The other side is a strict fake that refuses what the product refuses; it must have nothing to complain about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.peersim import Fake, Received, Resource

from .running import Meeting, eventually, meeting


@dataclass(frozen=True)
class Case:
    """One product, what it can do, and what it tells others."""

    product: str
    options: dict[str, Any] = field(default_factory=dict)
    has_folders: bool = True
    takes_write: bool = True
    tells_accepted: bool = True
    tells_declined: bool = True
    hears_answers: bool = True
    hears_unshared: bool = True
    tells_unshared: bool = True

    def __str__(self) -> str:
        return "-".join([self.product, *self.options])


SILENT: dict[str, Any] = {"tells_accepted": False, "tells_declined": False, "hears_answers": False}
DEAF: dict[str, Any] = SILENT | {"tells_unshared": False, "hears_unshared": False}
CASES = (
    Case("nextcloud-30"),
    Case("nextcloud-31"),
    Case("nextcloud-33"),
    Case("nextcloud-35"),
    Case("owncloud-10"),
    Case("ocis", **SILENT),
    Case("opencloud", **DEAF),
    Case("reva", **DEAF),
    Case("reva", {"code_flow": True}, **DEAF),
    Case("seafile", tells_accepted=False),
    Case("ocm-go", has_folders=False, takes_write=False, tells_unshared=False),
)
FOLDERS = tuple(case for case in CASES if case.has_folders)
WRITABLE = tuple(case for case in FOLDERS if case.product != "seafile")
# Who says later that they have changed, in a way that can be believed.
TELLING_PERMISSIONS = tuple(case for case in FOLDERS if case.product in ("owncloud-10", "ocis"))


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meeting]:
    with meeting(tmp_path_factory.mktemp("dialects")) as running:
        yield running


@pytest.fixture
def fake(met: Meeting, case: Case) -> Iterator[Fake]:
    """A fake that knows alice and her server, and in the end has nothing to complain about."""
    fake = met.start(case.product, **case.options)
    fake.befriend(user_of(fake), met.alice)
    fake.trust(met.site.server, f"{met.site.url}/ocm")
    yield fake
    assert fake.journal.complaints == []


# --- from us to it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", FOLDERS, ids=str)
def test_a_folder_of_ours(met: Meeting, fake: Fake, case: Case) -> None:
    share, received = give(met, fake, f"folder-to-{case}", ("read", "write"), a_txt=b"alpha")
    folder = met.site.data / share["name"]
    reached = met.run(fake.accept(received))
    if case.tells_accepted:
        eventually(lambda: met.sent(share), "accepted")
    assert met.run(reached.names()) == ["a.txt"]
    assert met.run(reached.read("a.txt")) == b"alpha"
    met.run(reached.write("b ü.txt", b"beta"))
    met.run(reached.make_folder("sub"))
    met.run(reached.write("sub/c.txt", b"gamma"))
    met.run(reached.move("sub/c.txt", "d.txt"))
    met.run(reached.remove("sub", folder=True))
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b ü.txt", "d.txt"]
    met.run(reached.remove("b ü.txt"))
    assert (folder / "d.txt").read_bytes() == b"gamma"

    met.ask("share.revoke", id=share["id"])
    eventually(lambda: met.run(reached.is_refused()), True)
    if case.hears_unshared:
        eventually(lambda: received.state, "unshared")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_file_of_ours(met: Meeting, fake: Fake, case: Case) -> None:
    permissions = ("read", "write") if case.takes_write else ("read",)
    share, received = give(met, fake, f"file-to-{case}", permissions, b"alpha")
    reached = met.run(fake.accept(received))
    assert met.run(reached.read()) == b"alpha"
    if case.takes_write:
        assert met.run(reached.names()) == []
        met.run(reached.write("", b"beta"))
        assert (met.site.data / share["name"]).read_bytes() == b"beta"
    met.ask("share.revoke", id=share["id"])
    eventually(lambda: met.run(reached.is_refused()), True)
    if case.hears_unshared:
        eventually(lambda: received.state, "unshared")


@pytest.mark.parametrize("case", FOLDERS, ids=str)
def test_a_folder_of_ours_that_may_only_be_read(met: Meeting, fake: Fake, case: Case) -> None:
    _, received = give(met, fake, f"read-by-{case}", ("read",), a_txt=b"alpha")
    reached = met.run(fake.accept(received))
    assert met.run(reached.names()) == ["a.txt"]
    assert not reached.is_writable
    assert met.run(reached.is_refused("PUT", "a.txt", b"beta"))
    assert (met.site.data / received.name / "a.txt").read_bytes() == b"alpha"


@pytest.mark.parametrize("case", FOLDERS, ids=str)
def test_a_folder_of_ours_whose_permissions_change(met: Meeting, fake: Fake, case: Case) -> None:
    """Nobody has to be told: who asks WebDAV sees it, and who writes is let."""
    share, received = give(met, fake, f"changed-for-{case}", ("read",), a_txt=b"alpha")
    reached = met.run(fake.accept(received))
    assert met.run(reached.is_refused("PUT", "a.txt", b"beta"))
    met.ask("share.update", id=share["id"], permissions=["read", "write"])
    if received.permissions is not None:
        received.permissions = ("read", "write")
    reached = met.run(fake.reach(received))
    met.run(reached.names())
    assert reached.is_writable is not False  # Seafile does not look
    met.run(reached.write("a.txt", b"beta"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_file_of_ours_that_is_declined(met: Meeting, fake: Fake, case: Case) -> None:
    share, received = give(met, fake, f"declined-by-{case}", ("read",), b"alpha")
    met.run(fake.decline(received))
    eventually(lambda: met.sent(share), "declined" if case.tells_declined else "sent")


# --- from it to us --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", FOLDERS, ids=str)
def test_a_folder_of_theirs(met: Meeting, fake: Fake, case: Case) -> None:
    resource = Resource.folder(a_txt=b"alpha")
    sent = met.run(fake.send_share(met.alice, resource, name=f"folder-from-{case}"))
    mount = met.accept(sent.name)
    assert sent.state == ("accepted" if case.hears_answers else "sent")
    assert met.listing(mount) == ["a.txt"]
    assert met.http("GET", f"{mount}/a.txt").body == b"alpha"
    assert met.http("PUT", f"{mount}/b.txt", b"beta").status == 403


@pytest.mark.parametrize("case", WRITABLE, ids=str)
def test_a_folder_of_theirs_to_write_in(met: Meeting, fake: Fake, case: Case) -> None:
    resource = Resource.folder(a_txt=b"alpha")
    sent = met.run(fake.send_share(met.alice, resource, name=f"to-write-from-{case}", permissions=("read", "write")))
    mount = met.accept(sent.name)
    assert met.http("PUT", f"{mount}/b.txt", b"beta").status == 201
    assert resource.nodes["b.txt"] == b"beta"
    assert met.http("MKCOL", f"{mount}/sub").status == 201
    destination = f"{met.site.url}/dav/files/alice{mount}/sub/c.txt"
    assert met.http("MOVE", f"{mount}/b.txt", Destination=destination).status == 201
    assert met.http("DELETE", f"{mount}/a.txt").status == 204
    assert sorted(resource.nodes) == ["", "sub", "sub/c.txt"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_file_of_theirs(met: Meeting, fake: Fake, case: Case) -> None:
    sent = met.run(fake.send_share(met.alice, Resource.file(b"alpha"), name=f"file-from-{case}"))
    mount = met.accept(sent.name)
    assert sent.state == ("accepted" if case.hears_answers else "sent")
    assert met.http("GET", mount).body == b"alpha"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_file_of_theirs_that_is_revoked(met: Meeting, fake: Fake, case: Case) -> None:
    sent = met.run(fake.send_share(met.alice, Resource.file(b"alpha"), name=f"revoked-from-{case}"))
    mount = met.accept(sent.name)
    met.run(fake.revoke(sent))
    if case.tells_unshared:
        eventually(lambda: met.arrived(sent.name)["state"], "revoked")
    eventually(lambda: met.http("GET", mount).status in (403, 404, 502, 503), True)


@pytest.mark.parametrize("case", TELLING_PERMISSIONS, ids=str)
def test_a_folder_of_theirs_whose_permissions_change(met: Meeting, fake: Fake, case: Case) -> None:
    resource = Resource.folder()
    sent = met.run(fake.send_share(met.alice, resource, name=f"changed-from-{case}"))
    mount = met.accept(sent.name)
    assert met.http("PUT", f"{mount}/b.txt", b"beta").status == 403
    met.run(fake.change_permissions(sent, ("read", "write")))
    eventually(lambda: met.http("PUT", f"{mount}/b.txt", b"beta").status, 201)
    met.run(fake.change_permissions(sent, ("read",)))
    assert met.http("PUT", f"{mount}/b.txt", b"gamma").status == 403
    assert resource.nodes["b.txt"] == b"beta"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_file_of_theirs_that_is_declined(met: Meeting, fake: Fake, case: Case) -> None:
    sent = met.run(fake.send_share(met.alice, Resource.file(b"alpha"), name=f"declined-from-{case}"))
    share = met.arrived(sent.name)
    assert met.ask("received.decline", id=share["id"])["state"] == "declined"
    assert sent.state == ("declined" if case.hears_answers else "sent")


# --- what all have in common ------------------------------------------------------------------------------------------


def user_of(fake: Fake) -> str:
    (user,) = fake.users
    return user


def give(
    met: Meeting, fake: Fake, name: str, permissions: tuple[str, ...], content: bytes | None = None, **files: bytes
) -> tuple[dict[str, Any], Received]:
    """Share a new file, or folder with `files`, of alice's with the user of a fake."""
    met.plant(name, content, **files)
    share = met.share(name, fake.address(user_of(fake)), permissions)
    (received,) = fake.received
    assert (received.recipient, received.sender, received.name) == (user_of(fake), met.alice, name)
    return share, received
