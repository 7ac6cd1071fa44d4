"""Run by a test: write files in a loop until killed, saying on standard output what begins and what is done.

A parent process forks each writer, kills it when told, and then reports its death.
"""

import hashlib
import os
import random
import signal
import sys
from pathlib import Path

from backends.linux import Abilities
from backends.local import LocalBackend
from backends.paths import StoragePath


def say(*words: str) -> None:
    os.write(1, (" ".join(words) + "\n").encode())


def write_for_ever(backend: LocalBackend) -> None:
    choices = random.Random(os.urandom(16))
    say("writing")
    while True:
        name = f"file-{choices.randrange(4)}"
        content = choices.randbytes(choices.choice([0, 100, 10_000, 300_000]))
        digest = hashlib.sha256(content).hexdigest()
        say("begin", name, digest)
        with backend.open_write(StoragePath.parse(name), size=len(content)) as writer:
            for offset in range(0, len(content), 65_536):
                writer.write(content[offset : offset + 65_536])
            writer.commit()
        say("done", name, digest)


def die_instead_of_renaming(*arguments: object, **named: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(root: str, journals: str, modern: str, mode: str) -> None:
    abilities = Abilities(*[modern == "1"] * 3)
    if mode == "between":
        backend = LocalBackend(root, Path(journals), abilities=abilities)
        os.rename = die_instead_of_renaming
        with backend.open_write(StoragePath.parse("file")) as writer:
            writer.write(b"new")
            writer.commit()
    while sys.stdin.readline():
        child = os.fork()
        if not child:
            write_for_ever(LocalBackend(root, Path(journals), abilities=abilities))
        sys.stdin.readline()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        say("dead")


main(*sys.argv[1:])
