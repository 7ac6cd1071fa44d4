"""The Expect header on endpoints that read no file: 100 for what can be expected, 417 for everything else."""

from __future__ import annotations

import pytest

from .served import BASE, Served

TARGETS = ("POST {base}/ocm/shares", "POST {base}/ocm/token", "GET {base}/ocm/jwks", "GET /.well-known/ocm")


def ask(served: Served, target: str, expectation: bytes) -> bytes:
    line = target.format(base=BASE).encode()
    head = line + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\nExpect: " + expectation
    return served.raw(head + b"\r\n\r\n{}")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("expectation", [b"\xff\xfe", b"nonsense", b"100-continue, x", b"'\"<script>"])
def test_an_unknown_expectation_is_refused_and_not_repeated(served: Served, target: str, expectation: bytes) -> None:
    answer = ask(served, target, expectation)
    assert answer.startswith(b"HTTP/1.1 417 ")
    assert expectation not in answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("target", TARGETS)
def test_a_body_is_invited(served: Served, target: str) -> None:
    assert ask(served, target, b"100-Continue").startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 ")
