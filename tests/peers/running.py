"""A gateway as a process and fakes beside it, all of them with TLS, and the gestures of their users."""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import pytest
from certificates import self_signed
from sites import Reply, Site, eventually

from gateway.cli.client import call
from gateway.config import admin_socket
from gateway.peersim import PRODUCTS, Fake

PASSWORD = "alice-password"
T = TypeVar("T")


class Meeting:
    """Alice's gateway, and the loop on which the fakes run."""

    def __init__(self, site: Site, certificate: tuple[Path, Path]) -> None:
        self.site = site
        self.alice = f"alice@{site.server}"
        self._socket = admin_socket(site.config)
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.load_cert_chain(*certificate)
        self._client = ssl.create_default_context(cafile=str(certificate[0]))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._fakes: list[Fake] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Let a fake do something."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def start(self, product: str, **options: Any) -> Fake:
        """Start a fake of a product."""
        fake = PRODUCTS[product](tls=self._server, trusted=self._client, **options)
        self.run(fake.start())
        self._fakes.append(fake)
        return fake

    def close(self) -> None:
        for fake in self._fakes:
            self.run(fake.stop())
        self.run(asyncio.sleep(0.1))  # TLS says goodbye
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- alice's gestures -------------------------------------------------------------------------------------------

    def ask(self, command: str, **arguments: Any) -> Any:
        """Give a command to the gateway, as the command line does."""
        return call(self._socket, command, **{"as": "alice"}, **arguments)

    def share(self, name: str, share_with: str, permissions: tuple[str, ...]) -> dict[str, Any]:
        """Share `/home/NAME`; it has to be taken at once."""
        share = self.ask("share.create", path=f"/home/{name}", permissions=list(permissions), **{"with": share_with})
        assert share["state"] == "sent", share["problem"]
        return dict(share)

    def sent(self, share: dict[str, Any]) -> str:
        return str(self.ask("share.show", id=share["id"])["state"])

    def arrived(self, name: str) -> dict[str, Any]:
        """Return the Share that has come with this name."""
        (found,) = [share for share in self.ask("received.list") if share["name"] == name]
        return dict(found)

    def accept(self, name: str) -> str:
        """Accept the Share with this name and return where it is in alice's tree."""
        accepted = self.ask("received.accept", id=self.arrived(name)["id"])
        assert accepted["problem"] is None, accepted["problem"]
        return str(accepted["mount"])

    def plant(self, name: str, content: bytes | None = None, **files: bytes) -> None:
        """Make `/home/NAME`: a file with `content`, or a folder with `files`, `_` for a dot in their names."""
        place = self.site.data / name
        if content is not None:
            place.write_bytes(content)
            return
        place.mkdir()
        for file, inner in files.items():
            (place / file.replace("_", ".")).write_bytes(inner)

    def http(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Make a request as alice to her files."""
        target = f"/dav/files/alice{path}"
        return self.site.http(method, target, body, headers, user="alice", password=PASSWORD)

    def listing(self, path: str) -> list[str]:
        """Return what alice sees in a folder."""
        answer = self.http("PROPFIND", f"{path}/", Depth="1")
        assert answer.status == 207, answer
        hrefs = re.findall(r"<d:href>([^<]*)</d:href>", answer.body.decode())
        return [unquote(href).rstrip("/").rpartition("/")[2] for href in hrefs[1:]]


@contextmanager
def meeting(directory: Path) -> Iterator[Meeting]:
    """Run a gateway that trusts the CA of the fakes and may go to loopback."""
    certificate = self_signed(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(certificate[0]))
        # So many servers on one host, with which nobody here has dealt, are more than may be looked up otherwise.
        federation = {
            "allow_networks": ["127.0.0.0/8", "::1/128"],
            "first_contacts": {"per_source": 10_000, "per_target": 10_000},
        }
        limits = {"enabled": False}
        site = Site(directory / "gateway", certificate=certificate, federation=federation, limits=limits).start()
    running = Meeting(site, certificate)
    try:
        site.add_user("alice", PASSWORD)
        yield running
        assert "Traceback" not in site.log.read_text()
    finally:
        site.stop()  # first, so that no connection of its is left to the fakes
        running.close()


__all__ = ["Meeting", "eventually", "meeting"]
