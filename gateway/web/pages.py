"""What every page with a form has: one look, no script, and headers that let it load nothing and be framed by none."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import aiohttp_jinja2
from aiohttp import web

# As Jinja includes it: without the last line break.
_STYLE = (files("gateway.web") / "templates" / "style.css").read_bytes().removesuffix(b"\n")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE).digest()).decode()


def page(
    request: web.Request, template: str, context: Mapping[str, Any], status: int = 200, *, form_action: str = "'self'"
) -> web.Response:
    """Return the page that `template` makes of `context`; `form_action` is where the answer to its form may lead."""
    response = aiohttp_jinja2.render_template(template, request, context, status=status)
    return guarded(response, form_action)


def guarded(response: web.Response, form_action: str) -> web.Response:
    """Return `response` with the headers of a page."""
    response.headers.update(
        {
            "Content-Security-Policy": (
                f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {form_action}; base-uri 'none';"
                " frame-ancestors 'none'"
            ),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",  # the address of a page may hold a token
            "Cache-Control": "no-store",
        }
    )
    return response
