"""Clients that work in folders of their own while their gateway is killed again and again."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from http.client import HTTPException
from pathlib import Path

from sites import START_TIME, Site, eventually

from . import content, web_trees
from .clients import Client, running
from .nursery import Nursery
from .trees import Operation, Tree

WORKERS = 3
LIFE = (0.05, 0.6)  # seconds from the first request to the kill


class Forked(Site):
    """A site whose gateway is a child of the nursery, which starts it in a fraction of the time."""

    def __init__(self, directory: Path, nursery: Nursery) -> None:
        super().__init__(directory)
        self._nursery = nursery
        self._child = 0

    def start(self) -> Forked:
        self._child = self._nursery.fork(config=str(self.config), log=str(self.log))
        eventually(self._answers, True, START_TIME)
        return self

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, how: int) -> None:
        if self._child:
            os.kill(self._child, how)
            assert list(self._nursery.last_words()) == []
            self._child = 0

    def _answers(self) -> bool:
        try:
            return self.http("GET", "/.well-known/ocm").status == 200
        except OSError:
            return False


class Worker:
    """One client, one request at a time; knows what has to be in its folder."""

    def __init__(self, site: Site, name: str, seed: int) -> None:
        self._choices = random.Random(seed)
        self._site = site
        self._name = name
        self.tree: Tree = {}
        self.under_way: Operation | None = None
        self.answered = 0
        self.interrupted = 0
        self.wrong: BaseException | None = None

    def work(self) -> None:
        """Make requests until nobody answers any more."""
        client = Client(self._site)
        try:
            while True:
                self._request(client)
        except (OSError, HTTPException):
            pass
        except BaseException as error:
            self.wrong = error
        finally:
            client.close()

    def check(self, alice: Client, root: Path) -> None:
        """Read everything back, over HTTP and on the disk; go on from what was found."""
        folder = root / self._name
        names = {str(path.relative_to(folder)): path.is_dir() for path in folder.rglob("*")}
        found = {name: None if is_folder else self._read(alice, name) for name, is_folder in names.items()}
        assert web_trees.may_be(found, self.tree, self.under_way), (self.under_way, self.tree, found)
        self.interrupted += self.under_way is not None
        self.tree, self.under_way = found, None

    def _request(self, client: Client) -> None:
        operation = web_trees.chosen(self._choices)
        new = content.made(self._choices) if operation[0] == "PUT" else None
        if new is not None:
            operation = (*operation, content.digest(new))
        expected = web_trees.after(self.tree, operation)
        method, path, *more = operation
        headers = {"Destination": f"{self._name}/{more[0]}"} if method in ("COPY", "MOVE") else {}
        self.under_way = operation
        reply = client(method, f"{self._name}/{path}", new, **headers)
        assert (reply.status in (201, 204)) == (expected is not None), (operation, reply, self.tree)
        assert expected is not None or reply.status in (403, 404, 405, 409), (operation, reply)
        self.tree, self.under_way = self.tree if expected is None else expected, None
        self.answered += expected is not None

    def _read(self, alice: Client, name: str) -> str:
        reply = alice("GET", f"{self._name}/{name}")
        assert reply.status == 200, (name, reply)
        return content.digest(reply.body)


def killed(base: Path, seed: int, kills: int) -> list[Worker]:
    """Kill a gateway so often, each time at a random moment, and check after each restart."""
    choices = random.Random(seed)
    with Nursery("tests.faults.gateway_child:serve") as nursery, running(Forked(base / "site", nursery)) as alice:
        site = alice.site
        workers = [Worker(site, f"c{number}", choices.randrange(1 << 32)) for number in range(WORKERS)]
        for number in range(WORKERS):
            assert alice("MKCOL", f"c{number}").status == 201
        for _ in range(kills):
            _one_life(site, workers, choices.uniform(*LIFE))
            alice.close()
            site.start()
            eventually(lambda: [path for path in site.data.rglob("*") if path.name.startswith(".ocm-")], [])
            for worker in workers:
                worker.check(alice, site.data)
    return workers


def _one_life(site: Site, workers: list[Worker], seconds: float) -> None:
    threads = [threading.Thread(target=worker.work) for worker in workers]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    site.kill()
    for thread in threads:
        thread.join()
    assert [worker.wrong for worker in workers] == [None] * len(workers)
