"""Bodies are taken apart alike however they arrive, and put together again as the same."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream import wire
from gateway.upstream.errors import Malformed
from gateway.upstream.wire import Framing

FIELDS = st.lists(
    st.tuples(st.from_regex(rb"[A-Za-z-]{1,9}", fullmatch=True), st.from_regex(rb"[!-~\x80-\xff]{0,9}", fullmatch=True))
)


def pieces(message: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(message), *(cut % (len(message) + 1) for cut in cuts)})
    return [message[begin:end] for begin, end in pairwise(places)]


def fed(body: wire.Body, received: list[bytes]) -> tuple[bytes, bytes]:
    """Return content and surplus."""
    content, surplus = b"", b""
    for piece in received:
        if body.is_complete:
            surplus += piece
        else:
            content += b"".join(body.feed(piece))
            surplus += bytes(body.surplus)
    return content, surplus


@given(st.lists(st.binary(min_size=1)), FIELDS, st.binary(), st.lists(st.integers(0, 10_000)))
def test_chunks_are_the_same_in_any_pieces(
    contents: list[bytes], trailers: list[tuple[bytes, bytes]], behind: bytes, cuts: list[int]
) -> None:
    body = wire.body(Framing.CHUNKED)
    message = b"".join(map(wire.chunk, contents)) + wire.last_chunk(trailers) + behind
    assert fed(body, pieces(message, cuts)) == (b"".join(contents), behind)
    assert body.is_complete
    assert list(body.trailers) == trailers


@given(st.binary(), st.binary(), st.lists(st.integers(0, 10_000)))
def test_a_body_of_known_length_ends_there(content: bytes, behind: bytes, cuts: list[int]) -> None:
    body = wire.body(len(content))
    assert fed(body, pieces(content + behind, cuts)) == (content, behind)
    assert body.is_complete


@given(st.text("0123456789abfgFx;=\r\n :", max_size=40).map(str.encode), st.lists(st.integers(0, 10_000)))
def test_odd_chunks_are_odd_in_any_pieces(received: bytes, cuts: list[int]) -> None:
    def outcome(parts: list[bytes]) -> object:
        body = wire.body(Framing.CHUNKED)
        try:
            return (*fed(body, parts), body.is_complete)
        except Malformed as error:
            return str(error)

    assert outcome(pieces(received, cuts)) == outcome([received] if received else [])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_malformed(received: bytes) -> None:
    for raw in (received, b"HTTP/1.1 200 OK\r\n" + received):
        try:
            head = wire.parse_head(raw + b"\r\n\r\n")
            wire.framing("GET", head)
        except Malformed:
            continue
        written = wire.write_head(b"HTTP/1.1 200 OK", head.fields)
        assert wire.parse_head(written).fields == head.fields
        assert wire.end_of_head(written + b"x") == len(written)


@given(FIELDS)
def test_a_head_that_is_written_is_read_as_the_same(fields: list[tuple[bytes, bytes]]) -> None:
    assert list(wire.parse_head(wire.write_head(b"HTTP/1.1 404 \xff", fields)).fields) == fields


def test_a_head_without_an_end_is_not_awaited_for_ever() -> None:
    assert wire.end_of_head(b"HTTP/1.1 200 OK\r\nX: ") is None
    with pytest.raises(Malformed):
        wire.end_of_head(b"a" * (wire.HEAD_MAX + 1))


def test_trailers_without_an_end_are_not_awaited_for_ever() -> None:
    body = wire.body(Framing.CHUNKED)
    body.feed(b"0\r\n")
    with pytest.raises(Malformed):
        body.feed(b"X: y\r\n" * wire.HEAD_MAX)
