"""Run by a test: write files in a loop until killed, saying on standard output what begins and what is done.

A parent process forks each writer, kills it when told, and then reports its death.
"""

import hashlib
import os
import random
import signal
import sys
from pathlib import Path

from backends.errors import NotFound
from backends.linux import Abilities
from backends.local import LocalBackend
from backends.paths import StoragePath

PIECE = 65_536


def say(*words: str) -> None:
    os.write(1, (" ".join(words) + "\n").encode())


def write_for_ever(backend: LocalBackend) -> None:
    choices = random.Random(os.urandom(16))
    say("writing")
    while True:
        path = StoragePath.parse(f"file-{choices.randrange(4)}")
        content = choices.randbytes(choices.choice([0, 100, 10_000, 300_000]))
        choices.choice([in_order, in_any_order, as_an_update])(backend, path, content, choices)


def in_order(backend: LocalBackend, path: StoragePath, content: bytes, choices: random.Random) -> None:
    begin(path, content)
    with backend.open_write(path, size=len(content)) as writer:
        for offset in range(0, len(content), PIECE):
            writer.write(content[offset : offset + PIECE])
        writer.commit()
    done(path, content)


def in_any_order(backend: LocalBackend, path: StoragePath, content: bytes, choices: random.Random) -> None:
    begin(path, content)
    offsets = list(range(0, len(content), PIECE))
    choices.shuffle(offsets)
    with backend.open_write(path, size=len(content)) as writer:
        for offset in offsets:
            writer.write_at(offset, content[offset : offset + PIECE])
        writer.commit()
    done(path, content)


def as_an_update(backend: LocalBackend, path: StoragePath, content: bytes, choices: random.Random) -> None:
    """Change the middle of what is there, if anything is, and leave the rest."""
    try:
        writer = backend.open_update(path)
    except NotFound:
        return
    with writer:
        old = writer.read_at(0, writer.written)
        offset = choices.randrange(len(old) + 1)
        new = old[:offset] + content + old[offset + len(content) :]
        begin(path, new)
        writer.write_at(offset, content)
        writer.commit()
    done(path, new)


def begin(path: StoragePath, content: bytes) -> None:
    say("begin", str(path), hashlib.sha256(content).hexdigest())


def done(path: StoragePath, content: bytes) -> None:
    say("done", str(path), hashlib.sha256(content).hexdigest())


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
