"""Keys that a program names: one that hangs, fails or prints rubbish, and too many who ask."""

from __future__ import annotations

import asyncio
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
STRANGER = "2001:db8:1:2::/64"


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def program(text: str, **changes: Any) -> AuthorizedKeys:
    """Return what the shell script `text` prints; the user is $1."""
    return AuthorizedKeys(command=("/bin/sh", "-c", text, "keys-of", "{user}"), **changes)


@pytest.mark.parametrize("name", ["", "..", "../alice", "/etc", "Alice", "alice/../alice", "-rf", "a\0b", "\ud800"])
async def test_only_what_could_be_a_user_is_asked_for(name: str, tmp_path: Path, log: list[Any]) -> None:
    asked = tmp_path / "asked"
    keys = AuthorizedKeys(tmp_path / "{user}", ("/usr/bin/touch", str(asked), "--", "{user}"))
    assert not await keys.in_file(name, KEY.fingerprint)
    assert not await keys.by_command(name, KEY.fingerprint)
    assert not asked.exists()
    assert log == []
    keys.close()


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
    """Its time is over here as soon as it is known to hang, however long a busy machine takes to start it."""
    timers: list[asyncio.Timeout] = []
    timeout, pid, ready = asyncio.timeout, tmp_path / "pid", tmp_path / "ready"
    monkeypatch.setattr(module.asyncio, "timeout", lambda seconds: timers.append(timeout(seconds)) or timers[-1])
    monkeypatch.setattr(module, "COMMAND_TIME", 60.0)
    keys = program(text.replace("{pid}", f"{ready}; mv {ready} {pid}"))
    asked = asyncio.create_task(keys.by_command("alice", KEY.fingerprint))
    await until(lambda: timers and pid.exists(), 30)
    timers[0].reschedule(0.0)
    assert not await asked
    assert "did not end within 60 s" in log[0]["reason"]
    await until(lambda: _is_gone(int(pid.read_text())))


def _is_gone(pid: int) -> bool:
    """Tell whether a process has ended; one whose parent does not take its status lies there as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_too_many_that_wait_for_a_program_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "WAITING", 1)
    monkeypatch.setattr(module, "COMMAND_TIME", 60.0)
    go = tmp_path / "go"
    keys = program(f"until [ -e {go} ] || [ ! -d {go.parent} ]; do sleep 0.02; done; echo '{KEY.line}'")
    names = [f"user{number}" for number in range(module.COMMANDS + 1)]
    waiting = [asyncio.create_task(keys.by_command(name, KEY.fingerprint, f"from {name}")) for name in names]
    await until(lambda: keys._unanswered.total() == len(names))
    with pytest.raises(Unavailable):
        await keys.by_command("alice", KEY.fingerprint, "192.0.2.1")
    is_in = asyncio.create_task(keys.still_by_command("alice", KEY.fingerprint))
    await until(lambda: keys._unanswered.total() == len(names) + 1)
    go.touch()
    assert all(await asyncio.gather(*waiting, is_in))
    assert await keys.by_command("alice", KEY.fingerprint, "192.0.2.1")
    assert not keys._unanswered


async def test_strangers_from_one_address_keep_nobody_out_who_comes_from_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not even who is asked about by them as well, nor with a key of his that everybody may know."""
    monkeypatch.setattr(module, "COMMAND_KEPT", 0.0)
    monkeypatch.setattr(module, "COMMAND_TIME", 60.0)
    go = tmp_path / "go"
    waits = f"until [ -e {go} ] || [ ! -d {go.parent} ]; do sleep 0.02; done"
    keys = program(f'case "$1" in user*) {waits}; esac; echo "{KEY.line}"')
    names = [f"user{number}" for number in range(module.COMMANDS_OF_ONE + module.WAITING_OF_ONE)]
    assert module.COMMANDS_OF_ONE < module.COMMANDS
    strangers = [asyncio.create_task(keys.by_command(name, KEY.fingerprint, STRANGER)) for name in names]
    await until(lambda: keys._unanswered[STRANGER] == len(names))
    refused = asyncio.create_task(keys.by_command("alice", KEY.fingerprint, STRANGER))
    let_in = asyncio.create_task(keys.by_command("alice", KEY.fingerprint, "192.0.2.1"))
    with pytest.raises(Unavailable, match=f"from {STRANGER} .* make it faster, or block that address"):
        await refused
    assert await let_in
    assert not any(stranger.done() for stranger in strangers)
    go.touch()
    assert all(await asyncio.gather(*strangers))
    assert await keys.by_command("alice", KEY.fingerprint, STRANGER), "and none of them for ever"
    assert not keys._unanswered
