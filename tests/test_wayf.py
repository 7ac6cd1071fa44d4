"""The WAYF Page, from outside: servers to choose from, and the way to the chosen one's page, without a detour."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
import structlog
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from parts import Clock, new_store
from peer_servers import SERVER, PeerServer, client, peer_server

from backends.errors import Unavailable
from gateway.admin.metrics import Metrics
from gateway.config import Config, FederationConfig
from gateway.directories import Directories, Source
from gateway.first_contacts import FirstContacts
from gateway.ocm.invites import InviteString
from gateway.ocm.jws import sign_jws
from gateway.ocm.keys import SigningKey
from gateway.peers import Peers
from gateway.trust import BLOCKED, Trust
from gateway.wayf import TOKEN_MAX, Wayf
from gateway.web.door import WebDoor
from gateway.web.forms import MAX_FORM
from gateway.web.wayf import SILENT, WayfPage

TOKEN = "zi5kooKu3ivohr9a-the-invite-token"
FORM = "application/x-www-form-urlencoded"
KEY = SigningKey.from_private(ec.generate_private_key(ec.SECP256R1()), "directory")


class Page:
    """The page on a socket, a peer that it can lead to, and a Directory Service."""

    def __init__(
        self, peer: PeerServer, peers: Peers, directories: Directories, session: aiohttp.ClientSession
    ) -> None:
        self.peer = peer
        self.peers = peers
        self.directories = directories
        self.session = session
        self.url = ""

    async def get(self, **query: str) -> tuple[aiohttp.ClientResponse, str]:
        async with self.session.get(self.url, params=query) as answer:
            return answer, await answer.text()

    async def choose(self, server: str, token: str = TOKEN, **headers: str) -> tuple[aiohttp.ClientResponse, str]:
        fields = {"token": token, "server": server}
        async with self.session.post(self.url, data=fields, headers=headers, allow_redirects=False) as answer:
            return answer, await answer.text()

    async def list(self, *servers: tuple[str, str], federation: str = "Test Mesh", path: str = "/list") -> None:
        entries = [{"url": url, "displayName": name} for url, name in servers]
        document = sign_jws(json.dumps({"federation": federation, "servers": entries}).encode(), KEY)
        self.peer.serve(path, document.encode())
        await self.directories.refresh()
        self.peer.asked.clear()


@pytest.fixture
def log() -> Iterator[list[Any]]:
    """Every line; the token in one of them fails the test."""
    with structlog.testing.capture_logs() as lines:
        yield lines
    assert TOKEN not in repr(lines)


@pytest.fixture
async def page(tmp_path: Path, log: list[Any]) -> AsyncIterator[Page]:
    clock, store = Clock(), new_store(tmp_path)
    lists = FederationConfig.model_validate({"denylist": ["denied.example"], "allow_http": ["127.0.0.1"]})
    config = Config.model_validate(
        {
            "public_url": f"https://{SERVER}/base",
            "state_dir": tmp_path,
            "database": "sqlite:////x",
            "listen": {"admin": tmp_path},
        },
        context={"directory": tmp_path},
    )
    async with AsyncExitStack() as stack:
        peer = await stack.enter_async_context(peer_server(tmp_path / "peer", clock))
        peer.document = peer.describe(inviteAcceptDialog="/accept")
        peers = await stack.enter_async_context(client(store, tmp_path / "gateway", clock, lists))
        services = [Source(f"{peer.url}{path}", path, (KEY.public(),), False) for path in ("/list", "/more")]
        directories = Directories(store, peers._outbound, services, clock)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        found = Page(peer, peers, directories, session)
        wayf = Wayf(peers, directories, server=SERVER, check_url=peers._outbound._guard.check_url)
        app = web.Application(middlewares=[Metrics(store).middleware], client_max_size=0)
        WebDoor(config, ()).add_routes(app)
        WayfPage(wayf, provider="The <Lab>", server=SERVER, base_path="/base", http_allowed=False).add_routes(app)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/base/wayf"
        yield found
    store.close()


def said(text: str) -> str:
    """Return what the page says has gone wrong."""
    (problem,) = re.findall(r'<p role="alert">(.*?)</p>', text, re.DOTALL)
    return html.unescape(problem)


# --- the page -------------------------------------------------------------------------------------------------------


async def test_a_look_at_the_page_shows_the_servers_and_asks_none(page: Page) -> None:
    await page.list(("https://b.example", "Zürich"), ("https://a.example:8443", "aachen"), (f"https://{SERVER}", "Us"))
    await page.list(("https://c.example", "C"), ("https://a.example:8443", "Again"), federation="Other", path="/more")
    answer, text = await page.get(token=TOKEN)
    assert answer.status == 200
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["Other", "Test Mesh", "Another server"]
    buttons = re.findall(r'<button name="server" value="(.*?)">(.*?)</button>', text)
    assert buttons == [
        ("a.example:8443", "Again"),
        ("c.example", "C"),
        ("a.example:8443", "aachen"),
        ("b.example", "Zürich"),
    ]
    assert text.count(f'<input type="hidden" name="token" value="{TOKEN}">') == 3
    assert set(re.findall(r'action="(.*?)"', text)) == {"/base/wayf"}
    (string,) = re.findall(r"<code>([A-Za-z0-9_-]{40,})</code>", text)
    assert InviteString.decode(string).token.reveal() == TOKEN
    assert InviteString.decode(string).provider == SERVER
    assert page.peer.asked == []


async def test_without_directories_there_is_the_text_field(page: Page) -> None:
    _, text = await page.get(token=TOKEN)
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["Your server"]
    assert 'name="server"' in text


async def test_the_token_stays_here(page: Page) -> None:
    """No script, no frame around it, no resource of others, no Referer, no copy in a cache."""
    _, text = await page.get(token=TOKEN)
    for answer, body in (
        await page.get(token=TOKEN),
        await page.choose("nowhere"),
        await page.choose(page.peer.server),
    ):
        policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["form-action"] == "'self' https:"
        assert (answer.headers["Referrer-Policy"], answer.headers["Cache-Control"]) == ("no-referrer", "no-store")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        if body:
            (style,) = re.findall(r"<style>(.*?)</style>", body, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
            assert policy["style-src"] == f"'sha256-{digest}'"
    assert not re.search(r"<script|\bon[a-z]+=|src=|href=|javascript:|style=", text)


async def test_whatever_is_shown_is_escaped(page: Page) -> None:
    evil = '"><script>alert(1)</script>'
    await page.list(("https://a.example", evil), federation=f"<b>{evil}")
    token = "<i>'\"&amp;"
    for _, text in (await page.get(token=token), await page.choose(f"{evil}{{where}}{{0}}", token)):
        assert "<script" not in text
        assert "<i>" not in text
        assert "<b>" not in text
        assert html.escape("<script>") in text
        assert "The &lt;Lab&gt;" in text
    assert f"{evil}{{where}}{{0}}" in said(text)
    _, text = await page.choose("a\x1b[2Jb\u202ec.example")
    assert "“a[2Jbc.example”" in said(text)


@pytest.mark.parametrize("token", [None, "", "a b", "ä", "x" * (TOKEN_MAX + 1), "a\nb"])
async def test_a_link_without_an_invite_says_so_and_offers_nothing(
    page: Page, log: list[Any], token: str | None
) -> None:
    answer, text = await page.get(**({} if token is None else {"token": token}))
    assert (answer.status, said(text)[:27]) == (400, "This link holds no invite. ")
    assert "<form" not in text
    answer, _ = await page.choose(page.peer.server, token or "")
    assert (answer.status, page.peer.asked) == (400, [])
    assert [line["code"] for line in log if line["event"] == "refused"] == ["INVALID_TOKEN"] * 2


# --- the choice -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        "{}",
        " {} ",
        "http://{}/",
        "https://{}/index.php/apps/files?dir=/#x",
        "bob@{}",
        "b@b@{}",
        "bob@{}/",
        "https://bob@{}",
    ],
)
async def test_the_choice_leads_to_the_page_of_that_server(page: Page, form: str) -> None:
    answer, _ = await page.choose(form.format(page.peer.server))
    assert answer.status == 303
    url = urlsplit(answer.headers["Location"])
    assert (url.scheme, url.netloc, url.path) == ("http", page.peer.server, "/accept")
    assert parse_qs(url.query) == {"token": [TOKEN], "providerDomain": [SERVER]}
    assert [asked.path for asked in page.peer.asked] == ["/.well-known/ocm"]
    assert TOKEN not in repr(page.peer.asked), "nothing is accepted here, and the token is the visitor's to show"


async def test_a_page_that_has_a_query_keeps_it_and_any_token_arrives_whole(page: Page) -> None:
    page.peer.document = page.peer.describe(inviteAcceptDialog=f"{page.peer.url}/index.php?app=ocm&x=%2F")
    answer, _ = await page.choose(page.peer.server, "a&token=b#c%20+")
    query = urlsplit(answer.headers["Location"]).query
    assert query.startswith("app=ocm&x=%2F&token=")
    assert parse_qs(query)["token"] == ["a&token=b#c%20+"]


async def test_a_link_or_a_form_of_others_leads_nowhere(page: Page) -> None:
    """An open redirect would lend our name to whoever writes the link."""
    answer, text = await page.get(token=TOKEN, server=page.peer.server)
    assert (answer.status, page.peer.asked) == (200, [])
    for site in ("cross-site", "same-site", "none"):
        answer, text = await page.choose(page.peer.server, **{"Sec-Fetch-Site": site})
        assert answer.status == 403
        assert "Location" not in answer.headers
        assert said(text).startswith("Another web site has sent you here.")
        assert page.peer.server not in text, "what they have chosen is not even suggested"
        assert TOKEN in text
    assert page.peer.asked == []
    answer, _ = await page.choose(page.peer.server, **{"Sec-Fetch-Site": "same-origin"})
    assert answer.status == 303


@pytest.mark.parametrize(
    ("where", "status", "words"),
    [
        ("", 400, "is not the name of a server"),
        ("my cloud", 400, "“my cloud” is not the name of a server"),
        ("https://", 400, "is not the name of a server"),
        ("javascript:alert(1)", 400, "is not the name of a server"),
        ("a.example\r\nSet-Cookie: x=1", 400, "is not the name of a server"),
        ("2130706433", 400, "is not the name of a server"),
        (SERVER, 400, "The invite comes from this very server"),
        (f"https://{SERVER.upper()}.:443/x", 400, "The invite comes from this very server"),
        ("denied.example", 403, "does not work together with “denied.example”"),
        ("nowhere.example", 502, "“nowhere.example” does not answer as an Open Cloud Mesh server"),
        ("10.0.0.1", 502, "does not answer as an Open Cloud Mesh server"),
        ("169.254.169.254", 502, "does not answer"),
        ("[::1]:8080", 502, "does not answer"),
    ],
)
async def test_a_choice_that_leads_nowhere_is_explained_and_can_be_mended(
    page: Page, log: list[Any], where: str, status: int, words: str
) -> None:
    answer, text = await page.choose(where)
    assert answer.status == status
    assert "Location" not in answer.headers
    assert words in said(text)
    assert f'name="token" value="{TOKEN}"' in text, "one can choose again"
    (line,) = [line for line in log if line["event"] == "refused"]
    assert line["code"]
    assert line["reason"]


@pytest.mark.parametrize(
    ("dialog", "words"),
    [
        (None, "has no page for accepting invites"),
        ("javascript:alert(1)", "has no page for accepting invites"),
        ("https://user@evil.example/", "has no page for accepting invites"),
        ("http://localhost.evil.example/accept", "sends people to a page that is not safe"),
        ("https://denied.example/accept", "sends people to a page that is not safe"),
        ("https://cloud.example:22/accept", "sends people to a page that is not safe"),
        ("https://10.0.0.1/accept", "sends people to a page that is not safe"),
    ],
)
async def test_nobody_is_sent_to_a_page_that_is_none(page: Page, dialog: str | None, words: str) -> None:
    page.peer.document = page.peer.describe(inviteAcceptDialog=dialog)
    answer, text = await page.choose(page.peer.server)
    assert answer.status in (403, 404)
    assert "Location" not in answer.headers
    assert words in said(text)
    assert "Accept there by hand, with the text below." in said(text)


async def test_a_blocked_server_is_not_asked(page: Page) -> None:
    await Trust(page.peers._store).set(page.peer.server, BLOCKED, "operator")
    answer, text = await page.choose(page.peer.server)
    assert (answer.status, page.peer.asked) == (403, [])
    assert "peer trust" not in text, "that is for the operator"


async def test_a_visitor_cannot_make_us_look_up_host_after_host(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page.peers, "_first_contacts", FirstContacts(2, 100))
    answers = [await page.choose(f"host-{number}.example") for number in range(3)]
    assert [answer.status for answer, _ in answers] == [502, 502, 503]
    answer, text = answers[-1]
    assert answer.headers["Retry-After"] == "30"
    assert said(text) == "Too many servers were looked up a moment ago. Try again in 30 s."


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b"x" * (MAX_FORM + 1), FORM, "FORM_TOO_LARGE"),
        (b"token=%FF", FORM, "NOT_A_FORM"),
        (b"\xff", FORM, "NOT_A_FORM"),
        (b"&".join(b"a=b" for _ in range(20)), FORM, "NOT_A_FORM"),
        (b"{}", "application/json", "NOT_A_FORM"),
        (b"", FORM, "INVALID_TOKEN"),
    ],
)
async def test_a_body_that_is_no_form_is_refused(page: Page, log: list[Any], body: bytes, kind: str, code: str) -> None:
    async with page.session.post(page.url, data=body, headers={"Content-Type": kind}) as answer:
        text = await answer.text()
    assert answer.status == 400
    assert said(text)
    assert [line["code"] for line in log if line["event"] == "refused"] == [code]


async def test_a_state_that_does_not_answer_is_no_error_of_ours(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_arguments: object) -> None:
        raise Unavailable("the state database does not answer", retry_after=7)

    monkeypatch.setattr(page.directories, "everything", hang)
    monkeypatch.setattr(page.peers, "discover", hang)
    for answer, text in (await page.get(token=TOKEN), await page.choose("cloud.example.org")):
        assert (answer.status, answer.headers["Retry-After"]) == (503, "7")
        assert SILENT in text
