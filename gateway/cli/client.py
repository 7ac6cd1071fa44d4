"""Calls to the running gateway over its admin socket."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any, NoReturn

from gateway.cli.printing import note

TIMEOUT = 90.0  # seconds; a command waits at most for one attempt at a peer and one look at its content
FAILED = 1  # exit status: the gateway, or the command, said no
USAGE = 2  # exit status: the call makes no sense, or asks for what is not built


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def call(path: Path, command: str, /, *, timeout: float | None = None, **arguments: Any) -> Any:
    """Run `command` in the gateway that listens at `path` and return its result; ends the program when refused.

    `timeout` is how many seconds the gateway may take, TIMEOUT if it is not given.
    """
    timeout = TIMEOUT if timeout is None else timeout
    given = {name: value for name, value in arguments.items() if value is not None}
    connection = _UnixConnection(path, timeout)
    try:
        connection.request("POST", f"/{command}", json.dumps(given), {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        if not isinstance(answer, dict):
            raise http.client.HTTPException("no gateway answers like this")
    except PermissionError:
        fail(f"you may not talk to the gateway: {path} belongs to its group. Ask the operator to add you to it.")
    except (FileNotFoundError, ConnectionRefusedError):
        fail(
            f"the gateway is not running: nobody listens at {path}.\n"
            "Start it with `ocm-gateway --config FILE serve`, or `systemctl start ocm-gateway`."
        )
    except TimeoutError:
        fail(f"the gateway did not answer within {timeout:.0f} s; its log may say why.")
    except (OSError, http.client.HTTPException, ValueError) as error:
        fail(f"the gateway broke off the call ({error}); its log may say why. It is safe to repeat the command.")
    finally:
        connection.close()
    if "result" not in answer:
        fail(f"{answer.get('message')} ({answer.get('code')})")
    return answer["result"]


class Failed(SystemExit):
    """The end of the program, of which `sentence` has told why; who has done something before can still say so."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(status)
        self.sentence = sentence


def fail(sentence: str, status: int = FAILED) -> NoReturn:
    """Say what went wrong on standard error and end with `status`."""
    note(sentence)
    raise Failed(sentence, status)
