"""`invite`, `contact` and the names of users: what is printed for people and for scripts, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from parts import NOW

from .served import PASSWORD, SERVER, Served

INVITE_KEYS = {"id", "user", "state", "note", "created", "expires", "accepted", "accepted_by"}
CONTACT_KEYS = {"address", "user", "name", "email", "source", "verified", "auto_accept", "created"}


def test_an_invite_is_shown_once_and_listed_without_its_token(served: Served) -> None:
    made = served.json("invite", "create", "--as", "alice", "--note", "for Carol")
    assert set(made) == INVITE_KEYS | {"link", "invite_string"}
    assert made["link"].startswith(f"https://{SERVER}/wayf?token=")
    assert (made["state"], made["note"], made["expires"]) == ("open", "for Carol", NOW + 7 * 86400)
    listed = {one["id"]: one for one in served.json("invite", "list", "--as", "alice")}[made["id"]]
    assert set(listed) == INVITE_KEYS
    shown = served.cli("invite", "list", "--as", "alice").stdout
    assert "for Carol" in shown
    assert made["link"].partition("token=")[2] not in shown
    assert made["id"] not in {one["id"] for one in served.json("invite", "list", "--as", "bob")}


def test_people_get_what_to_hand_over(served: Served, tmp_path: Path) -> None:
    svg = tmp_path / "invite.svg"
    done = served.cli(
        "invite", "create", "--as", "alice", "--expires", "2027-02-01T00:00:00Z", "--svg", str(svg), "--qr"
    )
    assert done.exit_code == 0, done.output
    assert "It works once." in done.stdout
    assert "expires:       2027-02-01 00:00:00Z" in done.stdout
    assert "█" in done.stdout
    assert "holds the invite" in done.stderr
    assert svg.read_text().startswith("<?xml")


def test_an_svg_that_cannot_be_written_is_said_with_what_to_do(served: Served, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    there = served.cli("invite", "create", "--as", "alice", "--svg", str(tmp_path / "there"))
    assert there.exit_code == 2
    assert (tmp_path / "there").read_text() == "x"
    nowhere = served.cli("invite", "create", "--as", "alice", "--svg", str(tmp_path / "no" / "x.svg"))
    assert nowhere.exit_code == 1
    assert "the invite is made" in nowhere.stderr


def test_an_invite_is_accepted_from_standard_input(served: Served) -> None:
    served.peers.answers["/invite-accepted"] = (
        200,
        {"userID": "carol", "name": "Carol\x1b[31m", "email": "c@x.example"},
    )
    done = served.cli("invite", "accept", "-", "--as", "alice", stdin="0123456789abcdef@peer.example\n")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "Carol[31m is your contact now: carol@peer.example.\n"
    shown = served.json("contact", "show", "carol@peer.example", "--as", "alice")
    assert set(shown) == CONTACT_KEYS
    assert "invite accepted" in served.cli("contact", "list", "--as", "alice").stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("invite", "accept", "nonsense", "--as", "alice"), "INVALID_INVITE_STRING"),
        (("invite", "accept", f"token@{SERVER}", "--as", "alice"), "SAME_SERVER"),
        (("invite", "revoke", "unknown", "--as", "alice"), "NO_SUCH_INVITE"),
        (("invite", "create", "--as", "nobody"), "ACCESS_DENIED"),
        (("invite", "create"), "USER_MISSING"),
        (("invite", "create", "--as", "alice", "--expires", "2020-01-01"), "INVALID_EXPIRATION"),
        (("contact", "show", "nobody@peer.example", "--as", "alice"), "NO_SUCH_CONTACT"),
        (("contact", "add", "nobody", "--as", "alice"), "INVALID_ADDRESS"),
        (("contact", "auto-accept", "nobody@peer.example", "on", "--as", "alice"), "NO_SUCH_CONTACT"),
    ],
)
def test_a_refusal_is_a_sentence_with_its_code(served: Served, arguments: tuple[str, ...], code: str) -> None:
    done = served.cli(*arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("ocm-gateway: ")
    assert f"({code})" in done.stderr


def test_a_contacts_life(served: Served, tmp_path: Path) -> None:
    address = "dora@peer.example"
    added = served.json("contact", "add", address, "--as", "alice", "--name", "Dora", "--email", "d@x.example")
    assert (added["source"], added["verified"], added["auto_accept"]) == ("by hand", False, False)
    assert "under /received/" in served.cli("contact", "auto-accept", address, "on", "--as", "alice").stdout
    assert served.json("contact", "show", address, "--as", "alice")["auto_accept"]
    exported = served.cli("contact", "export", "--as", "alice").stdout
    file = tmp_path / "cards.json"
    file.write_text(exported)
    done = served.cli("contact", "import", str(file), "--as", "bob", "--trusted")
    assert done.stdout == f"{len(json.loads(exported))} new contact(s), 0 that you had.\n"
    assert served.json("contact", "show", address, "--as", "bob")["auto_accept"]
    assert "waits for" in served.cli("contact", "auto-accept", address, "off", "--as", "bob").stdout
    assert "no contact any more" in served.cli("contact", "remove", address, "--as", "alice").stdout
    assert served.cli("contact", "show", address, "--as", "alice").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("contact", "add", "x", "--as", "alice"), "'x' is no OCM Address: it has no \"@\" (INVALID_ADDRESS)"),
        (
            ("share", "create", "/home/a", "--as", "alice", "--with", "bob@b c"),
            "'b c' is no server: it has to be host or host:port (INVALID_ADDRESS)",
        ),
        (("peer", "trust", "a b"), "'a b' is no server: it has to be host or host:port (INVALID_SERVER)"),
        (("peer", "trust", "a:70000"), "70000 is no port: ports are between 1 and 65535 (INVALID_SERVER)"),
    ],
)
def test_what_is_wrong_with_an_address_is_said_once(served: Served, arguments: tuple[str, ...], sentence: str) -> None:
    assert served.cli(*arguments).stderr == f"ocm-gateway: {sentence}\n"


@pytest.mark.parametrize(
    ("content", "status"), [("no json", 2), ("[" * 100_000, 2), ('{"@type": "Group"}', 1), ("[7]", 1)]
)
def test_a_file_that_is_no_address_book_is_refused(served: Served, tmp_path: Path, content: str, status: int) -> None:
    file = tmp_path / "cards.json"
    file.write_text(content)
    before = served.json("contact", "list", "--as", "bob")
    done = served.cli("contact", "import", str(file), "--as", "bob")
    assert (done.exit_code, done.stdout) == (status, "")
    assert "Traceback" not in done.stderr
    assert served.json("contact", "list", "--as", "bob") == before


def test_users_are_called_what_the_operator_says(served: Served) -> None:
    name = f"user-{os.getpid()}"
    arguments: tuple[Any, ...] = (
        "user",
        "add",
        name,
        "--password-file",
        "-",
        "--name",
        "A User",
        "--email",
        "u@x.example",
    )
    added = served.json(*arguments, stdin=PASSWORD)
    assert (added["display_name"], added["email"]) == ("A User", "u@x.example")
    assert served.cli("user", "update", name, "--name", "Another").exit_code == 0
    assert "Another" in served.cli("user", "list").stdout
    assert served.cli("user", "update", name).exit_code == 2
    assert "(INVALID_EMAIL)" in served.cli("user", "update", name, "--email", "x").stderr
