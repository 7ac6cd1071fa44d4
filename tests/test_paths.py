"""A StoragePath is checked once, when it is parsed, and cannot be made unsafe afterwards."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.errors import InvalidPath
from backends.paths import NAME_MAX, PATH_MAX, StoragePath, check_name, printable

GOOD_NAMES = st.binary(min_size=1, max_size=20).filter(lambda name: _is_good(name))

BAD_NAMES = [
    b"",
    b".",
    b"..",
    b"a/b",
    b"/",
    b"a\0b",
    b"\0",
    b"..\\a",
    b"a\\..",
    b"a\\..\\b",
    b"\\",
    b"\\a",
    b"a\\",
    b".\\a",
]


def _is_good(name: bytes) -> bool:
    return not {b"", b".", b".."} & {name, *name.split(b"\\")} and not {0, ord("/")} & set(name)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_what_is_no_name_is_refused_everywhere(name: bytes) -> None:
    for make in (
        check_name,
        StoragePath().child,
        lambda name: StoragePath((name,)),
        lambda name: StoragePath((b"a", name, b"b")),
        lambda name: StoragePath((b"a",)).join([b"b", name]),
        lambda name: dataclasses.replace(StoragePath((b"a",)), parts=(name,)),
    ):
        with pytest.raises(InvalidPath):
            make(name)


@pytest.mark.parametrize(
    "raw",
    [
        "..",
        "../a",
        "a/..",
        "a/../b",
        "/..",
        ".",
        "./a",
        "a/.",
        "a/./b",
        "a\0",
        "a/\0/b",
        "a/..\\b",
        "\ud800",
        "a/\udfff\ud800",
    ],
)
def test_a_path_that_climbs_or_cannot_be_is_refused(raw: str) -> None:
    """As text and as bytes; nothing is resolved, because a normaliser and the kernel may disagree."""
    with pytest.raises(InvalidPath):
        StoragePath.parse(raw)
    with pytest.raises(InvalidPath):
        StoragePath.parse(raw.encode("utf-8", "surrogatepass") if "\ud800" not in raw else b"..")


@pytest.mark.parametrize("raw", ["", "/", "//", "///"])
def test_slashes_alone_are_the_root(raw: str) -> None:
    assert StoragePath.parse(raw) == StoragePath()
    assert StoragePath.parse(raw).is_root


@pytest.mark.parametrize("raw", ["a/b", "/a/b", "a/b/", "//a///b//"])
def test_slashes_at_the_ends_and_doubled_ones_mean_nothing(raw: str) -> None:
    assert StoragePath.parse(raw).parts == (b"a", b"b")


@pytest.mark.parametrize("literal", [b"%2e%2e", b"%2F", b"..%2f", b"...", b"a\\b", b"~", b"\xff\xfe", b"\n", b" "])
def test_what_only_looks_dangerous_is_an_ordinary_name(literal: bytes) -> None:
    """A path is decoded before it comes here, exactly once."""
    assert StoragePath.parse(literal).parts == (literal,)


def test_text_and_bytes_of_one_name_are_one_path() -> None:
    assert StoragePath.parse("é/\udcff") == StoragePath.parse(b"\xc3\xa9/\xff")


def test_names_and_paths_have_a_longest() -> None:
    assert StoragePath((b"n" * NAME_MAX,)).name == b"n" * NAME_MAX
    with pytest.raises(InvalidPath, match="256 bytes"):
        StoragePath((b"n" * (NAME_MAX + 1),))
    longest = StoragePath((b"n" * 255,) * 16)
    assert len(bytes(longest)) == PATH_MAX - 1  # the kernel adds a NUL
    with pytest.raises(InvalidPath):
        longest.child(b"n")


@given(st.lists(GOOD_NAMES, max_size=10))
def test_parsing_gives_back_what_was_joined(parts: list[bytes]) -> None:
    path = StoragePath(tuple(parts))
    assert StoragePath.parse(bytes(path)) == path
    assert StoragePath.parse(bytes(path).decode("utf-8", "surrogateescape")) == path


@given(st.binary(max_size=60))
def test_whatever_parses_stays_inside(raw: bytes) -> None:
    try:
        path = StoragePath.parse(raw)
    except InvalidPath:
        return
    assert all(part not in (b"", b".", b"..") and b"/" not in part and b"\0" not in part for part in path.parts)


def test_a_path_knows_its_name_and_parent() -> None:
    path = StoragePath.parse("a/b/c")
    assert (path.name, path.parent) == (b"c", StoragePath.parse("a/b"))
    assert (StoragePath().name, StoragePath().parent) == (b"", StoragePath())


def test_within_goes_by_whole_components() -> None:
    """`johnathan` is not within `john` (CVE-2026-32716 was exactly that)."""
    john = StoragePath.parse("home/john")
    assert StoragePath.parse("home/john/a").is_within(john)
    assert john.is_within(john)
    assert john.is_within(StoragePath())
    assert not StoragePath.parse("home/johnathan").is_within(john)
    assert not StoragePath.parse("home").is_within(john)


def test_what_is_below_is_told_by_its_components() -> None:
    john = StoragePath.parse("home/john")
    assert StoragePath.parse("home/john/a/b").relative_to(john) == (b"a", b"b")
    assert john.relative_to(john) == ()
    with pytest.raises(ValueError, match="not within"):
        StoragePath.parse("home/johnathan").relative_to(john)


def test_a_path_cannot_be_changed() -> None:
    path = StoragePath.parse("a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        path.parts = (b"..",)  # type: ignore[misc]  # the point of the test
    assert hash(path) == hash(StoragePath.parse("/a"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plain name.txt", "plain name.txt"),
        ("Grüße".encode(), "Grüße"),
        (b"\xff", "%FF"),
        (b"100%", "100%25"),
        (b"a\nb\x1b[31m", "a%0Ab%1B[31m"),
        ("\u202etxt.exe".encode(), "%E2%80%AEtxt.exe"),
        ("\u2028".encode(), "%E2%80%A8"),
    ],
)
def test_people_see_what_cannot_fool_them(name: bytes, shown: str) -> None:
    """Neither a log line nor a terminal can be forged by a name."""
    assert printable(name) == shown
    assert str(StoragePath((b"a", name))) == f"a/{shown}"


@given(st.binary(max_size=30))
def test_what_people_see_is_one_line_and_unambiguous(name: bytes) -> None:
    from urllib.parse import unquote_to_bytes

    assert printable(name).isprintable()
    assert unquote_to_bytes(printable(name)) == name
