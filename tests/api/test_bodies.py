"""Bodies that are no messages: each is refused in time, with a code, and nothing of it is stored."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.api import door
from gateway.api.inbound import MAX_BODY

from .served import BASE, FORM, SECRET, Served

ENDPOINTS = ("shares", "notifications", "invite-accepted", "token")


def codes(reply: Any) -> tuple[int, str]:
    return reply.status, reply.code


def deep(levels: int, opening: bytes = b'{"a":', closing: bytes = b"}") -> bytes:
    return opening * levels + b"1" + closing * levels


BAD_JSON: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "INVALID_JSON"),
    "half an object": (b'{"a": 1', "INVALID_JSON"),
    "two objects": (b"{}{}", "INVALID_JSON"),
    "not a number": (b'{"a": NaN}', "INVALID_JSON"),
    "infinity": (b'{"a": -Infinity}', "INVALID_JSON"),
    "a name twice": (b'{"sender": "a@b.example", "sender": "c@d.example"}', "INVALID_JSON"),
    "another encoding": ('{"a": "ü"}'.encode("latin-1"), "INVALID_JSON"),
    "utf-16": ('{"a": 1}'.encode("utf-16"), "INVALID_JSON"),
    "deep objects": (deep(50), "INVALID_JSON"),
    "deeper objects": (deep(9_000), "INVALID_JSON"),
    "deep lists": (b'{"a":' + deep(30_000, b"[", b"]") + b"}", "INVALID_JSON"),
    "a list": (b"[]", "NOT_AN_OBJECT"),
    "a text": (b'"text"', "NOT_AN_OBJECT"),
    "null": (b"null", "NOT_AN_OBJECT"),
    "a number of many digits": (b'{"a": 1' + b"0" * 5000 + b"}", "INVALID_JSON"),
    "gzip": (gzip.compress(b"{}"), "INVALID_JSON"),
    "a form": (b"a=b&c=d", "INVALID_JSON"),
    "html": (b"<html></html>", "INVALID_JSON"),
    "NUL": (b"\0", "INVALID_JSON"),
}


@pytest.mark.parametrize("what", BAD_JSON)
@pytest.mark.parametrize("endpoint", ["shares", "notifications", "invite-accepted"])
def test_what_is_no_json_object_is_refused(served: Served, endpoint: str, what: str) -> None:
    body, code = BAD_JSON[what]
    assert codes(served.post(endpoint, body, signed=False)) == (400, code)
    assert codes(served.post(endpoint, body)) == (400, code), "a signature makes it no better"


@pytest.mark.parametrize("what", [what for what in BAD_JSON if what not in ("a form", "nothing")])
def test_what_is_no_token_request_is_refused_as_oauth_does(served: Served, what: str) -> None:
    for kind in ("application/json", FORM):
        reply = served.post("token", BAD_JSON[what][0], signed=False, kind=kind)
        assert (reply.status, reply.json) == (400, {"error": "invalid_request"})


@pytest.mark.parametrize(
    "form",
    [
        b"",
        b"&" * 1000,
        b"=" * 1000,
        b"a=b&" * 1000,
        b"%ff=%fe",
        b"code=x&code=y&grant_type=authorization_code",
        b"grant_type=authorization_code&code=%00",
        b"grant_type=authorization_code&code=" + b"x" * 5000,
        b"grant_type=authorization_code&code=x&client_id=" + b"y" * 5000,
    ],
)
def test_a_form_that_makes_no_sense_is_refused(served: Served, form: bytes) -> None:
    reply = served.post("token", form, signed=False, kind=FORM)
    assert (reply.status, reply.json["error"]) in ((400, "invalid_request"), (400, "invalid_grant"))


@pytest.mark.parametrize("kind", ["", "text/html", "multipart/form-data; boundary=x", "application/json; charset=x"])
def test_the_type_of_a_json_body_does_not_matter(served: Served, kind: str) -> None:
    """The test stub sends none at all (peers.md, section 5)."""
    assert codes(served.post("shares", {}, signed=False, kind=kind)) == (400, "INVALID_SHARE")


# --- size and time --------------------------------------------------------------------------------------------------


def padded(size: int) -> bytes:
    """Return an empty object of `size` bytes."""
    return b"{" + b" " * (size - 2) + b"}"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_body_may_have_64_kib_and_not_a_byte_more(served: Served, endpoint: str) -> None:
    assert MAX_BODY == 64 * 1024
    assert served.post(endpoint, padded(MAX_BODY), signed=False).status == 400
    reply = served.post(endpoint, padded(MAX_BODY + 1), signed=False)
    assert reply.status == 400
    assert reply.code == ("invalid_request" if endpoint == "token" else "BODY_TOO_LARGE")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_chunked_body_has_the_same_bound(served: Served, endpoint: str) -> None:
    def chunks(size: int) -> Iterator[bytes]:
        for offset in range(0, size, 1000):
            yield padded(size)[offset : offset + 1000]

    within = served.request("POST", f"{BASE}/ocm/{endpoint}", chunks(MAX_BODY), {"Transfer-Encoding": "chunked"})
    assert within.status == 400
    beyond = served.request("POST", f"{BASE}/ocm/{endpoint}", chunks(MAX_BODY + 1), {"Transfer-Encoding": "chunked"})
    assert (beyond.status, beyond.code) == (400, "invalid_request" if endpoint == "token" else "BODY_TOO_LARGE")
    assert within.code != "BODY_TOO_LARGE"


def test_an_announced_gigabyte_is_refused_before_it_is_sent(served: Served) -> None:
    head = f"POST {BASE}/ocm/shares HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n"
    assert served.raw(head.encode()).startswith(b"HTTP/1.1 400 ")


def test_an_endless_chunked_body_ends_at_the_bound(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        head = f"POST {BASE}/ocm/shares HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode())
        connection.settimeout(0.01)
        sent, answer = 0, b""
        while not answer and sent < 50 * 1024 * 1024:
            try:
                sent += connection.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                answer = connection.recv(1000)
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert answer.startswith(b"HTTP/1.1 400 ") or answer == b""
    assert sent < 50 * 1024 * 1024


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_body_that_drips_is_refused_in_time(served: Served, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setattr(door, "ANSWER_TIME", 0.3)
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as connection:
        head = f"POST {BASE}/ocm/{endpoint} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + "{"
        connection.sendall(head.encode())
        begun = time.monotonic()
        answer = connection.recv(65536)
    assert time.monotonic() - begun < 3
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"BODY_TIMEOUT" in answer or b"invalid_request" in answer


# --- HTTP itself ----------------------------------------------------------------------------------------------------


COVERED = '"@method" "@target-uri" "content-digest" "content-length"'


def head(*lines: str, target: str = f"{BASE}/ocm/shares") -> bytes:
    return "\r\n".join((f"POST {target} HTTP/1.1", "Host: x", *lines, "", "")).encode("latin-1")


CUT: dict[str, bytes] = {
    "cut off": head("Content-Length: 10") + b"{",
    "a chunk that is no chunk": head("Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n",
    "a chunk cut off": head("Transfer-Encoding: chunked") + b"ff\r\n{}",
    "a negative chunk": head("Transfer-Encoding: chunked") + b"-1\r\n{}\r\n0\r\n\r\n",
    "both lengths": head("Content-Length: 2", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "two lengths": head("Content-Length: 2", "Content-Length: 3") + b"{}",
    "a length that is none": head("Content-Length: two") + b"{}",
    "an unknown transfer encoding": head("Transfer-Encoding: gzip") + b"{}",
    "a content encoding": head("Content-Encoding: gzip", "Content-Length: 2") + b"{}",
    "no body at all": head(),
}


@pytest.mark.parametrize("how", CUT)
def test_a_request_that_is_cut_or_garbled_is_never_an_error_of_ours(served: Served, log: list[Any], how: str) -> None:
    answer = served.raw(CUT[how], hang_up=True)
    assert answer == b"" or answer.split(b" ")[1][:1] == b"4", answer
    time.sleep(0.05)
    assert [line for line in log if line.get("status") == 500] == []


@pytest.mark.parametrize(
    "target",
    [
        f"{BASE}/ocm/shares?x=1",
        f"{BASE}//ocm/shares",
        f"{BASE}/ocm/./shares",
        f"{BASE}/ocm/%73hares",
        f"http://evil.example{BASE}/ocm/shares",
        "*",
        f"{BASE}/ocm/shares#x",
    ],
)
def test_a_target_written_otherwise_is_no_error_of_ours(served: Served, target: str) -> None:
    answer = served.raw(head("Content-Length: 2", "Connection: close", target=target) + b"{}")
    assert answer.split(b" ")[1][:1] == b"4", answer


@pytest.mark.parametrize(
    "headers",
    [
        {"Signature-Input": "\xff\xfe"},
        {"Signature-Input": 'ocm=("@method");tag="ocm"', "Signature": "x"},
        {"Signature-Input": "x" * 20_000},
        {"Signature-Input": 'ocm=("@method");tag="ocm"', "Signature": "ocm=:AAAA:"},
        {"Signature-Input": f'ocm=({COVERED});created=1;keyid="k";tag="ocm"', "Signature": "ocm=:AAAA:"},
        {"Signature": 'keyId="x",algorithm="rsa-sha512",headers="date",signature="AAAA"'},
        {"Content-Digest": "\x80"},
        {"X-Forwarded-For": ",,,\x80, [::1"},
    ],
)  # fmt: skip
def test_headers_that_make_no_sense_are_refused(served: Served, headers: dict[str, str]) -> None:
    body = json.dumps(served.share(providerId="headers")).encode()
    reply = served.request("POST", f"{BASE}/ocm/shares", body, headers)
    assert reply.status == 401
    assert reply.code.isupper()
    assert [share for share in served.received() if share.provider_id == "headers"] == []


def test_a_secret_in_a_place_where_none_belongs_is_not_logged(served: Served, log: list[Any]) -> None:
    """The fixture looks at every line; here is what could tempt one to be written."""
    served.post("shares", {"sharedSecret": SECRET, "protocol": {"options": {"sharedSecret": SECRET}}}, signed=False)
    served.post("shares", served.share(shareWith="nobody@gateway.example", webdav={"requirements": ["x"]}))
    served.post("shares", served.share(webdav={"sharedSecret": SECRET + "\n"}), signed=False)
    served.post("notifications", {"notification": {"sharedSecret": SECRET}}, signed=False)
    served.post("token", f"grant_type=authorization_code&code={SECRET}".encode(), signed=False, kind=FORM)
    served.post("token", {"grant_type": "x", "code": SECRET}, signed=False)
    served.request("POST", f"{BASE}/ocm/token?code={SECRET}", b"", {"Authorization": f"Bearer {SECRET}"})
    named = head("Content-Length: 2", "Connection: close", target=f"http://{SECRET}:@x{BASE}/ocm/shares")
    served.raw(named + b"{}")
    assert len([line for line in log if line["event"] == "request"]) == 8


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_megabytes_of_headers_are_refused_unread(served: Served, endpoint: str) -> None:
    """Each line is within its bound; reading all of them as signatures kept everybody waiting for over a second."""
    lines = f"Signature-Input: {'a;b,' * 7_000}c\r\n" * 10
    head = f"POST {BASE}/ocm/{endpoint} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: 2\r\nConnection: close\r\n\r\n"
    answer = served.raw(head.encode() + b"{}")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert (b"invalid_request" if endpoint == "token" else b"HEADERS_TOO_LARGE") in answer
