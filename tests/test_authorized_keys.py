"""Keys that something else keeps: files that change, and programs that hang, fail or print rubbish."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop
from parts import until
from ssh_lines import new_key

from backends.errors import Unavailable
from gateway import authorized_keys as module
from gateway.authorized_keys import AuthorizedKeys

KEY, OTHER = new_key(), new_key()


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def files(tmp_path: Path) -> Iterator[AuthorizedKeys]:
    keys = AuthorizedKeys(tmp_path / "{user}" / "keys")
    (tmp_path / "alice").mkdir()
    yield keys
    keys.close()


def program(text: str, **changes: Any) -> AuthorizedKeys:
    """Return what the shell script `text` prints; the user is $1."""
    return AuthorizedKeys(command=("/bin/sh", "-c", text, "keys-of", "{user}"), **changes)


# --- files ----------------------------------------------------------------------------------------------------------


async def test_a_file_counts_as_it_is_now(files: AuthorizedKeys, tmp_path: Path, log: list[Any]) -> None:
    file = tmp_path / "alice" / "keys"
    assert not await files.in_file("alice", KEY.fingerprint)
    file.write_text(f"# of alice\n{KEY.line}\n")
    assert await files.in_file("alice", KEY.fingerprint)
    assert not await files.in_file("alice", OTHER.fingerprint)
    assert not await files.in_file("bob", KEY.fingerprint)
    file.write_bytes(b"\xff\0 rubbish\n" + f'from="10.0.0.0/8" {KEY.line}\nrestrict {OTHER.line}\n'.encode())
    assert not await files.in_file("alice", KEY.fingerprint)
    assert await files.in_file("alice", OTHER.fingerprint)
    file.unlink()
    assert not await files.in_file("alice", OTHER.fingerprint)
    assert log == []


async def test_a_file_is_read_again_only_when_it_has_changed(
    files: AuthorizedKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when another one of the same size and time has taken its place."""
    parsed = []
    parse = module.parse_authorized_keys
    monkeypatch.setattr(module, "parse_authorized_keys", lambda content: (parsed.append(content), parse(content))[1])
    file = tmp_path / "alice" / "keys"
    file.write_text(KEY.line)
    for _ in range(3):
        assert await files.in_file("alice", KEY.fingerprint)
    assert len(parsed) == 1
    facts = file.stat()
    other = tmp_path / "other"
    other.write_text(OTHER.line)
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert other.stat().st_size == facts.st_size
    other.rename(file)
    assert not await files.in_file("alice", KEY.fingerprint)
    assert await files.in_file("alice", OTHER.fingerprint)


async def test_what_cannot_be_used_gives_no_keys_and_one_line_in_the_log(
    files: AuthorizedKeys, tmp_path: Path, log: list[Any]
) -> None:
    file = tmp_path / "alice" / "keys"
    problems = {
        "others than its owner may write to it: chmod go-w": lambda: (file.write_text(KEY.line), file.chmod(0o666)),
        "it is no file": lambda: os.mkfifo(file),
        f"it is longer than {module.CONTENT_MAX} bytes": lambda: file.write_text(
            KEY.line + "\n" + "#" * module.CONTENT_MAX
        ),
        "Too many levels of symbolic links": lambda: file.symlink_to(file),
    }
    for problem, make in problems.items():
        make()
        for _ in range(2):
            assert not await files.in_file("alice", KEY.fingerprint)
        assert [(line["reason"], line["path"], line["user"]) for line in log] == [(problem, str(file), "alice")]
        log.clear()
        file.unlink()
        file.write_text(KEY.line)
        assert await files.in_file("alice", KEY.fingerprint)
        file.unlink()


@pytest.mark.parametrize("name", ["", "..", "../alice", "/etc", "Alice", "alice/../alice", "-rf", "a\0b", "\ud800"])
async def test_only_what_could_be_a_user_is_asked_for(name: str, tmp_path: Path, log: list[Any]) -> None:
    asked = tmp_path / "asked"
    keys = AuthorizedKeys(tmp_path / "{user}", ("/usr/bin/touch", str(asked), "--", "{user}"))
    assert not await keys.in_file(name, KEY.fingerprint)
    assert not await keys.by_command(name, KEY.fingerprint)
    assert not asked.exists()
    assert log == []
    keys.close()


# --- programs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_program_is_run_without_shell_input_terminal_and_our_environment(
    loop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "x")
    seen = tmp_path / "seen"
    keys = program(f'echo "$1 $PWD $SECRET $(cat) $(ps -o tty= -o sid= $$) $$" > {seen}; echo "{KEY.line} of $1"')

    async def ask() -> list[bool]:
        return [await keys.by_command("al-ice", key.fingerprint) for key in (KEY, OTHER)]

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(ask()) == [True, False]
    user, directory, terminal, session, process = seen.read_text().split()
    assert (user, directory, terminal) == ("al-ice", "/", "?")
    assert session == process


async def test_a_program_is_asked_once_for_all_the_keys_that_a_client_offers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    keys = program(f'echo "$1" >> {asked}; echo "{KEY.line}"')
    offered = [new_key().fingerprint for _ in range(5)] + [KEY.fingerprint]
    assert await asyncio.gather(*(keys.by_command("alice", each) for each in offered)) == [False] * 5 + [True]
    assert asked.read_text() == "alice\n"
    monkeypatch.setattr(module, "COMMAND_KEPT", 0.0)
    assert await keys.by_command("bob", KEY.fingerprint)
    assert await keys.by_command("bob", KEY.fingerprint)
    assert asked.read_text() == "alice\nbob\nbob\n"


FAILING = {
    "a status": ("echo '{key}'; exit 3", "it ended with status 3"),
    "a signal": ("echo '{key}'; kill -9 $$", "it ended with status -9"),
    "too much": ("echo '{key}'; head -c {most} /dev/zero", f"more than {module.CONTENT_MAX} bytes"),
    "no end": ("cat /dev/zero", f"more than {module.CONTENT_MAX} bytes"),
}


@pytest.mark.parametrize("case", FAILING)
async def test_a_program_that_fails_gives_no_keys_and_a_line_in_the_log(case: str, log: list[Any]) -> None:
    text, reason = FAILING[case]
    keys = program(text.format(key=KEY.line, most=module.CONTENT_MAX))
    assert not await keys.by_command("alice", KEY.fingerprint)
    (line,) = log
    assert reason in line["reason"]
    assert (line["program"], line["user"]) == ("/bin/sh", "alice")


async def test_a_program_that_is_not_there_is_named(log: list[Any]) -> None:
    assert not await AuthorizedKeys(command=("/no/such", "{user}")).by_command("alice", KEY.fingerprint)
    assert "/no/such" in log[0]["reason"]


async def test_rubbish_beside_a_key_is_passed_over(log: list[Any]) -> None:
    text = f"head -c 5000 /dev/urandom; printf '\\n\\0\\n'; echo 'ssh-rsa AAAA'; echo '{KEY.line}'"
    assert await program(text).by_command("alice", KEY.fingerprint)
    assert log == []


@pytest.mark.parametrize("text", ["echo $$ > {pid}; sleep 600", "sleep 600 & echo $! > {pid}"])
async def test_a_program_that_hangs_is_killed_with_what_it_has_started(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    monkeypatch.setattr(module, "COMMAND_TIME", 0.5)
    pid = tmp_path / "pid"
    begun = time.monotonic()
    assert not await program(text.replace("{pid}", str(pid))).by_command("alice", KEY.fingerprint)
    assert time.monotonic() - begun < 3
    assert "did not end" in log[0]["reason"]
    await until(lambda: _is_gone(int(pid.read_text())))


def _is_gone(pid: int) -> bool:
    """Tell whether a process has ended; one whose parent does not take its status lies there as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_too_many_that_wait_for_a_program_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "WAITING", 1)
    go = tmp_path / "go"
    keys = program(f"while [ ! -e {go} ]; do sleep 0.02; done; echo '{KEY.line}'")
    names = [f"user{number}" for number in range(module.COMMANDS + 1)]
    waiting = [asyncio.create_task(keys.by_command(name, KEY.fingerprint)) for name in names]
    await until(lambda: keys._unanswered == len(names))
    with pytest.raises(Unavailable):
        await keys.by_command("alice", KEY.fingerprint)
    go.touch()
    assert all(await asyncio.gather(*waiting))
    assert await keys.by_command("alice", KEY.fingerprint)
