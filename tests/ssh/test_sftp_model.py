"""SFTP against a dictionary: whatever is opened, written, renamed and removed, both hold the same in the end."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from .raw_client import string, u32
from .served import SshServed
from .sftp_talk import (
    ATTRS,
    CLOSE,
    CREATING,
    EOF,
    EXTENDED,
    FSETSTAT,
    GREETING,
    HANDLE,
    MKDIR,
    NO_ATTRIBUTES,
    OK,
    OPEN,
    OPENDIR,
    READ,
    READDIR,
    READING,
    REMOVE,
    RENAME,
    RMDIR,
    STAT,
    TRUNCATING,
    WRITE,
    WRITING,
    Answer,
    Talk,
    packet,
    split,
    u64,
)

NAMES = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=2).map("/".join)
CONTENTS = st.binary(min_size=1, max_size=40)
roots = itertools.count()


class Conversation:
    """One session, in which a request is answered before the next is made."""

    def __init__(self, served: SshServed) -> None:
        self._served = served
        self._talk = Talk(served)
        served.run(self._begin())

    async def _begin(self) -> None:
        self._sftp, self._stream, self._channel = self._talk.session()
        self._task = asyncio.create_task(self._sftp.run())
        self._stream.feed(GREETING)

    def ask(self, kind: int, *fields: bytes) -> Answer:
        return self._served.run(self._ask(packet(kind, 7, *fields)))  # type: ignore[no-any-return]

    async def _ask(self, request: bytes) -> Answer:
        self._stream.feed(request)
        while not (answers := split(bytes(self._channel.sent))):
            await asyncio.sleep(0)
        self._channel.sent.clear()
        return answers[0]

    def end(self) -> None:
        self._served.run(self._end())

    async def _end(self) -> None:
        self._stream.feed_eof()
        await self._task


class Machine(RuleBasedStateMachine):
    """`files` are the contents, and `folders` the names of folders; `writing` what is open, which nobody else sees."""

    served: SshServed
    mount: str

    @initialize()
    def begin(self) -> None:
        self.root = f"/{self.mount}/{next(roots)}"
        self.files: dict[str, bytes] = {}
        self.folders = {""}
        self.writing: dict[str, tuple[bytes, bytearray]] = {}  # with their handles
        self.session = Conversation(self.served)
        assert self.session.ask(MKDIR, string(self.root), NO_ATTRIBUTES).status == OK

    def teardown(self) -> None:
        if hasattr(self, "files"):
            self.list_all()
            self.session.end()

    def at(self, name: str) -> bytes:
        return string(f"{self.root}/{name}")

    def has_parent(self, name: str) -> bool:
        return name.rpartition("/")[0] in self.folders

    def is_taken(self, name: str) -> bool:
        return name in self.files or name in self.folders

    def is_empty(self, folder: str) -> bool:
        return not any(name.startswith(f"{folder}/") for name in (*self.files, *self.folders))

    def is_written(self, name: str) -> bool:
        """Tell whether something at or below a name is being written: what becomes of that is another test's."""
        return any(other == name or other.startswith(f"{name}/") for other in self.writing)

    # --- files ----------------------------------------------------------------------------------------------------

    @rule(name=NAMES, flags=st.sampled_from([WRITING, WRITING | CREATING, WRITING | CREATING | TRUNCATING]))
    def open(self, name: str, flags: int) -> None:
        if self.is_written(name):
            return
        answer = self.session.ask(OPEN, self.at(name), u32(flags | READING), NO_ATTRIBUTES)
        may_begin = self.has_parent(name) if flags & CREATING else name in self.files
        assert (answer.kind == HANDLE) is (may_begin and name not in self.folders), answer
        if answer.kind == HANDLE:
            begun = b"" if flags & TRUNCATING else self.files.get(name, b"")
            self.writing[name] = answer.data, bytearray(begun)

    @precondition(lambda self: self.writing)
    @rule(data=st.data(), content=CONTENTS, offset=st.integers(0, 60))
    def write(self, data: st.DataObject, content: bytes, offset: int) -> None:
        handle, held = self.writing[data.draw(st.sampled_from(sorted(self.writing)))]
        assert self.session.ask(WRITE, string(handle), u64(offset), string(content)).status == OK
        held.extend(bytes(max(0, offset - len(held))))
        held[offset : offset + len(content)] = content

    @precondition(lambda self: self.writing)
    @rule(data=st.data(), size=st.integers(0, 60))
    def truncate(self, data: st.DataObject, size: int) -> None:
        handle, held = self.writing[data.draw(st.sampled_from(sorted(self.writing)))]
        assert self.session.ask(FSETSTAT, string(handle), u32(1), u64(size)).status == OK
        held.extend(bytes(max(0, size - len(held))))
        del held[size:]

    @precondition(lambda self: self.writing)
    @rule(data=st.data(), offset=st.integers(0, 60), size=st.integers(0, 60))
    def read_what_is_written(self, data: st.DataObject, offset: int, size: int) -> None:
        handle, held = self.writing[data.draw(st.sampled_from(sorted(self.writing)))]
        answer = self.session.ask(READ, string(handle), u64(offset), u32(size))
        expected = bytes(held[offset : offset + size])
        assert answer.data == expected if expected else answer.status == EOF

    @precondition(lambda self: self.writing)
    @rule(data=st.data(), how=st.sampled_from(["close", "close", "fsync"]))
    def store(self, data: st.DataObject, how: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.writing)))
        handle, held = self.writing[name]
        request = (CLOSE,) if how == "close" else (EXTENDED, string("fsync@openssh.com"))
        assert self.session.ask(*request, string(handle)).status == OK
        self.files[name] = bytes(held)
        if how == "close":
            del self.writing[name]

    @rule(name=NAMES)
    def read(self, name: str) -> None:
        if self.is_written(name):
            return
        opened = self.session.ask(OPEN, self.at(name), u32(READING), NO_ATTRIBUTES)
        assert (opened.kind == HANDLE) is (name in self.files)
        if opened.kind == HANDLE:
            answer = self.session.ask(READ, string(opened.data), u64(0), u32(1000))
            assert answer.data == self.files[name] if self.files[name] else answer.status == EOF
            assert self.session.ask(CLOSE, string(opened.data)).status == OK

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        if self.is_written(name):
            return
        assert (self.session.ask(REMOVE, self.at(name)).status == OK) is (name in self.files)
        self.files.pop(name, None)

    # --- folders and names ----------------------------------------------------------------------------------------

    @rule(name=NAMES)
    def make_folder(self, name: str) -> None:
        if self.is_written(name):
            return
        answer = self.session.ask(MKDIR, self.at(name), NO_ATTRIBUTES)
        assert (answer.status == OK) is (self.has_parent(name) and not self.is_taken(name))
        if answer.status == OK:
            self.folders.add(name)

    @rule(name=NAMES)
    def remove_folder(self, name: str) -> None:
        if self.is_written(name):
            return
        answer = self.session.ask(RMDIR, self.at(name))
        assert (answer.status == OK) is (name in self.folders and self.is_empty(name))
        self.folders.discard(name) if answer.status == OK else None

    @rule(source=NAMES, to=NAMES, posix=st.booleans())
    def rename(self, source: str, to: str, posix: bool) -> None:
        if self.is_written(source) or self.is_written(to):
            return
        paths = self.at(source), self.at(to)
        request = (EXTENDED, string("posix-rename@openssh.com")) if posix else (RENAME,)
        done = self.session.ask(*request, *paths).status == OK
        assert done is self.may_rename(source, to, posix)
        if done and source != to:
            self.move(source, to)

    def may_rename(self, source: str, target: str, posix: bool) -> bool:
        if not self.is_taken(source) or not self.has_parent(target):
            return False
        if target == source:
            return posix
        if target.startswith(f"{source}/") or source.startswith(f"{target}/"):
            return False
        if not self.is_taken(target):
            return True
        alike = (source in self.folders) is (target in self.folders)
        return posix and alike and self.is_empty(target)

    def move(self, source: str, target: str) -> None:
        def moved(name: str) -> str:
            return target + name[len(source) :] if name == source or name.startswith(f"{source}/") else name

        self.files = {moved(name): content for name, content in self.files.items() if name != target}
        self.folders = {moved(name) for name in self.folders if name != target}

    # --- what is there --------------------------------------------------------------------------------------------

    @rule(name=NAMES)
    def look(self, name: str) -> None:
        answer = self.session.ask(STAT, self.at(name))
        if name in self.writing:
            assert answer.size == len(self.writing[name][1])
        elif name in self.files:
            assert answer.size == len(self.files[name])
        else:
            assert (answer.kind == ATTRS) is (name in self.folders)

    @rule()
    def list_all(self) -> None:
        for folder in self.folders:
            opened = self.session.ask(OPENDIR, self.at(folder))
            answer = self.session.ask(READDIR, string(opened.data))
            listed = sorted(answer.names) if answer.status is None else []
            prefix = f"{folder}/" if folder else ""
            names = {name for name in (*self.files, *self.folders) if name and name.startswith(prefix)}
            direct = {name[len(prefix) :] for name in names}
            assert listed == sorted(name.encode() for name in direct if "/" not in name), folder
            assert self.session.ask(CLOSE, string(opened.data)).status == OK


@pytest.mark.parametrize("mount", ["other", "home"], ids=["memory", "local"])
def test_what_is_stored_is_what_a_dictionary_holds(served: SshServed, mount: str) -> None:
    machine = type("Of" + mount, (Machine,), {"served": served, "mount": mount})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
    assert not served.writers
    assert not [path for path in Path(served.data).rglob(".ocm-gateway-*") if mount == "other"]
