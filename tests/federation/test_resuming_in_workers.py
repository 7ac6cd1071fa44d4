"""A whole upload through one worker ends what another has kept of older ones, at once."""

from __future__ import annotations

import base64
import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest
from sites import Site
from spread import connections

PASSWORD = "correct horse"
TURNS = 5
TOTAL = 8
HEADERS = {"Authorization": "Basic " + base64.b64encode(f"alice:{PASSWORD}".encode()).decode()}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site", workers=2) as site:
        site.add_user("alice", PASSWORD)
        yield site


def put(connection: http.client.HTTPConnection, name: str, content: bytes, part: str = "") -> tuple[int, str]:
    """Put a file, or a part of it, and return the status and the range that is said to be stored."""
    headers = HEADERS | ({"Content-Range": f"bytes {part}/{TOTAL}"} if part else {})
    connection.request("PUT", f"/dav/files/alice/home/{name}", content, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("Range", "")


def test_no_part_is_left_once_the_whole_was_answered_by_another_worker(site: Site) -> None:
    """Also where that one has just looked who has left anything, and found nobody."""
    with connections(site) as each:
        one, other = each.values()
        for turn in range(TURNS):
            name = f"file-{turn}"
            assert put(other, "else", b"x")[0] in (201, 204)
            assert put(one, name, b"old ", "0-3") == (202, "bytes=0-3")
            assert put(other, name, b"the new ")[0] == 201
            for connection in (one, other):
                assert put(connection, name, b"", "*") == (202, ""), turn
            assert put(one, name, b"file", "4-7")[0] == 416
            assert (site.data / name).read_bytes() == b"the new "
            one, other = other, one
    assert not list(site.data.glob(".ocm-gateway-*"))
