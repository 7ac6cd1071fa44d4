"""What can be written for a moment and for a list of words, and what is not built yet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.cli.values import When, Words
from gateway.ocm.shares import LATEST_EXPIRATION

DAY = 86400


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """People write local times."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def when(text: str) -> int:
    return When().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30d", 30 * DAY), ("12h", 12 * 3600), ("45m", 2700), ("2w", 14 * DAY), ("1d", DAY)]
)
def test_a_span_counts_from_now(text: str, seconds: int) -> None:
    assert abs(when(text) - time.time() - seconds) < 5


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-01-31T18:00:00+00:00", 1801418400),
        ("2027-01-31T18:00:00Z", 1801418400),
        ("2027-01-31T18:00+01:00", 1801414800),
        ("2027-01-31T18:00", 1801414800),
        ("2027-01-31 18:00", 1801414800),
        ("2027-01-31", 1801350000),
        ("20270131", 1801350000),
        ("2027-07-01", 1814392800),
    ],
)
def test_iso_8601_is_understood_and_without_a_zone_it_is_local(text: str, moment: int) -> None:
    assert when(text) == moment


@pytest.mark.parametrize(
    "text",
    ["", "soon", "0d", "-1d", "1", "1y", "1.5d", "30 d", "d", "2027", "2027-13-01", "2027-02-30", "31.01.2027", "1٣d"],
)
def test_what_is_no_moment_is_a_mistake_with_examples(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 30d"):
        when(text)


@pytest.mark.parametrize("text", ["999999w", "9999-12-31T23:59:59-12:00"])
def test_what_lies_beyond_all_calendars_is_a_mistake(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"9999|no moment"):
        when(text)
    assert when("9999-12-30") <= LATEST_EXPIRATION


def test_years_before_the_clock_began_are_no_crash() -> None:
    for text in ("0001-01-01", "0001-01-01T00:00:00+23:59", "1900-01-01"):
        try:
            assert when(text) < 0
        except click.BadParameter:
            continue


@pytest.mark.parametrize(
    ("text", "words"),
    [("read", ["read"]), ("read,write", ["read", "write"]), (" write , read ,", ["write", "read"])],
)
def test_words_are_separated_by_commas(text: str, words: list[str]) -> None:
    assert Words("read", "write").convert(text, None, None) == words


@pytest.mark.parametrize(
    ("text", "said"), [("", "nothing"), (",", "nothing"), ("delete", "delete"), ("read,x,y", "x, y")]
)
def test_a_word_that_is_not_allowed_is_named_with_those_that_are(text: str, said: str) -> None:
    with pytest.raises(click.BadParameter, match=f"{said} is not among read, write"):
        Words("read", "write").convert(text, None, None)


# --- what is not built ----------------------------------------------------------------------------------------------

CREATE = ("share", "create", "/home/x", "--as", "alice", "--with", "bob@peer.example")
NOT_BUILT: dict[str, tuple[str, ...]] = {
    "mfa": (*CREATE, "--mfa"),
    "datatx": (*CREATE, "--datatx"),
    "webapp": (*CREATE, "--protocols", "webdav,webapp"),
    "transfer's help": ("transfer", "--help"),
    "transfer": ("transfer", "start", "--unknown", "-x", "1"),
}


@pytest.mark.parametrize("what", NOT_BUILT)
def test_what_is_not_built_says_so_with_status_2(tmp_path: Path, what: str) -> None:
    """Before anything is asked of a gateway: there is none here."""
    done = CliRunner().invoke(main, ["--config", str(tmp_path / "none.yaml"), *NOT_BUILT[what]])
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert "is not built yet; nothing was done" in done.stderr


@pytest.mark.parametrize("command", [(), ("share",), ("share", "create"), ("received",)])
def test_what_is_not_built_is_not_advertised(command: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, [*command, "--help"])
    assert done.exit_code == 0
    words = set(done.output.replace(",", " ").split())
    unbuilt = {"--mfa", "--datatx", "transfer"}
    assert words.isdisjoint(unbuilt)


def test_every_command_has_help() -> None:
    def walk(command: click.Command, path: tuple[str, ...]) -> None:
        if command.hidden:
            return
        done = CliRunner().invoke(main, [*path, "--help"])
        assert done.exit_code == 0, path
        assert command.help, path
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                walk(inner, (*path, name))

    walk(main, ())
