"""Who asks the OCM API too often is told to come later, and nobody else is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.limits import Allowance

from .served import BASE, Served

FORWARDED = "X-Forwarded-For"


@pytest.fixture
def limits(served: Served) -> Iterator[Any]:
    """The limits of the door, which stand still: a test says how much of what there is."""

    def only(name: str, burst: int) -> None:
        served.limits._allowances = {name: Allowance(burst, 0.1, clock=lambda: 0.0)}

    yield only
    served.limits._allowances = {}


def asked(served: Served, method: str, path: str, forwarded: str = "") -> Any:
    return served.request(method, path, b"" if method == "POST" else None, {FORWARDED: forwarded})


@pytest.mark.parametrize(
    ("name", "method", "path"),
    [
        ("discovery", "GET", "/.well-known/ocm"),
        ("discovery", "GET", "/ocm-provider/"),
        ("discovery", "GET", f"{BASE}/.well-known/ocm"),
        ("jwks", "GET", f"{BASE}/ocm/jwks"),
        ("jwks", "GET", "/.well-known/jwks.json"),
        ("shares", "POST", f"{BASE}/ocm/shares"),
        ("notifications", "POST", f"{BASE}/ocm/notifications"),
        ("token", "POST", f"{BASE}/ocm/token"),
        ("pages", "GET", f"{BASE}/ocm/nothing-here"),
        ("pages", "GET", "/nothing-here"),
        ("pages", "PUT", "/.well-known/ocm"),
    ],
)
def test_every_endpoint_has_a_limit(
    served: Served, limits: Any, log: list[Any], name: str, method: str, path: str
) -> None:
    limits(name, 2)
    before = [asked(served, method, path).status for _ in range(2)]
    assert 429 not in before
    log.clear()
    for _ in range(3):
        reply = asked(served, method, path)
        assert (reply.status, reply.json, reply.headers["retry-after"]) == (429, {"message": "TOO_MANY_REQUESTS"}, "10")
    assert [line["event"] for line in log if line["event"] != "limited"] == []
    assert asked(served, method, path, "198.51.100.1").status == before[0]


def test_each_address_and_each_subscriber_is_one_client(served: Served, limits: Any) -> None:
    limits("discovery", 1)
    asks = [
        ("203.0.113.1", 200), ("203.0.113.2", 200), ("203.0.113.1", 429), ("::ffff:203.0.113.2", 429),
        ("2001:db8:1:1::1", 200), ("2001:db8:1:1:ffff::2", 429), ("2001:db8:1:2::1", 200),
        ("198.51.100.9, 203.0.113.1", 429),
    ]  # fmt: skip
    assert [asked(served, "GET", "/.well-known/ocm", who).status for who, _ in asks] == [status for _, status in asks]


def test_a_client_is_who_the_proxy_names_also_in_a_line_of_its_own(served: Served, limits: Any) -> None:
    """HAProxy leaves the line that the client has sent, and puts its own below it."""
    limits("discovery", 1)

    def status(invented: str) -> bytes:
        lines = f"Host: x\r\nConnection: close\r\n{FORWARDED}: {invented}\r\n{FORWARDED}: 203.0.113.1\r\n"
        return served.raw(f"GET /.well-known/ocm HTTP/1.1\r\n{lines}\r\n".encode())[9:12]

    assert [status("198.51.100.1"), status("198.51.100.2")] == [b"200", b"429"]


def test_a_body_that_is_refused_does_not_become_the_next_request(served: Served, limits: Any) -> None:
    limits("shares", 1)
    head = f"POST {BASE}/ocm/shares HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n".encode()
    served.raw(head + b"{" + b" " * 38 + b"}", hang_up=True)
    smuggled = b"GET /.well-known/ocm HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = served.raw(head + smuggled)
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.startswith(b"HTTP/1.1 429 ")


def test_a_server_is_one_client_by_its_signature_wherever_it_asks_from(fresh: Served, limits: Any) -> None:
    """What is only said in its name does not count: otherwise anybody could use up what it may."""
    fresh.put_received("limited")
    told = {
        "notificationType": "SHARE_UNSHARED",
        "resourceType": "folder",
        "providerId": "limited",
        "senderDomain": fresh.peer.server,
        "notification": {},
    }
    limits("peers", 1)
    for _ in range(5):
        assert fresh.post("notifications", told, signed=False).status == 401
    assert fresh.post("notifications", told).status == 201
    refused = fresh.post("shares", fresh.share(providerId="not-counted"))
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (429, "TOO_MANY_REQUESTS", "10")
    assert not [share for share in fresh.received() if share.provider_id == "not-counted"]
