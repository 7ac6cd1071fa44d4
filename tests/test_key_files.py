"""Files of authorized keys that something else keeps: they change, cannot be read, or may be written by others."""

from __future__ import annotations

import asyncio
import errno
import os
import pwd
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from parts import until
from ssh_lines import new_key

from backends.errors import Unavailable
from gateway import key_files as module
from gateway.key_files import KeyFiles

KEY, OTHER = new_key(), new_key()


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def files(tmp_path: Path) -> Iterator[KeyFiles]:
    keys = KeyFiles(tmp_path / "{user}" / "keys")
    (tmp_path / "alice").mkdir()
    yield keys
    keys.close()


async def test_a_file_counts_as_it_is_now(files: KeyFiles, tmp_path: Path, log: list[Any]) -> None:
    file = tmp_path / "alice" / "keys"
    assert not await files.have("alice", KEY.fingerprint)
    file.write_text(f"# of alice\n{KEY.line}\n")
    assert await files.have("alice", KEY.fingerprint)
    assert not await files.have("alice", OTHER.fingerprint)
    assert not await files.have("bob", KEY.fingerprint)
    file.write_bytes(b"\xff\0 rubbish\n" + f'from="10.0.0.0/8" {KEY.line}\nrestrict {OTHER.line}\n'.encode())
    assert not await files.have("alice", KEY.fingerprint)
    assert await files.have("alice", OTHER.fingerprint)
    file.unlink()
    assert not await files.have("alice", OTHER.fingerprint)
    assert log == []


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Storage that gives no answer about alice's file before this is set."""
    released, read = threading.Event(), module._read

    def slowly(path: str, *rest: Any) -> Any:
        if "alice" in path:
            released.wait(20)
        return read(path, *rest)

    monkeypatch.setattr(module, "_read", slowly)
    yield released
    released.set()


async def test_a_file_on_storage_that_hangs_opens_nothing_and_is_not_waited_for(
    files: KeyFiles, tmp_path: Path, hang: threading.Event, monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    (tmp_path / "alice" / "keys").write_text(KEY.line)
    with monkeypatch.context() as patch:
        patch.setattr(module, "FILE_TIME", 0.05)
        assert not await files.have("alice", KEY.fingerprint)
    assert files._arriving.begun, "and that goes on without anybody"
    hang.set()
    await until(lambda: not files._arriving.begun)
    assert await files.have("alice", KEY.fingerprint)
    assert [line["reason"] for line in log] == ["no answer within 0.05 s"]


async def test_who_is_in_stays_for_a_while_when_the_storage_hangs(
    files: KeyFiles, tmp_path: Path, hang: threading.Event, monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    """And is held up once, not by each look; nothing that was not in the file comes in by that."""
    file = tmp_path / "alice" / "keys"
    file.write_text(KEY.line)
    hang.set()
    assert await files.have("alice", KEY.fingerprint)
    hang.clear()
    monkeypatch.setattr(module, "FILE_TIME", 0.05)
    assert await files.still_have("alice", KEY.fingerprint)
    monkeypatch.setattr(module, "FILE_TIME", 1e-9)  # which has passed for the read that runs, and not for another
    assert [await files.still_have("alice", key.fingerprint) for key in (KEY, OTHER)] == [True, False]
    assert [line["reason"] for line in log] == ["no answer within 0.05 s"]
    file.write_text(OTHER.line)
    monkeypatch.setattr(module, "FILE_TIME", 60.0)
    hang.set()
    await until(lambda: not files._staying.begun)
    assert [await files.still_have("alice", key.fingerprint) for key in (KEY, OTHER)] == [False, True]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
async def test_storage_says_nothing_against_a_key_for_a_minute_and_no_longer(
    number: int, files: KeyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    def broken(*_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    (tmp_path / "alice" / "keys").write_text(KEY.line)
    assert await files.have("alice", KEY.fingerprint)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_read", broken)
        assert await files.still_have("alice", KEY.fingerprint)
        assert not await files.have("alice", KEY.fingerprint), "but nobody comes in"
        assert not await files.still_have("alice", OTHER.fingerprint)
        patch.setattr(module, "FILE_AWAY", 0.0)
        assert not await files.still_have("alice", KEY.fingerprint)
    assert await files.have("alice", KEY.fingerprint)
    assert await files.still_have("alice", KEY.fingerprint)
    assert [line["reason"] for line in log] == [os.strerror(number)]


async def test_names_that_strangers_ask_for_drop_nothing_of_who_is_in(
    files: KeyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(module, "KEPT_MAX", 3)
    (tmp_path / "alice" / "keys").write_text(KEY.line)
    assert await files.have("alice", KEY.fingerprint)
    monkeypatch.setattr(module, "_read", broken)
    for number in range(10):
        assert not await files.have(f"user{number}", KEY.fingerprint)
    assert len(files._seen) <= module.KEPT_MAX
    assert await files.still_have("alice", KEY.fingerprint)


async def test_nobody_is_refused_because_many_are_in(
    files: KeyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Watch asks for all of them at once, and no file twice at once."""
    read, names = module._read, [f"user{number}" for number in range(3 * module.ARRIVING)]
    running: list[str] = []

    def slowly(path: str, *rest: Any) -> Any:
        assert path not in running
        running.append(path)
        time.sleep(0.002)
        running.remove(path)
        return read(path, *rest)

    monkeypatch.setattr(module, "_read", slowly)
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys").write_text(KEY.line)
    for _ in range(2):
        assert all(await asyncio.gather(*(files.still_have(name, KEY.fingerprint) for name in names for _ in "12")))


async def test_who_logs_in_holds_up_nobody_who_is_in(
    files: KeyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers ask for names whose files are on storage that hangs."""
    released, read = threading.Event(), module._read

    def slowly(path: str, *rest: Any) -> Any:
        if f"{tmp_path}/user" in path:
            released.wait(20)
        return read(path, *rest)

    monkeypatch.setattr(module, "_read", slowly)
    (tmp_path / "alice" / "keys").write_text(KEY.line)
    names = [f"user{number}" for number in range(module.FILES + module.ARRIVING)]
    strangers = [asyncio.create_task(files.have(name, KEY.fingerprint)) for name in names]
    await until(lambda: len(files._arriving.begun) == len(names))
    with pytest.raises(Unavailable):
        await files.have("alice", KEY.fingerprint)
    assert await files.still_have("alice", KEY.fingerprint)
    released.set()
    assert not any(await asyncio.gather(*strangers))


async def test_a_file_is_read_again_only_when_it_has_changed(
    files: KeyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when another one of the same size and time has taken its place."""
    parsed = []
    parse = module.parse_authorized_keys
    monkeypatch.setattr(module, "parse_authorized_keys", lambda content: (parsed.append(content), parse(content))[1])
    file = tmp_path / "alice" / "keys"
    file.write_text(KEY.line)
    for _ in range(3):
        assert await files.have("alice", KEY.fingerprint)
    assert len(parsed) == 1
    facts = file.stat()
    other = tmp_path / "other"
    other.write_text(OTHER.line)
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert other.stat().st_size == facts.st_size
    other.rename(file)
    assert not await files.have("alice", KEY.fingerprint)
    assert await files.have("alice", OTHER.fingerprint)


async def test_what_cannot_be_used_gives_no_keys_and_one_line_in_the_log(
    files: KeyFiles, tmp_path: Path, log: list[Any]
) -> None:
    file = tmp_path / "alice" / "keys"
    problems = {
        "it is no file": lambda: os.mkfifo(file),
        f"it is longer than {module.CONTENT_MAX} bytes": lambda: file.write_text(
            KEY.line + "\n" + "#" * module.CONTENT_MAX
        ),
        "Too many levels of symbolic links": lambda: file.symlink_to(file),
    }
    for problem, make in problems.items():
        make()
        for _ in range(2):
            assert not await files.have("alice", KEY.fingerprint)
        assert [(line["reason"], line["path"], line["user"]) for line in log] == [(problem, str(file), "alice")]
        log.clear()
        file.unlink()
        file.write_text(KEY.line)
        assert await files.have("alice", KEY.fingerprint)
        file.unlink()


# --- who could let himself in ---------------------------------------------------------------------------------------

STRANGER, ALICE = 60_001, 60_002  # uids


def _give(path: Path, uid: int = STRANGER) -> None:
    os.chown(path, uid, -1, follow_symlinks=False)


def _link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


OPEN_TO_OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "the file is a stranger's": (lambda root: _give(root / "keys/alice"), "keys/alice belongs to uid 60001"),
    "its folder is a stranger's": (lambda root: _give(root / "keys"), "keys belongs to uid 60001"),
    "a folder above is a stranger's": (lambda root: _give(root), "belongs to uid 60001"),
    "others write to the file": (lambda root: (root / "keys/alice").chmod(0o646), "chmod go-w {root}/keys/alice"),
    "others write to its folder": (lambda root: (root / "keys").chmod(0o757), "chmod go-w {root}/keys"),
    "a group writes to a folder above": (lambda root: root.chmod(0o775), "chmod go-w {root}"),
    "a stranger's file where everybody makes some": (
        lambda root: ((root / "keys").chmod(0o1777), _give(root / "keys/alice")),
        "keys/alice belongs to uid 60001",
    ),
    "a stranger's link where everybody makes some": (
        lambda root: (
            (root / "keys").chmod(0o1777),
            (root / "keys/alice").rename(root / "bob"),
            _give(_link(root / "keys/alice", root / "bob")),
        ),
        "keys/alice belongs to uid 60001",
    ),
    "others change where a link on the way leads": (
        lambda root: (
            (root / "keys").rename(root / "there"),
            (root / "open").mkdir(),
            (root / "open").chmod(0o777),
            _link(root / "open/link", root / "there"),
            _link(root / "keys", Path("open/../open/link")),
        ),
        "chmod go-w {root}/open",
    ),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of `keys/alice`, in which everything is safe."""
    (tmp_path / "keys").mkdir(0o755)
    (tmp_path / "keys/alice").write_text(KEY.line)
    return tmp_path


@pytest.fixture
def kept(root: Path) -> Iterator[KeyFiles]:
    keys = KeyFiles(root / "keys/{user}")
    yield keys
    keys.close()


@pytest.mark.parametrize("case", OPEN_TO_OTHERS)
async def test_a_file_that_others_could_replace_opens_nothing(
    case: str, kept: KeyFiles, root: Path, log: list[Any]
) -> None:
    change, reason = OPEN_TO_OTHERS[case]
    change(root)
    assert not await kept.have("alice", KEY.fingerprint)
    (line,) = log
    assert reason.format(root=root) in line["reason"]


async def test_who_swaps_a_file_by_its_folder_is_not_let_in(kept: KeyFiles, root: Path, log: list[Any]) -> None:
    """Nor does anybody stay who was let in by the file that he has taken away."""
    assert await kept.have("alice", KEY.fingerprint)
    (root / "keys").chmod(0o777)
    (root / "keys/alice").unlink()
    (root / "keys/alice").write_text(OTHER.line)
    assert not await kept.have("alice", OTHER.fingerprint)
    assert not await kept.still_have("alice", KEY.fingerprint)
    assert len(log) == 1


SAFE: dict[str, Callable[[Path], object]] = {
    "root's and read by all": lambda root: (root / "keys/alice").chmod(0o644),
    "by links of our own": lambda root: (
        (root / "keys").rename(root / "there"),
        _link(root / "keys", Path("there")),
        (root / "there/alice").rename(root / "bob"),
        _link(root / "there/alice", root / "keys/../bob"),
    ),
    "where everybody makes files": lambda root: (root / "keys").chmod(0o1777),
    "in the home of the account of that name": lambda root: (
        _give(root / "keys", ALICE),
        _give(root / "keys/alice", ALICE),
    ),
}


@pytest.mark.parametrize("case", SAFE)
async def test_a_file_that_nobody_else_could_replace_counts(
    case: str, kept: KeyFiles, root: Path, monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    account = pwd.struct_passwd(("alice", "x", ALICE, ALICE, "", "/home/alice", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", {"alice": account}.__getitem__)
    SAFE[case](root)
    assert await kept.have("alice", KEY.fingerprint)
    assert log == []
