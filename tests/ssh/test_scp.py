"""`scp`, which speaks SFTP, and `scp -O`, which speaks as it did before: files, trees with their times, patterns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ..dav.served import READ, WRITE
from .served import SshServed

CONTENT = os.urandom(1_000_000)
DEPTH = 60  # folders within each other; OpenSSH's clients go 64 deep by SFTP
LONG_AGO = 1_400_000_000  # seconds since 1970
NAMES = [
    b"plain",
    b" spaces  in it ",
    b"'quotes\" \\ and $(more)",
    b"*?[a]",
    b"caf\xc3\xa9",
    b"latin-\xe9",
    b"\x01\x7f",
    b"-rf",
    b"~",
]

BOTH = pytest.mark.parametrize("legacy", [[], ["-O"]], ids=["sftp", "scp"])


@pytest.fixture(scope="module")
def served(served: SshServed) -> SshServed:
    (served.data / "read").mkdir()
    (served.data / "read/file").write_bytes(CONTENT)
    return served


def grow(top: Path) -> None:
    """Make a tree with names of all kinds, an empty file and an empty folder, deep, everything of another time."""
    for name in NAMES:
        folder = os.path.join(os.fsencode(top), name)
        os.makedirs(folder)
        Path(os.fsdecode(folder), os.fsdecode(name)).write_bytes(name)
    (top / "empty file").touch()
    (top / "empty folder").mkdir()
    deep = top.joinpath(*["d"] * (DEPTH - 2))
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(CONTENT)
    for number, path in enumerate(sorted(top.rglob("*"), key=lambda path: -len(path.parts))):
        os.utime(path, (LONG_AGO + number, LONG_AGO + number))
    os.utime(top, (LONG_AGO - 1, LONG_AGO - 1))


def tree(top: Path) -> dict[str, tuple[int, bytes | None]]:
    """Return the time and content of everything below `top`, and of it."""
    found = [top, *top.rglob("*")]
    return {
        str(path.relative_to(top)): (int(path.stat().st_mtime), path.read_bytes() if path.is_file() else None)
        for path in found
    }


@BOTH
def test_a_tree_goes_up_and_comes_down_with_its_times(served: SshServed, folder: Path, tmp_path: Path, legacy) -> None:
    grow(tmp_path / "tree")
    login = served.login(folder.name, WRITE)
    done = served.scp(*legacy, "-rp", f"{tmp_path}/tree", f"{login}:")
    assert done.returncode == 0, done.stderr
    assert tree(folder / "tree") == tree(tmp_path / "tree")
    done = served.scp(*legacy, "-rp", f"{login}:tree", f"{tmp_path}/back")
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "back") == tree(tmp_path / "tree")


@pytest.mark.parametrize("mode", [0o700, 0o775], ids=oct)
def test_folders_with_other_permissions_come_without_a_word(
    served: SshServed, folder: Path, tmp_path: Path, mode: int
) -> None:
    """As with umask 002; permissions are the storage's own, and clients send those of each folder, old or new."""
    (tmp_path / "tree/in").mkdir(parents=True)
    (tmp_path / "tree/in/file").write_bytes(b"content")
    for path in (tmp_path / "tree", tmp_path / "tree/in"):
        path.chmod(mode)
    login = served.login(folder.name, WRITE)
    for _ in range(2):
        by_sftp = served.sftp(f"put -r {tmp_path}/tree put", login)
        assert (by_sftp.returncode, by_sftp.stderr) == (0, b"")
        by_scp = served.scp("-r", f"{tmp_path}/tree", f"{login}:scp")
        assert (by_scp.returncode, by_scp.stderr) == (0, b"")
    assert (folder / "put/in/file").read_bytes() == (folder / "scp/tree/in/file").read_bytes() == b"content"
    assert (folder / "put/in").stat().st_mode == folder.stat().st_mode
    reader = served.login(folder.name, READ)
    assert b"Operation unsupported" in served.sftp("chmod 700 put\n", reader).stderr


@BOTH
def test_without_p_times_are_new_and_what_is_there_is_replaced(
    served: SshServed, folder: Path, tmp_path: Path, legacy
) -> None:
    (tmp_path / "tree/in").mkdir(parents=True)
    (tmp_path / "tree/in/file").write_bytes(CONTENT)
    os.utime(tmp_path / "tree/in/file", (LONG_AGO, LONG_AGO))
    (folder / "tree/in").mkdir(parents=True)
    (folder / "tree/in/file").write_bytes(b"old")
    (folder / "tree/in/other").write_bytes(b"stays")
    done = served.scp(*legacy, "-r", f"{tmp_path}/tree", f"alice:home/{folder.name}")
    assert done.returncode == 0, done.stderr
    assert (folder / "tree/in/file").read_bytes() == CONTENT
    assert (folder / "tree/in/file").stat().st_mtime > LONG_AGO + 1
    assert (folder / "tree/in/other").read_bytes() == b"stays"


@BOTH
def test_one_file_under_a_name_in_a_folder_and_as_another(
    served: SshServed, folder: Path, tmp_path: Path, legacy
) -> None:
    (tmp_path / "up").write_bytes(CONTENT)
    (tmp_path / "second").touch()
    (folder / "into").mkdir()
    here = f"alice:home/{folder.name}"
    for target in ("new", "into", "new"):
        done = served.scp(*legacy, f"{tmp_path}/up", f"{here}/{target}")
        assert done.returncode == 0, done.stderr
    done = served.scp(*legacy, f"{tmp_path}/up", f"{tmp_path}/second", f"{here}/into")
    assert done.returncode == 0, done.stderr
    assert {str(path.relative_to(folder)) for path in folder.rglob("*")} == {"new", "into", "into/up", "into/second"}
    assert (folder / "new").read_bytes() == (folder / "into/up").read_bytes() == CONTENT
    done = served.scp(*legacy, f"{here}/into/second", f"{here}/new", str(tmp_path / "second"))
    assert done.returncode != 0, "two files into a name that is no folder"
    done = served.scp(*legacy, f"{here}/into/second", f"{tmp_path}/down")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "down").read_bytes() == b""


@BOTH
def test_a_name_that_ends_with_a_slash_is_a_folder_s(served: SshServed, folder: Path, tmp_path: Path, legacy) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/up").write_bytes(CONTENT)
    (folder / "into").mkdir()
    (folder / "file").write_bytes(b"old")
    here = f"alice:home/{folder.name}"
    assert served.scp(*legacy, f"{tmp_path}/tree/up", f"{here}/into/").returncode == 0
    assert served.scp(*legacy, "-r", f"{tmp_path}/tree", f"{here}/made/").returncode == 0
    for name, sentence in (("none/", b"irectory"), ("file/", b"irectory")):
        done = served.scp(*legacy, f"{tmp_path}/tree/up", f"{here}/{name}")
        assert done.returncode != 0
        assert sentence in done.stderr
    assert served.scp(*legacy, f"{here}/file/", f"{tmp_path}/down").returncode != 0
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert names == {"into", "into/up", "made", "made/up", "file"}
    assert (folder / "file").read_bytes() == b"old"
    assert not (tmp_path / "down").exists()


@BOTH
def test_what_is_under_the_home_of_a_login_is_under_its_root(
    served: SshServed, folder: Path, tmp_path: Path, legacy
) -> None:
    (tmp_path / "up").write_bytes(CONTENT)
    login = served.login(folder.name, WRITE)
    assert served.scp(*legacy, f"{tmp_path}/up", f"{login}:~").returncode == 0
    assert served.scp(*legacy, f"{tmp_path}/up", f"{login}:~/new").returncode == 0
    assert served.scp(*legacy, f"{login}:~/new", f"{tmp_path}/down").returncode == 0
    assert {path.name for path in folder.iterdir()} == {"up", "new"}
    assert (tmp_path / "down").read_bytes() == CONTENT


@BOTH
def test_a_name_may_be_any_bytes(served: SshServed, folder: Path, tmp_path: Path, legacy) -> None:
    name = os.fsdecode(b"latin-\xe9")
    (tmp_path / "up").write_bytes(CONTENT)
    done = served.scp(*legacy, f"{tmp_path}/up", f"alice:home/{folder.name}/{name}")
    assert done.returncode == 0, done.stderr
    done = served.scp(*legacy, f"alice:home/{folder.name}/{name}", f"{tmp_path}/down")
    assert done.returncode == 0, done.stderr
    assert (folder / name).read_bytes() == (tmp_path / "down").read_bytes() == CONTENT


@BOTH
def test_what_is_not_granted_is_refused(served: SshServed, tmp_path: Path, legacy) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(b"new")
    before = tree(served.data / "read")
    reader, one = served.login("read", READ), served.login("read/file", WRITE)
    for words, sentences in (
        ((f"{tmp_path}/tree/file", f"{reader}:file"), ("ermission denied", "This is read-only for you")),
        ((f"{tmp_path}/tree/file", f"{reader}:new"), ("ermission denied", "This is read-only for you")),
        (("-r", f"{tmp_path}/tree", f"{reader}:"), ("failed to upload directory", "This is read-only for you")),
        ((f"{tmp_path}/tree/file", f"{one}:new"), ("ermission denied", "Nothing can be made")),
        ((f"{tmp_path}/tree/file", f"{reader}:gone/new"), ("ermission denied", "read-only")),
        ((f"{reader}:gone", f"{tmp_path}/down"), ("o such file",) * 2),
        ((f"{reader}:../../etc/passwd", f"{tmp_path}/down"), ("o such file",) * 2),
        ((f"{one}:../read/other", f"{tmp_path}/down"), ("o such file",) * 2),
        ((f"{reader}:/", f"{tmp_path}/down"), ("not a regular file",) * 2),
    ):
        done = served.scp(*legacy, *words)
        assert done.returncode != 0, words
        assert sentences[bool(legacy)] in done.stderr.decode(), (words, done.stderr)
    assert not (tmp_path / "down").exists()
    assert tree(served.data / "read") == before


def test_what_a_shell_would_have_read_is_read_without_one(served: SshServed, folder: Path, tmp_path: Path) -> None:
    """With -O the remote side's shell takes quotes and patterns; there is none, and no program that it could run."""
    names = ["a.txt", "b.txt", "c.dat", "with space.txt", "it's", "$(touch x)"]
    for name in names:
        (folder / name).write_text(name)
    login = served.login(folder.name)

    unchecked = "-T"  # as people need it: their scp compares names with the quotes that it has sent

    def down(path: str, *options: str) -> set[str]:
        target = tmp_path / "down"
        target.mkdir(exist_ok=True)
        done = served.scp("-O", *options, f"{login}:{path}", str(target))
        found = {one.name for one in target.iterdir()}
        for one in target.iterdir():
            assert one.read_text() == one.name
            one.unlink()
        return found if done.returncode == 0 else {done.stderr.decode()}

    assert down("*.txt") == {"a.txt", "b.txt", "with space.txt"}
    assert down("[bc].*") == {"b.txt", "c.dat"}
    assert down("'with space.txt'", unchecked) == {"with space.txt"}
    assert down("with\\ space.txt") == {"with space.txt"}
    assert down('"it\'s"', unchecked) == {"it's"}
    assert down("'$(touch x)'", unchecked) == {"$(touch x)"}
    assert "No such file" in down("*.gone").pop()
    (nothing,) = down("a.txt; touch x")
    assert nothing not in names
    assert {path.name for path in folder.iterdir()} == set(names)


def test_by_sftp_a_name_may_hold_the_end_of_a_line(served: SshServed, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/two\nlines").write_bytes(CONTENT)
    login = served.login(folder.name, WRITE)
    assert served.scp("-r", f"{tmp_path}/tree", f"{login}:").returncode == 0
    assert (folder / "tree/two\nlines").read_bytes() == CONTENT
    assert served.scp("-r", f"{login}:tree", f"{tmp_path}/back").returncode == 0
    assert (tmp_path / "back/two\nlines").read_bytes() == CONTENT


def test_of_several_what_is_refused_keeps_nothing_else_from_coming(
    served: SshServed, folder: Path, tmp_path: Path
) -> None:
    for name in ("first", "second", "third"):
        (tmp_path / name).write_text(name)
    (folder / "second").mkdir()
    words = [str(tmp_path / name) for name in ("first", "second", "third")]
    done = served.scp("-O", *words, f"alice:home/{folder.name}")
    assert done.returncode == 1
    assert b"second: Is a directory" in done.stderr
    assert (folder / "first").read_text() == "first"
    assert (folder / "third").read_text() == "third"


def test_a_name_with_a_line_break_is_no_line_of_the_conversation(
    served: SshServed, folder: Path, tmp_path: Path
) -> None:
    """Whoever may write into a folder does not steer what another's `scp -O` stores."""
    (folder / "a\nC0644 4 evil").write_bytes(b"evil")
    (folder / "b").write_bytes(b"good")
    done = served.scp("-O", "-r", f"{served.login(folder.name, READ)}:/", f"{tmp_path}/down")
    assert done.returncode != 0
    assert b"a name of two lines" in done.stderr
    assert sorted(path.name for path in (tmp_path / "down").rglob("*") if path.is_file()) == ["b"]
