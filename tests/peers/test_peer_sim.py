"""`ocm-gateway peer-sim`: a fake as a command, which says what the other side did wrong."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from sites import free_port

from gateway.cli.peer_sim import PRODUCTS as NAMES
from gateway.cli.peer_sim import peer_sim
from gateway.peersim import PRODUCTS, Resource
from gateway.peersim.nextcloud import Nextcloud31

COMMAND = (sys.executable, "-m", "gateway", "peer-sim")
TIME = 30  # seconds


class Simulated:
    """A running `peer-sim`."""

    def __init__(self, *arguments: str) -> None:
        self.wrong: list[str] = []
        self.process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True, bufsize=1)

    def event(self, kind: str) -> dict[str, Any]:
        """Return the next event of this kind; those before it are passed over."""
        assert self.process.stdout
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == "complaint":
                self.wrong.append(event["text"])
            if event["event"] == kind:
                return event
        raise AssertionError(f"it ended without {kind}")

    def interrupt(self) -> int:
        """Press Ctrl-C and return the exit status."""
        self.process.send_signal(signal.SIGINT)
        self.rest, _ = self.process.communicate(timeout=TIME)
        return self.process.returncode


@contextlib.contextmanager
def simulated(*arguments: str) -> Iterator[Simulated]:
    running = Simulated(*arguments)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


async def test_it_shares_accepts_reads_and_writes_until_it_is_interrupted() -> None:
    other = Nextcloud31()
    await other.start()
    arguments = ("nextcloud-31", "--json", "--write", "--share-with", other.address("marie"))
    with simulated(*arguments) as it:
        ready = await asyncio.to_thread(it.event, "ready")
        await asyncio.to_thread(it.event, "shared")
        (received,) = other.received
        reached = await other.accept(received)
        assert await reached.read("welcome.txt") == b"Hello\n"
        resource = Resource.folder(a_txt=b"alpha")
        sent = await other.send_share(ready["address"], resource, permissions=("read", "write"))
        methods = []
        while "DELETE" not in methods:  # the last that it does
            methods.append((await asyncio.to_thread(it.event, "exchange"))["method"])
        assert {"PROPFIND", "GET", "PUT"} < set(methods)
        assert sorted(resource.nodes) == ["", "a.txt"]
        assert sent.state == "accepted"
        assert await asyncio.to_thread(it.interrupt) == 0, it.wrong
        assert json.loads(it.rest.splitlines()[-1]) == {"event": "end", "complaints": 0}
    await other.stop()
    assert other.journal.complaints == []


def test_people_read_what_went_wrong_and_scripts_the_exit_status() -> None:
    with simulated("owncloud-10", "--port", str(port := free_port())) as it:
        assert it.process.stdout
        first = [it.process.stdout.readline() for _ in range(3)]
        connection = http.client.HTTPConnection("localhost", port, timeout=TIME)
        connection.request("POST", "/index.php/apps/federatedfilesharing/shares", b"{}")
        assert connection.getresponse().status == 400
        connection.close()
        assert it.interrupt() == 1
    assert first == [
        f"owncloud-10 is at http://localhost:{port}. Ctrl-C ends it.\n",
        f"Its discovery document is at http://localhost:{port}/ocm-provider/.\n",
        f"Share with marie@localhost:{port}.\n",
    ]
    wrong, exchange, end = it.rest.splitlines()
    assert wrong.startswith("WRONG  POST /index.php/apps/federatedfilesharing/shares: shareWith, name, providerId")
    assert exchange == "in     400  POST /index.php/apps/federatedfilesharing/shares"
    assert end == "1 thing(s) went wrong, see above."


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("nextcloud-12",), 2, "is not one of"),
        (("reva", "--contact", "marie"), 2, "is no OCM address"),
        (("reva", "--key", __file__), 2, "--key needs --certificate"),
        (("reva", "--certificate", __file__), 1, "cannot start"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], status: int, sentence: str) -> None:
    done = CliRunner().invoke(peer_sim, arguments)
    assert (done.exit_code, sentence in done.stderr) == (status, True), done.output


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(peer_sim, ("reva", "--port", str(port)))
    assert (done.exit_code, str(port) in done.stderr) == (1, True), done.output


def test_the_command_knows_every_product() -> None:
    assert set(NAMES) == set(PRODUCTS)
