"""The admin socket: POST /<command> with a JSON object, for whom the kernel says the caller is (SO_PEERCRED)."""

from __future__ import annotations

import errno
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
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from backends.errors import StorageError
from gateway.admin.calling import Caller, Command
from gateway.errors import Invalid, NotAllowed, Refusal
from gateway.ocm.errors import Malformed, ProtocolError
from gateway.ocm.fields import decode_object

MODE = 0o660
MAX_BODY = 1024 * 1024  # bytes
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


class TooLarge(Malformed):
    """A body over MAX_BODY."""

    status_hint = 413


class AdminSocket:
    """The HTTP application on the socket."""

    def __init__(self, commands: Mapping[str, Command]) -> None:
        """Answer `commands`, by their names."""
        self._commands = commands
        self.app = web.Application(client_max_size=MAX_BODY)
        self.app.router.add_post("/{command}", self._handle)

    async def _handle(self, request: web.Request) -> web.Response:
        name, uid, actor = request.match_info["command"], None, None
        try:
            uid = _uid(request)
            caller = _caller(uid)
            actor = caller.actor
            command = self._commands.get(name)
            if command is None:
                return _answer(404, {"code": "NO_SUCH_COMMAND", "message": f"this gateway has no command {name}"})
            result = await command(caller, await _arguments(request))
        except Refusal as error:
            return _refused(name, uid, actor, error.code, str(error))
        except ProtocolError as error:
            return _refused(name, uid, actor, error.code, str(error), error.status_hint)
        except StorageError as error:
            return _refused(name, uid, actor, type(error).__name__, str(error))
        except Exception:
            log.exception("admin command failed", command=name, uid=uid, actor=actor)
            message = "an error of the gateway's own; its log has the details"
            return _answer(500, {"code": "INTERNAL", "message": message})
        log.info("admin command", command=name, uid=uid, actor=actor)
        return _answer(200, {"result": result})


def _uid(request: web.Request) -> int:
    if request.transport is None:
        raise Invalid("CALLER_GONE", "the caller did not wait")
    channel = request.transport.get_extra_info("socket")
    credentials = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    uid: int = _PEERCRED.unpack(credentials)[1]
    return uid


def _caller(uid: int) -> Caller:
    if uid in (0, os.geteuid()):
        return Caller(None)
    try:
        return Caller(pwd.getpwuid(uid).pw_name)
    except KeyError:
        raise NotAllowed("UNKNOWN_ACCOUNT", f"the account with uid {uid} has no name on this machine") from None


async def _arguments(request: web.Request) -> Mapping[str, Any]:
    """Return the JSON object of the body, none being an empty one; raises TooLarge, Invalid, Malformed."""
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise TooLarge("BODY_TOO_LARGE", f"the arguments are more than {MAX_BODY} bytes") from error
    except (OSError, HttpProcessingError, RequestPayloadError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and request.transport is not None:
            raise  # otherwise it is aiohttp's word for a connection that was lost before anybody read from it
        raise Invalid("BODY_CUT_OFF", f"the arguments were cut off or garbled: {type(error).__name__}") from error
    return decode_object(body or b"{}")


def _refused(
    command: str, uid: int | None, actor: str | None, code: str, message: str, status: int = 400
) -> web.Response:
    log.info("admin command refused", command=command, uid=uid, actor=actor, code=code, reason=message)
    return _answer(status, {"code": code, "message": message})


def _answer(status: int, value: Mapping[str, Any]) -> web.Response:
    return web.json_response(value, status=status)
