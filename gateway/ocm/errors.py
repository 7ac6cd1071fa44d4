"""What a message can do wrong, as one small tree; each edge turns it into an answer in one place.

    ProtocolError            never raised itself
        Malformed            400  fields that are missing, of a wrong type, or make no sense together
        TokenError           400  the same at the token endpoint, which answers as OAuth does
        Unauthorized         401  who sent it is not proven
            SignatureInvalid      and its HTTP Message Signature is the reason
        NotSupported         501  well formed, but of a kind that this gateway does not do

`str()` is a sentence for the log. No message holds a secret; what a peer sent appears only quoted and cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that cannot be used: its name as on the wire, dotted, and a machine-readable code."""

    name: str
    message: str


class ProtocolError(Exception):
    """Never raised itself; `code` is for the peer, `reason` a sentence, `status_hint` the HTTP status that fits."""

    status_hint: ClassVar[int] = 400

    def __init__(self, code: str, reason: str = "") -> None:
        super().__init__(f"{reason} [{code}]" if reason else code)
        self.code = code
        self.reason = reason or code


class Malformed(ProtocolError):
    """The message has fields that are missing, of a wrong type, or make no sense together."""

    def __init__(self, code: str, reason: str = "", *, fields: tuple[FieldError, ...] = ()) -> None:
        listed = ", ".join(f"{field.name} ({field.message})" for field in fields)
        super().__init__(code, reason or (f"unusable fields: {listed}" if fields else ""))
        self.fields = fields


class TokenError(ProtocolError):
    """The token request is refused; `code` is one of the error codes of RFC 6749 section 5.2."""


class Unauthorized(ProtocolError):
    """Who sent the message, or who issued the token, is not proven."""

    status_hint = 401


class SignatureInvalid(Unauthorized):
    """The message carries a signature that does not count; `signature_base` is what was verified, if it came so far."""

    def __init__(self, code: str, reason: str = "", *, signature_base: str | None = None) -> None:
        super().__init__(code, reason)
        self.signature_base = signature_base


class NotSupported(ProtocolError):
    """The message is well formed, but asks for something that this gateway does not do."""

    status_hint = 501


def error_body(error: ProtocolError) -> dict[str, Any]:
    """Return the JSON object that answers `error`.

    Source: OCM API 1.4.0, schemas `Error` and `400`; RFC 6749 section 5.2 for the token endpoint.
    """
    if isinstance(error, TokenError):
        return {"error": error.code}
    body: dict[str, Any] = {"message": error.code}
    if isinstance(error, Malformed):
        body["validationErrors"] = [{"name": field.name, "message": field.message} for field in error.fields]
    return body
