"""The whole contract with the rights of a user, and that the kernel, not the gateway, says what a user may."""

from __future__ import annotations

import inspect
import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from two_users import ALICE, BOB, LAB, PEOPLE, belongs_to, homes, mapped, owner, permissions, require_root

from backends import temporaries
from backends.accounts import Account
from backends.errors import AlreadyExists, DigestMismatch, NoAccount, NotFound, PermissionDenied, StorageError
from backends.interface import Features, StorageBackend
from backends.linux import Abilities
from backends.local import LocalBackend
from backends.mapped import MappedBackend

from .conformance import BackendConformance, RandomWritingConformance
from .conformance.actions import get, make, names, path, put

ABILITIES = {"modern": Abilities(), "old": Abilities(*[False] * 4)}


class TestMapped(BackendConformance, RandomWritingConformance):
    expected = Features(
        atomic_replace=True,
        server_side_copy=True,
        random_write=True,
        set_modified=True,
        quota=True,
        identity=True,
        foreign_changes=True,
        modified_precision=1,
    )

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[StorageBackend]:
        """alice's, in a directory of hers below one that she cannot reach by herself."""
        root = tmp_path / "root"
        root.mkdir(mode=0o700)
        os.chown(root, ALICE.uid, ALICE.gid)
        backend = mapped(root, tmp_path / "journals")
        yield backend.acting_as("alice")
        backend.close()
        left = [
            path
            for path in root.rglob("*")
            if owner(path) != belongs_to(ALICE) or temporaries.is_hidden(os.fsencode(path.name))
        ]
        assert left == []


class Site:
    """A tree with a folder for each of the two and one for both."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        require_root()
        self.root = directory / "root"
        self.root.mkdir()
        homes(self.root)
        self.journals = directory / "journals"
        self.backend = mapped(self.root, self.journals, **settings)
        self.alice, self.bob = self.backend.acting_as("alice"), self.backend.acting_as("bob")


@pytest.fixture(params=ABILITIES.values(), ids=ABILITIES)
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    site = Site(tmp_path, abilities=request.param)
    yield site
    site.backend.close()
    assert not [found for found in site.root.rglob("*") if found.name.startswith(".ocm-gateway-")]


# --- the kernel decides ---------------------------------------------------------------------------------------------


def test_a_file_that_only_its_owner_may_read_is_read_by_nobody_else(site: Site) -> None:
    put(site.bob, "lab/secret", b"of bob")
    (site.root / "lab/secret").chmod(0o600)
    assert get(site.bob, "lab/secret") == b"of bob"
    for attempt in (site.alice.open_read, lambda where: site.alice.set_modified(where, 0)):
        with pytest.raises(PermissionDenied):
            attempt(path("lab/secret"))
    with pytest.raises(PermissionDenied):
        site.alice.copy(path("lab/secret"), path("lab/copy"), overwrite=False)
    assert get(site.backend.service, "lab/secret") == b"of bob", "the service could"
    assert names(site.alice, "lab") == [b"secret"]


def test_an_update_is_made_with_the_rights_of_the_user(site: Site) -> None:
    """Who may not read it cannot begin; who may replace it may update it, and it is his then, as after replacing it."""
    put(site.bob, "lab/file", b"of bob")
    (site.root / "lab/file").chmod(0o600)
    with pytest.raises(PermissionDenied):
        site.alice.open_update(path("lab/file"))
    (site.root / "lab/file").chmod(0o640)
    with site.alice.open_update(path("lab/file")) as writer:
        assert os.fstat(writer._inner._fresh.fileno()).st_uid == ALICE.uid
        writer.write_at(3, b"alice")
        writer.write(b"!")
        assert writer.read_at(0, 100) == b"of alice!"
        writer.commit()
    assert (get(site.bob, "lab/file"), permissions(site.root / "lab/file")) == (b"of alice!", 0o640)
    assert owner(site.root / "lab/file") == (ALICE.uid, LAB)


def test_what_takes_space_is_written_as_the_user(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it counts in his quota: what he sends, and what an update takes over."""
    put(site.alice, "alice/file", b"old content")
    found: set[tuple[str, int]] = set()

    def noting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            lines = Path("/proc/thread-self/status").read_text().splitlines()
            found.update((name, int(line.split()[4])) for line in lines if line.startswith("Uid:"))  # fsuid: proc(5)
            return call(*arguments)

        return noted

    for name in ("pwrite", "ftruncate", "copy_file_range"):
        monkeypatch.setattr(os, name, noting(name, getattr(os, name)))
    for act in (
        lambda writer: writer.read_at(0, 5),
        lambda writer: writer.write(b"more"),
        lambda writer: writer.write_at(3, b"new"),
        lambda writer: writer.truncate(100),
        lambda writer: writer.prepare(),
    ):
        with site.alice.open_update(path("alice/file")) as writer:
            act(writer)
    assert found == {(name, ALICE.uid) for name in ("pwrite", "ftruncate", "copy_file_range")}


def test_the_loop_thread_opens_nothing(site: Site) -> None:
    put(site.alice, "alice/file", b"x")
    assert get(site.backend.service, "alice/file") == b"x"
    for who in (site.alice, site.bob, site.backend):
        assert who.try_open_read(path("alice/file")) is None


def test_a_folder_that_only_its_owner_may_enter_is_closed_to_all_others(site: Site) -> None:
    put(site.bob, "bob/file", b"x")
    for attempt in (
        lambda: site.alice.scan(path("bob")),
        lambda: site.alice.stat(path("bob/file")),
        lambda: site.alice.open_write(path("bob/new")),
        lambda: site.alice.make_directory(path("bob/new")),
        lambda: site.alice.remove(path("bob/file")),
        lambda: site.alice.rename(path("bob/file"), path("alice/file"), overwrite=True),
    ):
        with pytest.raises(PermissionDenied):
            attempt()
    assert names(site.bob, "bob") == [b"file"]


@pytest.mark.parametrize(
    ("where", "mode", "allowed"),
    [
        ("lab/file", 0o640, {"alice", "bob"}),  # alice may replace it
        ("sticky/file", 0o640, {"bob"}),
        ("sticky/file", 0o660, {"alice", "bob"}),
        ("shown/file", 0o640, {"bob"}),
        ("shown/file", 0o660, {"alice", "bob"}),
        ("shown/file", 0o440, set()),  # nor may its owner replace it
        ("shown/folder", 0o750, {"bob"}),
        ("shown/folder", 0o770, {"alice", "bob"}),
        ("shown", 0o750, set()),
        ("bob", 0o700, {"bob"}),
        ("", 0o755, set()),
    ],
)
def test_who_may_change_or_replace_something_is_asked_without_a_change(
    site: Site, where: str, mode: int, allowed: set[str]
) -> None:
    for name, permitted in (("sticky", 0o1777), ("shown", 0o755)):
        (site.root / name).mkdir()
        (site.root / name).chmod(permitted)
        (site.root / name / "file").write_bytes(b"x")
    (site.root / "lab/file").write_bytes(b"x")
    (site.root / "shown/folder").mkdir()
    found = site.root / where
    if found.name in ("file", "folder"):
        os.chown(found, BOB.uid, LAB)
    found.chmod(mode)
    before = found.stat()
    assert {name for name in PEOPLE if may_change(getattr(site, name), where)} == allowed
    assert found.stat() == before
    assert may_change(site.backend.service, where), "root may everything"


def may_change(backend: StorageBackend, where: str) -> bool:
    try:
        backend.require_writable(path(where))
    except PermissionDenied:
        return False
    return True


def test_an_acl_says_who_may_change_something(site: Site) -> None:
    (site.root / "shown").mkdir()
    (site.root / "shown/file").write_bytes(b"x")
    for name in ("shown/file", "shown"):
        assert not may_change(site.alice, name)
        subprocess.run(["setfacl", "-m", f"u:{ALICE.uid}:rwx", site.root / name], check=True)
        assert (may_change(site.alice, name), may_change(site.bob, name)) == (True, False)


def test_what_is_not_there_or_hidden_may_be_changed_by_nobody(site: Site) -> None:
    os.mkfifo(site.root / "fifo")
    for where in ("nothing", "nothing/below", "fifo", temporaries.new_name().decode()):
        with pytest.raises(NotFound):
            site.alice.require_writable(path(where))


def test_an_acl_is_obeyed(site: Site) -> None:
    put(site.bob, "lab/file", b"x")
    file, folder = site.root / "lab/file", site.root / "bob"
    subprocess.run(["setfacl", "-m", f"u:{ALICE.uid}:---", file], check=True)
    with pytest.raises(PermissionDenied):
        site.alice.open_read(path("lab/file"))
    subprocess.run(["setfacl", "-m", f"u:{ALICE.uid}:r--", file], check=True)
    assert get(site.alice, "lab/file") == b"x"
    subprocess.run(["setfacl", "-m", f"u:{ALICE.uid}:rwx", folder], check=True)
    put(site.alice, "bob/present", b"x")
    assert owner(folder / "present") == belongs_to(ALICE)


def test_supplementary_groups_count(site: Site) -> None:
    """bob is in 70003, alice is not."""
    closed = site.root / "closed"
    closed.mkdir()
    os.chown(closed, 0, 70_003)
    closed.chmod(0o770)
    put(site.bob, "closed/file", b"x")
    with pytest.raises(PermissionDenied):
        site.alice.scan(path("closed"))


def test_a_link_shows_nobody_what_he_may_not_see(site: Site) -> None:
    put(site.bob, "bob/secret", b"x")
    (site.root / "lab/link").symlink_to("../bob/secret")
    with pytest.raises(StorageError):
        site.alice.open_read(path("lab/link"))
    assert names(site.alice, "lab") == []


def test_in_a_sticky_folder_nobody_replaces_or_removes_what_is_not_his(site: Site) -> None:
    (site.root / "lab").chmod(0o3770)
    put(site.bob, "lab/file", b"of bob")
    with pytest.raises(PermissionDenied):
        put(site.alice, "lab/file", b"of alice")
    with pytest.raises(PermissionDenied):
        site.alice.remove(path("lab/file"))
    assert get(site.bob, "lab/file") == b"of bob"
    assert [found.name for found in (site.root / "lab").iterdir()] == ["file"], "no temporary is left"


# --- whose new files are --------------------------------------------------------------------------------------------


def test_what_a_user_makes_is_his(site: Site) -> None:
    put(site.alice, "alice/file", b"x")
    make(site.alice, "alice/folder")
    site.alice.copy(path("alice/file"), path("alice/folder/copy"), overwrite=False)
    put(site.alice, "alice/file", b"replaced")
    home = site.root / "alice"
    made = {name: (owner(home / name), permissions(home / name)) for name in ("file", "folder", "folder/copy")}
    assert made == {
        "file": (belongs_to(ALICE), 0o640),
        "folder": (belongs_to(ALICE), 0o750),
        "folder/copy": (belongs_to(ALICE), 0o640),
    }


def test_a_setgid_folder_gives_its_group_on(site: Site) -> None:
    put(site.alice, "lab/file", b"x")
    make(site.alice, "lab/folder", "lab/folder/inner")
    lab = site.root / "lab"
    assert {owner(lab / name) for name in ("file", "folder", "folder/inner")} == {(ALICE.uid, LAB)}
    assert permissions(lab / "folder/inner") == 0o2750
    (lab / "folder").chmod(0o2770)
    put(site.bob, "lab/folder/file", b"x")
    assert owner(lab / "folder/file") == (BOB.uid, LAB)


def test_who_replaces_a_file_of_somebody_else_owns_the_new_one(site: Site) -> None:
    """As with every editor that renames; group and permissions stay, so that who could read it still can."""
    put(site.bob, "lab/file", b"of bob")
    (site.root / "lab/file").chmod(0o660)
    put(site.alice, "lab/file", b"of alice")
    assert (owner(site.root / "lab/file"), permissions(site.root / "lab/file")) == ((ALICE.uid, LAB), 0o660)
    assert get(site.bob, "lab/file") == b"of alice"


def test_a_group_that_the_writer_is_not_in_is_not_kept(site: Site) -> None:
    put(site.bob, "lab/file", b"x")
    os.chown(site.root / "lab/file", BOB.uid, 70_003)
    (site.root / "lab").chmod(0o777)
    put(site.alice, "lab/file", b"y")
    assert owner(site.root / "lab/file") == belongs_to(ALICE)


def test_what_existed_keeps_its_owner(site: Site) -> None:
    """Whatever is done beside it, to it, or with its name: no inode that was there gets another owner."""
    for number, (uid, gid) in enumerate([(0, 0), belongs_to(ALICE), belongs_to(BOB), (70_009, LAB)]):
        for kind in ("file", "folder"):
            where = site.root / "lab" / f"{kind}{number}"
            where.mkdir() if kind == "folder" else where.write_bytes(b"x")
            os.chown(where, uid, gid)
            where.chmod(0o777)
    held = [os.open(found, os.O_RDONLY) for found in site.root.rglob("*")]  # so that no inode is used again
    before = [(os.fstat(one).st_uid, os.fstat(one).st_gid) for one in held]
    for number in range(4):
        put(site.alice, f"lab/folder{number}/new", b"x")
        site.alice.copy(path(f"lab/file{number}"), path(f"lab/folder{number}/copy"), overwrite=False)
        site.alice.rename(path(f"lab/file{number}"), path(f"lab/folder{number}/moved"), overwrite=False)
        put(site.bob, f"lab/folder{number}/moved", b"y")
        with pytest.raises(AlreadyExists):
            site.bob.make_directory(path(f"lab/folder{number}"))
    assert [(os.fstat(one).st_uid, os.fstat(one).st_gid) for one in held] == before
    assert len(held) == 3 + 2 * 4
    for one in held:
        os.close(one)


# --- who is not known, and what forgets to say who ------------------------------------------------------------------


def test_who_has_no_account_gets_nowhere(site: Site) -> None:
    stranger = site.backend.acting_as("stranger")
    for operation in operations(stranger):
        with pytest.raises(NoAccount):
            operation()


def test_a_call_for_nobody_is_refused(site: Site) -> None:
    for operation in operations(site.backend):
        with pytest.raises(PermissionDenied, match="not said for whom"):
            operation()
    assert sorted(found.name for found in site.root.iterdir()) == ["alice", "bob", "lab"]


def operations(backend: StorageBackend) -> list[Any]:
    """Return every operation of the contract, as a call that would work; an addition to it is missed here."""
    where, new = path("lab"), path("lab/new")
    calls: dict[str, Any] = {
        "stat": lambda: backend.stat(where),
        "scan": lambda: backend.scan(where),
        "open_read": lambda: backend.open_read(new),
        "open_write": lambda: backend.open_write(new),
        "open_update": lambda: backend.open_update(new),
        "make_directory": lambda: backend.make_directory(new),
        "remove": lambda: backend.remove(where),
        "rename": lambda: backend.rename(where, new, overwrite=True),
        "copy": lambda: backend.copy(where, new, overwrite=True),
        "set_modified": lambda: backend.set_modified(where, 0),
        "require_writable": lambda: backend.require_writable(where),
        "space": lambda: backend.space(),
        "discard": lambda: backend.discard(new, "0" * 32),
    }
    contract = {name for name, _ in inspect.getmembers(StorageBackend, inspect.isfunction) if not name.startswith("_")}
    assert set(calls) == contract - {
        "close",
        "try_open_read",
        "try_read",
        "watch",
        "sweep",
    }  # none of which shows anything of a file
    return list(calls.values())


def test_every_operation_of_the_local_backend_is_passed_on_or_the_gateways_own() -> None:
    """A new one is refused or Unsupported until it is decided here for whom it runs."""
    public = {name for name in dir(LocalBackend) if not name.startswith("_")}
    own_work = {"identity", "accept_root", "expect_root", "sweep"}
    assert public - set(vars(MappedBackend)) - {"features"} == own_work | {"try_open_read", "try_read"}


# --- work that lasts ------------------------------------------------------------------------------------------------


def test_what_is_open_is_read_on_without_asking_again(site: Site) -> None:
    put(site.bob, "lab/file", b"content")
    with site.bob.open_read(path("lab/file")) as reader:
        (site.root / "lab/file").chmod(0)
        assert reader.read_at(0, 7) == b"content"


def test_a_writer_names_and_drops_as_the_user_in_whatever_thread(site: Site) -> None:
    """The name is given in another thread than the one that has opened it, which is the service's."""
    put(site.alice, "alice/file", b"old")
    for content in (b"first", b"second"):
        writer = site.alice.open_write(path("alice/file"), hashes=("sha256",))
        thread = threading.Thread(
            target=lambda writer=writer, content=content: (writer.write(content), writer.commit())
        )
        thread.start()
        thread.join()
        assert get(site.alice, "alice/file") == content
    assert owner(site.root / "alice/file") == belongs_to(ALICE)
    with site.alice.open_write(path("alice/other"), hashes=("sha256",)) as writer:
        writer.write(b"x")
        with pytest.raises(DigestMismatch):
            writer.commit({"sha256": b"0" * 32})
    assert names(site.alice, "alice") == [b"file"]


def test_rights_that_end_during_an_upload_end_it(site: Site) -> None:
    with site.alice.open_write(path("lab/file")) as writer:
        writer.write(b"x")
        (site.root / "lab").chmod(0o2700)
        with pytest.raises(PermissionDenied):
            writer.commit()
    assert not (site.root / "lab/file").exists()
    # Where the temporary had a name, it is alice's in a folder that she may not change any more: the next start sweeps.
    site.backend.close()
    if (journal := site.backend.service._journal._file) is not None:
        journal.close()  # as the end of the process does
    after = mapped(site.root, site.journals, look=False)
    after.service.sweep()
    after.close()
    assert list((site.root / "lab").iterdir()) == []
    assert not list(site.journals.glob("*"))


def test_a_listing_looks_at_each_entry_as_the_user(site: Site) -> None:
    for number in range(30):
        put(site.alice, f"lab/file{number}", b"x")
    with site.alice.scan(path("lab"), 10) as scan:
        assert len(scan.next()) == 10
        (site.root / "lab").chmod(0o2700)
        with pytest.raises(PermissionDenied):
            sum(map(len, iter(scan.next, [])))


# --- the gateway's own work -----------------------------------------------------------------------------------------


def test_the_root_is_looked_at_as_the_service_in_the_middle_of_a_users_call(tmp_path: Path) -> None:
    """Every second; the way to it is closed to users, as it may be at the sight of a NAS."""
    now = [0.0]
    tmp_path.chmod(0o700)
    site = Site(tmp_path, clock=lambda: now[0])
    for _ in range(3):
        now[0] += 2
        put(site.alice, "alice/file", b"x")
        assert get(site.alice, "alice/file") == b"x"
    site.backend.close()


def test_the_journal_is_the_services(site: Site) -> None:
    put(site.alice, "alice/file", b"old")
    with site.alice.open_write(path("alice/file")) as writer:
        writer.write(b"new")
        writer.commit()
    journals = list(site.journals.iterdir())
    assert [owner(found) for found in (site.journals, *journals)] == [(0, 0)] * (1 + len(journals))
    assert permissions(site.journals) == 0o700
    assert journals


def test_what_a_crash_has_left_in_a_users_folder_is_swept_by_the_service(site: Site, tmp_path: Path) -> None:
    """At the start, or, when the storage was away then, before the first write, whoever makes it."""
    put(site.alice, "alice/file", b"old")
    orphan = site.root / "alice" / temporaries.new_name().decode()
    for sweep in (lambda other: other.service.sweep(), lambda other: put(other.acting_as("bob"), "bob/file", b"x")):
        child = os.fork()
        if not child:
            left = LocalBackend(site.root, site.journals)
            left._journal.enter(path("alice"))
            orphan.write_bytes(b"half a file")
            os.chown(orphan, ALICE.uid, ALICE.gid)
            orphan.chmod(0o600)
            os._exit(0)
        os.waitpid(child, 0)
        assert orphan.exists()
        other = mapped(site.root, site.journals, look=False)
        sweep(other)
        assert not orphan.exists()
        other.close()


# --- many at once ---------------------------------------------------------------------------------------------------


def test_users_who_work_at_the_same_time_are_never_taken_for_each_other(tmp_path: Path) -> None:
    """Eight people in one folder, for two seconds: each file has the owner who has made it, and its readers."""
    crowd = {f"user{number}": Account(70_100 + number, 70_200 + number, (71_000 + number,)) for number in range(8)}
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o777)
    backend = mapped(root, tmp_path / "journals", crowd.get)
    wrong: list[object] = []
    made = [0] * len(crowd)
    stop = threading.Event()

    def work(number: int, name: str) -> None:
        view, account, choices = backend.acting_as(name), crowd[name], random.Random(number)
        (root / name).mkdir(mode=0o700)
        os.chown(root / name, account.uid, account.gid)
        while not stop.is_set():
            try:
                where = f"{name}-{made[number]}"
                put(view, where, where.encode())
                make(view, f"{where}.d")
                put(view, f"{name}/file", where.encode())
                if {owner(root / one) for one in (where, f"{where}.d", f"{name}/file")} != {belongs_to(account)}:
                    wrong.append(where)
                other = choices.choice([one for one in crowd if one != name])
                try:
                    names(view, other)
                    wrong.append((name, "has seen what belongs to", other))
                except (PermissionDenied, NotFound):
                    made[number] += 1
            except StorageError as error:
                wrong.append((name, error))

    workers = [threading.Thread(target=work, args=item) for item in enumerate(crowd)]
    for worker in workers:
        worker.start()
    stop.wait(2)
    stop.set()
    for worker in workers:
        worker.join()
    backend.close()
    assert wrong == []
    assert min(made) >= 5, made
    assert PEOPLE.keys().isdisjoint(crowd)
