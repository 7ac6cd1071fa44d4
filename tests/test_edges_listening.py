"""What a client does wrong in HTTP itself: one line each in the log, which quotes nothing of what it sent."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
import structlog
from aiohttp import web

from gateway import listening
from gateway.api import errors
from gateway.api.door import _nothing, _refusing
from gateway.api.inbound import read_message
from gateway.config import Address

SECRET = "SUPERSECRET"
HEAD = "POST /{path} HTTP/1.1\r\nHost: x\r\n"

GARBLED = {
    "a control character in a credential": HEAD + f"Authorization: Basic {SECRET}\x01\r\n\r\n",
    "a credential that is too long": HEAD + f"Authorization: Bearer {SECRET}{'x' * 2 * listening.MAX_LINE}\r\n\r\n",
    "a target that is too long": f"GET /{SECRET}{'x' * 2 * listening.MAX_LINE} HTTP/1.1\r\nHost: x\r\n\r\n",
    "a length that is none": HEAD + f"Content-Length: {SECRET}\r\n\r\n",
    "no HTTP": f"{SECRET}\x01\r\n\r\n",
    "a chunk that is none": HEAD + f"Transfer-Encoding: chunked\r\n\r\nzz{SECRET}\r\n",
}


async def _read(request: web.Request) -> web.Response:
    await read_message(request, "https://gateway.example", asyncio.get_running_loop().time() + 10)
    return web.Response()


async def _break(_request: web.Request) -> web.Response:
    raise LookupError("a bug of ours, 100% sure")


async def _send(raw: str, *, wait: bool = True) -> bytes:
    """Serve, send `raw` to `/read` or `/break`, and return the answer, or hang up at once."""
    async with AsyncExitStack() as stack:
        app = web.Application()
        app.router.add_post("/read", _refusing(_read, errors.response, _nothing))
        app.router.add_post("/break", _break)
        ((host, port),) = await listening.listen(stack, app, [Address("127.0.0.1", 0)])
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(raw.encode("latin-1"))
        await writer.drain()
        answer = b""
        if wait:
            answer = await reader.readuntil(b"\r\n\r\n")
        else:
            await asyncio.sleep(0.05)
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0.05)
        return answer


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    """Every line, each of which the test has to expect; the libraries write none by themselves."""
    with structlog.testing.capture_logs() as written:
        yield written
    assert caplog.records == []


@pytest.mark.parametrize("what", GARBLED)
async def test_what_is_no_http_is_one_line_that_quotes_none_of_it(lines: list[Any], what: str) -> None:
    assert b" 400 " in await _send(GARBLED[what].replace("{path}", "read"))
    assert len(lines) == 1
    assert "127.0.0.1" in lines[0]["event"]
    assert lines[0]["error"]
    assert "exc_info" not in lines[0]
    assert SECRET not in repr(lines)


async def _status(path: str) -> int:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response()

    async with AsyncExitStack() as stack:
        app = web.Application()
        app.router.add_get("/{anything:[\\s\\S]*}", answer)
        ((host, port),) = await listening.listen(stack, app, [Address("127.0.0.1", 0)])
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        status = int((await reader.readline()).split()[1])
        writer.close()
        await writer.wait_closed()
        return status


@pytest.mark.parametrize("path", ["/" * 16_000, "/a" * 16_000, "/" + "a" * 20_000 + "/" * 5_000])
async def test_a_path_that_would_keep_the_router_busy_is_refused(path: str) -> None:
    assert await _status(path) == 414


@pytest.mark.parametrize("path", ["/%FF" * 2_048, "/dav/files/alice" + "//%C3%A4" * 1_024, "/" + "a" * 32_000, "/"])
async def test_the_deepest_paths_that_storage_can_have_are_not(path: str) -> None:
    assert await _status(path) == 200


async def test_a_bug_of_ours_keeps_its_traceback(lines: list[Any]) -> None:
    assert b" 500 " in await _send(HEAD.replace("{path}", "break") + "Content-Length: 0\r\n\r\n")
    assert [(line["log_level"], type(line["exc_info"])) for line in lines] == [("error", LookupError)]


@pytest.mark.parametrize("framing", ["Content-Length: 9\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\nff\r\n{"])
async def test_a_client_that_goes_away_within_the_body_is_refused_and_no_error(lines: list[Any], framing: str) -> None:
    await _send(HEAD.replace("{path}", "read") + framing, wait=False)
    assert [(line["log_level"], line["code"]) for line in lines] == [("warning", "BODY_CUT_OFF")]


async def test_an_answer_before_the_end_of_the_body_closes_the_connection(lines: list[Any]) -> None:
    answer = await _send(HEAD.replace("{path}", "read") + "Content-Length: 1000000\r\n\r\n{")
    assert b" 400 " in answer
    assert b"\r\nConnection: close\r\n" in answer
    assert [line["code"] for line in lines] == ["BODY_TOO_LARGE"]


async def test_a_client_that_reads_nothing_loses_its_connection_and_what_is_kept_for_it() -> None:
    """Here after a second. The answer is more than the buffers on its way hold, and no transfer that is watched."""
    ended = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(1 << 20))
        finally:
            ended.set()

    async with AsyncExitStack() as stack:
        app = web.Application()
        app.router.add_get("/", answer)
        (listener,) = listening.bind(Address("127.0.0.1", 0), unread_time=1.0)
        await listening.listen_on(stack, app, listener)
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            begun = time.monotonic()
            async with asyncio.timeout(30):
                await ended.wait()
            assert time.monotonic() - begun > 1.0


async def test_a_client_that_reads_slowly_keeps_its_connection() -> None:
    """It has the whole time again and again; its segments are those of Ethernet, as loopback's alone fill a window."""
    content = bytes(range(256)) * 16384

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=content)

    async with AsyncExitStack() as stack:
        app = web.Application()
        app.router.add_get("/", answer)
        (listener,) = listening.bind(Address("127.0.0.1", 0), unread_time=2.0)
        await listening.listen_on(stack, app, listener)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
            client.connect(listener.getsockname())
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            received = b""
            for _ in range(12):
                await asyncio.sleep(0.5)
                received += await asyncio.to_thread(client.recv, 131072)
            assert len(received) < len(content)
            client.settimeout(20)
            while piece := await asyncio.to_thread(client.recv, 1 << 20):
                received += piece
        assert received.endswith(content)


def test_every_socket_of_a_port_has_the_options_of_the_first() -> None:
    for address in (Address("127.0.0.1", 0), Address("::1", 0)):
        (first,) = listening.bind(address)
        found = listening.siblings(first, 3)
        assert len({listener.getsockname() for listener in found}) == 1
        for listener in found:
            assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 300_000
            assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1
            assert not listener.getblocking()
            listener.listen()
        with pytest.raises(OSError, match="in use"):
            listening.bind(Address(address.host, first.getsockname()[1]))
        for listener in found:
            listener.close()
