"""Two gateways whose people invite each other, by string, by link and on the page, and then take Shares of contacts."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from pairs import ALICE, BOB, Pair, sealed_values
from sites import Reply, Site

FEDERATION = {"allow_http": ["localhost"], "allow_networks": ["127.0.0.0/8", "::1/128"]}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both take Shares of contacts alone, and only signed ones."""
    directory = tmp_path_factory.mktemp("invites")
    federation = FEDERATION | {"accept": ["contacts", "signed"]}
    with (
        Site(directory / "alice", federation=federation) as alice,
        Site(directory / "bob", federation=federation, base_path="/gw") as bob,
    ):
        pair = Pair(alice, bob)
        pair.add_users()
        alice.json("user", "add", "carol", "--password-file", "-", "--name", "Carol Dee", stdin="carol-password")
        bob.json("user", "add", "dan", "--password-file", "-", "--email", "dan@uni.example", stdin="dan-password")
        yield pair
        logs = alice.log.read_text() + bob.log.read_text()
        assert "Traceback" not in logs
        assert not [secret for secret in (*sealed_values(alice).values(), *TOKENS, BOB) if secret in logs]


TOKENS: list[str] = []  # that a test has seen: none may stand in a log


def invited(site: Site, user: str, *more: str) -> dict[str, Any]:
    made: dict[str, Any] = site.json("invite", "create", "--as", user, *more)
    TOKENS.extend([made["invite_string"], made["link"].partition("token=")[2]])
    return made


def contacts(site: Site, user: str) -> dict[str, dict[str, Any]]:
    return {one["address"]: one for one in site.json("contact", "list", "--as", user)}


def criteria(site: Site) -> list[str]:
    return list(json.loads(site.http("GET", "/.well-known/ocm").body)["criteria"])


def test_what_is_demanded_of_senders_is_advertised(pair: Pair) -> None:
    assert sorted(criteria(pair.alice)) == ["must-invite", "must-use-http-sig"]


def test_a_stranger_is_refused_and_a_contact_by_invite_string_is_not(pair: Pair) -> None:
    pair.folder("invited", a_txt=b"alpha")
    arguments = ("share", "create", "/home/invited", "--as", "alice", "--with", pair.bobs_address)
    refused = pair.alice.cli(*arguments)
    assert refused.returncode == 1
    assert "NOT_A_CONTACT" in refused.stderr
    refused = pair.alice.cli("request", "create", pair.bobs_address, "/home/x", "--as", "alice")
    assert refused.returncode == 1
    assert "NOT_A_CONTACT" in refused.stderr
    assert pair.bob.json("request", "list", "--as", "bob") == []
    invite = invited(pair.bob, "bob", "--note", "for Alice")
    contact = pair.alice.json("invite", "accept", "-", "--as", "alice", stdin=invite["invite_string"] + "\n")
    assert (contact["address"], contact["source"], contact["verified"]) == (pair.bobs_address, "invite accepted", True)
    assert (contact["name"], contact["email"]) == ("bob", "bob@localhost")
    met = contacts(pair.bob, "bob")[f"alice@{pair.alice.server}"]
    assert (met["source"], met["verified"], met["auto_accept"]) == ("invite sent", True, False)
    (listed,) = [one for one in pair.bob.json("invite", "list", "--as", "bob") if one["id"] == invite["id"]]
    assert (listed["state"], listed["note"], listed["accepted_by"]) == ("accepted", "for Alice", met["address"])
    assert not set(listed) & {"invite_string", "link", "token"}
    accepted = pair.accept(pair.share("invited"))
    assert accepted["mount"] == "/received/invited"


def test_an_invite_works_once_and_for_nobody_else(pair: Pair) -> None:
    invite = invited(pair.bob, "dan")
    first = pair.alice.json("invite", "accept", invite["link"], "--as", "alice")
    assert (first["address"], first["email"]) == (f"dan@{pair.bob.server}", "dan@uni.example")
    again = pair.alice.json("invite", "accept", invite["link"], "--as", "alice")  # the answer may have been lost
    assert again == first
    other = pair.alice.cli("invite", "accept", invite["link"], "--as", "carol")
    assert other.returncode == 1
    assert "INVITE_ALREADY_ACCEPTED" in other.stderr
    assert f"dan@{pair.bob.server}" not in contacts(pair.alice, "carol")


def test_revoked_foreign_and_own_invites_make_nobody_a_contact(pair: Pair) -> None:
    revoked = invited(pair.bob, "bob")
    assert pair.bob.json("invite", "revoke", revoked["id"], "--as", "bob")["state"] == "revoked"
    for text, code in (
        (revoked["invite_string"], "INVITE_REFUSED"),
        (invited(pair.alice, "alice")["link"], "SAME_SERVER"),
        ("no invite", "INVALID_INVITE_STRING"),
        (f"0123456789abcdef@{pair.bob.server}", "INVITE_REFUSED"),
    ):
        refused = pair.alice.cli("invite", "accept", text, "--as", "carol")
        assert refused.returncode == 1
        assert f"({code})" in refused.stderr
    assert contacts(pair.alice, "carol") == {}


# --- the page -------------------------------------------------------------------------------------------------------


class Browser:
    """Keeps cookies, follows what a form says, and runs no script."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.cookies: dict[str, str] = {}

    def open(self, target: str) -> Reply:
        return self._seen(self.site.http("GET", target, headers=self._headers()))

    def send(self, page: Reply, **typed: str) -> Reply:
        text = page.body.decode()
        hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', text)
        (action,) = re.findall(r'<form method="post" action="([^"]+)"', text)
        body = urlencode({name: html.unescape(value) for name, value in hidden} | typed).encode()
        headers = self._headers() | {"Content-Type": "application/x-www-form-urlencoded"}
        return self._seen(self.site.http("POST", action, body, headers))

    def _headers(self) -> dict[str, str]:
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}

    def _seen(self, reply: Reply) -> Reply:
        if "Set-Cookie" in reply.headers:
            name, _, value = reply.headers["Set-Cookie"].partition(";")[0].partition("=")
            self.cookies[name] = value
        return reply


def dialog(site: Site, invite: dict[str, Any], provider: str) -> str:
    """Return where a WAYF Page sends whoever says that `site` is theirs (draft-07, inviteAcceptDialog)."""
    page = json.loads(site.http("GET", "/.well-known/ocm").body)["inviteAcceptDialog"]
    token = invite["link"].partition("token=")[2]
    return urlsplit(page).path + "?" + urlencode({"token": token, "providerDomain": provider})


def test_an_invite_is_accepted_on_the_page_with_a_password_and_by_nothing_less(pair: Pair) -> None:
    invite = invited(pair.alice, "carol")
    address = f"carol@{pair.alice.server}"
    browser, target = Browser(pair.bob), dialog(pair.bob, invite, pair.alice.server)
    assert target.startswith("/gw/accept-invite?")
    page = browser.open(target)
    assert page.status == 200
    assert pair.alice.server in page.body.decode()
    assert b"<script" not in page.body
    wrong = browser.send(page, user="bob", password="wrong password")
    unknown = browser.send(wrong, user="nobody", password="wrong password")
    assert (wrong.status, unknown.status) == (403, 403)
    forms = [re.sub(rb'(name="form" value="[^"]*"|id="user"[^>]*)', b"", each.body) for each in (wrong, unknown)]
    assert forms[0] == forms[1]
    assert address not in contacts(pair.bob, "bob")
    done = browser.send(unknown, user="bob", password=BOB)
    assert done.status == 200
    assert "Carol Dee" in done.body.decode()
    assert contacts(pair.bob, "bob")[address]["source"] == "invite accepted"
    assert contacts(pair.alice, "carol")[pair.bobs_address]["source"] == "invite sent"


def test_the_page_says_what_is_wrong(pair: Pair) -> None:
    browser = Browser(pair.bob)
    revoked = invited(pair.alice, "alice")
    pair.alice.json("invite", "revoke", revoked["id"], "--as", "alice")
    refused = browser.send(browser.open(dialog(pair.bob, revoked, pair.alice.server)), user="bob", password=BOB)
    assert refused.status == 400
    assert "ask for a new one" in refused.body.decode()
    assert browser.open("/gw/accept-invite?token=x").status == 400
    own = browser.open(dialog(pair.bob, revoked, pair.bob.server))
    assert own.status == 400
    assert "from this server itself" in own.body.decode()


# --- address books --------------------------------------------------------------------------------------------------


def test_a_contact_whose_shares_are_accepted_at_once(pair: Pair) -> None:
    alices = f"alice@{pair.alice.server}"
    if alices not in contacts(pair.bob, "dan"):
        pair.bob.json("contact", "add", alices, "--as", "dan", "--name", "Alice")
    assert pair.bob.json("contact", "auto-accept", alices, "on", "--as", "dan")["auto_accept"]
    pair.folder("at-once", a_txt=b"alpha")
    share = pair.alice.json("share", "create", "/home/at-once", "--as", "alice", "--with", f"dan@{pair.bob.server}")
    pair.alice_sees(share, "accepted")
    reply = pair.bob.http("GET", "/gw/dav/files/dan/received/at-once/a.txt", user="dan", password="dan-password")
    assert (reply.status, reply.body) == (200, b"alpha")
    pair.bob.cli("contact", "remove", alices, "--as", "dan")
    refused = pair.alice.cli("share", "create", "/home/at-once", "--as", "alice", "--with", f"dan@{pair.bob.server}")
    assert "NOT_A_CONTACT" in refused.stderr


def test_an_address_book_moves_to_another_user(pair: Pair, tmp_path: Path) -> None:
    pair.alice.json("contact", "add", "erik@peer.example", "--as", "alice", "--name", "Erik", "--email", "e@x.example")
    exported = pair.alice.cli("contact", "export", "--as", "alice")
    file = tmp_path / "contacts.json"
    file.write_text(exported.stdout)
    done = pair.alice.json("contact", "import", str(file), "--as", "carol")
    assert done["new"] == len(json.loads(exported.stdout)) - done["known"]
    erik = contacts(pair.alice, "carol")["erik@peer.example"]
    assert (erik["name"], erik["email"], erik["source"]) == ("Erik", "e@x.example", "imported")
    assert not erik["verified"]


def test_the_qr_code_holds_the_link(pair: Pair, tmp_path: Path) -> None:
    svg = tmp_path / "invite.svg"
    made = pair.alice.cli("invite", "create", "--as", "alice", "--svg", str(svg), "--qr")
    assert made.returncode == 0, made.stderr
    link, string = (re.search(rf"^{name}: +(\S+)$", made.stdout, re.M)[1] for name in ("link", "invite string"))
    TOKENS.extend([string, link.partition("token=")[2]])
    assert link.startswith(f"{pair.alice.url}/wayf?token=")
    assert "█" in made.stdout
    assert svg.stat().st_mode & 0o777 == 0o600
    assert svg.read_text().lstrip().startswith("<?xml")
    again = pair.alice.cli("invite", "create", "--as", "alice", "--svg", str(svg))
    assert again.returncode == 2
    assert ALICE not in made.stdout
