"""Requests at the edge of what HTTP and WebDAV allow, and the names under which we are reached."""

from __future__ import annotations

import time
from typing import Any

import pytest

from .served import Served, basic

NESTED = 1000  # elements; more than Python recurses


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("PROPPATCH", b'<d:propertyupdate xmlns:d="DAV:"><d:set><d:prop>%s</d:prop></d:set></d:propertyupdate>'),
        ("PROPFIND", b'<d:propfind xmlns:d="DAV:"><d:prop>%s</d:prop></d:propfind>'),
    ],
)
def test_elements_nested_without_end_are_refused(served: Served, method, body):
    reply = served.alice(method, "/home/", body % (b"<d:x>" * NESTED + b"</d:x>" * NESTED))
    assert (reply.status, reply.code) == (400, "INVALID_XML")


@pytest.mark.parametrize("path", [b"/nowhere", b"/dav//files//alice/", b"/dav/files/alice/", b"//dav/files", b"/"])
def test_an_expectation_that_is_no_text_is_refused_everywhere(served: Served, path):
    answer = served.raw(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nExpect: \xff\r\nConnection: close\r\n\r\n")
    assert answer.split(b" ")[1] in (b"401", b"417")


def test_doubled_slashes_before_the_root_mean_nothing(served: Served):
    served.alice("PUT", "/home/slashes", b"x")
    reply = served.alice("GET", "/home/slashes")
    twice = served.request("GET", "/dav//files//alice//home/slashes", headers=basic("alice"))
    assert (twice.status, twice.body) == (200, reply.body)


def test_a_list_of_etags_may_have_empty_elements(served: Served):
    served.alice("PUT", "/home/listed", b"x")
    etag = served.alice("HEAD", "/home/listed").headers["etag"]
    assert served.alice("GET", "/home/listed", If_None_Match=f'"a", , {etag},').status == 304
    assert served.alice("GET", "/home/listed", If_None_Match=', "b"').status == 200
    assert served.alice("GET", "/home/listed", If_None_Match='"a" "b"').status == 400


@pytest.mark.parametrize(
    ("host", "destination", "status"),
    [
        ("gateway.internal:8080", "http://gateway.internal:8080", 201),
        ("gateway.internal", "https://GATEWAY.internal:443", 201),
        ("gateway.internal", "http://gateway.internal:8080", 502),
        ("gateway.internal", "http://elsewhere.internal", 502),
        ("gateway.internal", "ftp://gateway.internal", 502),
    ],
)
def test_a_destination_may_have_the_name_that_the_request_was_sent_to(served: Served, host, destination, status):
    served.alice("PUT", "/home/here", b"x")
    served.alice("DELETE", "/home/there")
    target = f"{destination}/dav/files/alice/home/there"
    assert served.alice("COPY", "/home/here", Host=host, Destination=target).status == status


@pytest.mark.parametrize(
    ("method", "path", "headers", "code"),
    [
        ("PUT", "/home/kept", {"Content_Digest": "sha-256=:AAAA:"}, "DIGEST_MISMATCH"),
        ("PUT", "/home/kept", {"If_Match": '"another"'}, "PRECONDITION_FAILED"),
        ("PUT", "/home/kept", {"Content_Encoding": "gzip"}, "CONTENT_ENCODING"),
        ("GET", "/home/%2e%2e/kept", {}, "INVALID_PATH"),
        ("GET", "/home/kept", {"Range": "bytes=100-"}, "RANGE_NOT_SATISFIABLE"),
        ("PUT", "/home/none/kept", {}, "PARENT_MISSING"),
        ("PROPFIND", "/home/kept", {"Depth": "2"}, "INVALID_DEPTH"),
        ("PUT", "/frozen/kept", {}, "READ_ONLY"),
    ],
)
def test_every_refusal_leaves_one_line_that_says_why(served: Served, log: list[Any], method, path, headers, code):
    served.alice("PUT", "/home/kept", b"kept")
    log.clear()
    reply = served.alice(method, path, b"new" if method == "PUT" else None, **headers)
    assert reply.code == code
    (line,) = [line for line in log if line["event"] == "dav.refused"]
    assert (line["status"], line["code"], line["method"]) == (reply.status, code, method)
    assert line["reason"]
    (request,) = [line for line in log if line["event"] == "request"]
    assert (request["door"], request["status"]) == ("files", reply.status)
    assert served.alice("GET", "/home/kept").body == b"kept"


def test_requests_are_counted_by_their_door(served: Served, log: list[Any]):
    served.alice("GET", "/home/")
    share = served.share("")
    served.request("PROPFIND", "/dav/ocm/", headers=basic(share.secret, ""))
    served.request("GET", "/nowhere/dav/ocm")
    assert [line["door"] for line in log if line["event"] == "request"] == ["files", "ocm", "web"]


def test_a_scheme_in_the_middle_of_a_path_is_a_name(served: Served):
    """And looking for one takes no longer than the path is long: it is done before anybody has logged in."""
    served.alice("MKCOL", "/home/http:")
    assert served.alice("PUT", "/home/http://name", b"x").status == 201
    assert (served.data / "http:" / "name").read_bytes() == b"x"
    started = time.monotonic()
    assert served.request("GET", "/dav/files/alice/" + "a" * 32_000).status == 401
    assert time.monotonic() - started < 1
