"""How a configured WebDAV server is told who this side is, and what is said when it does not believe it."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from sites import eventually

from backends.errors import PermissionDenied, StorageError, Unavailable
from backends.secret_file import SecretFile
from backends.webdav import RemoteRefused
from backends.webdav.credentials import RENEW_BEFORE, REPLACE_AGAIN, Client, ClientCredentials
from gateway.webdav_storage import BriefRequests

from .configured import Open, opened
from .conformance.actions import ROOT, get, names, path, put
from .grid import Grid, xrootd
from .webdav_servers import PASSWORD, USER, Request, Scripted, apache, outbound

__all__ = ["opened"]

ROOT_LISTED = b"""<multistatus xmlns="DAV:"><response><href>/</href><propstat><prop><resourcetype><collection/>
</resourcetype></prop><status>HTTP/1.1 200 OK</status></propstat></response></multistatus>"""


class Doorman(Scripted):
    """Shows its root to whoever has the header that it wants just now."""

    def __init__(self, wanted: str) -> None:
        self.wanted = wanted
        self.shown: list[str] = []  # headers of PROPFINDs
        super().__init__(self._answer)

    def _answer(self, request: Request) -> None:
        shown = request.headers.get("Authorization", "")
        if request.command == "PROPFIND":
            self.shown.append(shown)
        request.reply(207 if shown == self.wanted else 401, ROOT_LISTED)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# ------------------------------------------------------------------------------------------------ files of secrets


def test_a_password_is_read_again_when_it_changes(opened: Open, tmp_path: Path) -> None:
    """Without a restart, and with any characters."""
    with Doorman(basic("älice", "first: ü")) as server:
        backend = opened(server.url, user="älice", password_file="first: ü\n".encode())
        assert backend.stat(ROOT).is_directory
        server.wanted = basic("älice", "second")
        with pytest.raises(Unavailable, match=r"backends\.remote\.user and backends\.remote\.password_file"):
            backend.stat(ROOT)
        (tmp_path / "password_file").write_text("second\n")
        assert backend.stat(ROOT).is_directory
        assert len(server.shown) == 3  # what was refused is not tried twice: servers lock accounts


def test_a_token_that_is_renewed_while_it_is_refused_is_used_at_once(opened: Open, tmp_path: Path) -> None:
    with Doorman("Bearer old") as server:
        backend = opened(server.url, token_file=b" old \n")
        assert backend.stat(ROOT).is_directory
        server.wanted = "Bearer new"
        with pytest.raises(Unavailable, match=r"\(401\); the server judges backends\.remote\.token_file"):
            backend.stat(ROOT)
        (tmp_path / "token_file").write_text("new")
        assert backend.stat(ROOT).is_directory


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b"\xff\xfe", b"x" * 70_000, None])
def test_a_file_without_a_secret_is_named(opened: Open, tmp_path: Path, content: bytes | None) -> None:
    with Doorman("Bearer token") as server:
        backend = opened(server.url, token_file=b"token")
        if content is None:
            (tmp_path / "token_file").unlink()
        else:
            (tmp_path / "token_file").write_bytes(content)
        with pytest.raises(Unavailable, match=r"backends\.remote\.token_file: .*token_file") as caught:
            backend.stat(ROOT)
        assert "two" not in str(caught.value)
        assert server.shown == []


# ------------------------------------------------------------------------------------------------------- OAuth 2


class Endpoint(Scripted):
    """Gives tokens t1, t2 and so on, or whatever `next_answer` says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self.next_answer: tuple[int, bytes] | None = None
        self.expires: object = 3600
        self.go_on = threading.Event()  # an answer waits for it
        self.go_on.set()
        super().__init__(self._answer)

    def _answer(self, request: Request) -> None:
        form = parse_qs(request.body().decode())
        self.asked.append((request.headers.get("Authorization", ""), form))
        self.go_on.wait(20)
        token = {"access_token": f"t{len(self.asked)}", "token_type": "bearer", "expires_in": self.expires}
        request.reply_to_read_body(*(self.next_answer or (200, json.dumps(token).encode())))


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as made:
        yield made


Clock = list[float]


@pytest.fixture
def asking(endpoint: Endpoint, tmp_path: Path) -> Iterator[tuple[ClientCredentials, Clock]]:
    """A client of the endpoint, and the time that it goes by."""
    (tmp_path / "secret").write_text("sécret: +\n")
    now = [1000.0]
    secret = SecretFile(tmp_path / "secret", "backends.grid.oauth.client_secret_file")
    client = Client(f"{endpoint.url}/token", "me:&", secret, "storage.read:/ x", "backends.grid.oauth")
    transport = outbound(idle_timeout=5.0)
    yield ClientCredentials(client, BriefRequests(transport), lambda: now[0]), now
    transport.close()


def test_a_token_is_asked_for_once_and_used_until_it_is_old(
    endpoint: Endpoint, asking: tuple[ClientCredentials, Clock]
) -> None:
    """The client proves itself by Basic with both parts form-encoded (RFC 6749 section 2.3.1)."""
    credential, now = asking
    assert [credential(None) for _ in range(3)] == [{"Authorization": "Bearer t1"}] * 3
    form = {"grant_type": ["client_credentials"], "scope": ["storage.read:/ x"]}
    assert endpoint.asked == [(basic("me%3A%26", "s%C3%A9cret%3A+%2B"), form)]
    now[0] += 3600 - RENEW_BEFORE - 1
    assert credential(None) == {"Authorization": "Bearer t1"}
    now[0] += 1
    assert credential(None) == {"Authorization": "Bearer t2"}


@pytest.mark.parametrize(("expires", "used"), [(10, 5), ("10", 5), (None, 270), ("soon", 270), (-1, 270), (1e300, 270)])
def test_a_short_or_unknown_life_is_used_in_part(
    endpoint: Endpoint, asking: tuple[ClientCredentials, Clock], expires: object, used: int
) -> None:
    credential, now = asking
    endpoint.expires = expires
    credential(None)
    now[0] += used - 0.5
    assert credential(None) == {"Authorization": "Bearer t1"}
    now[0] += 0.5
    assert credential(None) == {"Authorization": "Bearer t2"}


def test_of_many_threads_with_a_refused_token_one_renews_it(
    endpoint: Endpoint, asking: tuple[ClientCredentials, Clock]
) -> None:
    """The others get what it has obtained."""
    credential, _ = asking
    refused = credential(None)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(credential(refused))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [{"Authorization": "Bearer t2"}] * 8
    assert len(endpoint.asked) == 2


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (401, b'{"error": "invalid_client"}', PermissionDenied, "invalid_client (401); it judges backends.grid.oauth."),
        (400, b'{"error": "invalid_scope"}', PermissionDenied, "invalid_scope (400)"),
        (400, b'{"error": "s\\u00e9cret: +"}', PermissionDenied, "no reason given (400)"),
        (500, b"", Unavailable, "not a Bearer token (500)"),
        (200, b"<html>", Unavailable, "not a Bearer token (200)"),
        (200, b"[" * 60_000, Unavailable, "not a Bearer token (200)"),
        (200, b'{"access_token": "t", "token_type": "mac"}', Unavailable, "not a Bearer token (200)"),
        (200, b'{"access_token": "a\\r\\nX: y", "token_type": "Bearer"}', Unavailable, "not a Bearer token (200)"),
        (307, b"", Unavailable, "not a Bearer token (307)"),
    ],
)
def test_an_endpoint_that_gives_no_token_is_named_and_left_alone_for_a_while(
    endpoint: Endpoint,
    asking: tuple[ClientCredentials, Clock],
    status: int,
    body: bytes,
    error: type[StorageError],
    words: str,
) -> None:
    credential, now = asking
    endpoint.next_answer = status, body
    for _ in range(3):
        with pytest.raises(error) as caught:
            credential(None)
        assert str(caught.value).startswith("backends.grid.oauth.token_endpoint: ")
        assert words in str(caught.value)
        assert "cret" not in str(caught.value).replace("client_secret_file", "")
    assert len(endpoint.asked) == 1
    endpoint.next_answer = None
    now[0] += 6
    assert credential(None) == {"Authorization": "Bearer t2"}


def test_a_refused_token_is_renewed_behind_a_request(opened: Open, endpoint: Endpoint, tmp_path: Path) -> None:
    """Who asks sees nothing of it; and no secret is in what is shown of the backend."""
    (tmp_path / "secret").write_text("wonderland")
    oauth = {"token_endpoint": f"{endpoint.url}/t", "client_id": "me", "client_secret_file": str(tmp_path / "secret")}
    with Doorman("Bearer t1") as server:
        backend = opened(server.url, oauth=oauth)
        assert backend.stat(ROOT).is_directory
        server.wanted = "Bearer t2"
        assert backend.stat(ROOT).is_directory
        assert backend.stat(ROOT).is_directory
        assert server.shown == ["Bearer t1", "Bearer t1", "Bearer t2", "Bearer t2"]
    assert len(endpoint.asked) == 2
    assert "wonderland" not in repr(vars(backend))


def test_a_server_that_refuses_every_token_does_not_cost_one_for_each_request(
    opened: Open, endpoint: Endpoint, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("wonderland")
    oauth = {"token_endpoint": f"{endpoint.url}/t", "client_id": "me", "client_secret_file": str(tmp_path / "secret")}
    with Doorman("Bearer of something else") as server:
        backend = opened(server.url, oauth=oauth)
        with pytest.raises(Unavailable, match=r"\(401\); the server judges the token that backends\.remote\.oauth"):
            backend.stat(ROOT)
        for _ in range(5):
            with pytest.raises(Unavailable, match=r"oauth\.token_endpoint: the server refuses this token as it has"):
                backend.stat(ROOT)
        assert len(endpoint.asked) == 2


def test_a_refused_token_that_has_replaced_another_is_replaced_after_a_while(
    endpoint: Endpoint, asking: tuple[ClientCredentials, Clock]
) -> None:
    """Whoever has not seen it refused uses it meanwhile: servers say 401 of one folder, too."""
    credential, now = asking
    second = credential(credential(None))
    now[0] += REPLACE_AGAIN - 2
    with pytest.raises(Unavailable, match="the next is asked for in 2 s") as caught:
        credential(second)
    assert caught.value.retry_after == 2
    assert credential(None) == second
    now[0] += 2
    assert credential(second) == {"Authorization": "Bearer t3"}


def test_who_has_a_token_does_not_wait_while_another_is_asked_for(
    endpoint: Endpoint, asking: tuple[ClientCredentials, Clock]
) -> None:
    credential, _ = asking
    first = credential(None)
    endpoint.go_on.clear()
    renewing = threading.Thread(target=credential, args=(first,))
    renewing.start()
    try:
        eventually(lambda: len(endpoint.asked), 2)
        assert credential(None) == first
    finally:
        endpoint.go_on.set()
        renewing.join(20)
    assert credential(first) == {"Authorization": "Bearer t2"}


def test_an_endpoint_whose_answer_never_ends_keeps_nobody_for_long(opened: Open, tmp_path: Path) -> None:
    """Each byte comes in time; whoever needs the token shares one failure, which comes after one time."""
    (tmp_path / "secret").write_text("wonderland")
    asked: list[str] = []

    def drip(request: Request) -> None:
        request.body()
        asked.append(request.path)
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        with suppress(OSError):
            for _ in range(100):
                request.wfile.write(b" ")
                time.sleep(0.1)
        request.cut()

    def ask() -> None:
        with pytest.raises(Unavailable, match=r"oauth\.token_endpoint: .*no answer in time"):
            backend.stat(ROOT)
        failed.append(time.monotonic() - began)

    with Scripted(drip) as endpoint, Doorman("") as server:
        oauth = {"token_endpoint": endpoint.url, "client_id": "me", "client_secret_file": str(tmp_path / "secret")}
        backend = opened(server.url, idle=1.0, oauth=oauth)
        failed: list[float] = []
        began = time.monotonic()
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(failed) == 4
        assert max(failed) < 6
        assert len(asked) == 1


# ---------------------------------------------------------------------------------------- certificates, on a grid


@pytest.fixture(scope="module")
def grid() -> Iterator[tuple[str, Grid]]:
    with xrootd() as served:
        yield served


def test_certificate_and_proxy_are_taken_and_authorities_by_file_and_directory(
    grid: tuple[str, Grid], opened: Open
) -> None:
    """List, read, write, make, move, remove with each."""
    url, files = grid
    place = files.place
    with_key = {"client_certificate_file": f"{place}/user.pem", "client_key_file": f"{place}/user.key"}
    with_proxy = {"client_certificate_file": f"{place}/proxy.pem"}
    for number, ca in enumerate(({"ca_file": f"{place}/ca.pem"}, {"ca_path": f"{place}/ca"})):
        for who, keys in (("key", with_key), ("proxy", with_proxy)):
            backend = opened(url, **ca, **keys)
            folder = f"{who}-{number}"
            backend.make_directory(path(folder))
            put(backend, f"{folder}/file", b"content")
            backend.rename(path(f"{folder}/file"), path(f"{folder}/other"), overwrite=False)
            assert (names(backend, folder), get(backend, f"{folder}/other")) == ([b"other"], b"content")
            backend.remove(path(f"{folder}/other"))
            backend.remove(path(folder))


def test_a_proxy_that_has_run_out_is_named_and_its_successor_used(grid: tuple[str, Grid], opened: Open) -> None:
    url, files = grid
    proxy = files.write_proxy("renewed.pem", lasts=0.5)
    backend = opened(url, ca_file=f"{files.place}/ca.pem", client_certificate_file=str(proxy))
    with pytest.raises(StorageError, match=r"backends\.remote\.client_certificate_file has run out"):
        backend.stat(ROOT)
    files.write_proxy("renewed.pem")
    assert backend.stat(ROOT).is_directory
    proxy.write_text("half a proxy")
    backend.close()
    with pytest.raises(Unavailable, match=r"backends\.remote\.client_certificate_file: not the PEM"):
        backend.stat(ROOT)
    proxy.unlink()
    with pytest.raises(Unavailable, match=r"backends\.remote\.client_certificate_file: No such file"):
        backend.stat(ROOT)


@pytest.mark.parametrize(
    ("keys", "error", "words"),
    [
        ({}, Unavailable, "name that in backends.remote.ca_file"),
        ({"ca_file": "host.pem"}, Unavailable, "the authorities in backends.remote.ca_file alone may sign"),
        ({"ca_path": "data"}, Unavailable, "the authorities in backends.remote.ca_path alone may sign"),
        ({"ca_file": "ca.pem"}, RemoteRefused, "without any of password_file, token_file, oauth and client_cert"),
        (
            {"ca_file": "ca.pem", "client_certificate_file": "stranger.pem", "client_key_file": "stranger.key"},
            RemoteRefused,
            "(403); the server judges backends.remote.client_certificate_file",
        ),
    ],
)
def test_what_is_wrong_with_tls_is_said_by_its_key(
    grid: tuple[str, Grid], opened: Open, keys: dict[str, str], error: type[StorageError], words: str
) -> None:
    url, files = grid
    backend = opened(url, **{key: f"{files.place}/{name}" for key, name in keys.items()})
    with pytest.raises(error) as caught:
        names(backend)
    assert words in str(caught.value)
    assert str(caught.value).startswith("backends.remote: ")


def test_a_certificate_for_another_name_is_the_urls_affair(grid: tuple[str, Grid], opened: Open) -> None:
    url, files = grid
    backend = opened(url.replace("localhost", "127.0.0.2"), ca_file=f"{files.place}/ca.pem")
    with pytest.raises(Unavailable, match=r"not valid for '127\.0\.0\.2'\. \(backends\.remote\.url\)"):
        backend.stat(ROOT)


# --------------------------------------------------------------------------------------------------- the URL itself


def test_a_url_that_is_no_collection_is_said(opened: Open) -> None:
    """A page, a file, nothing, another port, and a password that is wrong; each by its key."""
    with apache() as url:
        password = {"user": USER, "password_file": PASSWORD.encode()}
        put(opened(f"{url}/private", **password), "file", b"x")
        wrong = r"backends\.remote\.url has to be that of a WebDAV collection"
        for target in ("private/file", "private/nowhere", "private/file/below"):
            with pytest.raises(Unavailable, match=wrong):
                opened(f"{url}/{target}", **password).stat(ROOT)
        with pytest.raises(Unavailable, match=r"backends\.remote\.user and backends\.remote\.password_file"):
            opened(f"{url}/private", user=USER, password_file=b"guess").stat(ROOT)
    with pytest.raises(Unavailable, match=r"backends\.remote: PROPFIND /: .*refused"):
        opened(f"{url}/private", **password).stat(ROOT)


@pytest.mark.parametrize(("status", "headers"), [(200, {}), (405, {}), (501, {}), (301, {"Location": "/x/"})])
def test_a_server_that_does_not_speak_webdav_is_said(opened: Open, status: int, headers: dict[str, str]) -> None:
    wrong = r"backends\.remote\.url has to be that of a WebDAV collection"
    answering = Scripted(lambda request: request.reply(status, b"<html>", **headers))
    with answering as server, pytest.raises(Unavailable, match=wrong):
        opened(server.url).stat(ROOT)
