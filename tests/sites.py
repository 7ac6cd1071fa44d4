"""A gateway of its own process, as an administrator would run it: for tests, the demo and the benchmarks."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

START_TIME = 30.0  # seconds
STOP_TIME = 20.0


def free_port() -> int:
    """Return a loopback port that nobody listens on now.

    It is none that the kernel gives to a connection going out (ip(7), ip_local_port_range): one of the many that other
    tests make would take it before the server does.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass(frozen=True)
class Reply:
    """What an HTTP server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Site:
    """One institution: a directory of data, a gateway in front of it, and its command line."""

    def __init__(
        self,
        directory: Path,
        *,
        base_path: str = "",
        certificate: tuple[Path, Path] | None = None,
        workers: int = 1,
        port: int | None = None,
        has_ssh: bool = False,
        **config: Any,
    ) -> None:
        """Prepare a site in `directory`; `certificate` and key make it speak TLS, `config` replaces whole sections.

        `port` is where it is met, if that is not where it listens.
        """
        self.directory = directory
        self.data = directory / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.metrics_port = free_port()
        self.ssh_port = free_port() if has_ssh else None
        self.server = f"localhost:{self.port}"
        self.certificate = certificate
        self.base_path = base_path
        self.url = f"{'https' if certificate else 'http'}://{self.server}{base_path}"
        self.log = directory / "gateway.log"
        self.config = directory / "config.yaml"
        self.process: subprocess.Popen[bytes] | None = None
        document = {
            "public_url": self.url,
            "state_dir": str(directory / "state"),
            "listen": {
                "http": f"127.0.0.1:{self.port}",
                "metrics": f"127.0.0.1:{self.metrics_port}",
                "workers": workers,
                "ssh": f"127.0.0.1:{self.ssh_port}" if has_ssh else None,
            },
            "backends": {"storage": {"type": "local", "root": str(self.data)}},
            "mounts": [{"name": "home", "backend": "storage", "path": "", "rights": "write"}],
            "federation": {"allow_http": ["localhost"], "allow_networks": ["127.0.0.0/8", "::1/128"]},
        }
        if certificate:
            document["tls"] = {"certificate": str(certificate[0]), "key": str(certificate[1])}
            document["federation"] = {"allow_networks": ["127.0.0.0/8", "::1/128"]}
        self.config.write_text(yaml.safe_dump(document | config))

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "gateway", "--config", str(self.config)]

    def start(self) -> Site:
        """Start the gateway and wait until its doors answer."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*self.command, "serve"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIME
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if self.http("GET", "/.well-known/ocm").status == 200:
                    return self
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"the gateway did not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        """Stop as systemd would; a gateway that does not end by itself is killed, which is an error."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_TIME)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL: no clean-up, no warning."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def cli(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `ocm-gateway` with this site's configuration."""
        return subprocess.run([*self.command, *arguments], input=stdin, capture_output=True, text=True, timeout=120)

    def json(self, *arguments: str, stdin: str | None = None) -> Any:
        """Run a command that has to succeed and return what it prints as JSON."""
        done = self.cli(*arguments, "--json", stdin=stdin)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def add_user(self, name: str, password: str) -> None:
        self.json("user", "add", name, "--password-file", "-", stdin=password)

    def http(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        user: str | None = None,
        password: str = "",
    ) -> Reply:
        """Make one request with the target exactly as given."""
        sent = dict(headers or {})
        if user is not None:
            sent["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        connection = self.connect()
        try:
            connection.request(method, target, body, sent)
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection to the HTTP door, for answers that are read piece by piece."""
        if self.certificate is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        context = ssl.create_default_context(cafile=str(self.certificate[0]))
        return http.client.HTTPSConnection("localhost", self.port, timeout=60, context=context)

    def __enter__(self) -> Site:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()


def children(pid: int) -> list[int]:
    """Return the processes that `pid` has started and that live."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def log_lines(log: Path) -> list[str]:
    """Return the lines of a log that are whole: the last one may be under way to the file still."""
    return log.read_text(errors="replace").rpartition("\n")[0].splitlines()


def logged(log: Path, event: str) -> list[dict[str, Any]]:
    """Return the lines about `event` of a gateway that logs with `log.format: json`."""
    lines = [json.loads(line) for line in log_lines(log) if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def eventually(look: Callable[[], object], wanted: object, seconds: float = 20.0) -> None:
    """Look again and again until `wanted` is seen; fails with what was seen last."""
    deadline = time.monotonic() + seconds
    while (seen := look()) != wanted:
        assert time.monotonic() < deadline, f"{seen!r} is still not {wanted!r} after {seconds} s"
        time.sleep(0.1)
