"""The admin socket with the real commands behind it, peers that do as the test says, and the command line before it."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import Future
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result
from fake_peers import FakePeers
from parts import READ, Clock, new_store, received
from peer_servers import SERVER, client

from backends.memory import MemoryBackend
from backends.paths import StoragePath
from backends.pool import Pool
from gateway.access import Access
from gateway.admin import views
from gateway.admin.commands import Commands
from gateway.admin.departure_commands import DepartureCommands
from gateway.admin.explain_commands import ExplainCommands
from gateway.admin.invite_commands import InviteCommands
from gateway.admin.keeping_commands import KeepingCommands
from gateway.admin.request_commands import RequestCommands
from gateway.admin.socket import AdminSocket, bind
from gateway.admin.ssh_commands import SSHCommands
from gateway.admitting import Admitting
from gateway.arriving import Arriving
from gateway.belongings import Belongings
from gateway.changes import Changes
from gateway.cli import main
from gateway.config import MountConfig
from gateway.contacts import Contacts
from gateway.departing import Departing
from gateway.errors import Conflict
from gateway.explaining import Explaining
from gateway.inviting import Inviting
from gateway.keeping import Copies
from gateway.key_pairs import KeyPairs
from gateway.listening import listen_on
from gateway.locks import Locks
from gateway.mounts import Mounts
from gateway.ocm.ssh_keys import PublicKey, parse_public_key
from gateway.outbox import Outbox
from gateway.receiving import Receiving
from gateway.requesting import Requesting
from gateway.resharing import Resharing
from gateway.roots import Roots
from gateway.sending import Sending
from gateway.store import outbox, received_shares
from gateway.store.received_shares import ReceivedShare
from gateway.store.sealing import Sealer, secret_hash
from gateway.tree import Storage, Tree
from gateway.trust import Trust
from gateway.uploads import Uploads
from gateway.user_keys import UserKeys
from gateway.users import Passwords, Users
from gateway.watch import Watch

PASSWORD = "correct horse"


HOST_KEY = parse_public_key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q")


class SeenRemote:
    """Every Remote Resource is there."""

    problem: str | None = None
    host_keys: tuple[PublicKey, ...] = (HOST_KEY,)  # that every SSH server has

    async def host_key(self, share: ReceivedShare, fingerprint: str | None = None) -> PublicKey:
        for key in self.host_keys:
            if fingerprint in (None, key.fingerprint):
                return key
        raise Conflict("OTHER_HOST_KEY", f"{share.ssh_uri} has another host key")

    async def probe(self, _share_id: str, _timeout: float) -> str | None:
        return self.problem

    def forget(self, _share_id: str) -> None:
        return


class Served:
    """A gateway as far as its operator sees it; `cli` runs a command in this process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "config.yaml"
        self.socket = directory / "state" / "admin.sock"
        document = {"public_url": f"https://{SERVER}", "state_dir": str(directory / "state")}
        self.config.write_text(yaml.safe_dump(document))
        self.clock = Clock()
        self.sealer = Sealer(b"k" * 32)
        (directory / "state").mkdir()
        self.store = new_store(directory / "state")
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._stack = AsyncExitStack()
        self.run(self._start(directory))

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine on the gateway's loop."""
        future: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        return future.result(30)

    async def _start(self, directory: Path) -> None:
        stack, store, clock = self._stack, self.store, self.clock
        self.peers = FakePeers()
        self.remote = SeenRemote()
        self.real_peers = real_peers = await stack.enter_async_context(client(store, directory, clock))
        backend = self.backend = MemoryBackend()
        self.theirs, self.their_pool = MemoryBackend(), Pool("theirs", threads=4)
        for path in ("data", "frozen"):
            backend.make_directory(StoragePath.parse(path))
        storages = {"storage": Storage("storage", backend, Pool("storage", threads=2))}
        mounts = Mounts(
            [
                MountConfig(name="home", backend="storage", path="", rights="write"),
                MountConfig(name="frozen", backend="storage", path="frozen", rights="read"),
            ],
            {},
        )
        passwords = Passwords(store)
        stack.callback(passwords.close)
        keys = real_peers._signing.keys
        access = Access(store, mounts, passwords, issuer=SERVER, token_keys=keys.public, clock=clock)
        outgoing = Outbox(store, clock)
        changes = Changes(store)
        tree = Tree(store, mounts, storages, self._remote_storage, changes, clock)
        trust = Trust(store, clock)
        sending = Sending(
            store,
            tree,
            access,
            trust,
            self.peers,
            outgoing,
            self.sealer,
            server=SERVER,
            dav_url=f"https://{SERVER}/dav/ocm/",
            ssh=f"{SERVER}:2022",
            clock=clock,
        )
        key_pairs = KeyPairs(store, self.sealer, clock)
        receiving = Receiving(
            *(store, self.peers, outgoing, self.remote, self.sealer, key_pairs), server=SERVER, clock=clock
        )
        requesting = Requesting(
            *(store, sending, receiving, access, trust, self.peers, outgoing),
            server=SERVER,
            policy=Admitting(),
            clock=clock,
        )
        resharing = Resharing(
            *(store, tree, sending, receiving, requesting, trust, self.peers, outgoing, self.sealer),
            server=SERVER,
            clock=clock,
        )
        departing = Departing(
            *(store, sending, receiving, self.remote, access, self.peers, outgoing), server=SERVER, clock=clock
        )
        outgoing.start()
        stack.push_async_callback(outgoing.stop)
        self.commands = Commands(
            Users(store, passwords, clock),
            access,
            sending,
            receiving,
            trust,
            real_peers,
            outgoing,
            keys,
            Roots(store, storages, clock),
            lambda: {"version": "0", "pid": 1},
        )
        arriving = Arriving(Uploads(store, access, mounts, clock), Belongings(store))
        self.copies = Copies(store, access, tree, Watch(access), Locks(store, clock), arriving, changes, clock)
        stack.push_async_callback(self.copies.close, 5)
        self.keeping = KeepingCommands(access, self.copies)
        explaining = Explaining(store, sending, self.peers, server=SERVER, dav_url=f"https://{SERVER}/dav/ocm/")
        inviting = Inviting(store, self.peers, server=SERVER, public_url=f"https://{SERVER}", clock=clock)
        self.table = {
            **self.commands.table,
            **InviteCommands(access, inviting, Contacts(store, server=SERVER, clock=clock)).table,
            **ExplainCommands(access, explaining).table,
            **RequestCommands(access, requesting, resharing).table,
            **DepartureCommands(departing).table,
            **SSHCommands(access, UserKeys(store, access, clock), None, "").table,
            **self.keeping.table,
        }
        await listen_on(stack, AdminSocket(self.table).app, bind(self.socket))

    async def _remote_storage(self, share: ReceivedShare) -> Storage:
        """Return the content of every received Share: one and the same."""
        return Storage(share.storage, self.theirs, self.their_pool)

    def close(self) -> None:
        self.run(self._stack.aclose())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        self.store.close()

    def cli(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        """Run `ocm-gateway` with this gateway's configuration."""
        return CliRunner().invoke(main, ["--config", str(self.config), *arguments], input=stdin)

    def json(self, *arguments: str, stdin: str | None = None) -> Any:
        """Run a command that has to succeed and return what it prints as JSON."""
        done = self.cli(*arguments, "--json", stdin=stdin)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def share(self, *more: str, user: str = "alice") -> dict[str, Any]:
        return dict(self.json("share", "create", "/home/data", "--as", user, "--with", "bob@peer.example", *more))

    def messages(self) -> list[dict[str, Any]]:
        return [views.message(message) for message in self.store.read_sync(outbox.everything)]

    def receive(self, share_id: str, **changes: Any) -> None:
        share = received(share_id, **({"provider_id": share_id, "permissions": READ} | changes))
        sealed = self.sealer.seal(share_id, share_id)
        self.store.run_sync(lambda tx: received_shares.add(tx, share, secret_hash(share_id), sealed))
