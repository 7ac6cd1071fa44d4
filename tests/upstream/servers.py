"""Debian's nginx and Apache as servers that were there before, each a process of its own on a port of loopback."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sites import free_port

START_TIME = 20.0  # seconds

NGINX = """
daemon off;
pid {place}/pid;
error_log {place}/error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log {place}/access.log;
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    sendfile on;
    gzip on; gzip_proxied any; gzip_types text/plain; gzip_min_length 1;
    client_max_body_size 0;
    include /etc/nginx/mime.types;
    server {{
        listen 127.0.0.1:{port} {tls};
        root {place}/data;
        absolute_redirect off;
        location /about {{
            add_header X-About "$request_method $request_uri $http_host $http_x_forwarded_for $http_authorization";
            return 200 "about\\n";
        }}
        location /upload/ {{ dav_methods PUT DELETE MKCOL COPY MOVE; create_full_put_path on; }}
    }}
}}
"""

APACHE = """
ServerRoot {place}
ServerName nas
PidFile {place}/pid
Mutex file:{place}
Listen 127.0.0.1:{port}
ErrorLog {place}/error.log
StartServers 1
ThreadsPerChild 32
MaxRequestWorkers 32
LimitRequestBody 0
DAVLockDB {place}/locks
DocumentRoot {place}/data
<Directory {place}/data>
  Require all granted
</Directory>
<Directory {place}/data/dav>
  Dav On
  AuthType Basic
  AuthName legacy
  AuthUserFile {place}/users
  Require valid-user
</Directory>
"""
APACHE_MODULES = "mpm_event authn_core authn_file authz_core authz_user auth_basic dav dav_fs dir"
USER, PASSWORD = "carol", "legacy-password"


@contextmanager
def _running(command: list[str], port: int, place: Path) -> Iterator[None]:
    with (place / "output.log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_TIME
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (place / "output.log").read_text()
                assert time.monotonic() < deadline, "the server does not start"
                time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(START_TIME)


def _command(name: str) -> str:
    command = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert command, f"{name} is not installed: `make tools`"
    return command


def _given_away(place: Path) -> None:
    """Servers that are started as root serve as www-data."""
    if os.geteuid() == 0:
        place.chmod(0o755)
        for path in (place, *place.rglob("*")):
            shutil.chown(path, "www-data", "www-data")


@contextmanager
def somewhere() -> Iterator[Path]:
    """Yield a directory that other users may pass; those of pytest are for its own user alone."""
    with tempfile.TemporaryDirectory(prefix="ocm-legacy-") as place:
        yield Path(place)


@contextmanager
def nginx(place: Path, certificate: tuple[Path, Path] | None = None) -> Iterator[int]:
    """Serve `place`/data, with uploads below `upload/`; with a certificate and key over TLS."""
    (place / "data" / "upload").mkdir(parents=True)
    port = free_port()
    tls = "" if certificate is None else f"ssl; ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]}"
    (place / "nginx.conf").write_text(NGINX.format(place=place, port=port, tls=tls))
    _given_away(place)
    command = [_command("nginx"), "-e", f"{place}/error.log", "-c", f"{place}/nginx.conf"]
    if os.geteuid() == 0:
        command += ["-g", "user www-data;"]
    with _running(command, port, place):
        yield port


@contextmanager
def apache(place: Path) -> Iterator[int]:
    """Serve `place`/data, with mod_dav and carol's password below `dav/`."""
    (place / "data" / "dav").mkdir(parents=True)
    digest = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
    (place / "users").write_text(f"{USER}:{{SHA}}{digest}\n")
    port = free_port()
    modules = "".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in APACHE_MODULES.split()
    )
    (place / "apache.conf").write_text(
        modules
        + APACHE.format(place=place, port=port)
        + ("User www-data\nGroup www-data\n" if os.geteuid() == 0 else "")
    )
    _given_away(place)
    with _running([_command("apache2"), "-D", "FOREGROUND", "-f", f"{place}/apache.conf"], port, place):
        yield port
