"""Invites (draft-07, Invite Flow): how one is written and read, and the two messages when it is accepted.

An invite is a token and the server that made it. It travels as an Invite String (base64url of `token@provider`), as a
link, or, where a product shows no more than its token, as `token@provider` in clear.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from gateway.ocm.address import OCMAddress, canonical_server, normalise_server
from gateway.ocm.errors import Malformed
from gateway.ocm.fields import FORM, SECRET_MAX, Fields, decode_form, decode_object
from gateway.ocm.secret import Secret

TEXT_MAX = 255  # characters of a name or an e-mail address; RFC 5321 section 4.5.3.1 lets the latter have no more

_STANDARD_TO_URL = str.maketrans("+/", "-_")


@dataclass(frozen=True, slots=True)
class InviteString:
    """An Invite Token and the server that made it, as host[:port]."""

    token: Secret
    provider: str

    def encode(self) -> str:
        """Return the string to hand over, without padding."""
        joined = f"{self.token.reveal()}@{self.provider}".encode()
        return base64.urlsafe_b64encode(joined).rstrip(b"=").decode()

    def link(self, public_url: str) -> str:
        """Return the link to the WAYF Page at `public_url`, where the Invite Receiver says which server is theirs."""
        return f"{public_url}/wayf?token={quote(self.token.reveal(), safe='')}"

    @classmethod
    def decode(cls, raw: str) -> InviteString:
        """Read an Invite String, padded or not, also in the standard alphabet; the token may hold "@".

        Raises Malformed("INVALID_INVITE_STRING").
        """
        try:
            text = raw.strip().translate(_STANDARD_TO_URL).rstrip("=")
            decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
        except (ValueError, binascii.Error) as error:
            raise _unreadable("not an Invite String: base64url of token@provider") from error
        return cls._split(decoded)

    @classmethod
    def read(cls, raw: str) -> InviteString:
        """Read an invite in any form that products show: an Invite String, `token@server`, or a link.

        A link is one to a WAYF Page (`?token=`, the host is the provider) or to a page that accepts invites
        (`?token=…&providerDomain=…`, peers.md section 7). Raises Malformed("INVALID_INVITE_STRING").
        """
        text = raw.strip()
        if "://" in text:
            return cls._from_link(text)
        return cls._split(text) if "@" in text else cls.decode(text)

    @classmethod
    def of(cls, token: str, provider: str) -> InviteString:
        """Return the invite of a token and a server as products write them; raises Malformed."""
        if not token or not token.isprintable() or len(token) > SECRET_MAX:
            raise _unreadable("the invite holds no token that can be sent")
        try:
            return cls(Secret(token), normalise_server(provider))
        except Malformed as error:
            raise _unreadable("the invite names no server") from error

    @classmethod
    def _split(cls, joined: str) -> InviteString:
        token, _, provider = joined.rpartition("@")
        return cls.of(token, provider)

    @classmethod
    def _from_link(cls, link: str) -> InviteString:
        try:
            parts = urlsplit(link)
            query = parse_qs(parts.query, max_num_fields=32)
        except ValueError as error:
            raise _unreadable("the link is none") from error
        token, provider = query.get("token", [""]), query.get("providerDomain", [parts.netloc])
        if len(token) != 1 or len(provider) != 1:
            raise _unreadable("the link holds more than one invite")
        return cls.of(token[0], provider[0])


@dataclass(frozen=True, slots=True)
class Party:
    """What a server says of its own user in an invite; `user_id` as it was written."""

    user_id: str
    email: str | None
    name: str | None

    def address(self, server: str) -> OCMAddress:
        """Return the OCM Address to share with; raises Malformed.

        Products append their server to the id, with a scheme or without, once or twice (peers.md section 7).
        """
        identifier, at, host = self.user_id.rpartition("@")
        if at and ("://" in host or _same_host(host, server)):
            return OCMAddress.normalise(f"{identifier}@{server}")
        return OCMAddress.normalise(f"{self.user_id}@{server}")


def address_of(sender: str) -> OCMAddress:
    """Return the OCM Address of a sender as the invite of the same Party gave it; raises Malformed."""
    written = OCMAddress.normalise(sender)
    return Party(written.identifier, None, None).address(written.server)


@dataclass(frozen=True, slots=True)
class InviteAcceptance:
    """The Invite Acceptance Request: `party` at `recipient_provider` accepts the invite of `token`."""

    recipient_provider: str  # host[:port]
    token: Secret
    party: Party


def parse_invite_acceptance(content_type: str | None, body: bytes) -> InviteAcceptance:
    """Read an Invite Acceptance Request, JSON or, as reva may send it, a form.

    Raises Malformed("INVALID_INVITE_ACCEPTANCE"), and what decode_object and decode_form raise.
    """
    is_form = (content_type or "").partition(";")[0].strip().lower() == FORM
    fields = Fields(decode_form(body) if is_form else decode_object(body))
    token = fields.secret("token", required=True)
    fields.string("recipientProvider", required=True)
    provider = fields.server("recipientProvider")
    party = _party(fields)
    if provider and party.user_id:
        _check_address(fields, party, provider)
    fields.check("INVALID_INVITE_ACCEPTANCE")
    assert token is not None
    assert provider is not None
    return InviteAcceptance(provider, token, party)


def serialise_invite_acceptance(acceptance: InviteAcceptance) -> dict[str, Any]:
    """Return the request; some builds of Nextcloud 32 read `userId` (peers.md section 7)."""
    party = serialise_party(acceptance.party)
    return {
        "recipientProvider": acceptance.recipient_provider,
        "token": acceptance.token.reveal(),
        **party,
        "userId": party["userID"],
    }


def parse_party(body: Mapping[str, Any], server: str) -> Party:
    """Read the Invite Acceptance Response of `server`; raises Malformed("INVALID_INVITE_RESPONSE")."""
    fields = Fields(body)
    party = _party(fields)
    if party.user_id:
        _check_address(fields, party, server)
    fields.check("INVALID_INVITE_RESPONSE")
    return party


def serialise_party(party: Party) -> dict[str, Any]:
    """Return the Invite Acceptance Response."""
    return {"userID": party.user_id, "email": party.email or "", "name": party.name or ""}


def _party(fields: Fields) -> Party:
    user_id = fields.identifier("userID", "userId", required=True)
    email, name = fields.line("email"), fields.line("name")
    return Party(user_id or "", email and email[:TEXT_MAX], name and name[:TEXT_MAX])


def _check_address(fields: Fields, party: Party, server: str) -> None:
    try:
        party.address(server)
    except Malformed as error:
        fields.fail(fields.raw("userID", "userId")[0], error.code)


def _same_host(host: str, server: str) -> bool:
    """Tell whether both are on one host; OpenCloud names a port in one place and none in another."""
    try:
        return OCMAddress.parse(f"x@{canonical_server(host)}").host == OCMAddress.parse(f"x@{server}").host
    except Malformed:
        return False


def _unreadable(why: str) -> Malformed:
    return Malformed("INVALID_INVITE_STRING", why)
