"""Run by a test: fill the database's disk, see that everybody is told and nothing half is kept, and go on."""

import resource
import sqlite3
import sys

from backends.errors import Unavailable
from gateway.store import peers
from gateway.store.engine import Store


def main(database: str) -> None:
    store = Store(f"sqlite:///{database}")
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512 * 1024, most))  # Python ignores SIGXFSZ: writing fails
    stored = 0
    for number in range(1000):
        try:
            store.run_sync(lambda tx, number=number: peers.put(tx, f"{number}.example", discovery="x" * 10_000))
        except Unavailable:
            break
        stored += 1
    else:
        sys.exit("the disk took more than it holds")
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    store.run_sync(lambda tx: peers.put(tx, "after.example", seen=1))
    store.close()
    found = {row[0] for row in sqlite3.connect(database).execute("SELECT server FROM peers")}
    expected = {f"{number}.example" for number in range(stored)} | {"after.example"}
    if stored < 3 or found != expected:
        sys.exit(f"{stored} were acknowledged, {sorted(found)} are there")


main(*sys.argv[1:])
