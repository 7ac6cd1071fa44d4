"""The page that accepts invites: it changes nothing by being looked at, and nothing for a form that is not its own."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from fake_peers import FakePeers
from parts import CHEAP, Clock, new_store

from gateway.access import Access
from gateway.config import Config, ListenConfig
from gateway.inviting import Inviting
from gateway.limits import Limits
from gateway.logins import Logins
from gateway.mounts import Mounts
from gateway.ocm.keys import JWKSet
from gateway.store import contacts, users
from gateway.users import Passwords
from gateway.web.forms import COOKIE, LIFE, MAX_FORM, FormTokens
from gateway.web.inviting import STALE, WRONG_PASSWORD, AcceptInvitePage

SERVER, PEER, TOKEN, PASSWORD = "gateway.example", "peer.example", "a55a966e-15c1-4cb9", "correct horse"
TARGET = f"/base/accept-invite?token={TOKEN}&providerDomain={PEER}"
ACTION = "/base/accept-invite"


class Place:
    """The page on a real socket, alice behind it, and a peer that says yes."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.store = new_store(directory)
        self.store.run_sync(lambda tx: users.add(tx, "alice", CHEAP.hash(PASSWORD), 0))
        self.passwords = Passwords(self.store)
        self.peers = FakePeers()
        self.peers.answers["/invite-accepted"] = (200, {"userID": "carol", "name": "Carol <b>Dee</b>"})
        config = Config(
            public_url=f"https://{SERVER}/base",
            state_dir=directory,
            database=f"sqlite:////{directory}/x",
            listen=ListenConfig(admin=directory / "admin.sock"),
            provider="The <Lab>",
        )
        access = Access(
            self.store, Mounts([], {}), self.passwords, issuer=SERVER, token_keys=lambda: JWKSet(()), clock=self.clock
        )
        inviting = Inviting(self.store, self.peers, server=SERVER, public_url=config.public_url, clock=self.clock)
        app = web.Application(client_max_size=0)
        aiohttp_jinja2.setup(app, loader=jinja2.PackageLoader("gateway.web"), autoescape=True)
        AcceptInvitePage(
            config,
            access,
            inviting,
            FormTokens(b"k" * 32, self.clock),
            Logins(Limits({"logins": (5, 0.001)})),
            lambda _: "1",
        ).add_routes(app.router)
        self.client: TestClient[Any, Any] = TestClient(TestServer(app), cookie_jar=None)

    async def form(self) -> tuple[dict[str, str], str]:
        """Open the page; return what its form sends, and its cookie."""
        reply = await self.client.get(TARGET)
        hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', await reply.text())
        return dict(hidden) | {"user": "alice", "password": PASSWORD}, reply.cookies[COOKIE].value

    async def send(self, fields: Any, cookie: str | None) -> tuple[int, str]:
        self.client.session.cookie_jar.clear()
        headers = {"Cookie": f"{COOKIE}={cookie}"} if cookie is not None else {}
        async with self.client.post(ACTION, data=fields, headers=headers) as reply:
            return reply.status, await reply.text()

    @property
    def is_untouched(self) -> bool:
        return not self.peers.posts and not self.store.read_sync(lambda tx: contacts.of_user(tx, None))


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr("gateway.users.PasswordHasher", lambda: CHEAP)
    place = Place(tmp_path)
    with structlog.testing.capture_logs() as lines:
        async with place.client:
            yield place
    assert not [line for line in lines if line["log_level"] in ("error", "critical")]
    assert TOKEN not in repr(lines)
    assert PASSWORD not in repr(lines)
    place.passwords.close()
    place.store.close()


async def test_looking_at_the_page_changes_nothing(place: Place) -> None:
    for method in ("GET", "HEAD", "GET"):
        reply = await place.client.request(method, TARGET)
        assert reply.status == 200
    assert PEER in await reply.text()
    assert place.is_untouched


async def test_the_form_of_this_page_accepts_once_the_password_is_right(place: Place) -> None:
    fields, cookie = await place.form()
    status, text = await place.send(fields, cookie)
    assert status == 200
    assert "Carol &lt;b&gt;Dee&lt;/b&gt;" in text
    assert "The &lt;Lab&gt;" in text
    assert [payload["token"] for payload in place.peers.told("/invite-accepted")] == [TOKEN]
    assert place.store.read_sync(lambda tx: contacts.get(tx, "alice", f"carol@{PEER}"))


@pytest.mark.parametrize(
    ("user", "password"), [("alice", "wrong"), ("nobody", PASSWORD), ("", ""), ("alice", ""), ('"><b>', "\x00")]
)
async def test_a_wrong_password_and_an_unknown_user_get_one_answer(place: Place, user: str, password: str) -> None:
    fields, cookie = await place.form()
    status, text = await place.send(fields | {"user": user, "password": password}, cookie)
    assert status == 403
    assert WRONG_PASSWORD in text
    assert "<b>" not in text
    assert 'name="form"' in text, "so that it can be tried again"
    assert place.is_untouched


async def test_who_fails_again_and_again_has_to_wait_also_with_the_right_password(place: Place) -> None:
    fields, cookie = await place.form()
    for number in range(5):
        assert (await place.send(fields | {"user": "alice", "password": f"guess {number}"}, cookie))[0] == 403
    status, text = await place.send(fields | {"user": "alice", "password": PASSWORD}, cookie)
    assert status == 429
    assert WRONG_PASSWORD not in text
    assert place.is_untouched


FORGED: dict[str, Any] = {
    "no cookie": lambda fields, _: (fields, None),
    "an empty cookie": lambda fields, _: (fields, ""),
    "another cookie": lambda fields, _: (fields, "A" * 22),
    "no token": lambda fields, cookie: ({**fields, "form": ""}, cookie),
    "a later end": lambda fields, cookie: ({**fields, "form": "9" + fields["form"]}, cookie),
    "no end": lambda fields, cookie: ({**fields, "form": fields["form"].partition(".")[2]}, cookie),
    "another signature": lambda fields, cookie: ({**fields, "form": fields["form"][:-4] + "0000"}, cookie),
    "no text": lambda fields, cookie: ({**fields, "form": "1.é"}, cookie),
}


@pytest.mark.parametrize("how", FORGED)
async def test_a_form_that_another_site_sends_is_refused(place: Place, how: str) -> None:
    """Also with the right password, as a browser may have kept it."""
    fields, cookie = FORGED[how](*await place.form())
    status, text = await place.send(fields, cookie)
    assert status == 403
    assert STALE in text
    assert place.is_untouched


async def test_a_form_is_fresh_for_a_while(place: Place) -> None:
    fields, cookie = await place.form()
    place.clock.advance(LIFE)
    assert (await place.send(fields, cookie))[0] == 403
    assert place.is_untouched
    fields, cookie = await place.form()
    place.clock.advance(LIFE - 1)
    assert (await place.send(fields, cookie))[0] == 200


@pytest.mark.parametrize(
    "query",
    [
        "",
        f"token={TOKEN}",
        f"providerDomain={PEER}",
        f"token=&providerDomain={PEER}",
        f"token={TOKEN}&providerDomain=%3Cscript%3E",
        f"token={TOKEN}&providerDomain={SERVER}",
        f"token=a%00b&providerDomain={PEER}",
        f"token={'x' * 5000}&providerDomain={PEER}",
    ],
)
async def test_an_incomplete_or_impossible_link_is_said_to_be_one(place: Place, query: str) -> None:
    reply = await place.client.get(f"{ACTION}?{query}")
    assert reply.status == 400
    text = await reply.text()
    assert 'role="alert"' in text
    assert "<script" not in text
    assert "<form" not in text


async def test_a_token_is_shown_as_text_whatever_it_holds(place: Place) -> None:
    reply = await place.client.get(ACTION, params={"token": '"><script>alert(1)</script>', "providerDomain": PEER})
    text = await reply.text()
    assert reply.status == 200
    assert "<script" not in text
    assert "&lt;script&gt;" in text


async def test_the_page_loads_nothing_and_nobody_frames_it_or_keeps_it(place: Place) -> None:
    reply = await place.client.get(TARGET)
    policy = dict(part.strip().partition(" ")[::2] for part in reply.headers["Content-Security-Policy"].split(";"))
    assert (policy["default-src"], policy["form-action"]) == ("'none'", "'self'")
    assert (policy["frame-ancestors"], policy["base-uri"]) == ("'none'", "'none'")
    (style,) = re.findall(r"<style>(.*?)</style>", await reply.text(), re.DOTALL)
    assert policy["style-src"] == f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
    assert " style=" not in await reply.text()
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["Referrer-Policy"] == "no-referrer"
    cookie = reply.cookies[COOKIE]
    assert (cookie["samesite"], cookie["httponly"], cookie["secure"], cookie["path"]) == ("Strict", True, True, ACTION)
    assert cookie["max-age"] == str(LIFE)


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe", b"token=a&token=b", b"a=" + b"x" * MAX_FORM, b"&".join(b"%d=1" % i for i in range(40)), b"{}"],
)
async def test_what_is_no_form_of_ours_is_refused(place: Place, body: bytes) -> None:
    status, text = await place.send(body, None)
    assert status == 400
    assert 'role="alert"' in text
    assert place.is_untouched


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ((400, {"message": "TOKEN_EXPIRED"}), 400, "ask for a new one"),
        ((403, {}), 403, "until its operator lists it"),
        ((409, {}), 409, "was used before"),
        ((500, {}), 502, "answered 500"),
    ],
)
async def test_why_an_invite_was_not_taken_is_said(place: Place, answer: Any, status: int, said: str) -> None:
    place.peers.answers["/invite-accepted"] = answer
    reply = await place.send(*await place.form())
    assert reply[0] == status
    assert said in reply[1]
