"""Many OCM servers in one process, for measurements: each on a port of its own, all answering alike and at once.

`python many_peers.py N` prints their ports as JSON, then serves until standard input ends; then it prints what it was
told: for each port the notifications, as pairs of provider id and type, in the order in which they came.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

import uvloop
from aiohttp import web

CONTENT = b"x" * 4096
ENTRY = (
    "<d:response><d:href>{href}</d:href><d:propstat><d:prop><d:resourcetype>{kind}</d:resourcetype>"
    '<d:getcontentlength>4096</d:getcontentlength><d:getetag>"e"</d:getetag>'
    "<d:getlastmodified>Fri, 15 Jan 2027 08:00:00 GMT</d:getlastmodified></d:prop>"
    "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
)
FOLDER = "<d:collection/>"


def main(count: int) -> None:
    told = uvloop.run(_serve(count))
    print(json.dumps(told), flush=True)


async def _serve(count: int) -> dict[int, list[tuple[str, str]]]:
    told: dict[int, list[tuple[str, str]]] = {}
    runners = []
    for _ in range(count):
        app = web.Application()
        notes: list[tuple[str, str]] = []
        app.router.add_route("*", "/{path:.*}", _answerer(notes))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        told[runner.addresses[0][1]] = notes
        runners.append(runner)
    print(json.dumps(list(told)), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for runner in runners:
        await runner.cleanup()
    return told


def _answerer(notes: list[tuple[str, str]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/.well-known/ocm":
            return web.json_response(document(f"http://{request.host}"))
        if request.method == "PROPFIND":
            return web.Response(status=207, text=_listing(request), content_type="application/xml")
        if request.method == "GET":
            return web.Response(body=CONTENT, headers={"ETag": '"e"'})
        body = await request.json()
        notes.append((body["providerId"], body["notificationType"]))
        return web.json_response({}, status=201)

    return answer


def document(url: str) -> dict[str, object]:
    """Return what such a server says of itself."""
    folder = {"name": "folder", "shareTypes": ["user"], "protocols": {"webdav": "/dav/"}}
    return {"enabled": True, "apiVersion": "1.1.0", "endPoint": f"{url}/ocm", "resourceTypes": [folder]}


def _listing(request: web.Request) -> str:
    path = request.path
    parts = [ENTRY.format(href=path, kind="" if path.endswith(".bin") else FOLDER)]
    if request.headers.get("Depth") == "1":
        parts += [ENTRY.format(href=f"{path.rstrip('/')}/{number}.bin", kind="") for number in range(10)]
    return f'<d:multistatus xmlns:d="DAV:">{"".join(parts)}</d:multistatus>'


if __name__ == "__main__":
    main(int(sys.argv[1]))
