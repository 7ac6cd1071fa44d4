"""Two sites and the gestures that most tests of federation begin with."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sites import Site, eventually

from gateway.store.sealing import Sealer

ALICE, BOB = "alice-password", "bob-password"


@dataclass
class Pair:
    """Alice's and bob's sites, and the gestures that most tests begin with."""

    alice: Site
    bob: Site

    @property
    def bobs_address(self) -> str:
        return f"bob@{self.bob.server}"

    def folder(self, name: str, **files: bytes) -> Path:
        """Make a folder of alice's with `files`; `_` in their names stands for a dot."""
        folder = self.alice.data / name
        folder.mkdir()
        for file, content in files.items():
            (folder / file.replace("_", ".")).write_bytes(content)
        return folder

    def share(self, name: str, permissions: str = "read", *more: str) -> dict[str, Any]:
        """Share alice's `/home/NAME` with bob."""
        arguments = ("--as", "alice", "--with", self.bobs_address, "--permissions", permissions, *more)
        share: dict[str, Any] = self.alice.json("share", "create", f"/home/{name}", *arguments)
        assert share["state"] == "sent", share
        return share

    def received(self, share: dict[str, Any]) -> dict[str, Any]:
        """Return the Share as bob has it."""
        shares = self.bob.json("received", "list", "--as", "bob")
        (found,) = [each for each in shares if each["provider_id"] == share["provider_id"]]
        return dict(found)

    def accept(self, share: dict[str, Any]) -> dict[str, Any]:
        """Let bob accept, and wait until alice's side knows."""
        received = self.bob.json("received", "accept", self.received(share)["id"], "--as", "bob")
        assert received["problem"] is None, received
        self.alice_sees(share, "accepted")
        return dict(received)

    def alice_sees(self, share: dict[str, Any], state: str) -> None:
        eventually(lambda: self.sent(share)["state"], state)

    def bob_sees(self, share: dict[str, Any], state: str) -> None:
        eventually(lambda: self.received(share)["state"], state)

    def sent(self, share: dict[str, Any]) -> dict[str, Any]:
        return dict(self.alice.json("share", "show", share["id"], "--as", "alice"))

    def bobs_url(self, received: dict[str, Any], path: str = "") -> str:
        return f"{self.bob.base_path}/dav/files/bob{received['mount']}/{path}"

    def bobs_token(self, received: dict[str, Any]) -> str:
        """Return the access token that bob's server holds for a Share."""
        return sealed_values(self.bob)["exchanged_tokens", received["id"]]

    def add_users(self) -> None:
        self.alice.add_user("alice", ALICE)
        self.bob.add_user("bob", BOB)


@contextmanager
def two_sites(directory: Path, **options: Any) -> Iterator[Pair]:
    """Run two sites, which are configured alike; in the end no mistake and no secret may stand in their logs."""
    with Site(directory / "alice", **options) as alice, Site(directory / "bob", **options) as bob:
        pair = Pair(alice, bob)
        pair.add_users()
        yield pair
        secrets = {ALICE, BOB, *sealed_values(alice).values(), *sealed_values(bob).values()}
        for site in (alice, bob):
            log = site.log.read_text()
            assert "Traceback" not in log, log
            assert not [secret for secret in secrets if secret in log], "a secret stands in a log"


SEALED = (
    ("sent_shares", "id", "secret_sealed"),
    ("received_shares", "id", "secret_sealed"),
    ("exchanged_tokens", "share", "token_sealed"),
)


def sealed_values(site: Site) -> dict[tuple[str, str], str]:
    """Return every secret and token in the state of `site`, by table and Share."""
    state = site.directory / "state"
    sealer = Sealer((state / "keys" / "state.key").read_bytes())
    values = {}
    with closing(sqlite3.connect(f"file:{state}/state.sqlite?mode=ro", uri=True)) as database:
        for table, share, column in SEALED:
            query = f"SELECT {share}, {column} FROM {table} WHERE {column} IS NOT NULL"
            for name, sealed in database.execute(query):
                values[table, name] = sealer.open(sealed, name)
    return values
