"""Digest Fields, RFC 9530 (draft-07, Signing and Verification Requirements; wire.md, Verifying)."""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ocm.digests import HASHLIB_NAMES, content_digest, parse_digest, verify_content_digest
from gateway.ocm.errors import Malformed

BODY = b'{"hello": "world"}'
SHA256 = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"  # RFC 9530 appendix B.1
SHA512 = f"sha-512=:{base64.b64encode(hashlib.sha512(BODY).digest()).decode()}:"
WRONG512 = f"sha-512=:{base64.b64encode(bytes(64)).decode()}:"


def refused(header: str, body: bytes = BODY) -> str:
    with pytest.raises(Malformed) as caught:
        verify_content_digest(header, body)
    return caught.value.code


def test_the_example_of_rfc_9530_is_made_and_verified() -> None:
    """MUST (draft-07, Signing Requirements): implementations support sha-256."""
    assert content_digest(BODY) == SHA256
    assert content_digest(BODY, "sha-512") == SHA512
    verify_content_digest(SHA256, BODY)


@given(st.binary(max_size=200), st.sampled_from(sorted(HASHLIB_NAMES)))
def test_a_digest_that_is_made_verifies_and_no_other_body_does(body: bytes, algorithm: str) -> None:
    header = content_digest(body, algorithm)
    verify_content_digest(header, body)
    assert refused(header, body + b"x") == "DIGEST_MISMATCH"
    assert parse_digest(header) == {algorithm: hashlib.new(HASHLIB_NAMES[algorithm], body).digest()}


@pytest.mark.parametrize(
    "header", [f"{SHA256}, {SHA512}", f"{SHA256},\t{SHA512}", f"unixsum=:AAA=:, {SHA256}", f"x;y=1, {SHA256}"]
)
def test_several_digests_that_match_are_accepted(header: str) -> None:
    """Unknown digests are ignored."""
    verify_content_digest(header, BODY)


@pytest.mark.parametrize("header", [f"{SHA256}, {WRONG512}", f"{WRONG512}, {SHA256}", "sha-256=:AAAA:", "sha-256=::"])
def test_every_recognised_digest_matches(header: str) -> None:
    """MUST (draft-07, Verification Requirements): a single match beside a recognised mismatch is a failure."""
    assert refused(header) == "DIGEST_MISMATCH"


@pytest.mark.parametrize("header", ["", "unixsum=:AAA=:", "md5=:XrY7u+Ae7tCTyyK7j1rNww==:, sha=:AAA=:"])
def test_at_least_one_secure_digest_is_there(header: str) -> None:
    """No recognised secure digest (sha-256, sha-512): refuse (wire.md, Verifying)."""
    assert refused(header) == "NO_SECURE_DIGEST"


@pytest.mark.parametrize(
    "header",
    [
        "sha-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=",
        "sha-256",
        "sha-256=(1 2)",
        "SHA-256=:AAAA:",
        "sha-256=:AAAA:,",
        f"{SHA256}, {SHA256}",
        f"{WRONG512.replace('512', '256')}, {SHA256}",
        "sha-256=:ä:",
        "\x00",
        "sha-256=:AAAA",
        "a=@99999999999999999999",
    ],
)
def test_a_header_that_is_no_dictionary_of_digests_is_refused(header: str) -> None:
    """A digest given twice is refused, too: two readers could take different ones."""
    assert refused(header) == "MALFORMED_DIGEST"


@given(st.text(max_size=60) | st.text('sha-256=:Ab+/;,()"@ \t?', max_size=60))
def test_any_header_is_read_or_refused(header: str) -> None:
    with suppress(Malformed):
        assert all(isinstance(digest, bytes) for digest in parse_digest(header).values())


def test_an_algorithm_that_is_not_secure_is_not_made() -> None:
    with pytest.raises(KeyError):
        content_digest(BODY, "md5")
