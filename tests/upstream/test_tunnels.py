"""WebSocket and other protocols, after 101."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from aiohttp import ClientSession, WSMsgType, web
from sites import Site

from .conftest import IDLE
from .talking import Scripted, Talk, call

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo/1\r\nConnection: Upgrade\r\nX-A: b\r\n\r\n"
ASKING = b"GET /echo HTTP/1.1\r\nHost: nas\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo/1\r\n\r\n"
MANY = 8 << 20  # bytes, more than all buffers on the way hold


def switches(behind: Scripted, then, first: bytes = b"") -> None:
    def script(talk: Talk) -> None:
        head = talk.head()
        assert (head[b"Upgrade"], head[b"Connection"]) == (b"echo/1", b"Upgrade")
        talk.send(SWITCHING + first)
        then(talk)

    behind.plays(script)


async def test_a_websocket_talks_through_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    """aiohttp on both sides, with texts, bytes, compression, a large message, ping and close."""

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("chat",), max_msg_size=0)
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(f"{request.headers['Host']} {message.data}")
            else:
                await socket.send_bytes(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/chat", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    upstream = {"url": f"http://127.0.0.1:{runner.addresses[0][1]}", "idle_timeout": 1}
    site = Site(tmp_path_factory.mktemp("websocket"), upstream=upstream)
    try:
        await asyncio.to_thread(site.start)
        large = os.urandom(MANY)
        async with ClientSession() as session:
            url = f"ws://127.0.0.1:{site.port}/chat"
            async with session.ws_connect(url, protocols=("chat",), compress=15, max_msg_size=0) as socket:
                assert socket.protocol == "chat"
                await socket.send_str("h\u00e9llo")
                assert await socket.receive_str() == f"127.0.0.1:{site.port} h\u00e9llo"
                await socket.send_bytes(large)
                assert await socket.receive_bytes() == large
                await asyncio.sleep(2.5)  # longer than idle_timeout: a tunnel has none
                await socket.ping()
                await socket.send_str("still here")
                assert (await socket.receive_str()).endswith("still here")
            assert socket.close_code == 1000
    finally:
        await asyncio.to_thread(site.stop)
        await runner.cleanup()
    assert "door=upstream method=GET path=/chat principal=None remote=127.0.0.1" in site.log.read_text()
    assert "status=101" in site.log.read_text()


def test_any_protocol_may_be_tunnelled(site: Site, behind: Scripted) -> None:
    def echo(talk: Talk) -> None:
        while piece := talk.some():
            talk.send(piece)

    switches(behind, echo, b"welcome")
    with call(site.port) as client:
        client.send(ASKING)
        head = client.head()
        assert head.first == b"HTTP/1.1 101 Switching Protocols"
        assert head.fields == [(b"X-A", b"b"), (b"Upgrade", b"echo/1"), (b"Connection", b"Upgrade")]
        assert client.exactly(7) == b"welcome"
        for piece in (b"GET / HTTP/1.1\r\n\r\n", b"\x00\xff", b"x" * 100_000):
            client.send(piece)
            assert client.exactly(len(piece)) == piece


def test_what_a_client_sends_before_the_answer_is_not_lost(site: Site, behind: Scripted) -> None:
    def late(talk: Talk) -> None:
        assert talk.exactly(5) == b"early"
        talk.send(b"thanks")

    def script(talk: Talk) -> None:
        talk.head()
        time.sleep(0.3)
        talk.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        late(talk)

    behind.plays(script)
    with call(site.port) as client:
        client.send(ASKING.replace(b"echo/1", b"websocket"))
        client.send(b"early")
        assert client.head().status == 101
        assert client.rest() == b"thanks"


def test_a_tunnel_waits_for_the_side_that_does_not_take_it(site: Site, behind: Scripted) -> None:
    received: list[int] = []

    def slow(talk: Talk) -> None:
        time.sleep(IDLE / 2)
        received.append(len(talk.exactly(MANY)))
        talk.send(b"y" * MANY)

    switches(behind, slow)
    with call(site.port) as client:
        client.send(ASKING)
        client.head()
        client.send(b"x" * MANY)
        time.sleep(IDLE / 2)
        assert client.rest() == b"y" * MANY
    assert received == [MANY]


def test_what_was_sent_before_the_end_arrives(site: Site, behind: Scripted) -> None:
    received: list[bytes] = []
    switches(behind, lambda talk: received.append(talk.rest()))
    with call(site.port) as client:
        client.send(ASKING)
        client.head()
        client.send(b"z" * MANY)
    behind.finish()
    assert received == [b"z" * MANY]


def test_an_upgrade_that_is_declined_is_an_ordinary_answer(site: Site, behind: Scripted) -> None:
    def declining(talk: Talk) -> None:
        for _ in range(2):
            talk.head()
            talk.send(
                b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: chat\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\nn"
            )

    for protocol in (b"websocket", b"echo/1"):
        behind.plays(declining)
        with call(site.port) as client:
            client.send(ASKING.replace(b"echo/1", protocol))
            assert client.head().status == 426
            assert client.exactly(1) == b"n"
            client.send(b"GET /next HTTP/1.1\r\nHost: nas\r\n\r\n")
            assert client.head().status == 426


@pytest.mark.parametrize("protocol", [b"h2c", b"H2C", b"HTTP/2.0", b"TLS/1.0", b"echo/1, h2c"])
def test_nothing_is_tunnelled_that_would_be_http_again(site: Site, behind: Scripted, protocol: bytes) -> None:
    """Requests in a tunnel would bring their own X-Forwarded-For along."""

    def refusing(talk: Talk) -> None:
        assert b"Upgrade" not in talk.head()
        talk.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    behind.plays(refusing)
    with call(site.port) as client:
        client.send(ASKING.replace(b"echo/1", protocol))
        assert client.head().status == 200


def test_a_gateway_that_stops_ends_tunnels_at_once(behind: Scripted, tmp_path: Path) -> None:
    switches(behind, lambda talk: talk.rest())
    site = Site(tmp_path, upstream={"url": f"http://127.0.0.1:{behind.port}"}).start()
    with call(site.port) as client:
        client.send(ASKING)
        client.head()
        begun = time.monotonic()
        site.stop()
        assert time.monotonic() - begun < 8
        assert client.rest() == b""
