"""The last exchanges that failed, per peer, as files: redacted, bounded, and fit to be run again.

Why federation failed is asked hours later, when the log has gone on. Only servers that our users or the operator have
dealt with leave files: nobody else can make us write any.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

import structlog

from gateway.errors import NoSuch

VERSION = 1
KEPT = 20  # files per peer
PEERS_KEPT = 200
BODY_MAX = 64 * 1024  # bytes of a body that are kept
MODE = 0o600

LEFT_OUT = "***"
_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
_MEMBERS = frozenset({"sharedsecret", "code", "token", "access_token", "refresh_token", "client_secret", "password"})

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
    """Files `<directory>/<server>/<milliseconds>.json`."""

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
        path = directory / f"{int(moment * 1000):015}.json"
        path.touch(MODE)
        path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        for old in sorted(directory.glob("*.json"))[:-KEPT]:
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
    body, is_redacted = redacted(exchange.body)
    answer, _ = redacted(exchange.answer)
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
            "redacted": is_redacted,
        },
        "answer": None if exchange.status is None else {"status": exchange.status, "body": answer},
        "problem": {"code": exchange.code, "reason": exchange.reason},
    }


def _value(name: str, value: str) -> str:
    return LEFT_OUT if name.lower() in _HEADERS else value


def redacted(body: bytes) -> tuple[str, bool]:
    """Return a body without its secrets, and whether it had some; what is neither JSON nor a form is left out whole."""
    if not body:
        return "", False
    if len(body) <= BODY_MAX:
        text = body.decode("utf-8", "replace")
        try:
            cleaned = _without_secrets(json.loads(text))
        except (ValueError, RecursionError):
            pairs = parse_qsl(text, keep_blank_values=True)
            cleaned_pairs = [(name, LEFT_OUT if name.lower() in _MEMBERS else value) for name, value in pairs]
            if pairs and text.isprintable() and "<" not in text:
                return urlencode(cleaned_pairs, safe="*"), cleaned_pairs != pairs
        else:
            is_same = cleaned == json.loads(text)
            return (text if is_same else json.dumps(cleaned, ensure_ascii=False)), not is_same
    return f"({len(body)} bytes that are neither JSON nor a form)", True


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: LEFT_OUT if name.lower() in _MEMBERS and inner is not None else _without_secrets(inner)
            for name, inner in value.items()
        }
    return [_without_secrets(inner) for inner in value] if isinstance(value, list) else value
