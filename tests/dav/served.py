"""A door on a real socket over a real directory and a real state database, in a thread of its own."""

from __future__ import annotations

import asyncio
import base64
import http.client
import secrets
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from aiohttp import web
from argon2 import PasswordHasher

from backends.interface import StorageBackend, Writer
from backends.local import LocalBackend
from backends.memory import MemoryBackend
from backends.paths import StoragePath
from backends.pool import Pool
from gateway.access import Access
from gateway.admin.metrics import Metrics
from gateway.belongings import Belongings
from gateway.changes import Changes
from gateway.config import MountConfig
from gateway.dav.door import DavDoor
from gateway.files import Moves
from gateway.listening import Runner
from gateway.living import Living
from gateway.locks import Locks
from gateway.mounts import Mounts
from gateway.ocm.shares import Permission
from gateway.ocm.tokens import mint_access_token
from gateway.roots import view_of
from gateway.signing_keys import SigningKeys
from gateway.store import sent_shares, uploads, users
from gateway.store.engine import Store
from gateway.store.sealing import secret_hash
from gateway.store.sent_shares import SentShare
from gateway.tree import Storage, Tree
from gateway.uploads import Uploads
from gateway.users import Passwords
from gateway.watch import Watch

T = TypeVar("T")

READ = frozenset({Permission.READ})
WRITE = frozenset({Permission.READ, Permission.WRITE})
PASSWORD = "correct horse"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass(frozen=True)
class Reply:
    """What the door answered; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The machine-readable code of a refusal."""
        return self.body.decode().partition("<s:exception>")[2].partition("<")[0]


@dataclass(frozen=True)
class Shared:
    """A Share that exists, and the secret that opens it."""

    id: str
    secret: str


def basic(user: str, password: str = PASSWORD) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Served:
    """One gateway's door: mounts `home` (to write) and `frozen` (to read) on a local directory, `other` in memory."""

    def __init__(
        self,
        directory: Path,
        *,
        base: str = "",
        loop: str = "uvloop",
        wrap: Any = None,
        tls: ssl.SSLContext | None = None,
        watches: int = 64,
        quick: bool = True,
        data: Path | None = None,
        **options: Any,
    ) -> None:
        self.base = base
        self._tls = tls
        self.data = data or directory / "data"
        self.data.mkdir(parents=True, exist_ok=data is not None)
        self.store = Store(f"sqlite:///{directory / 'state.db'}")
        self.store.run_sync(lambda tx: [users.add(tx, name, CHEAP.hash(PASSWORD), 0) for name in ("alice", "bob")])
        self.ahead = 0.0  # seconds that the clock of unfinished uploads is ahead
        self.local = LocalBackend(self.data, directory / "journals", is_kept=self.is_kept)
        self.backend: StorageBackend = wrap(self.local) if wrap else self.local
        self.memory = MemoryBackend()
        self._opened: weakref.WeakSet[Writer] = weakref.WeakSet()
        for backend in (self.local, self.memory):
            self._remember_writers(backend)
        self.storages = {
            "storage": Storage("storage", self.backend, Pool("storage", threads=4), view_of(self.backend)),
            "memory": Storage("memory", self.memory, Pool("memory", threads=2)),
        }
        mounts = [
            MountConfig(name="home", backend="storage", path="", rights="write"),
            MountConfig(name="frozen", backend="storage", path="", rights="read"),
            MountConfig(name="other", backend="memory", path="", rights="write"),
            MountConfig(name="private", backend="storage", path="", rights="write", users=("bob",)),
            MountConfig(name="personal", backend="storage", path="users/{user}", rights="write"),
        ]
        self.loop = uvloop.new_event_loop() if loop == "uvloop" else asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        self.keys = SigningKeys(directory / "keys", self.origin)
        mounted = Mounts(mounts, {})
        self._passwords = Passwords(self.store)
        self.access = Access(self.store, mounted, self._passwords, issuer=self.origin, token_keys=self.keys.public)
        self.living = Living(directory / "processes")
        self.changes = Changes(self.store)
        self.changes.start(self.storages, self.living)
        for name, storage in self.storages.items():
            self.changes.follow(name, storage.backend, storage.pool, watches)
        self.tree = Tree(self.store, mounted, self.storages, _no_remote, self.changes)
        self.moves = Moves(self.store, self.living)
        self.watch = Watch(self.access)
        self.uploads = Uploads(self.store, self.access, mounted, lambda: time.time() + self.ahead, every=3600)
        self._ended: list[tuple[str, str]] = []  # methods and paths of the requests that the quick ways did not answer
        self.now = time.time  # the clock of locks; a test may put another here
        self.locks = Locks(self.store, lambda: self.now())
        self.metrics = Metrics(self.store)
        self.door = DavDoor(
            *(self.access, self.tree, self.moves, self.watch, self.changes, self.uploads),
            self.locks,
            Belongings(self.store),
            base_path=base,
            origin=self.origin,
            like=self.metrics.like,
            **options,
        )
        self._runner = self.run(self._start(quick))

    def _remember_writers(self, backend: Any) -> None:
        def remembering(opens: Callable[..., Writer]) -> Callable[..., Writer]:
            def remembered(*args: Any, **options: Any) -> Writer:
                writer = opens(*args, **options)
                self._opened.add(writer)
                return writer

            return remembered

        for name in ("open_write", "open_update"):
            setattr(backend, name, remembering(getattr(backend, name)))

    @property
    def writers(self) -> list[Writer]:
        """All that are open now."""
        return [writer for writer in list(self._opened) if writer.is_open]

    def is_kept(self, token: str) -> bool:
        return self.store.read_sync(lambda tx: uploads.is_kept(tx, token, time.time() + self.ahead))

    async def _start(self, quick: bool) -> web.AppRunner:
        app = web.Application(middlewares=[self._note_end, self.metrics.middleware], client_max_size=0)
        self.door.add_routes(app.router)
        runner = Runner(
            app,
            self.door.quick.before if quick else None,
            access_log=None,
            auto_decompress=False,
            max_line_size=32768,
            max_field_size=32768,
            read_bufsize=1 << 20,
            shutdown_timeout=1,
        )
        await runner.setup()
        await web.SockSite(runner, self._listener, ssl_context=self._tls).start()
        await self._watch()
        return runner

    @web.middleware
    async def _note_end(self, request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            answer: web.StreamResponse = await handler(request)
            return answer
        finally:
            self._ended.append((request.method, request.path))

    def wait_for_end(self, method: str, path: str) -> None:
        """Wait until the door is done with a request of alice's, whose client may be gone long since."""
        wanted = (method, f"{self.base}/dav/files/alice{path}")
        until = time.monotonic() + 20
        while wanted not in self._ended:
            assert time.monotonic() < until, f"{wanted} has not ended"
            time.sleep(0.005)
        self._ended.remove(wanted)

    async def _watch(self) -> None:
        self._watching = asyncio.ensure_future(self.watch.run())

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """Have nobody look meanwhile whether running transfers are still permitted."""
        self.loop.call_soon_threadsafe(self._watching.cancel)
        try:
            yield
        finally:
            self.run(self._watch())

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *exception: object) -> None:
        self.run(self._stop())
        self.run(self.door.close(0))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        self.changes.close()
        self._passwords.close()
        for storage in self.storages.values():
            storage.pool.close()
            storage.backend.close()
        self.living.close()
        self.store.close()

    async def _stop(self) -> None:
        self._watching.cancel()
        await self._runner.cleanup()
        # aiohttp waits a while for the rest of a body that was refused, even when its connection is gone.
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine on the door's loop."""
        future: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        return future.result(30)

    # What clients do

    def url(self, path: str) -> str:
        return f"{self.origin}{self.base}{path}"

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Make one request with the path exactly as given, below the base path."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, self.base + path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def alice(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Make a request below alice's own root; `If_Match` is the header If-Match."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request(method, f"/dav/files/alice{path}", body, basic("alice") | sent)

    def raw(self, data: bytes, *, timeout: float = 20) -> bytes:
        """Send bytes and return everything until the door closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.sendall(data)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        return answer

    # What the other parts of a gateway do

    def share(
        self,
        path: str,
        permissions: frozenset[Permission] = READ,
        *,
        owner: str = "alice",
        mount: str = "home",
        expiration: int | None = None,
        requires_exchange: bool = False,
        state: str = "accepted",
        ssh_login: str | None = None,
    ) -> Shared:
        """Share what is at `path` of the local directory."""
        where = StoragePath.parse(path)
        entry = self.local.stat(where)
        secret, share_id = secrets.token_urlsafe(32), secrets.token_urlsafe(16)
        row = SentShare(
            id=share_id,
            provider_id=share_id,
            owner=owner,
            share_with="carol@peer.example",
            server="peer.example",
            name="shared",
            resource_type="folder" if entry.is_directory else "file",
            share_type="user",
            permissions=permissions,
            requires_exchange=requires_exchange,
            offered_type=None,
            mount=mount,
            backend="storage",
            path=where,
            identity=entry.identity,
            expiration=expiration,
            state=state,
            recipient_display_name=None,
            created=0,
            updated=0,
            ssh_login=ssh_login,
        )
        self.store.run_sync(lambda tx: sent_shares.add(tx, row, secret_hash(secret), b"sealed"))
        return Shared(share_id, secret)

    def change(self, share: Shared, change: Callable[[Any, str], None]) -> None:
        """Change the row of a Share, as another process would."""
        self.store.run_sync(lambda tx: change(tx, share.id))

    def revoke(self, share: Shared) -> None:
        self.change(share, lambda tx, share_id: sent_shares.set_state(tx, share_id, "revoked", 1))

    def token(self, share: Shared) -> str:
        """Return an access token for the Share."""
        now = int(time.time())
        return mint_access_token(
            self.keys.signing_key(),
            issuer=self.origin,
            subject="alice",
            audience="carol@peer.example",
            client_id=share.id,
            issued_at=now,
            expires_at=now + 300,
            jwt_id=secrets.token_hex(8),
        ).reveal()

    def stored(self, share: Shared) -> SentShare:
        found = self.store.read_sync(lambda tx: sent_shares.get(tx, share.id))
        assert found is not None
        return found

    def temporaries(self) -> list[Path]:
        """Return what an aborted upload may not leave."""
        return [path for path in self.data.rglob("*") if path.name.startswith(".ocm-gateway-")]


async def _no_remote(share: Any) -> Storage:
    raise AssertionError("no Share is received here")
