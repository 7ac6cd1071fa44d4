"""What failed is kept without its secrets, wherever they stand, and no more of it than is bounded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parts import Clock

from gateway.traces import KEPT, LEFT_OUT, PEERS_KEPT, Exchange, Traces, redacted

SECRET = "S3cr3t/with+signs=and-more"


def exchange(body: bytes = b"{}", answer: bytes = b"{}", server: str = "peer.example", **headers: str) -> Exchange:
    sent = tuple(headers.items())
    url = f"https://{server}/ocm/shares"
    return Exchange("outgoing", server, "POST", url, sent, body, 400, answer, "STATUS_400", "the peer answered 400")


async def kept(tmp_path: Path, *exchanges: Exchange) -> tuple[list[dict[str, Any]], str]:
    """Return what is kept of the last one's server, and all bytes on the disk."""
    clock = Clock()
    traces = Traces(tmp_path / "traces", clock)
    for each in exchanges:
        await traces.keep(each)
        clock.advance(0.01)
    text = "".join(path.read_text() for path in sorted((tmp_path / "traces").rglob("*.json")))
    return traces.list(exchanges[-1].server), text


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"protocol": {"webdav": {"sharedSecret": SECRET}}}).encode(),
        json.dumps([{"Code": SECRET}, {"list": [{"TOKEN": SECRET}]}]).encode(),
        json.dumps({"password": {"inner": SECRET}}).encode(),
        f"grant_type=authorization_code&code={SECRET.replace('+', '%2B').replace('=', '%3D')}".encode(),
        json.dumps({"sharedSecret": SECRET}).encode()[:-1],
        f"code = {SECRET}".encode(),
        f"<code>{SECRET}</code>".encode(),
        b"\xff" + SECRET.encode(),
    ],
)
async def test_no_secret_of_a_request_is_kept(tmp_path: Path, body: bytes) -> None:
    """Neither in what was sent, nor in an answer that quotes it."""
    quoting = json.dumps({"message": f"the secret {SECRET} is unknown"}).encode()
    answer = quoting if body.startswith((b"{", b"[", b"grant")) and body.endswith((b"}", b"]", b"D")) else b"{}"
    (trace,), text = await kept(tmp_path, exchange(body, answer, Authorization=f"Bearer {SECRET}", Cookie=SECRET))
    assert SECRET not in text
    assert dict(trace["request"]["headers"]) == {"Authorization": LEFT_OUT, "Cookie": LEFT_OUT}
    assert trace["request"]["redacted"] is True


@pytest.mark.parametrize("escaped", ["\\/", "\\u002f", "\\u002F"])
async def test_no_secret_is_kept_that_json_writes_in_its_own_way(tmp_path: Path, escaped: str) -> None:
    """PHP's json_encode escapes each slash."""
    quoted = SECRET.replace("/", escaped)
    body = json.dumps({"sharedSecret": SECRET}).encode()
    (trace,), text = await kept(tmp_path, exchange(body, f'{{"message": "{quoted} is unknown"}}'.encode()))
    assert json.loads(trace["answer"]["body"]) == {"message": f"{LEFT_OUT} is unknown"}
    assert "with+signs" not in text


async def test_what_holds_no_secret_is_kept_as_it_is(tmp_path: Path) -> None:
    body, answer = b'{ "name": "d\xc3\xa4ta", "token_type": "Bearer" }', b"a=1&b=2"
    (trace,), _ = await kept(tmp_path, exchange(body, answer))
    assert trace["request"]["body"].encode() == body
    assert trace["request"]["redacted"] is False
    assert trace["answer"]["body"].encode() == answer


async def test_the_last_of_a_peer_are_kept_and_the_peers_that_failed_last(tmp_path: Path) -> None:
    one = [exchange(json.dumps({"n": number}).encode()) for number in range(KEPT + 5)]
    others = [exchange(server=f"peer{number}.example:8443") for number in range(PEERS_KEPT + 3)]
    traces, _ = await kept(tmp_path, *others, *one)
    assert [json.loads(trace["request"]["body"])["n"] for trace in traces] == list(range(5, KEPT + 5))
    assert len(list((tmp_path / "traces").iterdir())) == PEERS_KEPT


async def test_what_anybody_may_send_takes_no_place_of_what_we_have_met(tmp_path: Path) -> None:
    sent = [replace(exchange(), direction="incoming", reason=str(number)) for number in range(2 * KEPT)]
    traces, _ = await kept(tmp_path, exchange(), *sent)
    assert [trace["direction"] for trace in traces] == ["outgoing", *["incoming"] * KEPT]
    assert [trace["problem"]["reason"] for trace in traces[1:]] == [str(number) for number in range(KEPT, 2 * KEPT)]


async def test_a_directory_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "traces").write_text("in the way")
    await Traces(tmp_path / "traces", Clock()).keep(exchange())


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_body_can_be_cleaned(body: bytes) -> None:
    text, _ = redacted(body)
    assert isinstance(text, str)
