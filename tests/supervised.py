"""A supervisor whose workers do as a test says: a program of its own, since it must have one thread.

supervised.py DIRECTORY SIZE PATIENCE: worker N does what is written in DIRECTORY/N when it starts (`serve` otherwise),
and each of its steps is a line of JSON on standard output.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

from gateway import logs
from gateway.supervisor import Line, Patience, Supervisor
from gateway.team import Team


def say(what: str, **facts: object) -> None:
    line = json.dumps({"what": what, "at": time.monotonic(), "pid": os.getpid()} | facts) + "\n"
    os.write(1, line.encode())  # in one piece: all write here


async def serve(number: int, line: Line) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    line.watch(stop.set)
    signs = asyncio.create_task(line.keep_alive())
    line.ready()
    await stop.wait()
    signs.cancel()
    say("stopped", worker=number)


def main(directory: Path, size: int, patience: Patience) -> int:
    def work(number: int, first: bool, line: Line) -> int:
        say("started", worker=number, first=first)
        order = directory / str(number)
        match order.read_text() if order.exists() else "serve":
            case "die":
                return 3
            case "hang":
                line.ready()
                time.sleep(1000)
            case "deaf":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                line.ready()
                asyncio.run(line.keep_alive())
            case _:
                asyncio.run(serve(number, line))
        return 0

    logs.configure("json", "info")
    team = Team(size)

    def ready() -> None:
        say("ready", missing=team.missing())

    return Supervisor(team, work, ready=ready, stopping=lambda: say("stopping"), patience=patience).run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), Patience(**json.loads(sys.argv[3]))))
