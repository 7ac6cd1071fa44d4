"""Invite Strings (draft-07, Invite format; wire.md, Invites)."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ocm.errors import Malformed
from gateway.ocm.invites import InviteString
from gateway.ocm.secret import Secret


def test_the_draft_s_example_is_encoded_and_decoded(vectors: dict[str, Any]) -> None:
    """draft-07, Invite format: base64url of token@provider, without padding."""
    vector = vectors["invite_string"]
    invite = InviteString(Secret(vector["token"]), vector["provider"])
    assert invite.encode() == vector["encoded"]
    assert InviteString.decode(vector["encoded"]) == invite
    assert vector["token"] not in repr(invite)


tokens = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=40)


@given(tokens, st.sampled_from(["cloud.example.org", "gw.example:8443", "[::1]:8443"]))
def test_an_invite_string_is_read_with_padding_or_without_and_in_either_alphabet(token: str, provider: str) -> None:
    """MUST (draft-07, Invite format): whether or not padding is present; also standard base64 (wire.md)."""
    invite = InviteString(Secret(token), provider)
    standard = base64.b64encode(f"{token}@{provider}".encode()).decode()
    for text in (invite.encode(), standard, standard.rstrip("="), standard.translate(str.maketrans("+/", "-_"))):
        assert InviteString.decode(f" {text}\n") == invite


def test_the_token_may_hold_at_signs() -> None:
    """MUST (draft-07, Invite format): split on the last "@", allowing several in the token part."""
    text = base64.urlsafe_b64encode(b"a@b@c@Cloud.Example.ORG:443").decode()
    assert InviteString.decode(text) == InviteString(Secret("a@b@c"), "cloud.example.org")


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "!!!!",
        "YQ",
        "A",
        "=",
        "a=b=",
        base64.urlsafe_b64encode(b"no at sign").decode(),
        base64.urlsafe_b64encode(b"@cloud.example").decode(),
        base64.urlsafe_b64encode(b"token@").decode(),
        base64.urlsafe_b64encode(b"token@cloud.example/path").decode(),
        base64.urlsafe_b64encode(b"to\x00ken@cloud.example").decode(),
        base64.urlsafe_b64encode(b"\xff\xfe@cloud.example").decode(),
        "a55a966e-15c1-4cb9-a39d-4e4c54399baf",
        "tökén",
    ],
)
def test_what_is_no_invite_string_is_refused(raw: str) -> None:
    with pytest.raises(Malformed) as caught:
        InviteString.decode(raw)
    assert caught.value.code == "INVALID_INVITE_STRING"


@given(st.text(max_size=60))
def test_any_text_is_an_invite_string_or_refused(raw: str) -> None:
    with suppress(Malformed):
        invite = InviteString.decode(raw)
        assert InviteString.decode(invite.encode()) == invite


TOKEN = "a55a966e-15c1-4cb9-a39d-4e4c54399baf"


@pytest.mark.parametrize(
    "text",
    [
        InviteString(Secret(TOKEN), "cloud.example.org").encode(),
        f"https://cloud.example.org/wayf?token={TOKEN}",
        f"https://cloud.example.org/gateway/wayf?lang=en&token={TOKEN}#top",
        f"https://mesh.example/invite?token={TOKEN}&providerDomain=cloud.example.org",
        f"https://mesh.example/invite?token={TOKEN}&providerDomain=https%3A%2F%2FCloud.example.org%2F",
        f"{TOKEN}@cloud.example.org",
        f" {TOKEN}@https://cloud.example.org/ \n".replace("https://", ""),
    ],
)
def test_an_invite_is_read_in_every_form_that_products_show(text: str) -> None:
    """MUST take the Invite String, SHOULD take links (draft-07, Invite format); the others: peers.md section 7."""
    assert InviteString.read(text) == InviteString(Secret(TOKEN), "cloud.example.org")


def test_a_link_of_ours_is_read_back() -> None:
    invite = InviteString(Secret("a+b/c d&e"), "gw.example:8443")
    link = invite.link("https://gw.example:8443")
    assert link == "https://gw.example:8443/wayf?token=a%2Bb%2Fc%20d%26e"
    assert InviteString.read(link) == invite


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            TOKEN,
            "@",
            "@host",
            f"{TOKEN}@",
            f"{TOKEN}@a b",
            f"{TOKEN}@host/path",
            "https://host/wayf",
            "https://[/",
        ),
        *(f"https://host/?token={TOKEN}&token=x", f"https://host/?token={TOKEN}&providerDomain=a&providerDomain=b"),
        *("https://host/wayf?token=", f"https:///wayf?token={TOKEN}", "https://host/?token=a%00b", "é"),
    ],
)
def test_what_is_no_invite_is_refused_in_one_way(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        InviteString.read(text)
    assert caught.value.code == "INVALID_INVITE_STRING"
    assert TOKEN not in str(caught.value)


@given(st.text(max_size=60))
def test_whatever_is_typed_is_an_invite_or_refused(text: str) -> None:
    with suppress(Malformed):
        InviteString.read(text)
