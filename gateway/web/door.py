"""The page at `/`: says what stands here and how to use it, to whoever opens the host in a browser."""

from __future__ import annotations

from collections.abc import Iterable

import aiohttp_jinja2
import jinja2
from aiohttp import web

from gateway.config import Config
from gateway.expecting import expect

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class WebDoor:
    """Pages."""

    def __init__(self, config: Config, paths: Iterable[str]) -> None:
        """Show the page at `paths`."""
        self._config = config
        self._paths = tuple(paths)

    def add_routes(self, app: web.Application) -> None:
        loader = jinja2.PackageLoader("gateway.web")
        aiohttp_jinja2.setup(app, loader=loader, autoescape=True, enable_async=False)
        for path in self._paths:
            app.router.add_get(path, self._welcome, expect_handler=expect)

    async def _welcome(self, request: web.Request) -> web.Response:
        context = {
            "provider": self._config.provider,
            "server": self._config.server,
            "files_url": f"{self._config.public_url}/dav/files/",
        }
        response = aiohttp_jinja2.render_template("welcome.html", request, context)
        response.headers.update(SECURITY_HEADERS)
        return response
