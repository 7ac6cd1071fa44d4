"""S3 servers to be a client of: `rclone serve s3` over a directory, and moto's, whose answers a test can replace."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from socket import create_connection
from typing import Any

import boto3
from botocore.config import Config
from moto.server import DomainDispatcherApplication, create_backend_app
from sites import free_port
from werkzeug.serving import WSGIRequestHandler, make_server

from backends.s3 import KeyFiles, Location, Patience, S3Backend

ACCESS_KEY, SECRET_KEY = "an-access-key", "a-secret-key-of-alice"
BUCKET = "lab-data"
START_TIME = 20.0  # seconds
QUICK = Patience(connect=1.0, read=2.0, work=5.0, total=3.0)


@dataclass(frozen=True)
class Server:
    """An S3 server on loopback with one bucket."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @cache  # noqa: B019 -- there are two servers
    def client(self) -> Any:
        """Return a client that knows nothing of the gateway."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )


def empty(server: Server) -> None:
    """Remove every object, as another program would."""
    client = server.client()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for found in page.get("Contents", ()):
            client.delete_object(Bucket=BUCKET, Key=found["Key"])


def key_files(directory: Path, access: str = ACCESS_KEY, secret: str = SECRET_KEY) -> KeyFiles:
    """Write the keys into files, as an operator does."""
    files = KeyFiles(directory / "access-key", directory / "secret-key")
    files.access_key.write_text(f"{access}\n")
    files.secret_key.write_text(f"{secret}\n")
    return files


def backend_at(server: Server | int, state: Path, prefix: str = "", **changes: Any) -> S3Backend:
    """Return the backend on a server, or on a port in front of one; `changes` are to location, patience or keys."""
    port = server if isinstance(server, int) else server.port
    patience = changes.pop("patience", Patience())
    state.mkdir(exist_ok=True)
    keys = changes.pop("keys") if "keys" in changes else key_files(state)
    given = {"bucket": BUCKET, "prefix": prefix, "endpoint": f"http://127.0.0.1:{port}", **changes}
    return S3Backend(Location(**given), state, keys=keys, patience=patience)


# ------------------------------------------------------------------------------------------------ rclone serve s3


class RcloneServer:
    """`rclone serve s3` over a directory, which can be stopped and started again at the same port."""

    def __init__(self, command: str, place: Path, directory: Path, *more: str) -> None:
        self.server = Server(free_port())
        self.directory = directory
        self._command = [command, "serve", "s3", str(directory), "--addr", f"127.0.0.1:{self.server.port}"]
        self._command += ["--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", *more]
        self._log = place / "rclone.log"
        (directory / BUCKET).mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        with self._log.open("ab") as output:
            environment = {**os.environ, "RCLONE_CONFIG": "/dev/null"}
            self._process = subprocess.Popen(self._command, env=environment, stdout=output, stderr=output)
        deadline = time.monotonic() + START_TIME
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                create_connection(("127.0.0.1", self.server.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f"rclone did not start:\n{self._log.read_text()}")

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(START_TIME)


@contextmanager
def rclone_s3(command: str, place: Path, *more: str) -> Iterator[RcloneServer]:
    """Run it over the directory `data` in `place`; `more` are arguments."""
    server = RcloneServer(command, place, place / "data", *more)
    server.start()
    try:
        yield server
    finally:
        server.stop()


# --------------------------------------------------------------------------------------------------- moto's server

Environ = dict[str, Any]
# Returns a status line and a body to answer with instead of moto, or None.
Fault = Callable[[Environ], tuple[str, bytes] | None]


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_expect_100(self) -> bool:
        """Leave it to werkzeug, which says it again."""
        return True

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 -- werkzeug's name
        """Say nothing."""


class MotoServer:
    """moto's S3 server; it notes every request, and `fault` may answer in its place."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self.fault: Fault | None = None
        self.seen: list[tuple[str, str, str]] = []  # method, path with query, Range
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=_Handler)
        self._server.daemon_threads = True
        self.server = Server(self._server.server_port)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Any:
        query = environ.get("QUERY_STRING", "")
        target = environ["PATH_INFO"] + (f"?{query}" if query else "")
        self.seen.append((environ["REQUEST_METHOD"], target, environ.get("HTTP_RANGE", "")))
        answer = self.fault(environ) if self.fault else None
        if answer is None:
            return self._app(environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status, body = answer
        start_response(status, [("Content-Length", str(len(body))), ("Content-Type", "application/xml")])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def __enter__(self) -> MotoServer:
        self._thread.start()
        self.server.client().create_bucket(Bucket=BUCKET)
        empty(self.server)  # all servers of one process have one state
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def refusal(status: str, code: str) -> tuple[str, bytes]:
    """Return what an S3 server says when it refuses; with HEAD the body is left out."""
    return status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>told</Message></Error>".encode()
