"""The admin socket: POST /<command> with a JSON object, for whom the kernel says the caller is (SO_PEERCRED)."""

from __future__ import annotations

import errno
import json
import os
import pwd
import socket
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from backends.errors import StorageError
from gateway.admin.commands import Caller, Commands
from gateway.errors import NotAllowed, Refusal
from gateway.ocm.errors import ProtocolError

MODE = 0o660
_PEERCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))

log = structlog.get_logger()


def bind(path: Path) -> socket.socket:
    """Return the socket at `path`, mode MODE from its first moment; what a crash left there is replaced.

    Raises OSError, also when somebody listens there or it is no socket at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _make_room(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    before = os.umask(0o777 & ~MODE)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def _make_room(path: Path) -> None:
    """Remove the socket of a gateway that is gone."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, f"listen.admin is {path}, where something else than a socket is")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, f"another gateway listens at {path}")
    path.unlink()


class AdminSocket:
    """The HTTP application on the socket."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self.app = web.Application(client_max_size=1024 * 1024)
        self.app.router.add_post("/{command}", self._handle)

    async def _handle(self, request: web.Request) -> web.Response:
        name, actor = request.match_info["command"], None
        try:
            caller = _caller(request)
            actor = caller.actor
            command = self._commands.table.get(name)
            if command is None:
                return _answer(404, {"code": "NO_SUCH_COMMAND", "message": f"this gateway has no command {name}"})
            result = await command(caller, await _arguments(request))
        except Refusal as error:
            return _refused(name, actor, error.code, str(error))
        except (ProtocolError, StorageError) as error:
            return _refused(name, actor, getattr(error, "code", type(error).__name__), str(error))
        except Exception:
            log.exception("admin command failed", command=name, actor=actor)
            message = "an error of the gateway's own; its log has the details"
            return _answer(500, {"code": "INTERNAL", "message": message})
        log.info("admin command", command=name, actor=actor)
        return _answer(200, {"result": result})


def _caller(request: web.Request) -> Caller:
    assert request.transport is not None
    channel = request.transport.get_extra_info("socket")
    credentials = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    _, uid, _ = _PEERCRED.unpack(credentials)
    if uid in (0, os.geteuid()):
        return Caller(None)
    try:
        return Caller(pwd.getpwuid(uid).pw_name)
    except KeyError:
        raise NotAllowed("UNKNOWN_ACCOUNT", f"the account with uid {uid} has no name on this machine") from None


async def _arguments(request: web.Request) -> Mapping[str, Any]:
    try:
        value = json.loads(await request.read() or b"{}")
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}


def _refused(command: str, actor: str | None, code: str, message: str) -> web.Response:
    log.info("admin command refused", command=command, actor=actor, code=code, reason=message)
    return _answer(400, {"code": code, "message": message})


def _answer(status: int, value: Mapping[str, Any]) -> web.Response:
    return web.json_response(value, status=status)
