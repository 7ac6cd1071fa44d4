"""The Code Flow: token requests and responses (draft-07, Code Flow; RFC 6749), and the access tokens that we issue.

To a peer an access token is opaque. Ours is a JWT by RFC 9068, so that any of our processes can check it; it carries
no right by itself: each request looks the Share up again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeyParameters, OKPKey

from gateway.ocm.errors import Malformed, TokenError, Unauthorized
from gateway.ocm.fields import FORM, Fields, decode_form, decode_object
from gateway.ocm.keys import PublicKey, SigningKey
from gateway.ocm.secret import Secret

GRANT_TYPE = "authorization_code"
# What older peers call it: reva, and the test stub (peers.md, section 8).
GRANT_TYPES = frozenset({GRANT_TYPE, "ocm_share", "ocm_authorization_code"})
TOKEN_SECONDS = 300  # how long an access token lives, and is taken to live where a peer does not say

_TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068 section 2.1, no password
_TOKEN_ALGORITHMS = ("Ed25519", "ES256")


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request to exchange the secret of a Share. `client_id` is as the peer wrote it: a host, a URL, or absent."""

    grant_type: str
    client_id: str | None
    code: Secret


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A granted token and its life in seconds."""

    access_token: Secret
    expires_in: int = TOKEN_SECONDS

    def serialise(self) -> dict[str, Any]:
        """Return the body of a 200 answer, to be sent with `Cache-Control: no-store`."""
        token = self.access_token.reveal()
        return {"access_token": token, "token_type": "Bearer", "expires_in": self.expires_in}


@dataclass(frozen=True, slots=True)
class AccessTokenClaims:
    """What a valid access token of ours says; times are in seconds since the epoch."""

    subject: str  # the identifier of the owner
    audience: str  # the OCM Address that the Share is with
    client_id: str  # the Share
    issued_at: int
    expires_at: int
    jwt_id: str


def parse_token_request(content_type: str | None, body: bytes) -> TokenRequest:
    """Read a token request, a form as in the draft or JSON as of some products; other parameters are ignored.

    Raises TokenError: invalid_request, also for a parameter that comes twice; unsupported_grant_type.
    """
    media_type = (content_type or FORM).partition(";")[0].strip().lower()
    if media_type not in (FORM, "application/json"):
        raise TokenError("invalid_request", f"a body of type {media_type[:100]!r} is neither form nor JSON")
    fields = Fields(_parameters(media_type, body))
    grant_type, client_id = fields.identifier("grant_type", required=True), fields.identifier("client_id")
    code = fields.secret("code", required=True)
    try:
        fields.check("invalid_request")
    except Malformed as error:
        raise TokenError("invalid_request", str(error)) from error
    assert grant_type is not None
    assert code is not None
    if grant_type not in GRANT_TYPES:
        raise TokenError("unsupported_grant_type", f"{grant_type[:100]!r} is no grant type of the Code Flow")
    return TokenRequest(grant_type, client_id, code)


def serialise_token_request(request: TokenRequest) -> bytes:
    """Return the form to POST as `application/x-www-form-urlencoded`."""
    parameters = {"grant_type": request.grant_type, "client_id": request.client_id, "code": request.code.reveal()}
    return urlencode({name: value for name, value in parameters.items() if value is not None}).encode()


def parse_token_response(body: Mapping[str, Any]) -> TokenResponse:
    """Read a granted token; raises Malformed("INVALID_TOKEN_RESPONSE")."""
    fields = Fields(body)
    access_token = fields.secret("access_token", required=True)
    token_type = fields.string("token_type", required=True)
    if token_type is not None and token_type.lower() != "bearer":  # RFC 6749 section 7.1: case does not count
        fields.fail("token_type", "NOT_BEARER")
    expires_in = fields.integer("expires_in")
    if expires_in == 0:
        fields.fail("expires_in", "OUT_OF_RANGE")
    fields.check("INVALID_TOKEN_RESPONSE")
    assert access_token is not None
    return TokenResponse(access_token, TOKEN_SECONDS if expires_in is None else expires_in)


def mint_access_token(
    key: SigningKey,
    *,
    issuer: str,
    subject: str,
    audience: str,
    client_id: str,
    issued_at: int,
    expires_at: int,
    jwt_id: str,
) -> Secret:
    """Return an access token (RFC 9068, as profiled by draft-ietf-ocm-integration-protocol-00).

    `issuer` is scheme and authority of the key's kid, `subject` the identifier of the owner, `audience` the OCM
    Address in shareWith, `client_id` the opaque id of the Share.
    """
    header = {"typ": _TOKEN_TYPE, "alg": key.alg, "kid": key.kid}
    claims = {
        "iss": issuer,
        "sub": subject,
        "aud": audience,
        "client_id": client_id,
        "iat": issued_at,
        "exp": expires_at,
        "jti": jwt_id,
    }
    return Secret(jwt.encode(header, claims, _jose_key(key), algorithms=[key.alg]))


def verify_access_token(
    token: str | Secret, keys: Iterable[PublicKey], *, issuer: str, now: float
) -> AccessTokenClaims:
    """Return the claims of a token that one of `keys`, our own, has signed and that has not expired at `now`.

    Raises Unauthorized: TOKEN_INVALID, TOKEN_EXPIRED. Only our type, our issuer and a key with its own algorithm count.
    """
    text = token.reveal() if isinstance(token, Secret) else token
    usable = {key.kid: key for key in keys if key.alg in _TOKEN_ALGORITHMS}

    def choose(signature: Any) -> OKPKey | ECKey:
        header = signature.headers()
        key = usable.get(header["kid"]) if set(header) == {"typ", "alg", "kid"} else None
        if key is None or header["typ"] != _TOKEN_TYPE:
            raise Unauthorized("TOKEN_INVALID", "not an access token by a key of ours")
        return _jose_key(key)

    try:
        claims = jwt.decode(text.encode("ascii"), choose, algorithms=_TOKEN_ALGORITHMS).claims
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise Unauthorized("TOKEN_INVALID", f"not a token of ours: {type(error).__name__}") from error
    return _check_claims(claims, issuer, now)


def _check_claims(claims: Mapping[str, Any], issuer: str, now: float) -> AccessTokenClaims:
    texts = [claims.get(name) for name in ("sub", "aud", "client_id", "jti")]
    issued_at, expires_at = claims.get("iat"), claims.get("exp")
    if claims.get("iss") != issuer or not all(isinstance(text, str) for text in texts):
        raise Unauthorized("TOKEN_INVALID", "not a token of this issuer, or not one for access")
    if type(issued_at) is not int or type(expires_at) is not int:
        raise Unauthorized("TOKEN_INVALID", "a token without its times")
    if expires_at <= now:
        raise Unauthorized("TOKEN_EXPIRED", f"the token expired {now - expires_at:.0f} s ago")
    subject, audience, client_id, jwt_id = map(str, texts)
    return AccessTokenClaims(subject, audience, client_id, issued_at, expires_at, jwt_id)


def _jose_key(key: SigningKey | PublicKey) -> OKPKey | ECKey:
    """Return `key` for the JOSE library, bound to its own algorithm."""
    raw = key.private_key if isinstance(key, SigningKey) else key.key
    parameters: KeyParameters = {"kid": key.kid, "alg": key.alg, "use": "sig"}
    if isinstance(raw, Ed25519PrivateKey | Ed25519PublicKey):
        return OKPKey.import_key(raw, parameters)
    assert isinstance(raw, EllipticCurvePrivateKey | EllipticCurvePublicKey)  # _TOKEN_ALGORITHMS has no other
    return ECKey.import_key(raw, parameters)


def _parameters(media_type: str, body: bytes) -> dict[str, Any]:
    """Return the parameters; one without a value counts as omitted (RFC 6749 section 3.2)."""
    try:
        return decode_form(body) if media_type == FORM else decode_object(body)
    except Malformed as error:
        raise TokenError("invalid_request", str(error)) from error
