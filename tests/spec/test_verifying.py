"""Verifying signatures (draft-07, Verification Requirements; wire.md, Verifying)."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import http_sf
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from hypothesis import given
from hypothesis import strategies as st

from gateway.ocm.digests import content_digest
from gateway.ocm.errors import SignatureInvalid
from gateway.ocm.keys import JWKSet, SigningKey
from gateway.ocm.signatures import AHEAD_SECONDS, FRESH_SECONDS, Message, find_signature, sign, verify

CREATED = 1_785_060_500
URL = "https://receiver.example/ocm/shares"
BODY = b'{"shareWith": "marie@receiver.example"}'
MANDATORY = ("@method", "@target-uri", "content-digest", "content-length")
DATE = ("Date", "Sun, 26 Jul 2026 10:08:20 GMT")


def signed(key: SigningKey, created: int = CREATED, body: bytes = BODY) -> Message:
    """Return a request as we send it."""
    return replace(
        Message("POST", URL, (), body),
        headers=tuple(sign(Message("POST", URL, (), body), key, created=created).items()),
    )


def crafted(
    key: SigningKey,
    *,
    covered: tuple[Any, ...] = MANDATORY,
    label: str = "sig1",
    headers: tuple[tuple[str, str], ...] = (),
    **parameters: Any,
) -> Message:
    """Return a request with an honest signature over whatever is asked for; None takes a parameter out.

    Written from RFC 9421 section 2.5, not with the code under test.
    """
    values = {
        "@method": "POST",
        "@target-uri": URL,
        "content-digest": content_digest(BODY),
        "content-length": str(len(BODY)),
    } | {name.lower(): value for name, value in headers}
    chosen: dict[str, Any] = {"created": CREATED, "keyid": key.kid, "tag": "ocm"} | parameters
    components = [name if isinstance(name, tuple) else (name, {}) for name in covered]
    member = (components, {name: value for name, value in chosen.items() if value is not None})
    lines = [f"{http_sf.ser((name, extra))}: {values[name]}" for name, extra in components]
    params = http_sf.ser({"x": member})[2:]
    base = "\n".join([*lines, f'"@signature-params": {params}']).encode()
    signature = key.algorithm.scheme(private_key=key.private_key).sign(base)
    fields = (
        ("Content-Digest", content_digest(BODY)),
        ("Content-Length", str(len(BODY))),
        ("Signature-Input", f"{label}={params}"),
        ("Signature", http_sf.ser({label: signature})),
    )
    return Message("POST", URL, (*headers, *fields), BODY)


def refused(message: Message, keys: JWKSet, *, now: float = CREATED) -> str:
    with pytest.raises(SignatureInvalid) as caught:
        verify(message, keys, now=now)
    assert caught.value.status_hint == 401
    return caught.value.code


def without(message: Message, name: str) -> Message:
    return replace(message, headers=tuple(pair for pair in message.headers if pair[0].lower() != name))


def with_header(message: Message, name: str, value: str) -> Message:
    return replace(without(message, name.lower()), headers=(*without(message, name.lower()).headers, (name, value)))


# --- what verifies --------------------------------------------------------------------------------------------------


def test_the_draft_s_vector_verifies(vectors: dict[str, Any]) -> None:
    """draft-07, Appendix B: valid within the freshness window of its created."""
    vector = vectors["share_creation_notification"]
    message = Message(vector["method"], vector["target_uri"], tuple(vector["headers"].items()), vector["body"].encode())
    keys = JWKSet.parse(vectors["jwks"])
    verified = verify(message, keys, now=CREATED + 10)
    assert (verified.key_id, verified.created, verified.tagged) == ("sender.example.org#key1", CREATED, True)
    assert refused(message, keys, now=CREATED + FRESH_SECONDS + 1) == "SIGNATURE_EXPIRED"


@pytest.mark.parametrize("name", ["ed25519", "es256"])
def test_an_honest_signature_verifies(name: str, published: JWKSet, request: pytest.FixtureRequest) -> None:
    key = request.getfixturevalue(name)
    assert verify(crafted(key), published, now=CREATED).key_id == key.kid


def test_any_label_is_allowed(ed25519: SigningKey, published: JWKSet) -> None:
    """MAY (draft-07, Signing Requirements): the label is any value and not significant."""
    for label in ("sig1", "ocm", "*", "a-b_c.d"):
        assert verify(crafted(ed25519, label=label), published, now=CREATED).tagged


def test_date_may_be_covered(ed25519: SigningKey, published: JWKSet) -> None:
    """Accept it when covered (wire.md, Signing)."""
    message = crafted(ed25519, covered=(*MANDATORY, "date"), headers=(DATE,))
    assert verify(message, published, now=CREATED).tagged


def test_more_may_be_covered_than_is_mandatory(ed25519: SigningKey, published: JWKSet) -> None:
    """MUST cover at least (draft-07, Signing Requirements); the order is the signer's."""
    covered = ("content-type", *reversed(MANDATORY))
    message = crafted(ed25519, covered=covered, headers=(("Content-Type", "application/json"),))
    assert verify(message, published, now=CREATED).tagged


def test_other_signatures_are_ignored_even_malformed_ones(ed25519: SigningKey, published: JWKSet) -> None:
    """MUST NOT (draft-07, Verification Requirements): signatures without the tag are not processed."""
    message = crafted(ed25519)
    foreign = (
        (
            "Signature-Input",
            'proxy=("@authority");created=1, odd=7, none=("x";bs);tag="other", token=("@path");tag=ocm',
        ),
        ("Signature", "proxy=:AAAA:, odd=?1"),
    )
    assert verify(replace(message, headers=(*foreign, *message.headers)), published, now=CREATED).tagged
    assert verify(replace(message, headers=(*message.headers, *foreign)), published, now=CREATED).tagged


def test_digests_that_are_not_known_are_ignored(ed25519: SigningKey, published: JWKSet) -> None:
    """Unknown digests beside a valid one do not matter (wire.md, Verifying)."""
    digest = f"unixsum=:AAA=:, {content_digest(BODY)}, {content_digest(BODY, 'sha-512')}"
    message = crafted(ed25519, headers=(("Content-Digest", digest),))
    message = replace(message, headers=(message.headers[0], *message.headers[2:]))
    assert verify(message, published, now=CREATED).tagged


def test_a_digest_in_several_field_lines_is_one_dictionary(ed25519: SigningKey, published: JWKSet) -> None:
    """RFC 9421 section 2.1: field lines are combined with a comma and a space."""
    two = (content_digest(BODY), content_digest(BODY, "sha-512"))
    message = crafted(ed25519, headers=(("Content-Digest", ", ".join(two)),))
    lines = tuple(("content-digest", value) for value in two)
    assert verify(replace(message, headers=(*lines, *message.headers[2:])), published, now=CREATED).tagged


def test_alg_may_be_there_or_not(ed25519: SigningKey, published: JWKSet) -> None:
    """OPTIONAL (draft-07, Keys and Algorithms): alg."""
    assert verify(crafted(ed25519, alg="ed25519"), published, now=CREATED).tagged
    assert verify(crafted(ed25519, alg=None), published, now=CREATED).tagged


def test_no_library_warning_is_let_out(ed25519: SigningKey, published: JWKSet) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verify(crafted(ed25519), published, now=CREATED)
        verify(
            crafted(ed25519, tag=None, label="ocm", covered=(*MANDATORY, "date"), headers=(DATE,)),
            published,
            now=CREATED,
        )


class _Foreign:
    """A signer with a key of a kind that we do not sign with, for `crafted`."""

    def __init__(self, kid: str, sign_base: Callable[[bytes], bytes]) -> None:
        self.kid = kid
        self.private_key = None
        self.algorithm = self
        self._sign_base = sign_base

    def scheme(self, private_key: None) -> _Foreign:
        return self

    def sign(self, base: bytes) -> bytes:
        return self._sign_base(base)


def number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


def _rsa_signer(alg: str) -> tuple[_Foreign, JWKSet]:
    private = rsa.generate_private_key(65537, 2048)
    numbers = private.public_key().public_numbers()
    scheme = {
        "RS256": (padding.PKCS1v15(), SHA256()),
        "RS512": (padding.PKCS1v15(), SHA512()),
        "PS512": (padding.PSS(padding.MGF1(SHA512()), 64), SHA512()),
    }[alg]
    jwk = {"kty": "RSA", "kid": "r", "alg": alg, "n": number(numbers.n), "e": number(numbers.e)}
    return _Foreign("r", lambda base: private.sign(base, *scheme)), JWKSet.parse({"keys": [jwk]})


def _p384_signer() -> tuple[_Foreign, JWKSet]:
    private = ec.generate_private_key(ec.SECP384R1())
    numbers = private.public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(value.to_bytes(48, "big")).decode() for value in (numbers.x, numbers.y))

    def sign_base(base: bytes) -> bytes:
        r, s = utils.decode_dss_signature(private.sign(base, ec.ECDSA(SHA384())))
        return r.to_bytes(48, "big") + s.to_bytes(48, "big")

    return _Foreign("p", sign_base), JWKSet.parse(
        {"keys": [{"kty": "EC", "crv": "P-384", "kid": "p", "alg": "ES384", "x": x, "y": y}]}
    )


@pytest.mark.parametrize(
    ("signer", "http_name"),
    [
        (lambda: _rsa_signer("RS256"), "rsa-v1_5-sha256"),
        (lambda: _rsa_signer("PS512"), "rsa-pss-sha512"),
        (_p384_signer, "ecdsa-p384-sha384"),
    ],
    ids=["RS256", "PS512", "ES384"],
)
def test_the_algorithms_of_other_peers_verify(signer: Callable[[], Any], http_name: str) -> None:
    """MUST (draft-07, Keys and Algorithms): the algorithm is that of the JWK identified by keyid."""
    key, keys = signer()
    assert verify(crafted(key), keys, now=CREATED).tagged
    assert verify(crafted(key, alg=http_name), keys, now=CREATED).tagged
    assert refused(crafted(key, alg="ed25519"), keys) == "ALG_MISMATCH"
    other, _ = signer()
    assert refused(crafted(other), keys) == "SIGNATURE_INVALID"


def test_an_algorithm_without_counterpart_forbids_alg() -> None:
    """MUST (draft-07, Keys and Algorithms): without a counterpart in the registry, alg is omitted."""
    key, keys = _rsa_signer("RS512")
    assert verify(crafted(key), keys, now=CREATED).tagged
    for name in ("", "rsa-v1_5-sha512", "rsa-v1_5-sha256", "RS512"):
        assert refused(crafted(key, alg=name), keys) == "ALG_MISMATCH"


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("component", MANDATORY)
def test_every_mandatory_component_is_covered(ed25519: SigningKey, published: JWKSet, component: str) -> None:
    """MUST (draft-07, Verification Requirements): reject signatures that omit a mandatory component."""
    covered = tuple(name for name in MANDATORY if name != component)
    assert refused(crafted(ed25519, covered=covered), published) == "COMPONENT_MISSING"
    assert refused(crafted(ed25519, covered=()), published) == "COMPONENT_MISSING"


@pytest.mark.parametrize("parameter", ["req", "key", "bs", "sf", "tr"])
@pytest.mark.parametrize("component", MANDATORY)
def test_a_component_counts_only_as_a_bare_identifier(
    ed25519: SigningKey, published: JWKSet, component: str, parameter: str
) -> None:
    """A component counts only as a bare identifier (wire.md, Verifying): no ;req ;key ;bs ;sf ;tr."""
    extra = {parameter: "sha-256" if parameter == "key" else True}
    covered = tuple((name, extra) if name == component else name for name in MANDATORY)
    assert refused(crafted(ed25519, covered=covered), published) == "COMPONENT_MISSING"


@pytest.mark.parametrize("component", MANDATORY)
def test_a_component_counts_once(ed25519: SigningKey, published: JWKSet, component: str) -> None:
    """A component counts only once (wire.md, Verifying; RFC 9421 section 2)."""
    assert refused(crafted(ed25519, covered=(*MANDATORY, component)), published) == "COMPONENT_MISSING"


@pytest.mark.parametrize("created", [None, "1785060500", True, 1785060500.0])
def test_created_is_there_and_an_integer(ed25519: SigningKey, published: JWKSet, created: object) -> None:
    """MUST (draft-07, Verification Requirements): reject signatures that omit created."""
    message = crafted(ed25519, created=created if not isinstance(created, float) else None)
    if isinstance(created, float):
        message = with_header(
            message, "Signature-Input", f"{dict(message.headers)['Signature-Input']};created=1785060500.0"
        )
    assert refused(message, published) == "CREATED_MISSING"


@pytest.mark.parametrize("keyid", [None, 7, True, b"x"])
def test_keyid_is_there_and_a_string(ed25519: SigningKey, published: JWKSet, keyid: object) -> None:
    """MUST (draft-07, Verification Requirements): reject signatures that omit keyid."""
    assert refused(crafted(ed25519, keyid=keyid), published) == "KEYID_MISSING"


def test_created_is_within_the_freshness_window(ed25519: SigningKey, published: JWKSet) -> None:
    """MUST (draft-07, Verification Requirements): not older than the window (300 s), not more than 60 s ahead."""
    message = crafted(ed25519)
    assert verify(message, published, now=CREATED + FRESH_SECONDS)
    assert refused(message, published, now=CREATED + FRESH_SECONDS + 1) == "SIGNATURE_EXPIRED"
    assert verify(message, published, now=CREATED - AHEAD_SECONDS)
    assert refused(message, published, now=CREATED - AHEAD_SECONDS - 1) == "SIGNATURE_IN_FUTURE"
    assert (FRESH_SECONDS, AHEAD_SECONDS) == (300, 60)


def test_a_signature_expires_by_its_own_expires(ed25519: SigningKey, published: JWKSet) -> None:
    """Refuse: `expires` past (wire.md, Verifying)."""
    message = crafted(ed25519, expires=CREATED + 20)
    assert verify(message, published, now=CREATED + 19)
    assert refused(message, published, now=CREATED + 20) == "SIGNATURE_EXPIRED"
    assert refused(crafted(ed25519, expires="soon"), published) == "SIGNATURE_EXPIRED"


def test_the_key_is_one_that_the_signer_publishes(ed25519: SigningKey, published: JWKSet) -> None:
    """MUST (draft-07, Verification Requirements): reject if no kid equals the keyid."""
    assert refused(crafted(ed25519, keyid="https://sender.example/ocm#ed25519-2"), published) == "KEY_NOT_FOUND"
    assert refused(crafted(ed25519, keyid=ed25519.kid.upper()), published) == "KEY_NOT_FOUND"
    assert refused(crafted(ed25519), JWKSet(())) == "KEY_NOT_FOUND"


@pytest.mark.parametrize("alg", [None, "none", "HS256", "ES256"])
def test_the_key_carries_an_acceptable_algorithm(ed25519: SigningKey, alg: str | None) -> None:
    """MUST (draft-07, Verification Requirements): reject if the JWK carries no acceptable alg."""
    keys = JWKSet.parse({"keys": [ed25519.public_jwk() | {"alg": alg}]})
    assert refused(crafted(ed25519), keys) == "KEY_UNUSABLE"


@pytest.mark.parametrize("alg", ["ecdsa-p256-sha256", "hmac-sha256", "Ed25519", "ED25519", "", 5, True])
def test_alg_names_the_algorithm_of_the_key(ed25519: SigningKey, published: JWKSet, alg: object) -> None:
    """MUST (draft-07, Keys and Algorithms): reject if alg denotes another algorithm than the JWK."""
    assert refused(crafted(ed25519, alg=alg), published) == "ALG_MISMATCH"


def test_more_than_one_tagged_signature_is_refused(ed25519: SigningKey, es256: SigningKey, published: JWKSet) -> None:
    """MUST (draft-07, Verification Requirements): more than one tag="ocm" rejects the entire message."""
    one, two = crafted(ed25519, label="a"), crafted(es256, label="b")
    both = replace(one, headers=(*one.headers, *two.headers[-2:]))
    assert refused(both, published) == "SIGNATURE_AMBIGUOUS"
    with pytest.raises(SignatureInvalid):
        find_signature(both.headers)


def test_a_label_that_is_used_twice_is_refused(ed25519: SigningKey, published: JWKSet) -> None:
    """RFC 9421 section 4.1: labels are unique; the second would hide the first."""
    message = crafted(ed25519)
    for name in ("Signature-Input", "Signature"):
        doubled = replace(message, headers=(*message.headers, (name, dict(message.headers)[name])))
        assert refused(doubled, published) == "SIGNATURE_MALFORMED"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Signature-Input", 'sig1=("@method"'),
        ("Signature-Input", "ä"),
        ("Signature-Input", 'sig1=7;tag="ocm"'),
        ("Signature-Input", 'sig1=("@method");tag="ocm",'),
        ("Signature", "sig1"),
        ("Signature", "sig1=AAAA"),
        ("Signature", "other=:AAAA:"),
        ("Signature", "sig1=(:AAAA:)"),
        ("Signature", 'keyId="https://nc.example/ocm#signature",algorithm="rsa-sha512"'),
    ],
)
def test_malformed_signature_headers_are_refused(ed25519: SigningKey, published: JWKSet, name: str, value: str) -> None:
    """MUST (draft-07, Applicability): any signature that is present is verified; broken ones are not unsigned."""
    assert refused(with_header(crafted(ed25519), name, value), published) == "SIGNATURE_MALFORMED"


def test_a_missing_signature_header_is_refused(ed25519: SigningKey, published: JWKSet) -> None:
    assert refused(without(crafted(ed25519), "signature"), published) == "SIGNATURE_MALFORMED"


@pytest.mark.parametrize("length", ["0", "38", "040", "39, 39", "+39", "3 9", "", "٣٩"])
def test_content_length_is_that_of_the_body(ed25519: SigningKey, published: JWKSet, length: str) -> None:
    """Refuse: Content-Length != body (wire.md, Verifying)."""
    assert len(BODY) == 39
    message = crafted(ed25519, headers=(("Content-Length", length),))
    message = replace(message, headers=tuple(pair for pair in message.headers if pair != ("Content-Length", "39")))
    assert refused(message, published) == "CONTENT_LENGTH_MISMATCH"


def test_content_length_and_digest_are_there(ed25519: SigningKey, published: JWKSet) -> None:
    """Chunked bodies have no Content-Length (peers.md, section 10, trap 18)."""
    assert refused(without(crafted(ed25519), "content-length"), published) == "CONTENT_LENGTH_MISMATCH"
    assert refused(without(crafted(ed25519), "content-digest"), published) == "DIGEST_MISSING"


@pytest.mark.parametrize(
    ("digest", "code"),
    [
        (content_digest(b"other"), "DIGEST_MISMATCH"),
        (f"{content_digest(BODY)}, {content_digest(b'other', 'sha-512')}", "DIGEST_MISMATCH"),
        ("unixsum=:AAA=:", "NO_SECURE_DIGEST"),
        ("sha-256=wrong", "MALFORMED_DIGEST"),
    ],
)
def test_the_digest_is_that_of_the_body(ed25519: SigningKey, published: JWKSet, digest: str, code: str) -> None:
    """MUST (draft-07, Verification Requirements): every recognised digest matches the body."""
    message = crafted(ed25519, headers=(("Content-Digest", digest),))
    message = replace(message, headers=(message.headers[0], *message.headers[2:]))
    assert refused(message, published) == code


def test_a_signature_by_another_key_is_refused_and_its_base_is_there_for_the_log(
    ed25519: SigningKey, es256: SigningKey, published: JWKSet
) -> None:
    """The signature base must be available on failure."""
    for parameters in ({"keyid": es256.kid}, {"keyid": es256.kid, "alg": "ecdsa-p256-sha256"}):
        with pytest.raises(SignatureInvalid) as caught:
            verify(crafted(ed25519, **parameters), published, now=CREATED)
        assert caught.value.code == "SIGNATURE_INVALID"
        base = caught.value.signature_base
        assert base is not None
        assert base.splitlines()[:2] == ['"@method": POST', f'"@target-uri": {URL}']
        assert base.splitlines()[-1].startswith('"@signature-params": ("@method" "@target-uri"')


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(lambda key: signed(key, created=CREATED - 301), id="too old"),
        pytest.param(lambda key: crafted(key, alg="rsa-v1_5-sha256"), id="another algorithm"),
        pytest.param(lambda key: replace(signed(key), body=BODY + b" "), id="another body"),
    ],
)
def test_whatever_was_wrong_what_was_signed_is_there_for_the_log(
    ed25519: SigningKey, published: JWKSet, message: Callable[[SigningKey], Message]
) -> None:
    with pytest.raises(SignatureInvalid) as caught:
        verify(message(ed25519), published, now=CREATED)
    assert f'"@target-uri": {URL}\n' in str(caught.value.signature_base)


def test_credentials_in_a_signature_base_are_not_logged(ed25519: SigningKey, published: JWKSet) -> None:
    """Secrets never in logs: a peer may cover what it likes."""
    message = crafted(ed25519, covered=(*MANDATORY, "authorization"), headers=(("Authorization", "Bearer s3cret"),))
    with pytest.raises(SignatureInvalid) as caught:
        verify(replace(message, target_uri="https://other.example/"), published, now=CREATED)
    assert caught.value.signature_base is not None
    assert "s3cret" not in caught.value.signature_base
    assert '"authorization": ***' in caught.value.signature_base


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "PUT"},
        {"method": "post"},
        {"target_uri": "https://receiver.example/ocm/notifications"},
        {"target_uri": "http://receiver.example/ocm/shares"},
        {"target_uri": "https://receiver.example/ocm/shares?"},
        {"target_uri": "https://receiver.example:8443/ocm/shares"},
        {"target_uri": "not a url"},
    ],
)
def test_a_request_to_somewhere_else_is_refused(
    ed25519: SigningKey, published: JWKSet, changes: dict[str, str]
) -> None:
    """@target-uri is what the caller configured; a signature for another place does not count (wire.md, Verifying)."""
    assert refused(replace(crafted(ed25519), **changes), published) == "SIGNATURE_INVALID"


def test_the_host_header_plays_no_part(ed25519: SigningKey, published: JWKSet) -> None:
    """Never rebuilt from Host or X-Forwarded-* (wire.md, Verifying)."""
    headers = (("Host", "evil.example"), ("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Proto", "http"))
    message = crafted(ed25519)
    assert verify(replace(message, headers=(*headers, *message.headers)), published, now=CREATED).tagged


@pytest.mark.parametrize("name", ["nonce", "x-unknown"])
def test_parameters_beside_the_known_ones_are_part_of_what_is_signed(
    ed25519: SigningKey, published: JWKSet, name: str
) -> None:
    message = crafted(ed25519, **{name: "abc"})
    tampered = with_header(message, "Signature-Input", dict(message.headers)["Signature-Input"].replace("abc", "abd"))
    assert refused(tampered, published) == "SIGNATURE_INVALID"


# --- unsigned, and the drafts up to 06 ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("Signature", 'keyId="https://nc.example/ocm#signature",algorithm="rsa-sha512",signature="AA=="'),),
        (("Signature-Input", 'sig1=("@method");created=1;keyid="k"'), ("Signature", "sig1=:AAAA:")),
        (("Signature-Input", 'ocm=("@method");created=1;keyid="k";tag="other"'), ("Signature", "ocm=:AAAA:")),
        (("Signature-Input", 'sig1=("@method");tag=ocm'), ("Signature", "sig1=:AAAA:")),
        (("Signature-Input", 'sig1=("@method");tag="OCM"'), ("Signature", "sig1=:AAAA:")),
        (("Signature-Input", ""), ("Signature", "")),
    ],
)
def test_a_request_without_the_tag_is_unsigned(headers: tuple[tuple[str, str], ...], published: JWKSet) -> None:
    """A request that carries no signature with tag="ocm" is unsigned (draft-07, Verification Requirements)."""
    assert find_signature(headers) is None
    assert find_signature(headers, accept_labelled=True) is None
    assert refused(Message("POST", URL, headers, BODY), published) == "SIGNATURE_REQUIRED"


def test_what_was_found_tells_whose_keys_to_look_at(ed25519: SigningKey) -> None:
    """Known before the keys are fetched: label, keyid and covered components."""
    found = find_signature(crafted(ed25519, label="s").headers)
    assert found is not None
    assert (found.label, found.key_id, found.components) == ("s", ed25519.kid, MANDATORY)
    assert (found.evidence, found.parameters["created"]) == ("rfc9421", CREATED)


def test_a_signature_of_the_drafts_up_to_06_is_evidence_of_its_own_kind(ed25519: SigningKey, published: JWKSet) -> None:
    """Label `ocm` with `date` covered (wire.md, Older peers): verified alike, but not as a tagged one."""
    message = crafted(ed25519, tag=None, label="ocm", covered=(*MANDATORY, "date"), headers=(DATE,))
    assert find_signature(message.headers) is None
    found = find_signature(message.headers, accept_labelled=True)
    assert found is not None
    assert found.evidence == "labelled"
    verified = verify(message, published, now=CREATED)
    assert (verified.evidence, verified.tagged) == ("labelled", False)
    assert refused(with_header(message, *DATE[:1], "Mon, 27 Jul 2026 10:08:20 GMT"), published) == "SIGNATURE_INVALID"


@pytest.mark.parametrize(
    "changes",
    [{"label": "sig1"}, {"covered": MANDATORY}, {"tag": "other"}, {"covered": (*MANDATORY, ("date", {"sf": True}))}],
)
def test_only_that_label_with_date_and_without_any_tag_counts(ed25519: SigningKey, changes: dict[str, Any]) -> None:
    """A label is not signed, so as little as possible is read into it."""
    message = crafted(
        ed25519, **{"tag": None, "label": "ocm", "covered": (*MANDATORY, "date"), "headers": (DATE,)} | changes
    )
    assert find_signature(message.headers, accept_labelled=True) is None


def test_a_tagged_signature_goes_before_a_labelled_one(ed25519: SigningKey, es256: SigningKey) -> None:
    tagged = crafted(es256, label="sig1")
    labelled = crafted(ed25519, tag=None, label="ocm", covered=(*MANDATORY, "date"), headers=(DATE,))
    found = find_signature((*labelled.headers, *tagged.headers[-2:]), accept_labelled=True)
    assert found is not None
    assert (found.evidence, found.key_id) == ("rfc9421", es256.kid)


# --- replay ---------------------------------------------------------------------------------------------------------


def test_two_requests_have_two_hashes_and_one_request_has_one(ed25519: SigningKey, published: JWKSet) -> None:
    """The signature's hash is kept for the window (wire.md, Replay)."""
    first = verify(signed(ed25519), published, now=CREATED).signature_hash
    assert verify(signed(ed25519), published, now=CREATED + 5).signature_hash == first
    assert verify(signed(ed25519, created=CREATED + 1), published, now=CREATED).signature_hash != first
    assert len(first) == 32


def test_an_ecdsa_signature_written_the_other_way_is_the_same_signature(es256: SigningKey, published: JWKSet) -> None:
    """(r, n - s) verifies like (r, s): it must not pass for a new request."""
    message = signed(es256)
    raw = http_sf.parse(dict(message.headers)["Signature"].encode(), tltype="dictionary")["ocm"][0]
    order = ec.SECP256R1().group_order
    flipped = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    assert flipped != raw
    twin = with_header(message, "Signature", http_sf.ser({"ocm": flipped}))
    assert verify(twin, published, now=CREATED).signature_hash == verify(message, published, now=CREATED).signature_hash


# --- properties -----------------------------------------------------------------------------------------------------

paths = st.text("abcXYZ019-._~!$&'()*+,;=:@/", max_size=20)
queries = st.none() | st.text("abc019-._~=&/?:@", max_size=20)


@given(
    body=st.binary(max_size=100),
    path=paths,
    query=queries,
    method=st.sampled_from(["POST", "PUT", "GET", "PATCH"]),
    port=st.sampled_from(["", ":8443"]),
    name=st.sampled_from(["ed25519", "es256"]),
)
def test_what_is_signed_verifies(
    body: bytes, path: str, query: str | None, method: str, port: str, name: str, request: Any, published: JWKSet
) -> None:
    """sign -> verify holds for any body, path, query and key."""
    key = request.getfixturevalue(name)
    url = f"https://receiver.example{port}/{path}" + ("" if query is None else f"?{query}")
    headers = sign(Message(method, url, (), body), key, created=CREATED)
    assert verify(Message(method, url, tuple(headers.items()), body), published, now=CREATED).key_id == key.kid


@given(data=st.data(), name=st.sampled_from(["ed25519", "es256"]))
def test_any_changed_byte_of_what_is_covered_is_refused(data: Any, name: str, request: Any, published: JWKSet) -> None:
    """A single changed byte in method, target, digest, length, body, parameters or signature fails."""
    message = signed(request.getfixturevalue(name))
    fields = dict(message.headers)
    place = data.draw(st.sampled_from(["method", "target_uri", "body", *fields]))
    if place in fields:
        changed = with_header(message, place, data.draw(_one_other_byte(fields[place])))
    elif place == "body":
        changed = replace(message, body=data.draw(_one_other_byte(message.body.decode())).encode("latin-1"))
    else:
        changed = replace(message, **{place: data.draw(_one_other_byte(getattr(message, place)))})
    with pytest.raises(SignatureInvalid):
        verify(changed, published, now=CREATED)


def _one_other_byte(text: str) -> st.SearchStrategy[str]:
    """Return texts that differ in one character and not just in how base64 pads its last bits."""
    places = st.integers(0, len(text) - (5 if text.endswith(":") else 1))
    printable = st.integers(0x21, 0x7E).map(chr)
    return (
        st.tuples(places, printable)
        .filter(lambda drawn: text[drawn[0]] != drawn[1])
        .map(lambda drawn: text[: drawn[0]] + drawn[1] + text[drawn[0] + 1 :])
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Signature", "Signature-Input", "Content-Digest", "Content-Length", "Date"]),
            st.text(max_size=60) | st.text('sig1=("@method");created=17keyd:tagocm,?*%', max_size=60),
        ),
        max_size=6,
    )
)
def test_any_headers_are_unsigned_or_refused(published: JWKSet, headers: list[tuple[str, str]]) -> None:
    """Nothing but SignatureInvalid comes out of headers that nobody signed."""
    with pytest.raises(SignatureInvalid):
        verify(Message("POST", URL, headers, BODY), published, now=CREATED)
