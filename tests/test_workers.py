"""A gateway of several workers from the outside: one port, one state, one leader, whoever of them is killed when."""

from __future__ import annotations

import base64
import errno
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from sites import Site, eventually, logged
from spread import connections, leader, reach, status, workers

PASSWORD, OTHER_PASSWORD = "alice-password", "another-password"
WITHIN = 1.0  # seconds: the promise for what is revoked
SIZE = 64 << 20  # bytes of a file that does not fit into any buffer on its way
HOME = "/dav/files/alice/home/"
SILENT = 3.0  # seconds; less than running requests have to end
IMPATIENT = f"""
from functools import partial
from gateway import cli, serving
from gateway.supervisor import Patience
serving.Supervisor = partial(serving.Supervisor, patience=Patience(silent={SILENT}))
cli.main()
"""


def basic(password: str = PASSWORD) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"alice:{password}".encode()).decode()}


def measured(site: Site, path: str = "/metrics") -> str:
    connection = http.client.HTTPConnection("127.0.0.1", site.metrics_port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def begun(directory: Path, size: int) -> Site:
    unlimited = {"enabled": False}  # who is let in no more asks on as fast as it can
    site = Site(directory, workers=size, limits=unlimited, log={"format": "json"}).start()
    eventually(lambda: len(logged(site.log, "ocm-gateway is ready")), 1)
    site.add_user("alice", PASSWORD)
    return site


@pytest.fixture(params=[2, 3])
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    site = begun(tmp_path / "site", request.param)
    yield site
    site.stop()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Site]:
    """A site of two workers."""
    site = begun(tmp_path / "site", 2)
    yield site
    site.stop()


# --- one port, one state --------------------------------------------------------------------------------------------


def test_requests_are_spread_and_counted_together_and_logged_with_their_worker(site: Site) -> None:
    size = len(workers(site))
    with connections(site) as each:
        for connection in each.values():
            for _ in range(10):
                assert status(connection, "PROPFIND", HOME, basic() | {"Depth": "0"}) == 207
    found = [line for line in logged(site.log, "request") if line["method"] == "PROPFIND"]
    assert sorted(line["worker"] for line in found) == sorted(list(range(size)) * 10)
    line = r'requests_total\{door="files",method="PROPFIND",status="207"\} (\S+)'
    eventually(lambda: re.findall(line, measured(site)), [f"{10 * size}.0"])
    assert "ocm_gateway_workers_missing 0.0" in measured(site)
    assert json.loads(measured(site, "/health")) == {"status": "ok"}


def test_what_a_killed_worker_has_counted_stays_counted(pair: Site) -> None:
    first, second = workers(pair)
    for pid in (first, second, second):
        connection = reach(pair, pid)
        assert status(connection, "GET", HOME + "nothing", basic()) == 404
        connection.close()
    for pid in (second, first):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(workers(pair)), 2)
    line = r'requests_total\{door="files",method="GET",status="404"\} (\S+)'
    eventually(lambda: re.findall(line, measured(pair)), ["3.0"])


def test_two_gateways_cannot_have_one_state_nor_one_port(pair: Site, tmp_path: Path) -> None:
    done = pair.cli("serve")
    assert (done.returncode, "another gateway is running" in done.stderr) == (1, True)
    document = yaml.safe_load(pair.config.read_text())
    document["state_dir"] = str(tmp_path / "other-state")
    pair.config.write_text(yaml.safe_dump(document))
    done = pair.cli("serve")
    assert done.returncode == 1
    assert "cannot start: [Errno 98]" in done.stderr


def test_an_address_that_is_taken_is_told_and_nothing_is_left_running(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", workers=2)
    with socket.create_server(("127.0.0.1", site.port)):
        done = site.cli("serve")
    assert done.returncode == 1
    assert "cannot start: [Errno 98] Address already in use" in done.stderr
    assert not (site.directory / "state" / "admin.sock").exists()


def test_a_worker_that_cannot_start_is_the_end_and_says_why(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", workers=2)
    shutil.rmtree(site.data)
    done = site.cli("serve")
    assert done.returncode == 1
    assert "which does not exist" in done.stderr
    assert "the gateway cannot run" in done.stderr


def test_any_free_port_is_one_port_for_all(tmp_path: Path) -> None:
    listen = {"http": "127.0.0.1:0", "metrics": "127.0.0.1:0", "workers": 3}
    site = Site(tmp_path / "site", listen=listen, log={"format": "json"})
    with site.log.open("wb") as log:
        site.process = subprocess.Popen([*site.command, "serve"], stdout=log, stderr=log)
    try:
        eventually(lambda: len(logged(site.log, "ocm-gateway is ready")), 1)
        (address,) = logged(site.log, "ocm-gateway is ready")[0]["listening"]
        site.port = int(address.rpartition(":")[2])
        with connections(site) as each:
            assert [status(one, "GET", "/.well-known/ocm", {}) for one in each.values()] == [200] * 3
    finally:
        site.stop()


# --- whoever dies ---------------------------------------------------------------------------------------------------


def upload_begun(site: Site, pid: int, name: str, content: bytes) -> http.client.HTTPConnection:
    """Send all but the last byte of `content`."""
    connection = reach(site, pid)
    connection.putrequest("PUT", HOME + name)
    for field, value in (basic() | {"Content-Length": str(len(content))}).items():
        connection.putheader(field, value)
    connection.endheaders()
    connection.send(content[:-1])
    return connection


def test_whoever_is_killed_the_requests_of_the_others_go_on(site: Site) -> None:
    content = os.urandom(SIZE)
    (site.data / "large").write_bytes(content)
    victim, *others = workers(site)
    reading = {pid: reach(site, pid) for pid in (victim, *others)}
    downloads = {}
    for pid, connection in reading.items():
        connection.request("GET", HOME + "large", headers=basic())
        downloads[pid] = connection.getresponse()
    uploads = {pid: upload_begun(site, pid, f"from-{pid}", content) for pid in (victim, *others)}
    os.kill(victim, signal.SIGKILL)
    for pid in others:
        assert downloads[pid].read() == content
        uploads[pid].send(content[-1:])
        assert uploads[pid].getresponse().status == 201
    with pytest.raises((http.client.HTTPException, OSError)):
        downloads[victim].read()
    with pytest.raises((http.client.HTTPException, OSError)):
        uploads[victim].getresponse()
    for connection in (*reading.values(), *uploads.values()):
        connection.close()
    eventually(lambda: [len(workers(site)), victim in workers(site)], [1 + len(others), False])
    with connections(site) as each:
        assert [status(one, "GET", HOME + "large", basic()) for one in each.values()] == [200] * len(each)
    names = {"large", *(f"from-{pid}" for pid in others)}
    assert set(os.listdir(site.data)) == names, "nothing is left of the upload that was cut"
    assert all((site.data / name).read_bytes() == content for name in names)


def test_the_operator_is_answered_all_the_time_while_leaders_are_killed(pair: Site) -> None:
    known = set(workers(pair))
    for number in range(3):
        pid = leader(pair)
        assert pid in workers(pair)
        os.kill(pid, signal.SIGKILL)
        pair.add_user(f"user-{number}", "a-password")  # waits in the socket until another leads
        assert leader(pair) != pid
        eventually(lambda: len(workers(pair)), len(known))
    assert {user["name"] for user in pair.json("user", "list")} == {"alice", "user-0", "user-1", "user-2"}
    assert json.loads(measured(pair, "/health"))["status"] in ("ok", "workers missing")
    eventually(lambda: json.loads(measured(pair, "/health")), {"status": "ok"})


def test_no_connection_is_refused_while_a_worker_is_replaced(pair: Site) -> None:
    """Its socket stays bound in the supervisor: whoever waits in it is served by the replacement."""
    failures: list[Exception] = []
    served = [0]
    end = threading.Event()

    def ask() -> None:
        while not end.is_set():
            try:
                assert pair.http("GET", "/.well-known/ocm").status == 200
                served[0] += 1
            except ConnectionResetError:
                continue  # it was being answered by the one that was killed
            except Exception as error:
                failures.append(error)

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    try:
        for number, pid in enumerate(workers(pair), 1):
            before = served[0]
            os.kill(pid, signal.SIGKILL)
            eventually(lambda number=number: len(logged(pair.log, "a worker serves")), 2 + number)
            eventually(lambda before=before: served[0] > before + 50, True)
    finally:
        end.set()
        for thread in asking:
            thread.join()
    assert [error for error in failures if not isinstance(error, http.client.RemoteDisconnected)] == []


def test_the_state_of_a_gateway_that_was_killed_as_a_whole_is_taken_up(pair: Site) -> None:
    connection = upload_begun(pair, workers(pair)[0], "cut", b"x" * 100_000)
    assert pair.process is not None
    pair.process.send_signal(signal.SIGSTOP)
    pids = workers(pair)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    pair.kill()
    for pid in pids:
        eventually(lambda pid=pid: os.path.exists(f"/proc/{pid}"), False)
    connection.close()
    pair.start()
    assert pair.http("PUT", HOME + "new", b"new", user="alice", password=PASSWORD).status == 201
    assert os.listdir(pair.data) == ["new"]


def test_workers_whose_supervisor_was_killed_end_and_then_another_gateway_may_start(pair: Site) -> None:
    pids = workers(pair)
    pair.kill()
    for pid in pids:
        eventually(lambda pid=pid: os.path.exists(f"/proc/{pid}"), False)
    pair.start()
    assert pair.http("GET", HOME, user="alice", password=PASSWORD).status in (200, 405)


# --- what changes for one changes for all ---------------------------------------------------------------------------


@contextmanager
def hammered(site: Site, ask: Callable[[http.client.HTTPConnection], object]) -> Iterator[dict[int, list[Any]]]:
    """Ask every worker without a pause while the block runs; give what each has said and when it was asked."""
    end = threading.Event()
    with connections(site) as each:
        said: dict[int, list[Any]] = {pid: [] for pid in each}

        def hammer(pid: int) -> None:
            while not end.is_set():
                asked = time.monotonic()
                said[pid].append((asked, ask(each[pid])))

        threads = [threading.Thread(target=hammer, args=(pid,)) for pid in each]
        for thread in threads:
            thread.start()
        try:
            yield said
        finally:
            end.set()
            for thread in threads:
                thread.join()


def late(said: Mapping[int, list[Any]], done: float, wanted: object) -> list[Any]:
    """Return what was asked more than WITHIN after `done` and answered otherwise than `wanted`."""
    answers = [answer for each in said.values() for answer in each]
    return [(asked - done, found) for asked, found in answers if asked > done + WITHIN and found != wanted]


CHANGES = {
    "a disabled user": (("user", "disable", "alice"), None),
    "a new password": (("user", "passwd", "alice", "--password-file", "-"), OTHER_PASSWORD),
}


@pytest.mark.parametrize("change", CHANGES)
def test_within_a_second_no_worker_lets_in_who_may_not_come_in(site: Site, change: str) -> None:
    (site.data / "file").write_bytes(b"content")
    command, stdin = CHANGES[change]
    with hammered(site, lambda one: status(one, "GET", HOME + "file", basic())) as said:
        eventually(lambda: [each[-1:] and each[-1][1] for each in said.values()], [200] * len(said))
        assert site.cli(*command, stdin=stdin).returncode == 0
        done = time.monotonic()
        eventually(lambda: all(each[-1][0] > done + WITHIN for each in said.values()), True)
    assert late(said, done, 401) == []


def test_running_transfers_of_every_worker_are_cut_within_5_seconds(pair: Site) -> None:
    (pair.data / "large").write_bytes(bytes(SIZE))
    with connections(pair) as each:
        for connection in each.values():
            connection.request("GET", HOME + "large", headers=basic())
        answers = [connection.getresponse() for connection in each.values()]
        assert all(answer.read(1 << 16) for answer in answers)
        assert pair.cli("user", "disable", "alice").returncode == 0
        eventually(lambda: {line["worker"] for line in logged(pair.log, "transfer.cut")}, {0, 1}, 5)
        for answer in answers:
            with pytest.raises((http.client.HTTPException, OSError)):
                answer.read()


def test_new_keys_are_published_by_every_worker_at_once(pair: Site) -> None:
    """All in the JWK Set, and of the RSA keys in discovery the one that signs."""

    def read(connection: http.client.HTTPConnection, path: str) -> Any:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())

    def published(connection: http.client.HTTPConnection) -> set[str]:
        rsa = read(connection, "/.well-known/ocm")["publicKey"]["keyId"]
        return {rsa, *(key["kid"] for key in read(connection, "/ocm/jwks")["keys"])}

    def to_publish(command: str) -> set[str]:
        keys = pair.json("keys", command)
        return {key["kid"] for key in keys if key["alg"] != "rsa-sha512" or key["signs"]}

    with connections(pair) as each:
        old = to_publish("list")
        assert all(published(one) == old for one in each.values())
        new = to_publish("rotate")
        assert len(new) == len(old) + 2
        assert all(published(one) == new for one in each.values())


def test_a_root_that_the_operator_confirms_is_served_by_every_worker(pair: Site) -> None:
    (pair.data / "file").write_bytes(b"old")
    with hammered(pair, lambda one: status(one, "GET", HOME + "file", basic())) as said:
        eventually(lambda: all(each and each[-1][1] == 200 for each in said.values()), True)
        pair.data.rename(pair.directory / "away")
        pair.data.mkdir()
        (pair.data / "file").write_bytes(b"new")
        eventually(lambda: {each[-1][1] for each in said.values()}, {503})
        assert pair.cli("backend", "accept-root", "storage").returncode == 0
        eventually(lambda: {each[-1][1] for each in said.values()}, {200}, 5)


# --- the end --------------------------------------------------------------------------------------------------------


def refuses(site: Site) -> bool:
    """Tell whether nobody listens any more."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", site.port)) == errno.ECONNREFUSED


@contextmanager
def downloads(site: Site) -> Iterator[tuple[bytes, list[http.client.HTTPResponse]]]:
    """A large file, and an answer with it that has begun at each worker."""
    content = os.urandom(SIZE)
    (site.data / "large").write_bytes(content)
    with connections(site) as each:
        for connection in each.values():
            connection.request("GET", HOME + "large", headers=basic())
        yield content, [connection.getresponse() for connection in each.values()]


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_running_requests_end_before_the_workers_do(pair: Site, told: signal.Signals) -> None:
    with downloads(pair) as (content, answers):
        assert pair.process is not None
        pair.process.send_signal(told)
        eventually(lambda: refuses(pair), True, 5)
        for answer in answers:
            assert answer.read() == content
    begun = time.monotonic()
    assert pair.process.wait(20) == 0
    assert time.monotonic() - begun < 5
    assert not (pair.directory / "state" / "admin.sock").exists()


def test_a_client_that_does_not_end_is_not_waited_for(pair: Site) -> None:
    (pair.data / "large").write_bytes(bytes(SIZE))
    with connections(pair) as each:
        for connection in each.values():
            connection.request("GET", HOME + "large", headers=basic())
            assert connection.getresponse().status == 200
        begun = time.monotonic()
        pair.stop()
        assert time.monotonic() - begun < 13
        assert pair.process is not None
        assert pair.process.returncode == 0


class Impatient(Site):
    """A site whose supervisor waits no longer than SILENT for a sign of life."""

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-c", IMPATIENT, "--config", str(self.config)]


def test_a_worker_that_stops_is_not_taken_for_one_that_hangs(tmp_path: Path) -> None:
    """Running requests have longer than a worker may be silent: it gives signs of life until the last has ended."""
    site = Impatient(tmp_path / "site", workers=2, log={"format": "json"}).start()
    try:
        site.add_user("alice", PASSWORD)
        with downloads(site) as (content, answers):
            assert site.process is not None
            site.process.terminate()
            eventually(lambda: len(logged(site.log, "stopping")), 1)
            time.sleep(2 * SILENT)  # what is shown is that nothing happens meanwhile
            assert all(answer.read() == content for answer in answers)
        assert site.process.wait(20) == 0
    finally:
        site.stop()
    assert logged(site.log, "a worker gives no sign of life and is killed") == []


def test_the_service_manager_hears_the_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "600000")
        site = Site(tmp_path / "site", workers=2, log={"format": "json"}).start()
        heard = [hear(manager)]
        assert len(logged(site.log, "a worker serves")) == 2, "ready is said when all doors listen"
        heard += [hear(manager) for _ in range(3)]
        site.stop()
        while heard[-1][0] != b"STOPPING=1":
            heard.append(hear(manager))
        assert [word for word, _ in heard[:4]] == [b"READY=1", *[b"WATCHDOG=1"] * 3]
        assert site.process is not None
        assert {pid for _, pid in heard} == {site.process.pid}, "NotifyAccess=main"


def hear(manager: socket.socket) -> tuple[bytes, int]:
    """Return a message and who sent it (unix(7), SCM_CREDENTIALS)."""
    message, ((_, _, credentials),), _, _ = manager.recvmsg(100, socket.CMSG_SPACE(12))
    return message, int.from_bytes(credentials[:4], "little")
