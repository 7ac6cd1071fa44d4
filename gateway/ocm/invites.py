"""Invite Strings: base64url of `token@provider` (draft-07, Invite format)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from gateway.ocm.address import normalise_server
from gateway.ocm.errors import Malformed
from gateway.ocm.fields import SECRET_MAX
from gateway.ocm.secret import Secret

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

    @classmethod
    def decode(cls, raw: str) -> InviteString:
        """Read an Invite String, padded or not, also in the standard alphabet; the token may hold "@".

        Raises Malformed("INVALID_INVITE_STRING").
        """
        try:
            text = raw.strip().translate(_STANDARD_TO_URL).rstrip("=")
            decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
            token, _, provider = decoded.rpartition("@")
            if not token or not token.isprintable() or len(token) > SECRET_MAX:
                raise ValueError("no token that can be sent")
            return cls(Secret(token), normalise_server(provider))
        except (ValueError, binascii.Error, Malformed) as error:
            raise Malformed("INVALID_INVITE_STRING", "not an Invite String: base64url of token@provider") from error
