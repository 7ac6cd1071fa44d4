"""draft-cavage signatures in the profile of Nextcloud 31 to 34 (peers.md section 6)."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway.ocm.cavage import CavageKey, CavageSigningKey, find, is_signed, sign, verify
from gateway.ocm.errors import Malformed, ProtocolError, SignatureInvalid
from gateway.ocm.signatures import Message, find_signature

DOCUMENT = json.loads((Path(__file__).parents[1] / "vectors" / "cavage.json").read_text())
VECTORS = {vector["name"]: vector for vector in DOCUMENT["vectors"]}
NOW = DOCUMENT["now"]
NEXTCLOUD = VECTORS["nextcloud's own choice"]
SERVER = "nc.example"

every_vector = pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS.keys())


def message_of(vector: Mapping[str, Any]) -> Message:
    return Message("POST", vector["target_uri"], tuple(vector["headers"].items()), vector["body"].encode())


def published(vector: Mapping[str, Any] = NEXTCLOUD) -> CavageKey:
    key = CavageKey.published(vector["public_key"])
    assert key is not None
    return key


@functools.cache  # reading a key takes as long as a hundred signatures: its primes are checked
def signing_key() -> CavageSigningKey:
    return CavageSigningKey.from_pem(NEXTCLOUD["private_key_pem"].encode(), NEXTCLOUD["public_key"]["keyId"])


def changed(message: Message, **headers: str | None) -> Message:
    """Return the message with other values of its headers, and without those that are None."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    kept = tuple((name, value) for name, value in message.headers if name.lower() not in names)
    return replace(message, headers=(*kept, *((name, value) for name, value in names.items() if value is not None)))


def resigned(**headers: str) -> Message:
    """Return a request whose signature really covers these headers, whatever they say."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA512

    message = changed(message_of(NEXTCLOUD), **headers)
    listed = ("content-length", "date", "digest", "host")
    fields = {name.lower(): value for name, value in message.headers} | {"host": "gw.example"}
    base = "\n".join(["(request-target): post /ocm/shares", *(f"{name}: {fields[name]}" for name in listed)])
    signature = base64.b64encode(signing_key().private_key.sign(base.encode(), PKCS1v15(), SHA512())).decode()
    value = f'keyId="{signing_key().kid}",algorithm="rsa-sha512",headers="{" ".join(listed)}",signature="{signature}"'
    return changed(message, signature=value)


def code_of(message: Message, key: CavageKey | None = None, server: str = SERVER, now: float = NOW) -> str:
    with pytest.raises(ProtocolError) as caught:
        verify(message, key or published(), server, now=now)
    return caught.value.code


# --- honest signatures ----------------------------------------------------------------------------------------------


@every_vector
def test_what_openssl_has_signed_verifies(vector: Mapping[str, Any]) -> None:
    verified = verify(message_of(vector), published(vector), SERVER, now=NOW)
    assert verified.key.key_id == "https://nc.example/ocm#signature"


def test_what_is_signed_here_is_what_openssl_has_signed() -> None:
    """PKCS#1 v1.5 has one signature for one text: header, order and spelling are Nextcloud's, byte for byte."""
    vector = NEXTCLOUD
    assert sign(replace(message_of(vector), headers=()), signing_key(), NOW) == vector["headers"]


@given(body=st.binary(max_size=100), path=st.text("abc/-._~%", max_size=20), port=st.sampled_from(["", ":8443"]))
def test_what_is_signed_verifies(body: bytes, path: str, port: str) -> None:
    url = f"https://gw.example{port}/{path}"
    headers = sign(Message("POST", url, (), body), signing_key(), NOW)
    verify(Message("POST", url, tuple(headers.items()), body), published(), SERVER, now=NOW)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://GW.example:443/ocm/shares", "gw.example"),
        ("http://gw.example:80/ocm/shares", "gw.example"),
        ("http://gw.example:443/ocm/shares", "gw.example:443"),
        ("https://[2001:DB8::1]:8443/ocm/shares", "[2001:db8::1]:8443"),
    ],
)
def test_the_host_is_signed_as_it_is_sent(url: str, host: str) -> None:
    headers = tuple(sign(Message("POST", url, (), b"{}"), signing_key(), NOW).items())
    scheme = url.partition(":")[0]
    verify(Message("POST", f"{scheme}://{host}/ocm/shares", headers, b"{}"), published(), SERVER, now=NOW)


def test_the_target_is_part_of_what_is_signed_whether_or_not_it_is_listed() -> None:
    message = resigned()
    assert "(request-target)" not in dict(message.headers)["signature"]
    verify(message, published(), SERVER, now=NOW)
    assert code_of(replace(message, target_uri="https://gw.example/ocm/notifications")) == "SIGNATURE_INVALID"


def test_the_host_header_plays_no_part() -> None:
    """A proxy may have rewritten it: what counts is the configured origin."""
    verify(changed(message_of(NEXTCLOUD), host="127.0.0.1:8080"), published(), SERVER, now=NOW)


def test_one_request_has_one_hash_and_two_have_two() -> None:
    first, other = message_of(NEXTCLOUD), resigned(date="Fri, 15 Jan 2027 08:00:01 GMT")
    hashes = [verify(message, published(), SERVER, now=NOW).signature_hash for message in (first, first, other)]
    assert hashes[0] == hashes[1] != hashes[2]


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"target_uri": "https://gw.example/ocm/notifications"},
        {"target_uri": "https://other.example/ocm/shares"},
        {"target_uri": "https://gw.example/ocm/shares?x"},
        {"method": "PUT"},
    ],
)
def test_a_request_to_somewhere_else_is_refused(change: dict[str, str]) -> None:
    assert code_of(replace(message_of(NEXTCLOUD), **change)) == "SIGNATURE_INVALID"


def test_the_body_is_bound() -> None:
    message = message_of(NEXTCLOUD)
    assert code_of(replace(message, body=message.body.replace(b"bob", b"eve"))) == "DIGEST_MISMATCH"
    assert code_of(replace(message, body=message.body + b" ")) == "CONTENT_LENGTH_MISMATCH"
    assert code_of(changed(message, digest=VECTORS["sha-256 for both"]["headers"]["Digest"])) == "SIGNATURE_INVALID"


@pytest.mark.parametrize(
    ("digest", "code"),
    [
        ("MD5=jZ4q2Rg=", "NO_SECURE_DIGEST"),
        ("SHA=", "NO_SECURE_DIGEST"),
        ("", "NO_SECURE_DIGEST"),
        ("SHA-256=not base64", "MALFORMED_DIGEST"),
        ("SHA-256=", "DIGEST_MISMATCH"),
    ],
)
def test_a_digest_that_proves_nothing_is_refused(digest: str, code: str) -> None:
    assert code_of(resigned(digest=digest)) == code


def test_each_known_digest_is_that_of_the_body() -> None:
    good = NEXTCLOUD["headers"]["Digest"]
    verify(resigned(digest=f"MD5=x, {good}"), published(), SERVER, now=NOW)
    assert code_of(resigned(digest=f"{good},SHA-256=AAAA")) == "DIGEST_MISMATCH"


@pytest.mark.parametrize(
    ("seconds", "code"), [(301, "SIGNATURE_EXPIRED"), (-61, "SIGNATURE_IN_FUTURE"), (300, ""), (-60, "")]
)
def test_a_signature_lives_for_five_minutes(seconds: int, code: str) -> None:
    if code:
        assert code_of(message_of(NEXTCLOUD), now=NOW + seconds) == code
    else:
        verify(message_of(NEXTCLOUD), published(), SERVER, now=NOW + seconds)


@pytest.mark.parametrize("date", ["yesterday", "2027-01-15T08:00:00Z", "Fri, 15 Jan 2027 08:00:00 CET", ""])
def test_a_date_is_one_of_http(date: str) -> None:
    assert code_of(resigned(date=date)) == "DATE_INVALID"


@pytest.mark.parametrize("name", ["content-length", "date", "digest", "host"])
def test_what_binds_the_request_is_covered(name: str) -> None:
    listed = " ".join(each for each in ("content-length", "date", "digest", "host") if each != name)
    message = changed(
        message_of(NEXTCLOUD), signature=f'keyId="{signing_key().kid}",headers="{listed}",signature="AA=="'
    )
    assert code_of(message) == "COMPONENT_MISSING"


@pytest.mark.parametrize("name", ["content_length", "date", "digest"])
def test_what_is_covered_is_there(name: str) -> None:
    assert code_of(changed(message_of(NEXTCLOUD), **{name: None})) == "COMPONENT_MISSING"


def test_the_key_is_named_after_the_host_that_the_payload_speaks_for() -> None:
    """The port counts; the scheme does not, as Nextcloud writes https whatever it is reached by."""
    assert code_of(message_of(NEXTCLOUD), server="other.example") == "KEYID_MISMATCH"
    assert code_of(message_of(NEXTCLOUD), server="nc.example:8443") == "KEYID_MISMATCH"


def test_the_key_is_the_one_that_is_published() -> None:
    assert code_of(message_of(NEXTCLOUD), replace(published(), key_id="https://nc.example/ocm#2")) == "KEY_NOT_FOUND"


def test_a_signature_by_another_key_is_refused_and_its_base_is_there_for_the_log() -> None:
    other = published(VECTORS["sha-256 for both"])
    message = changed(resigned(), authorization="Basic c2VjcmV0")
    with pytest.raises(SignatureInvalid) as caught:
        verify(message, other, SERVER, now=NOW)
    assert caught.value.code == "SIGNATURE_INVALID"
    assert caught.value.signature_base == NEXTCLOUD["base"]


@pytest.mark.parametrize("change", [{"now": NOW + 301}, {"server": "other.example"}])
def test_whatever_was_wrong_what_was_signed_is_there_for_the_log(change: dict[str, Any]) -> None:
    with pytest.raises(SignatureInvalid) as caught:
        verify(message_of(NEXTCLOUD), published(), **({"server": SERVER, "now": NOW} | change))
    assert caught.value.signature_base == NEXTCLOUD["base"]


def test_a_credential_that_is_covered_is_not_logged() -> None:
    listed = "(request-target) content-length date digest host authorization"
    value = f'keyId="{signing_key().kid}",algorithm="rsa-sha512",headers="{listed}",signature="AAAA"'
    with pytest.raises(SignatureInvalid) as caught:
        verify(
            changed(message_of(NEXTCLOUD), signature=value, authorization="Basic c2VjcmV0"),
            published(),
            SERVER,
            now=NOW,
        )
    assert str(caught.value.signature_base).endswith("\nauthorization: ***")


def test_what_is_signed_is_ascii() -> None:
    listed = "content-length date digest host x"
    value = f'keyId="{signing_key().kid}",algorithm="rsa-sha512",headers="{listed}",signature="AAAA"'
    assert code_of(changed(message_of(NEXTCLOUD), signature=value, x="\u00e9")) == "SIGNATURE_INVALID"


# --- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "public_key",
    [
        None,
        "-----BEGIN PUBLIC KEY-----",
        [],
        {},
        {"keyId": "x"},
        {"publicKeyPem": "x"},
        {"keyId": 1, "publicKeyPem": "x"},
    ],
)
def test_what_is_no_key_of_this_scheme_is_none(public_key: object) -> None:
    """ocm-stub publishes a bare PEM text."""
    assert CavageKey.published(public_key) is None


def pem_of(private_key: Any) -> str:
    return private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    "pem",
    [
        "no PEM",
        pem_of(Ed25519PrivateKey.generate()),
        pem_of(rsa.generate_private_key(65537, 1024)),
        "-----BEGIN PUBLIC KEY-----\n" + "A" * 5000 + "\n-----END PUBLIC KEY-----",
        "\ud800",
    ],
    ids=["text", "ed25519", "1024 bits", "too long", "surrogate"],
)
def test_a_key_that_cannot_be_used_is_refused(pem: str) -> None:
    with pytest.raises(SignatureInvalid) as caught:
        CavageKey.published({"keyId": "https://nc.example/ocm#signature", "publicKeyPem": pem})
    assert caught.value.code == "KEY_UNUSABLE"


def test_a_key_is_known_again_however_its_pem_is_written() -> None:
    key_id, pem = NEXTCLOUD["public_key"].values()
    again = CavageKey.published({"keyId": key_id, "publicKeyPem": "\n" + pem.replace("\n", "\r\n")})
    assert again is not None
    assert again.fingerprint == published().fingerprint != published(VECTORS["sha-256 for both"]).fingerprint


def test_a_key_of_ours_survives_its_pem_and_shows_nothing_of_itself() -> None:
    key = signing_key()
    again = CavageSigningKey.from_pem(key.to_pem(), key.kid)
    assert again.published() == key.published() == NEXTCLOUD["public_key"]
    assert "private" not in repr(key)


def test_a_file_that_holds_no_rsa_key_is_a_value_error() -> None:
    private = Ed25519PrivateKey.generate()
    for pem in (b"no PEM", private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())):
        with pytest.raises(ValueError):
            CavageSigningKey.from_pem(pem, "kid")


# --- reading the header ---------------------------------------------------------------------------------------------

GOOD = 'keyId="https://nc.example/ocm#signature",algorithm="rsa-sha512",headers="date host",signature="AAAA"'


@pytest.mark.parametrize(
    "value",
    [
        GOOD,
        GOOD.replace(",", " , "),
        f'created=1,{GOOD},expires=2,opaque=""',
        ",".join(reversed(GOOD.split(","))),
    ],
)
def test_the_parameters_are_read_in_any_order(value: str) -> None:
    found = find((("Signature", value),))
    assert (found.key_id, found.headers) == ("https://nc.example/ocm#signature", ("date", "host"))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "ocm=:AAAA:",
        "keyId",
        GOOD.replace('"', ""),
        GOOD + ';x="y"',
        GOOD + ',signature="BBBB"',
        GOOD.replace("AAAA", "no base64"),
        GOOD.replace("AAAA", ""),
        GOOD.replace("date host", ""),
        GOOD.replace("date host", "date date"),
        GOOD.replace("date host", "date  host"),
        GOOD.replace("keyId", "keyid"),
        GOOD.replace("nc.example", "nc\u202eexample"),
        GOOD.replace("nc.example", "n" * 2000),
    ],
)
def test_a_malformed_header_is_refused(value: str) -> None:
    with pytest.raises(Malformed) as caught:
        find((("Signature", value),))
    assert (caught.value.code, caught.value.status_hint) == ("SIGNATURE_MALFORMED", 400)


def test_two_headers_are_none() -> None:
    with pytest.raises(Malformed):
        find((("Signature", GOOD), ("signature", GOOD)))


def test_a_signature_of_rfc_9421_is_none_of_this_scheme() -> None:
    assert is_signed((("Signature", GOOD),))
    assert not is_signed((("Signature", "ocm=:AAAA:"), ("Signature-Input", "ocm=()")))
    assert not is_signed(())
    assert find_signature((("Signature", GOOD),), accept_labelled=True) is None


@given(st.text(max_size=80) | st.text('keyIdsgnatureh="date host",=:A1 \t', max_size=80))
def test_any_header_is_read_or_refused(value: str) -> None:
    with pytest.raises(ProtocolError):
        verify(changed(message_of(NEXTCLOUD), signature=value), published(), SERVER, now=NOW)


@given(data=st.data())
def test_any_changed_byte_is_refused(data: Any) -> None:
    name = data.draw(st.sampled_from(["Content-Length", "Date", "Digest", "Signature"]))
    value = NEXTCLOUD["headers"][name]
    padding = 4 if "=" in value else 1  # not just how base64 pads its last bits
    algorithm = range(value.find("rsa-"), value.find("rsa-") + 10) if "rsa-" in value else ()  # has its own vector
    place = data.draw(st.sampled_from([place for place in range(len(value) - padding) if place not in algorithm]))
    char = data.draw(st.integers(0x21, 0x7E).map(chr).filter(lambda char: char.lower() != value[place].lower()))
    other = value[:place] + char + value[place + 1 :]
    with pytest.raises(ProtocolError):
        verify(changed(message_of(NEXTCLOUD), **{name.lower().replace("-", "_"): other}), published(), SERVER, now=NOW)
