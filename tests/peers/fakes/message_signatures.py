"""HTTP Message Signatures (RFC 9421) as Nextcloud 35 and opencloudmesh-go make and demand them (peers.md §6).

An implementation of its own, from the RFC's text, so that a mistake of the gateway's does not cancel itself out.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

COVERED = ("@method", "@target-uri", "content-digest", "content-length")
HASHES = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
REGISTERED = {("OKP", "Ed25519"): "ed25519", ("EC", "P-256"): "ecdsa-p256-sha256"}  # section 6.2.2, by kty and crv
AGE_MAX = 300  # seconds since `created`
AHEAD_MAX = 60  # seconds that `created` may lie in the future
_MEMBER = re.compile(r'\s*([a-z*][a-z0-9_.*-]*)=\(([^)]*)\)((?:;[^,"]+(?:"[^"]*")?)*)\s*(?:,|$)')
_PARAMETER = re.compile(r';([a-z*][a-z0-9_.*-]*)=(?:"([^"]*)"|(-?[0-9]+))')


class BadSignature(Exception):
    """Why a signature does not count; `status` is what ocm-go answers."""

    def __init__(self, why: str, status: int = 401) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Ed25519:
    """The key of opencloudmesh-go."""

    key: ed25519.Ed25519PrivateKey
    name: str = "Ed25519"

    def sign(self, text: bytes) -> bytes:
        return self.key.sign(text)

    def jwk(self, kid: str) -> dict[str, str]:
        raw = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "alg": self.name, "x": _b64url(raw)}


@dataclass(frozen=True)
class ES256:
    """The key of Nextcloud 35."""

    key: ec.EllipticCurvePrivateKey
    name: str = "ES256"

    def sign(self, text: bytes) -> bytes:
        r, s = decode_dss_signature(self.key.sign(text, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")  # RFC 9421 section 3.3.4

    def jwk(self, kid: str) -> dict[str, str]:
        numbers = self.key.public_key().public_numbers()
        x, y = (_b64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "alg": self.name, "x": x, "y": y}


def new_ed25519() -> Ed25519:
    return Ed25519(ed25519.Ed25519PrivateKey.generate())


def new_es256() -> ES256:
    return ES256(ec.generate_private_key(ec.SECP256R1()))


def sign(key: Ed25519 | ES256, kid: str, method: str, url: str, body: bytes, now: float) -> dict[str, str]:
    """Return the headers to send with the request."""
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    headers = {"Content-Digest": f"sha-256=:{digest}:", "Content-Length": str(len(body))}
    names = " ".join(f'"{name}"' for name in COVERED)
    parameters = f'({names});created={int(now)};keyid="{kid}";tag="ocm"'
    text = signature_base(COVERED, parameters, method, url, headers)
    signature = base64.b64encode(key.sign(text.encode())).decode()
    return headers | {"Signature-Input": f"ocm={parameters}", "Signature": f"ocm=:{signature}:"}


def signature_base(
    components: Sequence[str], parameters: str, method: str, url: str, headers: Mapping[str, str]
) -> str:
    """Return the string that is signed (section 2.5); raises BadSignature for a component that is not there."""
    values = {name.lower(): value.strip() for name, value in headers.items()} | {"@method": method, "@target-uri": url}
    lacking = [name for name in components if name not in values]
    if lacking:
        raise BadSignature(f"the signature covers {', '.join(lacking)}, which the request does not have")
    lines = [f'"{name}": {values[name]}' for name in components]
    return "\n".join([*lines, f'"@signature-params": {parameters}'])


@dataclass(frozen=True)
class Found:
    """The one signature with tag="ocm"."""

    components: tuple[str, ...]
    parameters: str  # as they stand after the label
    values: Mapping[str, str]
    signature: bytes

    @property
    def key_id(self) -> str:
        return self.values.get("keyid", "")


def find(headers: Mapping[str, str]) -> Found | None:
    """Return the signature that counts, None without one; raises BadSignature for two or a broken one."""
    given = {name.lower(): value for name, value in headers.items()}
    inputs = {label: (names, rest) for label, names, rest in _MEMBER.findall(given.get("signature-input", ""))}
    tagged = [label for label, (_, rest) in inputs.items() if _values(rest).get("tag") == "ocm"]
    if not tagged:
        return None
    if len(tagged) > 1:
        raise BadSignature('more than one signature has tag="ocm"')
    names, rest = inputs[tagged[0]]
    value = re.search(rf"(?:^|[\s,]){re.escape(tagged[0])}=:([A-Za-z0-9+/=]*):", given.get("signature", ""))
    if value is None:
        raise BadSignature(f"Signature has no member {tagged[0]}")
    components = tuple(re.findall(r'"([^"]*)"', names))
    return Found(components, f"({names}){rest}", _values(rest), base64.b64decode(value[1]))


def verify(
    found: Found,
    jwks: Mapping[str, Any],
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    algorithms: Collection[str] = ("Ed25519", "ES256"),
    now: float | None = None,
) -> None:
    """Verify a request against the JWK Set of its sender; raises BadSignature with the reason."""
    lacking = set(COVERED) - set(found.components)
    if lacking:
        raise BadSignature(f"the signature does not cover {', '.join(sorted(lacking))}")
    if "date" in found.components:
        raise BadSignature("the final form of the signature does not cover date")
    _check_created(found.values, time.time() if now is None else now)
    given = {name.lower(): value for name, value in headers.items()}
    _check_digest(given["content-digest"], body)
    if given["content-length"] != str(len(body)):
        raise BadSignature("Content-Length is not the length of the body")
    keys = [jwk for jwk in jwks.get("keys", ()) if jwk.get("kid") == found.key_id]
    if len(keys) != 1:
        raise BadSignature(f"the JWK Set has {len(keys)} keys with the kid {found.key_id!r}")
    text = signature_base(found.components, found.parameters, method, url, headers)
    _check(keys[0], found, text.encode(), algorithms)


def _check(jwk: Mapping[str, str], found: Found, text: bytes, algorithms: Collection[str]) -> None:
    kind, named = (jwk.get("kty", ""), jwk.get("crv", "")), jwk.get("alg")
    if found.values.get("alg", REGISTERED.get(kind)) != REGISTERED.get(kind):
        raise BadSignature(f"alg is {found.values['alg']!r}, and the key is {kind}")
    try:
        if kind == ("OKP", "Ed25519") and named in ("Ed25519", "EdDSA", None) and "Ed25519" in algorithms:
            ed25519.Ed25519PublicKey.from_public_bytes(_unb64url(jwk["x"])).verify(found.signature, text)
        elif kind == ("EC", "P-256") and named in ("ES256", None) and "ES256" in algorithms:
            x, y = (int.from_bytes(_unb64url(jwk[name]), "big") for name in "xy")
            r, s = (int.from_bytes(half, "big") for half in (found.signature[:32], found.signature[32:]))
            public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
            public.verify(encode_dss_signature(r, s), text, ec.ECDSA(SHA256()))
        else:
            raise BadSignature(f"this server verifies {', '.join(algorithms)}, the key is {kind}, alg {named}")
    except (InvalidSignature, ValueError, KeyError) as error:
        raise BadSignature(f"the signature does not fit this base: {text.decode()!r}") from error


def _check_created(values: Mapping[str, str], now: float) -> None:
    if not values.get("keyid"):
        raise BadSignature("the signature has no keyid")
    if not values.get("created", "").isdigit():
        raise BadSignature("the signature has no created")
    age = now - int(values["created"])
    if not -AHEAD_MAX <= age <= AGE_MAX:
        raise BadSignature(f"the signature is {age:.0f} s old")


def _check_digest(digest: str, body: bytes) -> None:
    found = dict(re.findall(r"([a-z0-9-]+)=:([A-Za-z0-9+/=]*):", digest))
    known = found.keys() & HASHES.keys()
    if not known:
        raise BadSignature(f"Content-Digest has neither sha-256 nor sha-512: {digest!r}")
    if any(found[name] != base64.b64encode(HASHES[name](body).digest()).decode() for name in known):
        raise BadSignature("Content-Digest does not fit the body")


def _values(parameters: str) -> dict[str, str]:
    return {name: text or number for name, text, number in _PARAMETER.findall(parameters)}


def _b64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
