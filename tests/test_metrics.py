"""What is counted and logged of each request, and whether the gateway is well."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from parts import NOW, new_store
from yarl import URL

from backends.errors import Unavailable
from gateway.admin.metrics import Metrics
from gateway.admin.tally import Tally
from gateway.breaker import HANG, Breakers
from gateway.store import outbox, peers
from gateway.store.engine import Store
from gateway.team import Team


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


class Place:
    def __init__(
        self, store: Store, metrics: Metrics, public: TestClient, private: TestClient, breakers: Breakers
    ) -> None:
        self.breakers = breakers
        self.store = store
        self.metrics = metrics
        self.public = public
        self.private = private

    async def counted(self) -> dict[str, float]:
        text = await (await self.private.get("/metrics")).text()
        return {name: float(value) for name, value in re.findall(r"^(ocm_gateway\S+) (\S+)$", text, re.MULTILINE)}


async def answer(request: web.Request) -> web.Response:
    status = int(request.query.get("status", "200"))
    if "principal" in request.query:
        request.match_info["principal"] = request.query["principal"]
    if status == 599:
        raise RuntimeError("an error of ours")
    return web.Response(status=status)


@pytest.fixture
async def place(tmp_path: Path, log: list[Any]) -> AsyncIterator[Place]:
    store = new_store(tmp_path)
    breakers = Breakers()
    metrics = Metrics(store, [ip_network("127.0.0.0/8")], breakers=breakers)
    app = web.Application(middlewares=[metrics.middleware])
    for path, name in (
        ("/base/dav/{below:/*ocm(?:/.*)?}", "ocm"),
        ("/dav/{below:/*files(?:/.*)?}", "files"),
        ("/base/ocm/shares", "api:shares"),
        ("/.well-known/ocm", "well-known:n0"),
        ("/", None),
    ):
        app.router.add_route("*", path, answer, name=name)
    async with TestClient(TestServer(app)) as public, TestClient(TestServer(metrics.app())) as private:
        yield Place(store, metrics, public, private, breakers)
    store.close()


@pytest.mark.parametrize(
    ("path", "door"),
    [
        ("/base/dav/ocm/x/y", "ocm"),
        ("/base/dav//ocm", "ocm"),
        ("/dav/files/alice/x", "files"),
        ("/dav/files/alice/dav/ocm", "files"),
        ("/base/ocm/shares", "api"),
        ("/.well-known/ocm", "well-known"),
        ("/", "web"),
        ("/nowhere/dav/ocm", "web"),
    ],
)
async def test_requests_are_counted_by_door_method_and_status(place: Place, path: str, door: str) -> None:
    for _ in range(2):
        await place.public.get(path)
    status = 404 if path == "/nowhere/dav/ocm" else 200
    counted = await place.counted()
    assert counted[f'ocm_gateway_requests_total{{door="{door}",method="GET",status="{status}"}}'] == 2
    assert counted[f'ocm_gateway_request_seconds_count{{door="{door}"}}'] == 2


async def test_a_client_cannot_invent_labels(place: Place) -> None:
    for number, method in enumerate(("REPORT", "SEARCH", "MKACTIVITY", "PURGE", "TRACE")):
        await place.public.request(method, f"/dav/files/{number}/x")
    labels = [name for name in await place.counted() if name.startswith("ocm_gateway_requests_total")]
    assert labels == ['ocm_gateway_requests_total{door="files",method="OTHER",status="200"}']


async def test_each_request_is_one_line(place: Place, log: list[Any]) -> None:
    await place.public.put("/dav/files/alice/a%20b%FF?x=1", params={"principal": "user:alice", "status": "207"})
    (line,) = [line for line in log if line["event"] == "request"]
    assert line.pop("seconds") >= 0
    assert line == {
        "event": "request",
        "log_level": "info",
        "door": "files",
        "method": "PUT",
        "path": "/dav/files/alice/a%20b%FF",
        "status": 207,
        "principal": "user:alice",
        "remote": "127.0.0.1",
    }


async def test_no_credential_is_logged(place: Place, log: list[Any]) -> None:
    headers = {"Authorization": "Bearer hunter2", "Cookie": "a=hunter2", "Referer": "https://x/?token=hunter2"}
    await place.public.get("/dav/files/x?access_token=hunter2", headers=headers)
    await place.public.get(URL("/?hunter2"))
    assert len(log) == 2
    assert "hunter2" not in repr(log)


async def test_an_error_of_ours_is_counted_as_one(place: Place, log: list[Any]) -> None:
    assert (await place.public.get("/?status=599")).status == 500
    assert (await place.counted())['ocm_gateway_requests_total{door="web",method="GET",status="500"}'] == 1
    assert log[-1]["status"] == 500


@pytest.mark.parametrize(
    ("forwarded", "remote"),
    [("203.0.113.7", "203.0.113.7"), ("1.2.3.4, 203.0.113.7", "203.0.113.7"), ("", "127.0.0.1")],
)
async def test_the_client_behind_a_trusted_proxy_is_named(
    place: Place, log: list[Any], forwarded: str, remote: str
) -> None:
    await place.public.get("/", headers={"X-Forwarded-For": forwarded})
    assert log[-1]["remote"] == remote


async def test_what_waits_to_be_said_is_counted(place: Place) -> None:
    assert (await place.counted())["ocm_gateway_outbox_pending"] == 0
    for share in ("one", "two"):
        values = {"server": "peer.example", "kind": "share", "role": "sending", "share": share, "now": NOW}
        place.store.run_sync(lambda tx, values=values: outbox.add(tx, **values))
    assert (await place.counted())["ocm_gateway_outbox_pending"] == 2


async def test_servers_that_do_not_answer_are_counted(place: Place) -> None:
    for name, seconds in (("a.example", HANG), ("b.example", HANG), ("c.example", 0)):
        place.breakers.silent(name, "no answer in time", seconds)
    counted = await place.counted()
    states = ("closed", "open", "half-open")
    assert [counted[f'ocm_gateway_peers_failing{{breaker="{state}"}}'] for state in states] == [1, 2, 0]


async def test_the_gateway_is_well_while_its_state_answers(place: Place) -> None:
    healthy = await place.private.get("/health")
    assert (healthy.status, await healthy.json()) == (200, {"status": "ok"})

    async def broken(_work: object) -> None:
        raise Unavailable("disk I/O error")

    place.store.read = broken
    for path in ("/health", "/metrics"):
        sick = await place.private.get(path)
        assert (sick.status, await sick.json()) == (503, {"status": "state unavailable"})


async def test_health_and_metrics_tell_which_workers_are_missing(tmp_path: Path) -> None:
    store, team = new_store(tmp_path), Team(3)
    team.mark(1, serving=True)
    async with TestClient(TestServer(Metrics(store, team=team).app())) as client:
        health = await client.get("/health")
        assert (health.status, await health.json()) == (200, {"status": "workers missing", "missing": [0, 2]})
        assert "ocm_gateway_workers_missing 2.0" in await (await client.get("/metrics")).text()
    team.close()
    store.close()


async def test_the_uses_of_legacy_ways_are_counted_over_all_workers_with_the_time_of_the_last(tmp_path: Path) -> None:
    """Also those that were never used, so that an operator sees what may be closed."""
    store, tally = new_store(tmp_path), Tally(2)
    for worker in (0, 1, 1):
        tally.ways.counter(worker)("basic")
    for server, used in (("a.example", {"basic": NOW}), ("b.example", {"basic": NOW - 60, "unsigned": NOW - 1})):
        store.run_sync(lambda tx, server=server, used=used: peers.put(tx, server, legacy_used=used))
    async with TestClient(TestServer(Metrics(store, tally=tally).app())) as client:
        lines = (await (await client.get("/metrics")).text()).splitlines()
    uses, last = "ocm_gateway_legacy_uses_total", "ocm_gateway_legacy_last_used_timestamp_seconds"
    assert sorted(line for line in lines if line.startswith(uses)) == [
        f'{uses}{{way="{way}"}} {count}'
        for way, count in (("basic", 3.0), ("bearer_secret", 0.0), ("cavage", 0.0), ("unsigned", 0.0))
    ]
    shown = dict(line.split(" ") for line in lines if line.startswith(last))
    assert {name: float(value) for name, value in shown.items()} == {
        f'{last}{{way="basic"}}': NOW,
        f'{last}{{way="unsigned"}}': NOW - 1,
    }
    store.close()
