"""Conditions, ranges, dates and the If header, as functions."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from backends.interface import MODIFIED_MAX, MODIFIED_MIN, Entry, Kind
from gateway.dav import if_header
from gateway.dav.conditions import (
    ByteRange,
    Expectation,
    expectation,
    http_date,
    is_not_modified,
    parse_http_date,
    selected_range,
)
from gateway.dav.errors import DavError

NOW = 1_700_000_000
ENTRY = Entry(b"name", Kind.FILE, 1000, NOW * 1_000_000_000 + 5, "abc")
BEFORE, THEN, AFTER = (formatdate(NOW + shift, usegmt=True) for shift in (-10, 0, 10))


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `function` returns, or the refusal that it raises."""
    try:
        return function(*arguments)
    except DavError as refused:
        return refused


def headers(**fields: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict({name.replace("_", "-"): value for name, value in fields.items()}))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, False),
        ({"If_None_Match": '"abc"'}, True),
        ({"If_None_Match": 'W/"abc"'}, True),
        ({"If_None_Match": '"x", "abc"'}, True),
        ({"If_None_Match": "*"}, True),
        ({"If_None_Match": '"x"'}, False),
        ({"If_None_Match": '"x"', "If_Modified_Since": AFTER}, False),
        ({"If_Modified_Since": BEFORE}, False),
        ({"If_Modified_Since": THEN}, True),
        ({"If_Modified_Since": "rubbish"}, False),
        ({"If_Match": '"abc"'}, False),
        ({"If_Match": "*"}, False),
        ({"If_Match": '"abc"', "If_Unmodified_Since": BEFORE}, False),
        ({"If_Unmodified_Since": THEN}, False),
    ],
)
def test_a_get_is_answered_304_when_nothing_changed(fields, expected):
    assert is_not_modified(headers(**fields), ENTRY) is expected


@pytest.mark.parametrize(
    "fields", [{"If_Match": '"x"'}, {"If_Match": 'W/"abc"'}, {"If_Unmodified_Since": BEFORE}, {"If_Match": ""}]
)
def test_a_condition_that_fails_is_412(fields):
    for check in (is_not_modified, expectation):
        with pytest.raises(DavError) as refused:
            check(headers(**fields), ENTRY)
        assert refused.value.status == 412


@pytest.mark.parametrize("value", ["abc", '"abc', '"a" "b"', '"a";"b"', "W/abc", '"a\x01"', ",,,x"])
def test_what_is_no_list_of_tags_is_400(value):
    for field in ("If_Match", "If_None_Match"):
        with pytest.raises(DavError) as refused:
            expectation(headers(**{field: value}), ENTRY)
        assert (refused.value.status, refused.value.code) == (400, "INVALID_CONDITION")


@pytest.mark.parametrize(
    ("fields", "entry", "expected"),
    [
        ({}, ENTRY, Expectation()),
        ({}, None, Expectation()),
        ({"If_Match": '"x", "abc"'}, ENTRY, Expectation(if_match="abc")),
        ({"If_Match": "*"}, ENTRY, Expectation(if_match="abc")),
        ({"If_Unmodified_Since": THEN}, ENTRY, Expectation(if_match="abc")),
        ({"If_Unmodified_Since": THEN}, None, Expectation()),
        ({"If_None_Match": "*"}, None, Expectation(if_none_match=True)),
        ({"If_None_Match": '"x"'}, ENTRY, Expectation()),
    ],
)
def test_what_a_write_relies_on_is_handed_to_the_storage(fields, entry, expected):
    assert expectation(headers(**fields), entry) == expected


@pytest.mark.parametrize(
    ("fields", "entry"),
    [
        ({"If_Match": "*"}, None),
        ({"If_Match": '"abc"'}, None),
        ({"If_None_Match": "*"}, ENTRY),
        ({"If_None_Match": '"abc"'}, ENTRY),
    ],
)
def test_a_write_that_relies_on_something_else_is_412(fields, entry):
    with pytest.raises(DavError) as refused:
        expectation(headers(**fields), entry)
    assert refused.value.status == 412


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=0-", ByteRange(0, 1000)),
        ("bytes=990-2000", ByteRange(990, 10)),
        ("bytes=-1", ByteRange(999, 1)),
        ("bytes=-5000", ByteRange(0, 1000)),
        ("BYTES = 1-2", ByteRange(1, 2)),
        ("bytes=0-" + "9" * 5000, ByteRange(0, 1000)),
        ("bytes=0-1,5-6", None),
        ("bytes=5-1", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes", None),
        ("chunks=0-1", None),
        ("bytes=0-1-2", None),
        ("bytes=\u0661-\u0662", None),
    ],
)
def test_a_range_selects_a_part_and_nonsense_the_whole(value, expected):
    assert selected_range(headers(Range=value), ENTRY) == expected


@pytest.mark.parametrize("value", ["bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=" + "9" * 5000 + "-"])
def test_a_range_beyond_the_end_is_416_and_says_how_long_the_file_is(value):
    with pytest.raises(DavError) as refused:
        selected_range(headers(Range=value), ENTRY)
    assert refused.value.status == 416
    assert refused.value.headers == {"Content-Range": "bytes */1000"}


@pytest.mark.parametrize(
    ("value", "counts"),
    [('"abc"', True), ('"x"', False), ('W/"abc"', False), (THEN, True), (AFTER, False), ("rubbish", False)],
)
def test_a_range_counts_only_for_the_content_that_if_range_names(value, counts):
    chosen = selected_range(headers(Range="bytes=0-9", If_Range=value), ENTRY)
    assert chosen == (ByteRange(0, 10) if counts else None)


@given(st.text(max_size=60), st.integers(0, 2000))
def test_any_range_lies_within_the_file(value, size):
    entry = Entry(b"n", Kind.FILE, size, 0, "e")
    part = outcome(selected_range, headers(Range="bytes=" + value), entry)
    if isinstance(part, DavError):
        assert part.status == 416
    else:
        assert part is None or (part.length > 0 and part.start + part.length <= size)


@given(st.text(max_size=40))
def test_any_condition_is_understood_or_refused(value):
    for field in ("If_Match", "If_None_Match", "If_Modified_Since", "If_Unmodified_Since"):
        for check in (is_not_modified, expectation):
            found = outcome(check, headers(**{field: value}), ENTRY)
            assert not isinstance(found, DavError) or found.status in (400, 412)


@given(st.integers(MODIFIED_MIN, MODIFIED_MAX))
def test_every_time_that_a_file_can_have_is_a_date_that_is_read_back(modified):
    assert len(http_date(modified)) == 29
    assert http_date(modified).endswith(" GMT")
    if modified >= 0:
        assert parse_http_date(http_date(modified)) == modified // 1_000_000_000


@given(st.text(max_size=60))
def test_any_text_is_a_date_or_none(text):
    assert isinstance(parse_http_date(text), int | None)


@pytest.mark.parametrize("date", [THEN, "Tuesday, 14-Nov-23 22:13:20 GMT", "Tue Nov 14 22:13:20 2023"])
def test_all_three_forms_of_an_http_date_are_read(date):
    assert parse_http_date(date) == NOW


STATES = {
    None: if_header.State("here", frozenset({"urn:uuid:mine"})),
    "/other": if_header.State("there"),
    "http://x/none": if_header.State(),
}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('(["here"])', True),
        ('(["x"])', False),
        ('(["x"]) (["here"])', True),
        ('(["here"] ["x"])', False),
        ('(Not ["x"])', True),
        ('(not["here"])', False),
        ("(<urn:uuid:lock>)", False),
        ("(<urn:uuid:mine>)", True),
        ("(Not <urn:uuid:mine>)", False),
        ('(<urn:uuid:mine> ["here"])', True),
        ('(<urn:uuid:mine> ["x"])', False),
        ('(<urn:uuid:mine> ["x"]) (Not <DAV:no-lock> ["here"])', True),
        ("</other> (<urn:uuid:mine>)", False),
        ("</other> (Not <urn:uuid:mine>)", True),
        ("(Not <urn:uuid:lock>)", True),
        ("(Not <DAV:no-lock>)", True),
        ('(<urn:uuid:lock> ["here"])', False),
        ('(Not <urn:uuid:lock> ["here"])', True),
        ('(W/["here"])', None),
        ('([W/"here"])', False),
        ('</other> (["there"])', True),
        ('</other> (["here"])', False),
        ('</other> (["x"]) <http://x/none> (Not ["y"])', True),
        ('<http://x/none> (["there"])', False),
        ("", None),
        ("()", None),
        ("(Not)", None),
        ('(["here"]', None),
        ('["here"]', None),
        ("</other>", None),
        ('(Not Not ["here"])', None),
        ('((["here"]))', None),
        ("rubbish", None),
        ("".join(f'</{number}> (["x"]) ' for number in range(40)), None),
    ],
)
def test_the_if_header_holds_or_not_or_is_refused(header, expected):
    if expected is None:
        with pytest.raises(DavError) as refused:
            if_header.parse_if(header)
        assert (refused.value.status, refused.value.code) == (400, "INVALID_CONDITION")
    else:
        assert if_header.holds(if_header.parse_if(header), STATES.__getitem__) is expected


@given(st.text(alphabet='()<>[]"WNot/ abc:\t', max_size=60))
def test_any_if_header_is_understood_or_refused(header):
    lists = outcome(if_header.parse_if, header)
    if isinstance(lists, DavError):
        assert lists.status == 400
    else:
        assert if_header.holds(lists, lambda tag: STATES.get(tag, STATES[None])) in (True, False)


def test_every_token_in_an_if_header_counts_as_shown():
    header = '</a> (Not <urn:x:1> ["e"]) (<urn:x:2>) <http://h/b> ([W/"w"] <urn:x:3>)'
    assert if_header.submitted(if_header.parse_if(header)) == {"urn:x:1", "urn:x:2", "urn:x:3"}
