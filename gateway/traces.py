"""The last exchanges that failed, per peer, as files: redacted, bounded, and fit to be run again.

Why federation failed is asked hours later, when the log has gone on. Only servers that our users or the operator have
dealt with leave files. Who speaks in the name of one need not be it, so that what is `incoming` never takes the place
of what we have met ourselves.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, urlencode

import structlog

from gateway.errors import NoSuch
from gateway.ocm.fields import is_shallow

VERSION = 1
KEPT = 10  # files per peer and direction
PEERS_KEPT = 200
BODY_MAX = 64 * 1024  # bytes of a body that are kept
MODE = 0o600

LEFT_OUT = "***"
_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
_MEMBERS = frozenset({"sharedsecret", "code", "token", "access_token", "refresh_token", "client_secret", "password"})

_FORM = re.compile(r"[A-Za-z0-9_.-]+=[^&=\s\"<{]*(&[A-Za-z0-9_.-]+=[^&=\s\"<{]*)*")

Direction = Literal["outgoing", "incoming"]
Headers = Sequence[tuple[str, str]]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what became of it; `status` is None where no answer came."""

    direction: Direction
    server: str
    method: str
    url: str
    headers: Headers
    body: bytes
    status: int | None
    answer: bytes
    code: str
    reason: str


class Traces:
    """Files `<directory>/<server>/<milliseconds>-<direction>.json`."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._clock = clock

    async def keep(self, exchange: Exchange) -> None:
        """Write one exchange without its secrets; a disk that refuses costs a log line and nothing else."""
        moment = self._clock()
        try:
            await asyncio.to_thread(self._write, exchange, moment)
        except OSError as error:
            log.warning("a failed exchange could not be kept", peer=exchange.server, reason=str(error))

    def list(self, server: str) -> list[dict[str, Any]]:
        """Return what was kept of `server`, the oldest first, each with the path of its `file`."""
        found = []
        for path in sorted(self._of(server).glob("*.json")):
            try:
                found.append(parse(path.read_text(encoding="utf-8")) | {"file": str(path)})
            except (OSError, NoSuch):
                continue  # it was just taken away
        return found

    def _of(self, server: str) -> Path:
        return self._directory / server.replace(":", "_").replace("[", "").replace("]", "")

    def _write(self, exchange: Exchange, moment: float) -> None:
        directory = self._of(exchange.server)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = json.dumps(_document(exchange, int(moment)), indent=2, ensure_ascii=False)
        path = directory / f"{int(moment * 1000):015}-{exchange.direction}.json"
        path.touch(MODE)
        path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        for old in sorted(directory.glob(f"*-{exchange.direction}.json"))[:-KEPT]:
            old.unlink(missing_ok=True)
        self._make_room()

    def _make_room(self) -> None:
        """Let the peers go that failed longest ago."""
        directories = sorted(self._directory.iterdir(), key=lambda path: path.stat().st_mtime)
        for directory in directories[:-PEERS_KEPT]:
            for path in directory.iterdir():
                path.unlink(missing_ok=True)
            directory.rmdir()


def parse(text: str) -> dict[str, Any]:
    """Return what a file holds; raises NoSuch for one that is no trace."""
    try:
        document = json.loads(text)
        if document["version"] == VERSION and document["direction"] in ("outgoing", "incoming"):
            return dict(document)
    except (ValueError, TypeError, KeyError):
        pass
    raise NoSuch("NO_TRACE", "this file is no exchange as `peer trace` keeps them")


def _document(exchange: Exchange, moment: int) -> dict[str, Any]:
    body, secrets = redacted(exchange.body)
    answer, more = redacted(exchange.answer, one_form=bool(secrets))
    for secret in filter(None, (*secrets, *more)):  # some peers quote what they refuse
        for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1]):
            body, answer = body.replace(form, LEFT_OUT), answer.replace(form, LEFT_OUT)
    return {
        "version": VERSION,
        "direction": exchange.direction,
        "server": exchange.server,
        "at": moment,
        "request": {
            "method": exchange.method,
            "url": exchange.url,
            "headers": [[name, _value(name, value)] for name, value in exchange.headers],
            "body": body,
            "redacted": body.encode() != exchange.body,
        },
        "answer": None if exchange.status is None else {"status": exchange.status, "body": answer},
        "problem": {"code": exchange.code, "reason": exchange.reason},
    }


def _value(name: str, value: str) -> str:
    return LEFT_OUT if name.lower() in _HEADERS else value


def redacted(body: bytes, *, one_form: bool = False) -> tuple[str, list[str]]:
    """Return a body without its secrets, and those; what is neither JSON nor a form is left out whole.

    JSON can write a text in many ways; `one_form` brings it into the one in which a text is looked for.
    """
    if not body:
        return "", []
    text, secrets = body.decode("utf-8", "replace"), list[str]()
    if len(body) <= BODY_MAX and _is_shallow_json(text):
        cleaned = _without_secrets(json.loads(text), secrets)
        return (json.dumps(cleaned, ensure_ascii=False) if secrets or one_form else text), secrets
    if len(body) <= BODY_MAX and _FORM.fullmatch(text):
        pairs = parse_qsl(text, keep_blank_values=True)
        return urlencode([(name, _kept(name, value, secrets)) for name, value in pairs], safe="*"), secrets
    return f"({len(body)} bytes that are neither JSON nor a form)", []


def _is_shallow_json(text: str) -> bool:
    try:
        return is_shallow(json.loads(text))
    except (ValueError, RecursionError):
        return False


def _without_secrets(value: Any, secrets: list[str]) -> Any:
    """Return a JSON value without the secrets in it, which are added to `secrets`."""
    if isinstance(value, Mapping):
        return {name: _kept(name, inner, secrets) for name, inner in value.items()}
    return [_without_secrets(inner, secrets) for inner in value] if isinstance(value, list) else value


def _kept(name: str, value: Any, secrets: list[str]) -> Any:
    if name.lower() not in _MEMBERS or value is None:
        return _without_secrets(value, secrets)
    secrets.extend(_texts(value))
    return LEFT_OUT


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value."""
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _texts(inner)
