"""Directory Services: fetched from a server on loopback, verified, and the last good list kept whatever comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec
from parts import Clock, new_store, until
from peer_servers import LOOPBACK, PeerServer, peer_server, resolve

from gateway import directories as module
from gateway.config import ConfigError, DirectoryConfig, FederationConfig
from gateway.directories import MAX_DOCUMENT, RETRY, Directories, Source, sources
from gateway.errors import NoSuch, NotAllowed
from gateway.ocm.jws import sign_jws
from gateway.ocm.keys import SigningKey
from gateway.outbound import AsyncOutbound, Guard
from gateway.store.engine import Store
from gateway.trust import Trust

PATH = "/list"


def new_key() -> SigningKey:
    return SigningKey.from_private(ec.generate_private_key(ec.SECP256R1()), "directory")


KEY = new_key()


def signed(*hosts: str, key: SigningKey = KEY, **claims: Any) -> bytes:
    servers = [{"url": f"https://{host}", "displayName": f"Cloud {host}"} for host in hosts]
    return sign_jws(json.dumps({"federation": "Test", "servers": servers} | claims).encode(), key).encode()


class Place:
    """A state, and a Directory Service on loopback."""

    def __init__(self, store: Store, service: PeerServer, clock: Clock) -> None:
        self.store = store
        self.service = service
        self.clock = clock

    def source(self, *keys: SigningKey, trusted: bool = False, path: str = PATH, name: str = "Test") -> Source:
        public = tuple(key.public() for key in keys or (KEY,))
        return Source(f"{self.service.url}{path}", name, public, trusted)

    @asynccontextmanager
    async def gateway(self, *configured: Source) -> AsyncIterator[Directories]:
        """A process of the gateway, on the state as it is."""
        guard = Guard(LOOPBACK, lambda host: host == "127.0.0.1")
        async with AsyncOutbound(guard, user_agent="test", resolve=resolve) as outbound:
            yield Directories(self.store, outbound, configured or (self.source(),), self.clock)

    def publish(self, document: bytes, status: int = 200, path: str = PATH) -> None:
        self.service.serve(path, document, status)


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
async def place(tmp_path: Path, log: list[Any]) -> AsyncIterator[Place]:
    clock = Clock()
    store = new_store(tmp_path)
    async with peer_server(tmp_path / "service", clock) as service:
        yield Place(store, service, clock)
    store.close()


async def members(directories: Directories) -> list[str]:
    (status,) = await directories.everything()
    return [listed.server for listed in status.directory.servers] if status.directory else []


# --- a good list ----------------------------------------------------------------------------------------------------


async def test_a_list_is_fetched_and_verified(place: Place) -> None:
    place.publish(signed("a.example", "b.example:8443", exp=int(place.clock()) + 60))
    async with place.gateway() as directories:
        (before,) = await directories.everything()
        assert (before.directory, before.fetched, before.problem) == (None, None, None)
        (status,) = await directories.refresh()
        assert status.directory is not None
        assert (status.directory.federation, status.fetched, status.checked) == ("Test", place.clock(), place.clock())
        assert (status.problem, status.expired) == (None, False)
        assert await members(directories) == ["a.example", "b.example:8443"]
        (asked,) = place.service.asked
        assert (asked.method, asked.header("Authorization"), asked.header("Cookie")) == ("GET", None, None)
        assert (await directories.show("Test")).directory == (await directories.show(place.source().url)).directory
        with pytest.raises(NoSuch):
            await directories.show("Other")


async def test_several_services_stand_for_themselves(place: Place) -> None:
    other = new_key()
    place.publish(signed("a.example"))
    place.publish(signed("b.example", key=other), path="/other")
    place.publish(signed("c.example", key=other), path="/foreign")
    configured = (
        place.source(trusted=True),
        place.source(other, path="/other", name="Other"),
        place.source(path="/foreign", name="Foreign", trusted=True),
    )
    async with place.gateway(*configured) as directories:
        statuses = await directories.refresh()
        assert [status.directory is not None for status in statuses] == [True, True, False]
        assert [await directories.is_member(f"{name}.example") for name in "abc"] == [True, False, False]
        place.service.asked.clear()
        assert [status.source.name for status in await directories.refresh("Other")] == ["Other"]
        assert [asked.path for asked in place.service.asked] == ["/other"]


async def test_members_of_a_trusted_federation_are_on_the_allowlist(place: Place) -> None:
    place.publish(signed("a.example"))
    for trusted in (True, False):
        async with place.gateway(place.source(trusted=trusted)) as directories:
            await directories.refresh()
            closed = FederationConfig(allowlist=())
            trust = Trust(place.store, lists=closed, is_member=directories.is_member)
            assert await trust.is_listed("a.example") is trusted
            for server in ("a.example:8443", "b.example", *(() if trusted else ("a.example",))):
                with pytest.raises(NotAllowed):
                    await trust.require(server)
            if trusted:
                await trust.require("a.example")


async def test_another_process_sees_a_new_list_at_once(place: Place) -> None:
    async with place.gateway(place.source(trusted=True)) as leader, place.gateway(place.source(trusted=True)) as other:
        for host in ("a.example", "b.example"):
            assert not await other.is_member(host)
            place.publish(signed(host))
            await leader.refresh()  # within the same second as the one before
            assert await other.is_member(host)


# --- the last good list stays ---------------------------------------------------------------------------------------


def expired(place: Place) -> bytes:
    return signed("new.example", exp=int(place.clock()))


BAD = {
    "expired": (expired, 200, "DIRECTORY_EXPIRED", "expired at 2027"),
    "older": (lambda place: signed("new.example", iat=int(place.clock()) - 200), 200, "DIRECTORY_OLDER", "before"),
    "foreign": (lambda place: signed("new.example", key=new_key()), 200, "SIGNATURE_INVALID", "none of the configured"),
    "none": (lambda place: b"eyJhbGciOiJub25lIn0.e30.", 200, "ALGORITHM_REFUSED", "'none'"),
    "cut off": (lambda place: signed("new.example")[:-20], 200, "SIGNATURE_INVALID", "none of the configured"),
    "no list": (lambda place: sign_jws(b"[]", KEY).encode(), 200, "NOT_AN_OBJECT", "not an object"),
    "a page": (lambda place: b"<html>", 200, "INVALID_JWS", "base64url"),
    "too large": (lambda place: b"x" * (MAX_DOCUMENT + 1), 200, "DIRECTORY_UNREACHABLE", f"{MAX_DOCUMENT} bytes"),
    "gone": (lambda place: signed("new.example"), 410, "DIRECTORY_UNREACHABLE", "answers 410"),
    "elsewhere": (lambda place: signed("new.example"), 302, "DIRECTORY_UNREACHABLE", "answers 302"),
}


@pytest.mark.parametrize("what", BAD)
async def test_a_list_that_is_not_good_changes_nothing_but_what_is_said(
    place: Place, log: list[Any], what: str
) -> None:
    document, status_code, code, reason = BAD[what]
    good = int(place.clock()) - 100
    place.publish(signed("old.example", iat=good))
    async with place.gateway(place.source(trusted=True)) as directories:
        await directories.refresh()
        fetched = int(place.clock())
        place.clock.advance(50)
        place.publish(document(place), status_code)
        (status,) = await directories.refresh()
        assert await members(directories) == ["old.example"]
        assert await directories.is_member("old.example")
        assert (status.fetched, status.checked) == (fetched, place.clock())
        assert reason in (status.problem or "")
        (line,) = [line for line in log if line["event"] == "directory not refreshed"]
        assert (line["code"], line["directory"]) == (code, "Test")
        assert "1 servers stays" in line["so"]
        place.publish(signed("newer.example", iat=good + 1))
        (status,) = await directories.refresh()
        assert (await members(directories), status.problem) == (["newer.example"], None)


async def test_a_service_that_is_away_at_a_restart_leaves_the_last_list(place: Place) -> None:
    place.publish(signed("a.example", exp=int(place.clock()) + 1000))
    async with place.gateway() as directories:
        await directories.refresh()
    await place.service.stop()
    place.clock.advance(2000)
    async with place.gateway() as directories:
        (status,) = await directories.refresh()
        assert await members(directories) == ["a.example"]
        assert status.expired
        assert "refused" in (status.problem or "").lower()


async def test_without_a_good_list_there_are_no_members(place: Place, log: list[Any]) -> None:
    place.publish(expired(place))
    async with place.gateway(place.source(trusted=True)) as directories:
        (status,) = await directories.refresh()
        assert (status.directory, status.fetched) == (None, None)
        assert not await directories.is_member("new.example")
    assert [line["so"] for line in log if line["log_level"] == "warning"] == ["there is no list"]


async def test_a_key_changes_while_both_are_configured(place: Place) -> None:
    old, new = new_key(), new_key()
    place.publish(signed("a.example", key=old))
    async with place.gateway(place.source(old, new)) as directories:
        await directories.refresh()
        place.publish(signed("b.example", key=new))
        await directories.refresh()
        assert await members(directories) == ["b.example"]
    async with place.gateway(place.source(new)) as directories:
        assert await members(directories) == ["b.example"]


async def test_a_key_that_is_taken_out_takes_its_list_along(place: Place) -> None:
    """Otherwise the list of who has stolen it would stay for good: nothing newer would ever be signed by it."""
    place.publish(signed("evil.example"))
    async with place.gateway() as directories:
        await directories.refresh()
    async with place.gateway(place.source(new_key(), trusted=True)) as directories:
        assert not await directories.is_member("evil.example")
        (status,) = await directories.everything()
        assert (status.directory, status.fetched) == (None, None)
        assert "none of the configured keys" in (status.problem or "")


async def test_only_what_the_guard_permits_is_asked(place: Place) -> None:
    place.publish(signed("a.example"))
    private = Source("http://10.0.0.1/list", "Private", (KEY.public(),), False)
    plain = Source(f"http://localhost:{place.service.port}/list", "Plain", (KEY.public(),), False)
    async with place.gateway(private, plain) as directories:
        problems = [status.problem or "" for status in await directories.refresh()]
    assert ["allow_http" in problem for problem in problems] == [True, True]
    assert place.service.asked == []


# --- in the background ----------------------------------------------------------------------------------------------


async def running(directories: Directories) -> asyncio.Task[None]:
    task = asyncio.create_task(directories.run())
    await asyncio.sleep(0)
    return task


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def test_a_list_is_fetched_again_in_time_and_not_before(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 0.05)
    place.publish(signed("a.example"))
    async with place.gateway() as directories:
        task = await running(directories)
        await until(lambda: place.service.count(PATH) >= 1)
        place.clock.advance(1)
        await until(lambda: place.service.count(PATH) >= 2)
        await stopped(task)
    monkeypatch.setattr(module, "EVERY", 3600.0)
    place.service.asked.clear()
    async with place.gateway() as directories:  # a restart makes nobody ask again
        assert 3200 < await directories._wait(place.source(), 0.0) < 4000
        task = await running(directories)
        await asyncio.sleep(0.05)
        await stopped(task)
    assert place.service.asked == []


async def test_the_next_look_is_sooner_after_a_failure_and_before_an_expiry(place: Place) -> None:
    place.publish(signed("a.example", exp=int(place.clock()) + 1000))
    async with place.gateway() as directories:
        assert await directories._wait(place.source(), 0.0) == 0
        await directories.refresh()
        assert 440 < await directories._wait(place.source(), 0.0) < 560
        place.publish(b"")
        await directories.refresh()
        assert 0.8 * RETRY < await directories._wait(place.source(), 0.0) < 1.2 * RETRY


async def test_members_do_not_all_ask_at_once(place: Place) -> None:
    place.publish(signed("a.example"))
    async with place.gateway() as directories:
        await directories.refresh()
        assert len({await directories._wait(place.source(), 0.0) for _ in range(5)}) == 5


async def test_lists_of_services_that_are_configured_no_more_are_dropped(place: Place) -> None:
    place.publish(signed("a.example"))
    async with place.gateway() as directories:
        await directories.refresh()
    async with place.gateway(place.source(path="/other", name="Other")) as directories:
        task = await running(directories)
        await until(lambda: place.service.count("/other") == 1)
        await stopped(task)
    async with place.gateway() as directories:
        assert await members(directories) == []


# --- the configuration ----------------------------------------------------------------------------------------------


def test_a_key_that_is_none_is_named_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text(json.dumps(KEY.public_jwk()))
    (tmp_path / "private.pem").write_bytes(KEY.to_pem())
    configured = [
        DirectoryConfig.model_validate({"url": f"https://{name}.example", "key": name}, context={"directory": tmp_path})
        for name in ("good.json", "private.pem")
    ]
    with pytest.raises(ConfigError) as refused:
        sources(configured)
    (mistake,) = refused.value.mistakes
    assert mistake.path == "federation.directories[1].key"
    assert "private key" in mistake.found
    (source,) = sources(configured[:1])
    assert (source.name, source.trusted, source.keys) == ("https://good.json.example", False, (KEY.public(),))
