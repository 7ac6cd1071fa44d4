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
