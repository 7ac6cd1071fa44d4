"""Servers to be a client of: Apache, nginx, rclone and WsgiDAV as they are, and one that says what it is told."""

from __future__ import annotations

import base64
import hashlib
import http.server
import ipaddress
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cheroot.wsgi import Server as CherootServer
from wsgidav.fs_dav_provider import FilesystemProvider
from wsgidav.wsgidav_app import WsgiDAVApp

from backends.webdav import Credential, WebDAVBackend
from gateway.outbound import Guard, SyncOutbound

USER, PASSWORD = "alice", "wonderland"
BASIC = {"Authorization": "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
START_TIME = 20.0  # seconds

APACHE = """
ServerRoot {place}
ServerName localhost
PidFile {place}/pid
Mutex file:{place}
Listen 127.0.0.1:{port}
ErrorLog {place}/error.log
StartServers 1
ThreadsPerChild 16
MaxRequestWorkers 16
DAVLockDB {place}/locks
DocumentRoot {place}/data
<Directory {place}/data>
  Dav On
  Require all granted
</Directory>
<Location /private>
  AuthType Basic
  AuthName private
  AuthUserFile {place}/users
  Require valid-user
</Location>
"""
APACHE_MODULES = "mpm_event authn_core authn_file authz_core authz_user auth_basic dav dav_fs dir"

NGINX = """
load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;
daemon off;
pid {place}/pid;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port};
        root {place}/data;
        dav_methods PUT DELETE MKCOL COPY MOVE;
        dav_ext_methods PROPFIND OPTIONS;
    }}
}}
"""


def outbound(idle_timeout: float = 30.0) -> SyncOutbound:
    """The real transport, for loopback."""
    guard = Guard([ipaddress.ip_network("127.0.0.0/8")], lambda host: True)
    return SyncOutbound(guard, user_agent="test/1", idle_timeout=idle_timeout)


def nobody(refused: Mapping[str, str] | None) -> Mapping[str, str]:
    return {}


def alice(refused: Mapping[str, str] | None) -> Mapping[str, str]:
    return BASIC


def backend_at(url: str, transport: SyncOutbound, credential: Credential = nobody) -> WebDAVBackend:
    return WebDAVBackend(url, transport=transport, credential=credential)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(arguments: list[str], port: int, environment: Mapping[str, str], log: Path) -> Iterator[None]:
    """Run a server until the block ends; it has started when its port answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(arguments, env={**os.environ, **environment}, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_TIME
        while time.monotonic() < deadline and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.02)
        else:
            raise AssertionError(f"{arguments[0]} did not start:\n{log.read_text()}")
        yield
    finally:
        process.terminate()
        process.wait(START_TIME)


def command(name: str, package: str = "") -> str:
    """Return the path of a server of Debian's."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert found, f"{package or name} is not installed: `make tools`"
    return found


@contextmanager
def nginx() -> Iterator[str]:
    """Debian's nginx with its own DAV methods and those of dav-ext over a directory of its own."""
    place = Path(tempfile.mkdtemp(prefix="nginx-"))
    try:
        (place / "data").mkdir()
        port = _free_port()
        (place / "configuration").write_text(NGINX.format(place=place, port=port))
        arguments = [command("nginx"), "-e", f"{place}/error.log", "-c", f"{place}/configuration"]
        if os.geteuid() == 0:
            arguments += ["-g", "user www-data;"]
            for directory in (place, place / "data"):
                shutil.chown(directory, "www-data", "www-data")
        with running(arguments, port, {}, place / "output"):
            yield f"http://127.0.0.1:{port}"
    finally:
        shutil.rmtree(place)


@contextmanager
def apache() -> Iterator[str]:
    """Debian's Apache with mod_dav over a directory of its own; `/private` asks for alice's password."""
    place = Path(tempfile.mkdtemp(prefix="apache-"))
    try:
        (place / "data" / "private").mkdir(parents=True)
        digest = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
        (place / "users").write_text(f"{USER}:{{SHA}}{digest}\n")
        port = _free_port()
        modules = "".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in APACHE_MODULES.split()
        )
        configuration = modules + APACHE.format(place=place, port=port)
        if os.geteuid() == 0:  # Apache serves nothing as root
            configuration += "User www-data\nGroup www-data\n"
            for directory in (place, place / "data", place / "data" / "private"):
                shutil.chown(directory, "www-data", "www-data")
        (place / "configuration").write_text(configuration)
        arguments = [command("apache2"), "-f", str(place / "configuration"), "-D", "FOREGROUND"]
        with running(arguments, port, {}, place / "output"):
            yield f"http://127.0.0.1:{port}"
    finally:
        shutil.rmtree(place)


@contextmanager
def rclone_webdav(rclone: str, place: Path) -> Iterator[str]:
    """`rclone serve webdav` over a directory of its own, with alice's password."""
    (place / "data").mkdir()
    port = _free_port()
    arguments = [rclone, "serve", "webdav", str(place / "data"), "--addr", f"127.0.0.1:{port}"]
    arguments += ["--user", USER, "--pass", PASSWORD]
    with running(arguments, port, {"RCLONE_CONFIG": "/dev/null"}, place / "output"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def wsgidav(directory: Path) -> Iterator[str]:
    """WsgiDAV on cheroot over `directory`, with alice's password."""
    app = WsgiDAVApp(
        {
            "provider_mapping": {"/dav/deep": FilesystemProvider(str(directory))},
            "simple_dc": {"user_mapping": {"*": {USER: {"password": PASSWORD}}}},
            "verbose": 0,
            "logging": {"enable": False},
        }
    )
    server = CherootServer(("127.0.0.1", 0), app)
    server.prepare()
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.bind_addr[1]}/dav/deep"
    finally:
        server.stop()
        thread.join()


class Scripted:
    """A server that answers by a function, which gets the handler of each request; it notes the requests."""

    def __init__(self, answer: Callable[[Request], None]) -> None:
        self.seen: list[tuple[str, str]] = []  # method and target
        self.requests: list[Request] = []
        script = self

        class Handler(Request):
            def handle_any(self) -> None:
                script.seen.append((self.command, self.path))
                script.requests.append(self)
                answer(self)

        for method in ("GET", "HEAD", "PUT", "POST", "PROPFIND", "MKCOL", "DELETE", "MOVE", "COPY", "OPTIONS"):
            setattr(Handler, f"do_{method}", Handler.handle_any)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Scripted:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Request(http.server.BaseHTTPRequestHandler):
    """One connection to the scripted server, with short ways to answer."""

    protocol_version = "HTTP/1.1"
    timeout = 10
    disable_nagle_algorithm = True  # head and body are sent in two, and the client acknowledges late

    def handle_any(self) -> None:
        raise NotImplementedError

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Read the request's body and answer; `_` in the names of headers stands for a hyphen."""
        self.body()
        self.reply_to_read_body(status, body, **headers)

    def reply_to_read_body(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer, when the request's body has been read as far as it will be."""
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)

    def cut(self) -> None:
        """Close the connection where it is."""
        self.close_connection = True
