"""`doctor PEER`: from the name of a server to a small Share that it takes, reads and loses; and what can fail."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from certificates import self_signed
from pairs import BOB, Pair
from peer_servers import PeerServer
from sites import Site, eventually, free_port

STEPS = [
    *("dns", "tcp", "discovery", "clock", "keys", "signature to them", "signature from them", "token"),
    *("share", "read", "revoke"),
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("pair")
    with Site(directory / "alice") as alice, Site(directory / "bob") as bob:
        pair = Pair(alice, bob)
        pair.add_users()
        yield pair
        for site in (alice, bob):
            assert "Traceback" not in site.log.read_text()


class Loopback:
    """A peer whose every answer the test can replace, on a thread of its own."""

    def __init__(self, directory: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.peer = PeerServer(directory, time.time)
        self._run(self.peer.start())

    def _run(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def close(self) -> None:
        self._run(self.peer.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[PeerServer]:
    loopback = Loopback(tmp_path)
    yield loopback.peer
    loopback.close()


def examine(site: Site, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = site.cli("doctor", *arguments, "--json")
    return done.returncode, json.loads(done.stdout)


def step(report: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in report["steps"] if each["name"] == name]
    return dict(found)


def test_a_healthy_peer_takes_reads_and_loses_a_small_share(pair: Pair) -> None:
    (pair.alice.data / "trial.txt").write_bytes(b"trial")
    done = threading.Event()

    def accept() -> None:
        """Do as the person at the peer does: accept what arrives, and open it."""
        for _ in range(200):
            for share in pair.bob.json("received", "list", "--as", "bob"):
                if share["state"] == "pending":
                    accepted = pair.bob.json("received", "accept", share["id"], "--as", "bob")
                    pair.bob.http("GET", quote(f"/dav/files/bob{accepted['mount']}"), user="bob", password=BOB)
                    return
            if done.wait(0.1):
                return

    person = threading.Thread(target=accept)
    person.start()
    arguments = ("--with", pair.bobs_address, "--as", "alice", "--path", "/home/trial.txt", "--wait", "30")
    status, report = examine(pair.alice, pair.bob.server, *arguments)
    done.set()
    person.join()
    assert (status, report["ok"]) == (0, True), report
    assert [each["name"] for each in report["steps"]] == STEPS
    verdicts = {each["name"]: each["verdict"] for each in report["steps"]}
    assert verdicts | {"signature from them": "ok"} == dict.fromkeys(STEPS, "ok"), report
    (share,) = [each for each in pair.alice.json("share", "list", "--as", "alice") if "Trial" in each["name"]]
    assert share["state"] == "revoked"
    assert share["used"] is not None


def test_without_a_trial_nothing_is_shared(pair: Pair) -> None:
    before = pair.alice.json("share", "list")
    status, report = examine(pair.alice, pair.bob.server)
    assert status == 0, report
    assert step(report, "share")["verdict"] == "skipped"
    assert "--with" in step(report, "share")["cause"]
    assert pair.alice.json("share", "list") == before


def test_what_is_refused_as_it_should_be_takes_the_place_of_no_trace(pair: Pair) -> None:
    """The last 20 are kept: ten looks at a server would have pushed out what an operator looks for."""
    before = pair.alice.json("peer", "trace", pair.bob.server)
    status, report = examine(pair.alice, pair.bob.server)
    assert (status, step(report, "token")["verdict"]) == (0, "ok"), report
    assert pair.alice.json("peer", "trace", pair.bob.server) == before


def test_a_trial_that_the_peer_refuses_is_revoked_and_failed(pair: Pair) -> None:
    (pair.alice.data / "refused.txt").write_bytes(b"trial")
    arguments = ("--with", f"nobody@{pair.bob.server}", "--as", "alice", "--path", "/home/refused.txt", "--wait", "0")
    status, report = examine(pair.alice, pair.bob.server, *arguments)
    assert status == 1
    assert "RECIPIENT_NOT_FOUND" in step(report, "share")["received"], report


def test_a_name_that_is_none_and_a_port_that_is_closed_are_told_apart(pair: Pair) -> None:
    _, nameless = examine(pair.alice, "nothing.invalid")
    assert step(nameless, "dns")["verdict"] == "failed"
    status, closed = examine(pair.alice, f"localhost:{free_port()}")
    assert status == 1
    assert step(closed, "dns")["verdict"] == "ok"
    assert step(closed, "tcp")["verdict"] == "failed"
    assert step(closed, "token")["verdict"] == "skipped"


@pytest.mark.parametrize(
    ("fault", "failed", "advice"),
    [
        ("nothing", None, ""),
        ("no JSON", "discovery", "no OCM server"),
        ("keys are gone", "keys", "jwksUri"),
        ("disbelieves", "signature to them", "jwksUri"),
        ("an error of its own", "signature to them", "its log"),
        ("no token endpoint", "token", "invalid_grant"),
        ("does not know us", "token", "signature"),
    ],
)
def test_what_a_peer_does_wrong_is_named(
    pair: Pair, peer: PeerServer, fault: str, failed: str | None, advice: str
) -> None:
    server = f"localhost:{peer.port}"
    document = json.loads(json.dumps(peer.document).replace("127.0.0.1", "localhost"))
    peer.serve("/.well-known/ocm", document)
    peer.serve("/ocm/notifications", {"message": "RESOURCE_NOT_FOUND"}, 403)
    peer.serve("/ocm/token", {"error": "invalid_grant"}, 400)
    if fault == "no JSON":
        peer.serve("/.well-known/ocm", b"<html>")
    elif fault == "keys are gone":
        peer.serve("/ocm/jwks", b"", 404)
    elif fault == "disbelieves":
        peer.serve("/ocm/notifications", {"message": "SIGNATURE_INVALID"}, 401)
    elif fault == "an error of its own":
        peer.serve("/ocm/notifications", b"oops", 500)
    elif fault == "no token endpoint":
        peer.serve("/ocm/token", b"", 404)
    elif fault == "does not know us":
        peer.serve("/ocm/token", {"error": "invalid_client"}, 400)
    status, report = examine(pair.alice, server)
    assert status == (1 if failed else 0), report
    if failed is None:
        return
    assert step(report, failed)["verdict"] == "failed", report
    assert advice in step(report, failed)["cause"], report


def test_a_certificate_that_is_not_believed_fails_at_tls(pair: Pair, tmp_path: Path) -> None:
    with Site(tmp_path / "strange", certificate=self_signed(tmp_path)) as strange:
        status, report = examine(pair.alice, strange.server)
    assert status == 1
    assert step(report, "tls")["verdict"] == "failed", report


def test_a_failed_exchange_is_kept_without_its_secret_and_run_again(
    pair: Pair, peer: PeerServer, tmp_path: Path
) -> None:
    """What the peer refuses is a file, and `doctor --replay` asks once more."""
    server = f"localhost:{peer.port}"
    document = json.loads(json.dumps(peer.document).replace("127.0.0.1", "localhost"))
    peer.serve("/.well-known/ocm", document)
    peer.serve("/ocm/shares", {"message": "NO_ROOM"}, 400)
    (pair.alice.data / "kept.txt").write_bytes(b"kept")
    arguments = ("--as", "alice", "--with", f"bob@{server}", "--json")
    done = pair.alice.cli("share", "create", "/home/kept.txt", *arguments)
    assert json.loads(done.stdout)["state"] == "refused"
    (trace,) = pair.alice.json("peer", "trace", server)
    assert (trace["direction"], trace["answer"]["status"]) == ("outgoing", 400)
    assert "NO_ROOM" in trace["answer"]["body"]
    sent = json.loads(peer.asked[-1].body)
    secret = sent["protocol"]["webdav"]["sharedSecret"]
    text = Path(trace["file"]).read_text()
    assert secret not in text
    assert json.loads(trace["request"]["body"])["protocol"]["webdav"]["sharedSecret"] == "***"
    assert Path(trace["file"]).stat().st_mode & 0o077 == 0
    status, report = examine(pair.alice, "--replay", trace["file"])
    assert (status, step(report, "exchange")["verdict"]) == (1, "failed")
    peer.serve("/ocm/shares", {}, 201)
    peer.serve("/ocm/notifications", {}, 201)
    status, report = examine(pair.alice, "--replay", trace["file"])
    assert (status, step(report, "exchange")["verdict"]) == (0, "ok")
    again, ended = (json.loads(asked.body) for asked in peer.asked[-2:])
    assert again["providerId"] != sent["providerId"], "the one in the file may still be on its way"
    assert (ended["notificationType"], ended["providerId"]) == ("SHARE_UNSHARED", again["providerId"])
    elsewhere = Path(trace["file"]).read_text().replace("/ocm/shares", "/elsewhere")
    (tmp_path / "elsewhere.json").write_text(elsewhere)
    status, report = examine(pair.alice, "--replay", str(tmp_path / "elsewhere.json"))
    assert status == 1
    assert "no endpoint" in step(report, "exchange")["received"]
    assert peer.count("/elsewhere") == 0
    shown = pair.alice.cli("peer", "trace", server).stdout
    assert "STATUS_400" in shown


def test_a_request_whose_signature_failed_is_kept_and_verified_again(pair: Pair, peer: PeerServer) -> None:
    server = f"localhost:{peer.port}"
    document = json.loads(json.dumps(peer.document).replace("127.0.0.1", "localhost"))
    peer.serve("/.well-known/ocm", document)
    pair.alice.json("peer", "list")
    pair.alice.cli("peer", "trust", server)
    body = json.dumps({"notificationType": "SHARE_DECLINED", "senderDomain": server, "providerId": "x" * 32,
                       "resourceType": "file", "notification": {"message": "no"}}).encode()  # fmt: skip
    message = peer.message("/ocm/notifications", body, to="http://elsewhere.example")
    headers = dict(message.headers) | {"Content-Type": "application/json"}
    assert pair.alice.http("POST", "/ocm/notifications", body, headers).status == 401
    eventually(lambda: len(pair.alice.json("peer", "trace", server)), 1)
    (trace,) = pair.alice.json("peer", "trace", server)
    assert (trace["direction"], trace["problem"]["code"]) == ("incoming", "SIGNATURE_INVALID")
    status, report = examine(pair.alice, "--replay", trace["file"])
    assert status == 1
    assert "signature base" in step(report, "verification")["received"]
    assert '"@target-uri"' in step(report, "verification")["received"]


def test_what_is_no_trace_is_refused(pair: Pair, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    for text in ("", "[]", '{"version": 1, "direction": "outgoing"}', '{"version": 9}'):
        wrong.write_text(text)
        done = pair.alice.cli("doctor", "--replay", str(wrong))
        assert done.returncode == 1
        assert "no exchange" in done.stderr or "missing" in done.stderr, done.stderr


def test_strangers_leave_no_files(pair: Pair, peer: PeerServer) -> None:
    server = peer.server
    body = json.dumps({"notificationType": "SHARE_DECLINED", "senderDomain": server, "providerId": "y" * 32}).encode()
    headers = {"Content-Type": "application/json"}
    assert pair.alice.http("POST", "/ocm/notifications", body, headers).status >= 400
    assert pair.alice.json("peer", "trace", server) == []
