"""The servers that are measured: this gateway, WsgiDAV on cheroot, rclone; each with a password, on the same files."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from base64 import b64encode
from pathlib import Path
from typing import Self

from sites import Site, free_port

USER, PASSWORD = "bench", "bench-password"
START_TIME = 30.0  # seconds


class Server(ABC):
    """A WebDAV server of its own process over one directory; `url` ends with a slash and is that directory."""

    name: str
    url: str
    process: subprocess.Popen[bytes]

    def __init__(self, directory: Path, data: Path) -> None:
        self.directory = directory
        self.data = data
        self.port = free_port()
        directory.mkdir(parents=True)

    @abstractmethod
    def start(self) -> None:
        """Start the process."""

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

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
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        password = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        path = self.url.partition(f":{self.port}")[2]
        try:
            connection.request("PROPFIND", path, headers={"Depth": "0", "Authorization": f"Basic {password}"})
            return connection.getresponse().status == 207
        except OSError:
            return False
        finally:
            connection.close()


class Gateway(Server):
    """This gateway; quiet, as the others are."""

    name = "ocm-gateway"

    def start(self) -> None:
        site = Site(
            self.directory,
            backends={"storage": {"type": "local", "root": str(self.data)}},
            log={"level": "warning"},
        )
        site.start()
        site.add_user(USER, PASSWORD)
        assert site.process is not None
        self.port, self.process = site.port, site.process
        self.url = f"http://127.0.0.1:{site.port}/dav/files/{USER}/home/"


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
        command = [str(Path(sys.executable).with_name("wsgidav")), "--config", str(config)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Rclone(Server):
    """`rclone serve webdav`, with its defaults."""

    name = "rclone"

    def start(self) -> None:
        self.url = f"http://127.0.0.1:{self.port}/"
        rclone = shutil.which("rclone", path=str(Path(sys.executable).parent)) or "rclone"
        command = [rclone, "serve", "webdav", str(self.data), "--addr", f"127.0.0.1:{self.port}"]
        command += ["--user", USER, "--pass", PASSWORD, "--config", "/dev/null", "--log-level", "ERROR"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
