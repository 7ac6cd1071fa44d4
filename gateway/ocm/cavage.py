"""HTTP signatures as Nextcloud 31 to 34 make and check them: draft-cavage-http-signatures in that product's profile.

Source: peers.md section 6. The key is RSA and stands as `publicKey` in the signer's discovery. What is signed is the
request target, whether or not `headers` lists it, and then the headers that are listed; among them have to be those
that bind the body, the time and the receiver.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from gateway.ocm.address import normalise_server
from gateway.ocm.errors import Malformed, SignatureInvalid
from gateway.ocm.fields import IDENTIFIER_MAX
from gateway.ocm.keys import RSA_BITS, RSA_EXPONENT_BITS
from gateway.ocm.signatures import AHEAD_SECONDS, CREDENTIALS, FRESH_SECONDS, Headers, Message
from gateway.ocm.text import is_identifier

TARGET = "(request-target)"
COVERED = ("content-length", "date", "digest", "host")  # what Nextcloud demands, in the order in which it sends them
ALGORITHM = "rsa-sha512"  # of ours, as Nextcloud's own
PEM_MAX = 4096  # characters; a key of 8192 bits has 1500

# Nextcloud checks whatever else stands there, hs2019 included, as rsa-sha256 (peers.md section 6).
_HASHES: Mapping[str, HashAlgorithm] = {"rsa-sha512": SHA512()}
_OTHER_HASH = SHA256()

_DIGESTS = {"SHA-256": "sha256", "SHA-512": "sha512"}  # RFC 3230, RFC 5843
_DATE = "%a, %d %b %Y %H:%M:%S GMT"  # RFC 9110 section 5.6.7
_PARAMETER = re.compile(r'[ \t]*([A-Za-z]+)=(?:"([^"\\]*)"|([0-9]+))[ \t]*(?:,|\Z)')
_PORTS = {"http": 80, "https": 443}
_REQUIRED = ("keyId", "headers", "signature")


@dataclass(frozen=True, slots=True)
class CavageKey:
    """The key that a server publishes for this scheme; `key` is RSA of a size that is neither broken nor a burden."""

    key_id: str
    key: RSAPublicKey

    @classmethod
    def published(cls, public_key: object) -> CavageKey | None:
        """Read `publicKey` of a discovery document; None where it is none of this scheme, as a bare PEM text is not.

        Raises SignatureInvalid("KEY_UNUSABLE") for a key that is there and cannot be used.
        """
        if not isinstance(public_key, Mapping):
            return None
        key_id, pem = public_key.get("keyId"), public_key.get("publicKeyPem")
        if not isinstance(key_id, str) or not isinstance(pem, str) or not is_identifier(key_id, IDENTIFIER_MAX):
            return None
        return cls(key_id, _public_key(key_id, pem))

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the key itself, by which another one under the same name is known."""
        return hashlib.sha256(self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


@dataclass(frozen=True, slots=True)
class CavageSigningKey:
    """A key of ours for this scheme."""

    kid: str
    private_key: RSAPrivateKey = field(repr=False)
    alg: str = ALGORITHM

    @classmethod
    def from_pem(cls, pem: bytes, kid: str) -> CavageSigningKey:
        """Read an unencrypted PEM file that we have made; raises ValueError.

        Its numbers are not proved to be prime again: that takes as long as a hundred signatures.
        """
        try:
            private_key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
        except TypeError as error:
            raise ValueError(f"the key {kid} is encrypted") from error
        if isinstance(private_key, RSAPrivateKey):
            return cls(kid, private_key)
        raise ValueError(f"the key {kid} is not RSA")

    def to_pem(self) -> bytes:
        """Return the private key as unencrypted PKCS #8 PEM."""
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def published(self) -> dict[str, str]:
        """Return the value of `publicKey` in our discovery document."""
        public = self.private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return {"keyId": self.kid, "publicKeyPem": public.decode()}


@dataclass(frozen=True, slots=True)
class FoundCavage:
    """A Signature header that was read and not verified: nothing in it is proven yet."""

    key_id: str
    algorithm: str
    headers: tuple[str, ...]  # in lower case, in their order
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class VerifiedCavage:
    """Proof that the holder of `key` signed this request; made by `verify` only."""

    key: CavageKey
    signature_hash: bytes


def sign(message: Message, key: CavageSigningKey, now: float) -> dict[str, str]:
    """Return the headers that sign `message`: Content-Length, Date, Digest, Signature; Host is that of its URI.

    `now` is in seconds since the epoch. Nextcloud splits the header at each comma and wants no space there.
    """
    digest = base64.b64encode(hashlib.sha512(message.body).digest()).decode()
    headers = {
        "Content-Length": str(len(message.body)),
        "Date": datetime.fromtimestamp(int(now), UTC).strftime(_DATE),
        "Digest": f"SHA-512={digest}",
    }
    base = _signature_base(message.method, message.target_uri, tuple(headers.items()), COVERED)
    signature = base64.b64encode(key.private_key.sign(base.encode(), PKCS1v15(), SHA512())).decode()
    listed = " ".join((TARGET, *COVERED))
    value = f'keyId="{key.kid}",algorithm="{ALGORITHM}",headers="{listed}",signature="{signature}"'
    return headers | {"Signature": value}


def is_signed(headers: Headers) -> bool:
    """Tell whether the request carries a signature of this scheme; one of RFC 9421 has the same header and one more."""
    names = {name.lower() for name, _ in headers}
    return "signature" in names and "signature-input" not in names


def find(headers: Headers) -> FoundCavage:
    """Read the Signature header; raises Malformed("SIGNATURE_MALFORMED")."""
    values = _values(headers, "signature")
    if len(values) != 1:
        raise _malformed("there is not one Signature header")
    parameters = _parameters(values[0])
    missing = [name for name in _REQUIRED if not parameters.get(name)]
    if missing:
        raise _malformed(f"the Signature header has no {', '.join(missing)}")
    if not is_identifier(parameters["keyId"], IDENTIFIER_MAX):
        raise _malformed("its keyId is too long, or holds what is not shown")
    listed = tuple(parameters["headers"].lower().split(" "))
    if len(listed) != len(set(listed)) or "" in listed:
        raise _malformed("it lists a header twice, or spaces")
    try:
        signature = base64.b64decode(parameters["signature"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed("its signature is not base64") from error
    return FoundCavage(parameters["keyId"], parameters.get("algorithm", ""), listed, signature)


def verify(message: Message, key: CavageKey, server: str, *, now: float) -> VerifiedCavage:
    """Verify the signature on `message`, which speaks for `server`, with the `key` that `server` publishes.

    `now` is in seconds since the epoch. Host and path are those of `message.target_uri`, whatever the Host header
    says. Raises Malformed("SIGNATURE_MALFORMED") and SignatureInvalid: COMPONENT_MISSING, KEYID_MISMATCH,
    KEY_NOT_FOUND, DATE_INVALID, SIGNATURE_EXPIRED, SIGNATURE_IN_FUTURE, CONTENT_LENGTH_MISMATCH, MALFORMED_DIGEST,
    NO_SECURE_DIGEST, DIGEST_MISMATCH, SIGNATURE_INVALID.
    """
    found = find(message.headers)
    missing = [name for name in COVERED if name not in found.headers]
    if missing:
        raise SignatureInvalid("COMPONENT_MISSING", f"the signature does not cover {', '.join(missing)}")
    base = _signature_base(message.method, message.target_uri, message.headers, found.headers)
    try:
        _check_key(found, key, server)
        _check_date(message.headers, now)
        _check_body(message)
        _check_signature(found, key, base)
    except SignatureInvalid as error:
        error.signature_base = _without_credentials(base)
        raise
    name = key.key_id.encode() + b"\0" + found.signature
    return VerifiedCavage(key, hashlib.sha256(name).digest())


def _check_key(found: FoundCavage, key: CavageKey, server: str) -> None:
    """The key is the one published there, and its name is of that host, port included (peers.md section 6)."""
    if _server_of(found.key_id) != server:
        raise SignatureInvalid("KEYID_MISMATCH", f"the key {found.key_id!r} is not named after {server}")
    if found.key_id != key.key_id:
        raise SignatureInvalid("KEY_NOT_FOUND", f"{server} publishes {key.key_id!r}, not {found.key_id!r}")


def _check_date(headers: Headers, now: float) -> None:
    try:
        sent = datetime.strptime(_one(headers, "date"), _DATE).replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise SignatureInvalid("DATE_INVALID", "Date is no date of RFC 9110") from error
    if now - sent > FRESH_SECONDS:
        raise SignatureInvalid("SIGNATURE_EXPIRED", f"the signature is {now - sent:.0f} s old")
    if sent - now > AHEAD_SECONDS:
        raise SignatureInvalid("SIGNATURE_IN_FUTURE", f"the signature was made {sent - now:.0f} s ahead of our clock")


def _check_body(message: Message) -> None:
    if _one(message.headers, "content-length") != str(len(message.body)):
        raise SignatureInvalid("CONTENT_LENGTH_MISMATCH", "Content-Length is not the length of the body")
    known = 0
    for member in _one(message.headers, "digest").split(","):
        name, _, value = member.strip(" \t").partition("=")
        algorithm = _DIGESTS.get(name.upper())
        if algorithm is None:
            continue
        try:
            digest = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise SignatureInvalid("MALFORMED_DIGEST", f"the {name} digest is not base64") from error
        if not hmac.compare_digest(digest, hashlib.new(algorithm, message.body).digest()):
            raise SignatureInvalid("DIGEST_MISMATCH", f"the {name} digest is not that of the body")
        known += 1
    if not known:
        raise SignatureInvalid("NO_SECURE_DIGEST", f"no digest by one of {', '.join(_DIGESTS)}")


def _check_signature(found: FoundCavage, key: CavageKey, base: str) -> None:
    if not base.isascii():
        raise SignatureInvalid("SIGNATURE_INVALID", "what is signed is not ASCII")
    try:
        key.key.verify(found.signature, base.encode(), PKCS1v15(), _HASHES.get(found.algorithm, _OTHER_HASH))
    except InvalidSignature as error:
        reason = f"the signature is not one of this request by {key.key_id!r}"
        raise SignatureInvalid("SIGNATURE_INVALID", reason) from error


def _signature_base(method: str, target_uri: str, headers: Headers, covered: tuple[str, ...]) -> str:
    """Return what is signed. Host is that of the URI; the target is its path and query, byte for byte."""
    parts = urlsplit(target_uri)
    host = _sent_host(parts)
    lines = [f"{TARGET}: {method.lower()} {target_uri.partition('://')[2].removeprefix(parts.netloc) or '/'}"]
    lines += [
        f"{name}: {host if name == 'host' else _one(headers, name)}" for name in covered if name != TARGET
    ]  # Nextcloud puts the target first, wherever it is listed
    return "\n".join(lines)


def _sent_host(parts: SplitResult) -> str:
    """Return the authority as a client sends it in Host: lower case, the port only if it is not the scheme's own."""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return host if parts.port in (None, _PORTS.get(parts.scheme)) else f"{host}:{parts.port}"


def _one(headers: Headers, name: str) -> str:
    values = _values(headers, name)
    if not values:
        raise SignatureInvalid("COMPONENT_MISSING", f"{name} is covered, but not there")
    return ", ".join(values)


def _values(headers: Headers, name: str) -> list[str]:
    return [text.strip(" \t") for key, text in headers if key.lower() == name]


def _parameters(header: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    position = 0
    while position < len(header):
        match = _PARAMETER.match(header, position)
        if match is None:
            raise _malformed('it is no list of name="value"')
        if match[1] in parameters:
            raise _malformed(f"it names {match[1][:50]} twice")
        parameters[match[1]] = match[2] if match[3] is None else match[3]
        position = match.end()
    return parameters


def _server_of(key_id: str) -> str | None:
    try:
        return normalise_server(urlsplit(key_id).netloc)
    except (ValueError, Malformed):
        return None


def _public_key(key_id: str, pem: str) -> RSAPublicKey:
    def unusable(reason: str) -> SignatureInvalid:
        return SignatureInvalid("KEY_UNUSABLE", f"{key_id!r}: {reason}")

    if len(pem) > PEM_MAX:
        raise unusable(f"a PEM text of more than {PEM_MAX} characters")
    try:
        key: Any = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise unusable("no public key in PEM form") from error
    if not isinstance(key, RSAPublicKey):
        raise unusable("not an RSA key")
    if key.key_size not in RSA_BITS or key.public_numbers().e.bit_length() > RSA_EXPONENT_BITS:
        raise unusable(f"an RSA key of {key.key_size} bits")
    return key


def _without_credentials(base: str) -> str:
    lines = (line.partition(": ") for line in base.split("\n"))
    return "\n".join(f"{name}: ***" if name in CREDENTIALS else f"{name}{colon}{text}" for name, colon, text in lines)


def _malformed(reason: str) -> Malformed:
    return Malformed("SIGNATURE_MALFORMED", reason)
