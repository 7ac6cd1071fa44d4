"""A reverse proxy that does its work badly, in the ways in which real ones are set up badly."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from email.utils import formatdate
from io import BytesIO
from time import time
from typing import Any
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from sites import free_port
from yarl import URL

DROPPED = ("Transfer-Encoding", "Content-Length", "Connection", "Date", "Server")


class Proxy:
    """Passes on everything to `target`, but for one `fault`."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.port = free_port()
        self.fault: str | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Proxy:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(20)
        return self

    def __exit__(self, *exception: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._client = aiohttp.ClientSession(auto_decompress=False)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def _stop(self) -> None:
        await self._client.close()
        await self._runner.cleanup()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        answer = self._answers_itself(request)
        if answer is not None:
            return answer
        target = request.raw_path
        if self.fault == "decodes paths":
            target = unquote(target).replace(" ", "%20")
        headers = self._headers(request)
        url = URL(self.target + target, encoded=True)
        body = await request.read()
        async with self._client.request(
            request.method, url, headers=headers, data=BytesIO(body) if body else None, allow_redirects=False
        ) as answered:
            content = await answered.read()
            shift = 600 if self.fault == "wrong clock" else 0
            passed = [(name, value) for name, value in answered.headers.items() if name not in DROPPED]
            passed.append(("Date", formatdate(time() + shift, usegmt=True)))
            response = web.Response(status=answered.status, body=content)
            response.headers.clear()
            for name, value in passed:
                response.headers.add(name, value)
            return response

    def _headers(self, request: web.Request) -> Mapping[str, str]:
        headers: dict[str, Any] = dict(request.headers)
        headers.pop("Content-Length", None)
        if self.fault == "drops the digest":
            headers.pop("Content-Digest", None)
        if self.fault == "drops the credential":
            headers.pop("Authorization", None)
        if self.fault == "is not believed":
            headers["X-Forwarded-For"] = "192.0.2.7"
        return headers

    def _answers_itself(self, request: web.Request) -> web.Response | None:
        if self.fault == "redirects discovery" and request.path == "/ocm-provider":
            return web.Response(status=301, headers={"Location": "/ocm-provider/"})
        if self.fault == "hides discovery" and request.path.startswith("/.well-known"):
            return web.Response(status=404)
        if self.fault == "is another server" and request.path.startswith(("/.well-known/ocm", "/ocm-provider")):
            return web.json_response({"enabled": True, "endPoint": "https://other.example/ocm"})
        if self.fault == "bounds bodies" and int(request.headers.get("Content-Length", 0)) > 1024 * 1024:
            return web.Response(status=413)
        if self.fault == "answers WebDAV" and request.method == "PROPFIND":
            return web.Response(status=405)
        if self.fault == "serves old keys" and request.path.endswith("/ocm/jwks"):
            return web.json_response({"keys": []})
        if self.fault == "has a neighbour" and request.path == "/status.php":
            return web.json_response({"version": "10.0"})
        if self.fault == "does not reach us":
            return web.Response(status=502)
        return None
