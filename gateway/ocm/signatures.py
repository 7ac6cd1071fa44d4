"""HTTP Message Signatures, RFC 9421, in the profile of the draft (draft-07, HTTP Message Signatures).

A verifier first asks `find_signature` whether there is one and whose, then gets the keys of the host that the payload
speaks for, then calls `verify`. What counts, and whose keys to take, never comes from the signature itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import http_sf
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureAlgorithm,
    HTTPSignatureKeyResolver,
    InvalidSignature,
)
from http_message_signatures.exceptions import HTTPMessageSignaturesException

from gateway.ocm.digests import content_digest, verify_content_digest
from gateway.ocm.errors import Malformed, SignatureInvalid
from gateway.ocm.keys import JWKSet, PublicKey, SigningKey

TAG = "ocm"
LABEL = "ocm"  # of ours; a peer may use any
COMPONENTS = ("@method", "@target-uri", "content-digest", "content-length")
FRESH_SECONDS = 300  # how old `created` may be
AHEAD_SECONDS = 60  # how far the peer's clock may be before ours

CREDENTIALS = ("authorization", "proxy-authorization", "cookie")  # never logged, not even in a signature base

Headers: TypeAlias = Sequence[tuple[str, str]]
Evidence: TypeAlias = Literal["rfc9421", "labelled"]


@dataclass(frozen=True, slots=True)
class Message:
    """A request as it was sent or is to be sent.

    `target_uri` is the configured origin and the raw request target, never rebuilt from Host or X-Forwarded headers.
    """

    method: str
    target_uri: str
    headers: Headers = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class FoundSignature:
    """The signature that OCM looks at, before it is verified: nothing in it is proven yet."""

    label: str
    evidence: Evidence
    key_id: str | None
    components: tuple[str, ...]  # those that are covered as bare identifiers
    parameters: Mapping[str, object]
    signature_input: str = field(repr=False)  # the member alone, as a header
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class VerifiedRequest:
    """Proof that the holder of `key_id` signed this request; made by `verify` only."""

    key_id: str
    created: int
    evidence: Evidence
    signature_hash: bytes  # the same for every form in which this signature can be written

    @property
    def tagged(self) -> bool:
        """Tell whether it is a signature of the draft; else it is one of the drafts up to 06, which prove less."""
        return self.evidence == "rfc9421"


def sign(message: Message, key: SigningKey, created: int, *, nonce: str | None = None) -> dict[str, str]:
    """Return the headers that sign `message`: Content-Digest, Content-Length, Signature-Input, Signature.

    `created` is in seconds since the epoch; a `nonce` (RFC 9421 section 2.3) makes two equal requests of one second
    differ, as Ed25519 gives them one signature and a verifier would take the second for a replay. A component that
    the message lacks cannot be missing: all four are made here. Raises ValueError if the method is not upper-case or
    the URI not absolute.
    """
    headers = {"Content-Digest": content_digest(message.body), "Content-Length": str(len(message.body))}
    signer = HTTPMessageSigner(signature_algorithm=key.algorithm.scheme, key_resolver=_OneKey(key.private_key))
    try:
        signer.sign(
            _LibraryMessage(message.method, message.target_uri, headers),
            key_id=key.kid,
            created=datetime.fromtimestamp(created, UTC),
            nonce=nonce,
            label=LABEL,
            tag=TAG,
            include_alg=key.algorithm.http_name is not None,
            covered_component_ids=COMPONENTS,
            use_existing_digest=True,
        )
    except HTTPMessageSignaturesException as error:
        raise ValueError(f"a request to {message.target_uri!r} cannot be signed: {error}") from error
    return headers


def find_signature(headers: Headers, *, accept_labelled: bool = False) -> FoundSignature | None:
    """Return the one signature that carries tag="ocm"; None for a request that is unsigned to OCM.

    Labels and all other signatures are ignored. With `accept_labelled`, a signature without a tag counts if its label
    is `ocm` and it covers `date`, as in the drafts up to 06. Raises SignatureInvalid: SIGNATURE_MALFORMED,
    SIGNATURE_AMBIGUOUS if there are several.
    """
    inputs = _dictionary(headers, "signature-input")
    tagged = [label for label, (_, parameters) in inputs.items() if _is_string(parameters.get("tag"), TAG)]
    if len(tagged) > 1:
        raise SignatureInvalid("SIGNATURE_AMBIGUOUS", f'{len(tagged)} signatures carry tag="ocm"')
    if tagged:
        return _found(headers, tagged[0], inputs[tagged[0]], "rfc9421")
    components, parameters = inputs.get(LABEL, ([], {}))
    if accept_labelled and "tag" not in parameters and isinstance(components, list) and "date" in _bare(components):
        return _found(headers, LABEL, inputs[LABEL], "labelled")
    return None


def verify(message: Message, keys: JWKSet, *, now: float, is_body_known: bool = True) -> VerifiedRequest:
    """Verify the one OCM signature of `message` with the keys of the host that its payload speaks for.

    `now` is in seconds since the epoch; a body that is not known any more is not compared with its digest.
    Signatures of the drafts up to 06 are verified, too: a caller that does not take them looks at `tagged`.

    Raises SignatureInvalid (draft-07, Verification Requirements): SIGNATURE_REQUIRED, SIGNATURE_MALFORMED,
    SIGNATURE_AMBIGUOUS, COMPONENT_MISSING, CREATED_MISSING, KEYID_MISSING, SIGNATURE_EXPIRED, SIGNATURE_IN_FUTURE,
    KEY_NOT_FOUND, KEY_UNUSABLE, ALG_MISMATCH, CONTENT_LENGTH_MISMATCH, DIGEST_MISSING,
    MALFORMED_DIGEST, NO_SECURE_DIGEST, DIGEST_MISMATCH, SIGNATURE_INVALID.
    """
    found = find_signature(message.headers, accept_labelled=True)
    if found is None:
        raise SignatureInvalid("SIGNATURE_REQUIRED", 'no signature carries tag="ocm"')
    try:
        _check_components(found)
        created = _check_times(found, now)
        key = _choose_key(found, keys)
        if is_body_known:
            _check_body(message)
        _check_signature(message, found, key)
    except SignatureInvalid as error:
        error.signature_base = _signature_base(message, found)
        raise
    return VerifiedRequest(key.kid, created, found.evidence, _signature_hash(found, key))


def _check_components(found: FoundSignature) -> None:
    missing = [component for component in COMPONENTS if found.components.count(component) != 1]
    if missing:
        raise SignatureInvalid("COMPONENT_MISSING", f"the signature does not cover {', '.join(missing)}")


def _check_times(found: FoundSignature, now: float) -> int:
    created, expires = found.parameters.get("created"), found.parameters.get("expires")
    if type(created) is not int:
        raise SignatureInvalid("CREATED_MISSING", "the signature has no created, or it is no integer")
    if now - created > FRESH_SECONDS:
        raise SignatureInvalid("SIGNATURE_EXPIRED", f"the signature is {now - created:.0f} s old")
    if created - now > AHEAD_SECONDS:
        raise SignatureInvalid(
            "SIGNATURE_IN_FUTURE", f"the signature was made {created - now:.0f} s ahead of our clock"
        )
    if expires is not None and (type(expires) is not int or expires <= now):
        raise SignatureInvalid("SIGNATURE_EXPIRED", "the signature has expired by its own expires")
    return created


def _choose_key(found: FoundSignature, keys: JWKSet) -> PublicKey:
    if found.key_id is None:
        raise SignatureInvalid("KEYID_MISSING", "the signature has no keyid, or it is no string")
    key = keys.get(found.key_id)
    if key is None:
        if found.key_id in keys.unusable:
            raise SignatureInvalid("KEY_UNUSABLE", f"{found.key_id!r}: {keys.unusable[found.key_id]}")
        raise SignatureInvalid("KEY_NOT_FOUND", f"no key of the signer is called {found.key_id!r}")
    name = found.parameters.get("alg")
    if name is not None and not (key.algorithm.http_name and _is_string(name, key.algorithm.http_name)):
        raise SignatureInvalid("ALG_MISMATCH", f"alg is {str(name)[:50]!r}, and the key's algorithm is {key.alg}")
    return key


def _check_body(message: Message) -> None:
    if _joined(message.headers, "content-length") != str(len(message.body)):
        raise SignatureInvalid("CONTENT_LENGTH_MISMATCH", "Content-Length is not the length of the body")
    digest = _joined(message.headers, "content-digest")
    if digest is None:
        raise SignatureInvalid("DIGEST_MISSING", "Content-Digest is covered, but not there")
    try:
        verify_content_digest(digest, message.body)
    except Malformed as error:
        raise SignatureInvalid(error.code, str(error)) from error


def _check_signature(message: Message, found: FoundSignature, key: PublicKey) -> None:
    try:
        _let_verify(key.algorithm.scheme, key.key, message, found)
    except (HTTPMessageSignaturesException, ValueError) as error:
        why = f": {error}" if str(error) else ""  # the library has a reason unless it is a plain mismatch
        reason = f"the signature is not one of this request by {key.kid!r}{why}"
        raise SignatureInvalid("SIGNATURE_INVALID", reason) from error


def _signature_base(message: Message, found: FoundSignature) -> str | None:
    """Return what a signature is compared with, which is what one has to look at; None if it cannot be put together."""
    algorithm = type("Revealing", (_Revealing,), {"algorithm_id": found.parameters.get("alg")})
    try:
        _let_verify(algorithm, "any", message, found)
    except _Revealed as error:
        return _without_credentials(error.signature_base)
    except (HTTPMessageSignaturesException, ValueError):
        return None
    return None


def _let_verify(algorithm: type[HTTPSignatureAlgorithm], key: Any, message: Message, found: FoundSignature) -> None:
    """Verify a copy of the message that has no other signature: the library refuses it for the faults of others."""
    value = http_sf.ser({found.label: found.signature})
    headers = [(name, text) for name, text in message.headers if name.lower() not in ("signature-input", "signature")]
    reduced = _Pairs([*headers, ("Signature-Input", found.signature_input), ("Signature", value)])
    verifier = _Verifier(signature_algorithm=algorithm, key_resolver=_OneKey(key))
    verifier.verify(_LibraryMessage(message.method, message.target_uri, reduced), max_age=None)


def _signature_hash(found: FoundSignature, key: PublicKey) -> bytes:
    """Return the name under which this signature is remembered against replay.

    Whoever has an ECDSA signature (r, s) can also write it as (r, n - s): both have to have one name.
    """
    value = found.signature
    if isinstance(key.key, EllipticCurvePublicKey):
        half = len(value) // 2
        s = int.from_bytes(value[half:], "big")
        value = value[:half] + min(s, key.key.curve.group_order - s).to_bytes(half, "big")
    return hashlib.sha256(key.kid.encode() + b"\0" + value).digest()


def _found(headers: Headers, label: str, member: tuple[Any, Any], evidence: Evidence) -> FoundSignature:
    components, parameters = member
    signature, _ = _dictionary(headers, "signature").get(label, (None, None))
    if not isinstance(components, list) or not isinstance(signature, bytes):
        raise SignatureInvalid("SIGNATURE_MALFORMED", f"{label} is not a list of components and a byte sequence")
    key_id = parameters.get("keyid")
    return FoundSignature(
        label=label,
        evidence=evidence,
        key_id=key_id if isinstance(key_id, str) else None,
        components=_bare(components),
        parameters=MappingProxyType(parameters),
        signature_input=http_sf.ser({label: member}),
        signature=signature,
    )


def _bare(components: list[Any]) -> tuple[str, ...]:
    """Return the identifiers that have no parameters: `;req`, `;key` and their like cover something else."""
    return tuple(name for name, parameters in components if isinstance(name, str) and not parameters)


def _dictionary(headers: Headers, name: str) -> dict[str, tuple[Any, Any]]:
    """Return a dictionary header, its field lines joined (RFC 9421 section 2.1); empty if it is not there."""
    text = _joined(headers, name)
    if text is None:
        return {}

    def refuse(label: str, context: str) -> None:
        if context == "dictionary":
            raise ValueError(f"the label {label} is used twice")

    try:
        members = http_sf.parse(text.encode("ascii"), tltype="dictionary", on_duplicate_key=refuse)
    except (ValueError, OverflowError) as error:
        raise SignatureInvalid("SIGNATURE_MALFORMED", f"{name} is no dictionary of RFC 9651") from error
    assert isinstance(members, dict)
    return dict(members)  # type: ignore[arg-type] # the parser gives every member with its parameters


def _joined(headers: Headers, name: str) -> str | None:
    lines = [text.strip(" \t") for key, text in headers if key.lower() == name]
    return ", ".join(lines) if lines else None


def _is_string(value: object, wanted: str) -> bool:
    return isinstance(value, str) and value == wanted  # a token of RFC 9651 is another type, and compares as equal


def _without_credentials(signature_base: bytes) -> str:
    lines = signature_base.decode("ascii", "replace").split("\n")
    return "\n".join(line if not line.startswith(_MASKED) else f"{line.partition(':')[0]}: ***" for line in lines)


_MASKED = tuple(f'"{name}"' for name in CREDENTIALS)


class _Pairs(list[tuple[str, str]]):
    """Header fields with repetition, in the form that the library reads."""

    def items(self) -> list[tuple[str, str]]:
        return self


@dataclass(frozen=True, slots=True)
class _LibraryMessage:
    method: str
    url: str
    headers: _Pairs | dict[str, str]


class _OneKey(HTTPSignatureKeyResolver):
    """The key is chosen before the library is called; it has no choice."""

    def __init__(self, key: Any) -> None:
        self._key = key

    def resolve_public_key(self, key_id: str) -> Any:
        return self._key

    def resolve_private_key(self, key_id: str) -> Any:
        return self._key


class _Verifier(HTTPMessageVerifier):
    def validate_created_and_expires(self, sig_input: Any, max_age: Any = None) -> None:
        """Do nothing: `_check_times` has done it, with the time as an argument and the window of the draft."""


class _Revealed(InvalidSignature):
    """Brings a signature base out of the library."""

    def __init__(self, signature_base: bytes) -> None:
        super().__init__("not verified, only looked at")
        self.signature_base = signature_base


class _Revealing(HTTPSignatureAlgorithm):
    """Takes any signature for wrong, and says what it would have been compared with."""

    def __init__(self, public_key: Any = None, private_key: Any = None, password: Any = None) -> None:
        """Take anything for a key."""

    def verify(self, signature: bytes, message: bytes) -> None:
        raise _Revealed(message)
