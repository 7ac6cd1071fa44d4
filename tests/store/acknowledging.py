"""Run by a test: write rows from several threads until killed, and say each name once its work has been answered."""

import os
import sys
import threading
import time

from gateway.store import peers
from gateway.store.engine import Store


def write_for_ever(store: Store, number: int) -> None:
    count = 0
    while True:
        count += 1
        name = f"{number}-{count}.example"
        store.run_sync(lambda tx: peers.put(tx, name, seen=count))  # noqa: B023 -- run before the next round
        os.write(1, f"{name}\n".encode())


def main(database: str) -> None:
    store = Store(f"sqlite:///{database}")
    for number in range(4):
        threading.Thread(target=write_for_ever, args=(store, number), daemon=True).start()
    time.sleep(60)


main(*sys.argv[1:])
