"""SCP that no `scp` speaks: names that climb, sizes that lie, what never ends; nothing of it is stored."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.ssh.audit import Audit
from gateway.ssh.budget import Budget
from gateway.ssh.scp import Asked, Scp, ScpError, parse_command
from gateway.ssh.stream import Lost, Stream
from gateway.ssh.workspace import Workspace
from gateway.uploads import WORTH_KEEPING

from .raw_client import string
from .served import SshServed
from .sftp_talk import NO_SUCH_FILE, STAT, Channel, Talk, packet

NO_SCP = "this is no SCP"


@pytest.fixture(scope="module")
def served(served: SshServed) -> SshServed:
    (served.data / "drop").mkdir()
    return served


@dataclass
class Said:
    """What the door has sent, and why it has ended the conversation; empty where the client has."""

    sent: bytes
    reason: str


def say(served: SshServed, asked: Asked | str, *pieces: bytes) -> Said:
    """Have a conversation in which the client waits for nothing, and then is gone."""
    meant = parse_command(asked) if isinstance(asked, str) else asked
    return served.run(_say(served, meant, pieces))  # type: ignore[no-any-return]


async def _say(served: SshServed, asked: Asked, pieces: tuple[bytes, ...]) -> Said:
    channel, has_room = Channel(), asyncio.Event()
    has_room.set()
    budget = Budget(1 << 24)
    stream = Stream(channel, budget, has_room)
    audit = Audit("user:alice", None, "127.0.0.1", lambda _what, _much: None)
    grant = await served.access.of_user("alice")
    for piece in pieces:
        stream.feed(piece)
    stream.feed_eof()
    try:
        await asyncio.wait_for(Scp(stream, Workspace(served.ssh.site, grant, budget), audit, asked).run(), 20)
        reason = ""
    except (ScpError, Lost) as error:
        reason = str(error)
    return Said(bytes(channel.sent), reason)


def stored(served: SshServed) -> list[str]:
    """Return what there is, all of it."""
    return sorted(os.path.relpath(path, served.data) for path in served.data.rglob("*"))


# --- commands -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        *("", " ", "scp", "scp -t", "scp -f", "scp -t a b", "scp -t -f a", "scp a", "scp -S sh -t a", "scp -t a; id"),
        *("scp -t a && id", "scp -t a | sh", "scp -x -t a", "/usr/bin/scp -t a", "sh -c 'scp -t a'", "scp 'unclosed"),
        *("scp -t " + "a" * 10_000, "scp\0-t a", "SCP -t a", "sftp-server", "internal-sftp", "rsync --server ."),
    ],
    ids=lambda command: command[:20],
)
def test_no_other_command_is_run(command: str) -> None:
    with pytest.raises(ScpError, match=r"not served|only scp and sftp"):
        parse_command(command)


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_command_is_scp_or_refused(command: str) -> None:
    for words in (command, f"scp -t {command}"):
        try:
            asked = parse_command(words)
        except ScpError:
            continue
        assert asked.takes or words == command
        assert isinstance(asked.path, bytes)


# --- files that come --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([b"C0644 1 ../up\n", b"x\0"], "unexpected file name"),
        ([b"C0644 1 ..\n", b"x\0"], "unexpected file name"),
        ([b"C0644 1 .\n", b"x\0"], "unexpected file name"),
        ([b"C0644 1 /etc/passwd\n", b"x\0"], "unexpected file name"),
        ([b"C0644 1 a\0b\n", b"x\0"], "unexpected file name"),
        ([b"C0644 1 a/b\n", b"x\0"], "unexpected file name"),
        ([b"C0644 1 " + b"a" * 256 + b"\n", b"x\0"], "unexpected file name"),
        ([b"C0644 1 a\\..\\b\n", b"x\0"], "unexpected file name"),
        ([b"D0755 0 ../up\n"], "unexpected file name"),
        ([b"D0755 0 ..\n"], "unexpected file name"),
        ([b"E\n"], "a folder ends that has not begun"),
        ([b"D0755 0 d\n", b"E\n", b"E\n"], "a folder ends that has not begun"),
        ([b"C0644 -1 f\n"], NO_SCP),
        ([b"C0644 99999999999999999999 f\n"], NO_SCP),
        ([b"C0644 1\n"], NO_SCP),
        ([b"C0644 1 \n"], NO_SCP),
        ([b"C9999 1 f\n"], NO_SCP),
        ([b"C0644 1e3 f\n"], NO_SCP),
        ([b"X0644 1 f\n"], NO_SCP),
        ([b"\n"], NO_SCP),
        ([b"Tnow 0 0 0\n"], NO_SCP),
        ([b"T1 0\n"], NO_SCP),
        ([b"GET / HTTP/1.1\r\n"], NO_SCP),
        ([b"\xff" * 20_000], "this is no SCP: a line is too long"),
        ([b"C0644 1 " + b"a" * 20_000 + b"\n"], "this is no SCP: a line is too long"),
        ([b"C0644 3 f\n", b"abcdef\0"], "this is no SCP: a file has more bytes than it was said to have"),
        ([b"C0644 3 f\n", b"abc"], "the client is gone"),
        ([b"C0644 30 f\n", b"abc\0"], "the client is gone in the middle of a file"),
        ([b"C0644 9223372036854775807 f\n", b"abc\0"], "the client is gone in the middle of a file"),
        ([b"C0644 3"], "the client is gone in the middle of a line"),
        ([b"C0644 0 f\n"], "the client is gone"),
    ],
    ids=lambda value: value[0][:24].decode("latin-1") if isinstance(value, list) else "",
)
def test_what_is_no_scp_stores_nothing(served: SshServed, pieces: list[bytes], reason: str) -> None:
    before = stored(served)
    said = say(served, "scp -r -t /home/drop", *pieces)
    assert said.reason.startswith(reason), said
    (served.data / "drop/d").rmdir() if pieces[0] == b"D0755 0 d\n" else None
    assert stored(served) == before
    assert not served.writers
    if "gone" not in reason:
        *_, sentence = said.sent.split(b"\2")
        assert sentence.startswith(b"scp: ")
        assert sentence.endswith(b"\n")


@pytest.mark.parametrize(
    "path", ["/home/a\0b", "/home/" + "a" * 300, "/home/" + "a/" * 2500, "/etc/passwd", "/frozen/new", "/new", "/"]
)
def test_a_place_that_cannot_be_is_refused(served: SshServed, path: str) -> None:
    before = stored(served)
    said = say(served, Asked(takes=True, path=path.encode()), b"C0644 1 f\n", b"x\0")
    assert b"scp: " in said.sent
    assert stored(served) == before


def test_folders_come_only_where_they_were_asked_for(served: SshServed) -> None:
    assert say(served, "scp -t /home/drop", b"D0755 0 d\n").reason == "folders come with -r only"
    assert say(served, "scp -d -t /home/none", b"C0644 1 f\n").reason == "home/none: not a directory"


def test_depth_is_bounded(served: SshServed) -> None:
    """By the length of a path; what was made on the way is empty folders."""
    said = say(served, "scp -r -t /other", *[b"D0755 0 " + b"d" * 250 + b"\n"] * 30)
    assert said.reason
    assert b"\2scp: " in said.sent


def test_a_sender_that_has_failed_stores_nothing(served: SshServed) -> None:
    """It says so in the place of the last byte, and goes on with the next file."""
    pieces = [b"C0644 3 bad\n", b"ab\0", b"\1scp: bad: Input/output error\n", b"C0644 1 good\n", b"x\0"]
    said = say(served, "scp -t /home/drop", *pieces)
    assert not said.reason
    assert b"the sender could not read all of it; nothing was stored" in said.sent
    assert not (served.data / "drop/bad").exists()
    assert (served.data / "drop/good").read_bytes() == b"x"


@pytest.mark.parametrize(
    "end",
    [b"\1scp: big: Input/output error\n", b"\2scp: big: Input/output error\n", b"and more", b"\1scp: b", b""],
    ids=["1", "2", "more", "cut 1", "cut"],
)
def test_what_a_sender_could_not_read_is_not_kept_to_be_gone_on_with(served: SshServed, talk: Talk, end: bytes) -> None:
    """It sends anything in the place of those bytes, and says so at the end, unless it is gone by then."""
    before = stored(served)
    size = 2 * WORTH_KEEPING
    say(served, "scp -t /home/drop", b"C0644 %d big\n" % size, bytes(size), end)
    assert stored(served) == before
    (answer,) = talk.ask(packet(STAT, 1, string("/home/drop/big")))
    assert answer.status == NO_SUCH_FILE


@pytest.mark.parametrize("seconds", [0, 2**32, 2**33, 2**63, 10**18])
def test_any_time_is_taken_and_the_file_as_well(served: SshServed, seconds: int) -> None:
    said = say(served, "scp -p -t /home/drop", f"T{seconds} 0 0 0\n".encode(), b"C0644 1 dated\n", b"x\0")
    assert (said.reason, said.sent) == ("", b"\0" * 4)
    assert (served.data / "drop/dated").stat().st_mtime <= 2**33


# --- files that go ----------------------------------------------------------------------------------------------------


def test_a_name_of_two_lines_is_not_sent(served: SshServed) -> None:
    """Its second line could be a file that the client did not ask for."""
    (served.data / "trap").mkdir(exist_ok=True)
    (served.data / "trap/a\nC0644 4 .bashrc").write_bytes(b"evil")
    said = say(served, "scp -r -f /home/trap", b"\0" * 50)
    assert b"\nC0644" not in said.sent
    assert b"scp cannot send a name of two lines; use sftp" in said.sent


def test_names_do_nothing_to_a_terminal(served: SshServed) -> None:
    said = say(served, Asked(takes=False, path=b"/home/\x1b]0;evil\x07\xff"), b"\0" * 9)
    assert b"\x1b" not in said.sent
    assert said.sent.startswith(b"\1scp: ")


@pytest.mark.parametrize("answer", [b"\2stop\n", b"x", b"\2" + b"x" * 20_000 + b"\n", b""])
def test_a_client_that_takes_nothing_gets_nothing(served: SshServed, answer: bytes) -> None:
    (served.data / "given").write_bytes(b"content")
    said = say(served, "scp -f /home/given", b"\0" + answer)
    assert said.reason
    assert b"content" not in said.sent


# --- anything ---------------------------------------------------------------------------------------------------------

LINES = st.sampled_from(
    [
        b"C0644 3 f\n",
        b"C0644 0 g\n",
        b"C0644 9 ../f\n",
        b"D0755 0 d\n",
        b"E\n",
        b"T1 0 1 0\n",
        b"abc\0",
        b"\0",
        b"\1x\n",
    ]
)


@given(st.lists(st.one_of(LINES, LINES, st.binary(max_size=20)), max_size=12), st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_conversation_ends_in_order(served: SshServed, pieces: list[bytes], takes: bool) -> None:
    with structlog.testing.capture_logs():
        say(served, Asked(takes, b"/other", recursive=True, times=True), *pieces)
    assert not served.writers
