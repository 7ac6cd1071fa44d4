"""A backend whose server takes connections and answers nothing any more: only requests to itself wait for it."""

from __future__ import annotations

import base64
import http.client
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest
from faulty_link import FaultyLink
from pairs import ALICE
from sites import Reply, Site, free_port
from three_backends import BACKENDS, servers

PATIENCE = 15.0  # seconds for an answer of what does not hang; what hangs is given up by the gateway after 20 or more
LONG = 100.0  # seconds for what waits for a backend that hangs
CROWD = 12  # requests of each kind to a backend that hangs: more than it has threads
CONTENT = b"beam on target"


@dataclass
class Place:
    """A running gateway in front of three backends, of which two are reached through links."""

    site: Site
    links: dict[str, FaultyLink]
    hung: list[tuple[int | str, str, str]] = field(default_factory=list)  # what became of the crowd's requests

    def ask(
        self, method: str, path: str, body: bytes | None = None, *, wait: float = PATIENCE, **headers: str
    ) -> Reply:
        """Make a request of alice's, which has to be answered in time."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent["Authorization"] = "Basic " + base64.b64encode(f"alice:{ALICE}".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.site.port, timeout=wait)
        try:
            connection.request(method, f"/dav/files/alice/{path}", body, sent)
            if wait == LONG:
                self._sent.release()
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def copy(self, source: str, target: str, **options: float) -> int:
        return self.ask("COPY", source, Destination=f"{self.site.url}/dav/files/alice/{target}", **options).status

    def etag(self, folder: str) -> bytes:
        listing = self.ask("PROPFIND", folder, Depth="0")
        assert listing.status == 207
        return listing.body.partition(b"<d:getetag>")[2].partition(b"<")[0]

    @contextmanager
    def hanging(self, *names: str) -> Iterator[None]:
        """Have these backends hang, with more requests to each than it has threads; they are answered in the end."""
        for name in names:
            self.links[name].stall()
        asks = [(name, method) for name in names for method in ("GET", "PROPFIND", "PUT", "COPY")] * CROWD
        self._sent = threading.Semaphore(0)
        self.hung = []
        crowd = [threading.Thread(target=self._wait_for, args=ask, daemon=True) for ask in asks]
        for one in crowd:
            one.start()
        for _ in crowd:
            assert self._sent.acquire(timeout=PATIENCE)
        try:
            yield
            assert 200 not in {status for status, _, _ in self.hung}
        finally:
            for name in names:
                self.links[name].flow()
            for one in crowd:
                one.join(LONG)

    def _wait_for(self, name: str, method: str) -> None:
        requests = {"PUT": ("PUT", f"{name}/put.bin", CONTENT), "COPY": ("COPY", "local/a.bin", None)}
        asked, path, body = requests.get(method, (method, f"{name}/a.bin", None))
        there = f"{self.site.url}/dav/files/alice/{name}/copy.bin"
        try:
            status: int | str = self.ask(asked, path, body, wait=LONG, Destination=there, Depth="0").status
        except (OSError, http.client.HTTPException) as error:
            status = type(error).__name__
        self.hung.append((status, name, method))


@pytest.fixture(scope="module")
def place(rclone: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("three")
    with servers(rclone, directory / "servers") as started, ExitStack() as stack:
        links = {name: stack.enter_context(FaultyLink(port)) for name, port in started.ports.items()}
        site = started.site(directory / "site", {name: link.port for name, link in links.items()})
        with site:
            site.add_user("alice", ALICE)
            place = Place(site, links)
            for name in BACKENDS:
                assert place.ask("PUT", f"{name}/a.bin", CONTENT).status == 201
            yield place
            assert "Traceback" not in site.log.read_text()


def others(*hung: str) -> Sequence[str]:
    return [name for name in BACKENDS if name not in hung]


@pytest.mark.parametrize("hung", [("s3",), ("sftp",), ("s3", "sftp")])
def test_requests_to_the_others_are_answered(place: Place, hung: tuple[str, ...]) -> None:
    """Also what goes between two of them, while much else is on its way to the one that hangs."""
    with place.hanging(*hung):
        for name in others(*hung):
            assert place.ask("GET", f"{name}/a.bin").body == CONTENT
            assert place.ask("PROPFIND", f"{name}/", Depth="1").status == 207
            assert place.ask("MKCOL", f"{name}/folder").status == 201
            assert place.ask("PUT", f"{name}/folder/b.bin", CONTENT).status == 201
            assert place.copy("local/a.bin", f"{name}/folder/c.bin") == 201
            assert place.copy(f"{name}/a.bin", "local/d.bin") in (201, 204)
            assert place.ask("DELETE", f"{name}/folder").status == 204
        top = place.ask("PROPFIND", "", Depth="1")
        assert top.status == 207
        assert all(f"/{name}/".encode() in top.body for name in BACKENDS)
    assert len(place.hung) == len(hung) * 4 * CROWD
    for name in hung:
        assert place.ask("GET", f"{name}/a.bin").body == CONTENT


def test_the_operator_is_told_which_one_hangs_and_everything_else_works(place: Place) -> None:
    with place.hanging("s3"):
        told = {row["name"]: row["problem"] for row in place.site.json("backend", "list")}
        assert told == {"local": None, "s3": "s3: no answer within 5 s", "sftp": None}
        nobody = f"bob@localhost:{free_port()}"
        share = place.site.json("share", "create", "/local/a.bin", "--as", "alice", "--with", nobody)
        assert [row["id"] for row in place.site.json("share", "list", "--as", "alice")] == [share["id"]]
        for page in ("/health", "/metrics"):
            connection = http.client.HTTPConnection("127.0.0.1", place.site.metrics_port, timeout=PATIENCE)
            connection.request("GET", page)
            assert connection.getresponse().status == 200
            connection.close()


def test_the_gateway_stops_in_time_and_doubts_nothing_of_the_others(place: Place) -> None:
    """Those who still wait are told so. One that has to be killed would next show new ETags of all folders."""
    before = place.etag("local/")
    with place.hanging("s3", "sftp"):
        place.site.stop()
    assert place.site.process is not None
    assert place.site.process.returncode == 0
    statuses = {status for status, _, _ in place.hung}
    assert statuses >= {503}
    assert statuses <= {503, "RemoteDisconnected", "ConnectionResetError"}
    place.site.start()
    assert place.etag("local/") == before


def test_a_start_waits_only_at_the_one_that_hangs(place: Place) -> None:
    """It is complete only once all is settled, or was given 5 s for that; what is seen before may take longer once."""
    assert any(is_served_before_all_is_settled(place) for _ in range(3))
    for name in BACKENDS:
        assert place.ask("GET", f"{name}/a.bin", wait=LONG - 1).body == CONTENT


def is_served_before_all_is_settled(place: Place) -> bool:
    place.site.stop()
    begun = place.site.log.stat().st_size
    for link in place.links.values():
        link.stall()
    place.site.start()
    assert place.ask("GET", "local/a.bin").body == CONTENT
    is_complete = b"is ready" in place.site.log.read_bytes()[begun:]
    for link in place.links.values():
        link.flow()
    return not is_complete
