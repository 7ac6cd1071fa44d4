"""The servers that are measured, each with a password, on the same files: this gateway, WsgiDAV on cheroot, rclone,
Apache with mod_dav, and nginx with its dav and dav-ext modules."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import shutil
import ssl
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from certificates import self_signed
from sites import Site, free_port

USER, PASSWORD = "bench", "bench-password"
AUTHORIZATION = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
START_TIME = 30.0  # seconds


class Server(ABC):
    """A WebDAV server of its own process over one directory; `url` ends with a slash and is that directory."""

    name: str
    url: str
    process: subprocess.Popen[bytes]

    def __init__(self, directory: Path, data: Path, *, tls: bool = False) -> None:
        self.directory = directory
        self.data = data
        self.port = free_port()
        directory.mkdir(parents=True)
        self.certificate = self_signed(directory) if tls else None

    @property
    def scheme(self) -> str:
        return "https" if self.certificate else "http"

    @abstractmethod
    def start(self) -> None:
        """Start the process."""

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def run(self, *command: str) -> None:
        """Start `command` as the server's process."""
        with (self.directory / "output.log").open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output)

    def __enter__(self) -> Self:
        self.start()
        deadline = time.monotonic() + START_TIME
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start")
            time.sleep(0.1)
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        connection: http.client.HTTPConnection
        if self.certificate:
            context = ssl.create_default_context(cafile=self.certificate[0])
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        path = self.url.partition(f":{self.port}")[2]
        try:
            connection.request("PROPFIND", path, headers={"Depth": "0", "Authorization": AUTHORIZATION})
            return connection.getresponse().status == 207
        except OSError:
            return False
        finally:
            connection.close()


class Gateway(Server):
    """This gateway; quiet, as the others are."""

    name = "one process"  # how it is named where it is a peer of itself

    def __init__(
        self,
        directory: Path,
        data: Path,
        *,
        tls: bool = False,
        workers: int = 1,
        backend: Mapping[str, Any] | None = None,
        has_ssh: bool = False,
    ) -> None:
        """`backend` is the section of what it is in front of, `data` itself where that is not given."""
        super().__init__(directory, data, tls=tls)
        self.workers = workers
        self.has_ssh = has_ssh
        self.backend = backend or {"type": "local", "root": str(data)}

    def start(self) -> None:
        site = Site(
            self.directory,
            certificate=self.certificate,
            workers=self.workers,
            has_ssh=self.has_ssh,
            ssh={"connections_per_address": 1000},
            backends={"storage": dict(self.backend)},
            log={"level": "warning"},
        )
        site.start()
        site.add_user(USER, PASSWORD)
        self.site = site
        assert site.process is not None
        self.port, self.process = site.port, site.process
        self.url = f"{self.scheme}://127.0.0.1:{site.port}/dav/files/{USER}/home/"


class WsgiDAV(Server):
    """WsgiDAV on cheroot, its own server, with its defaults."""

    name = "WsgiDAV"

    def start(self) -> None:
        self.url = f"http://127.0.0.1:{self.port}/"
        config = self.directory / "wsgidav.yaml"
        config.write_text(
            f"host: 127.0.0.1\nport: {self.port}\nprovider_mapping: {{'/': '{self.data}'}}\nserver: cheroot\n"
            f"simple_dc: {{user_mapping: {{'*': {{{USER}: {{password: {PASSWORD}}}}}}}}}\n"
            "http_authenticator: {accept_basic: true, accept_digest: false, default_to_digest: false}\n"
            "verbose: 0\nlogging: {enable: false}\n"
        )
        self.run(str(Path(sys.executable).with_name("wsgidav")), "--config", str(config))


class Rclone(Server):
    """`rclone serve webdav`, with its defaults."""

    name = "rclone"

    def start(self) -> None:
        self.url = f"{self.scheme}://127.0.0.1:{self.port}/"
        command = [rclone_command(), "serve", "webdav", str(self.data), "--addr", f"127.0.0.1:{self.port}"]
        command += ["--user", USER, "--pass", PASSWORD, "--config", "/dev/null", "--log-level", "ERROR"]
        if self.certificate:
            command += ["--cert", str(self.certificate[0]), "--key", str(self.certificate[1])]
        self.run(*command)


APACHE = """
ServerRoot {place}
ServerName localhost
PidFile {place}/pid
Mutex file:{place}
Listen 127.0.0.1:{port}
ErrorLog {place}/error.log
LimitRequestBody 0
EnableSendfile On
DAVLockDB {place}/locks
DocumentRoot {data}
<Directory {data}>
  Dav On
  AuthType Basic
  AuthName bench
  AuthUserFile {place}/users
  Require valid-user
</Directory>
"""
APACHE_MODULES = "mpm_event authn_core authn_file authz_core authz_user auth_basic dav dav_fs dir"


class Apache(Server):
    """Apache with mod_dav and its defaults, and with sendfile."""

    name = "Apache"

    def start(self) -> None:
        self.url = f"http://127.0.0.1:{self.port}/"
        _users(self.directory / "users")
        modules = "".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in APACHE_MODULES.split()
        )
        account = "User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""
        config = self.directory / "apache.conf"
        config.write_text(modules + APACHE.format(place=self.directory, port=self.port, data=self.data) + account)
        _open_to_all(self.directory, self.data)
        self.run(_found("apache2"), "-D", "FOREGROUND", "-f", str(config))


NGINX = """
load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;
daemon off;
pid {place}/pid;
error_log {place}/error.log;
worker_processes auto;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {data}/../nginx-body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    sendfile on;
    tcp_nopush on;
    client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port};
        root {data};
        auth_basic bench;
        auth_basic_user_file {place}/users;
        dav_methods PUT DELETE MKCOL COPY MOVE;
        dav_ext_methods PROPFIND OPTIONS;
    }}
}}
"""


class Nginx(Server):
    """nginx with its dav module and dav-ext, with sendfile."""

    name = "nginx"

    def start(self) -> None:
        self.url = f"http://127.0.0.1:{self.port}/"
        _users(self.directory / "users")
        config = self.directory / "nginx.conf"
        config.write_text(NGINX.format(place=self.directory, port=self.port, data=self.data))
        _open_to_all(self.directory, self.data)
        command = [_found("nginx"), "-e", f"{self.directory}/error.log", "-c", str(config)]
        self.run(*command, *(("-g", "user www-data;") if os.geteuid() == 0 else ()))


def rclone_command() -> str:
    """Return rclone's command, which is beside Python's where it came with the project."""
    return shutil.which("rclone", path=str(Path(sys.executable).parent)) or "rclone"


def _users(path: Path) -> None:
    digest = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
    path.write_text(f"{USER}:{{SHA}}{digest}\n")


def _open_to_all(*places: Path) -> None:
    """Servers that are started as root serve as www-data."""
    for place in places:
        for above in place.parents:
            if above.owner() == place.owner() and len(above.parts) > 2:
                above.chmod(0o755)
        place.chmod(0o777)


def _found(name: str) -> str:
    command = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if command is None:
        raise RuntimeError(f"{name} is not installed: `make bench` installs it as root")
    return command
