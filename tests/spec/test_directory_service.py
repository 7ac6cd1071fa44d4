"""draft-07, Appendix C: a Directory Service exposes a JWS whose key was made available offline, with this payload."""

from __future__ import annotations

import base64
import hmac
import json
import warnings
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from gateway.ocm.directory import SERVERS_MAX, parse_directory, serialise_directory
from gateway.ocm.errors import Malformed, ProtocolError, SignatureInvalid
from gateway.ocm.jws import SIGNATURES_MAX, sign_jws, verify_jws
from gateway.ocm.key_files import public_keys
from gateway.ocm.keys import SigningKey

LIST = {
    "federation": "The ScienceMesh Directory",
    "servers": [
        {"url": "https://ocm-server.example.org", "displayName": "OCM Server 1"},
        {"url": "https://ocm-server.example.com:4443", "displayName": "OCM Server 2"},
        {"url": "http://192.168.1.1:8080", "displayName": "OCM Server 3"},
    ],
}
PAYLOAD = json.dumps(LIST).encode()


def pem(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


# --- the payload ----------------------------------------------------------------------------------------------------


def test_the_list_of_the_draft_is_read() -> None:
    directory = parse_directory(PAYLOAD)
    assert directory.federation == "The ScienceMesh Directory"
    assert [(listed.server, listed.display_name) for listed in directory.servers] == [
        ("ocm-server.example.org", "OCM Server 1"),
        ("ocm-server.example.com:4443", "OCM Server 2"),
        ("192.168.1.1:8080", "OCM Server 3"),
    ]
    assert directory.unusable == ()
    assert parse_directory(serialise_directory(directory)) == directory


@pytest.mark.parametrize(
    "url",
    [
        *("ocm-server.example.org", "ftp://h.example", "https://", "https:///x", "//h.example", "", 7, None),
        *("https://h.example/ocm", "https://h.example?x", "https://h.example/?", "https://h.example#x"),
        *("https://user@h.example", "https://h.example:0", "https://h.example:99999", "https://h .example"),
    ],
)
def test_a_url_that_is_no_server_is_passed_over_and_said(url: object) -> None:
    """MUST: scheme http(s), host, perhaps a port; MUST NOT: base path, userinfo, query, fragment."""
    servers = [{"url": url, "displayName": "Bad"}, {"url": "https://good.example/", "displayName": "Good"}]
    directory = parse_directory(json.dumps({"federation": "F", "servers": servers}).encode())
    assert [listed.server for listed in directory.servers] == ["good.example"]
    assert [reason.partition(":")[0] for reason in directory.unusable] == ["servers[0]"]


@pytest.mark.parametrize("entry", [None, 7, "https://h.example", [], {}, {"url": "https://h.example"}])
def test_a_member_without_its_fields_is_passed_over(entry: object) -> None:
    """REQUIRED: url, displayName."""
    directory = parse_directory(json.dumps({"federation": "F", "servers": [entry]}).encode())
    assert (directory.servers, len(directory.unusable)) == ((), 1)


def test_the_first_of_two_names_for_one_server_counts() -> None:
    servers = [
        {"url": url, "displayName": url}
        for url in ("https://MÜNCHEN.example", "https://xn--mnchen-3ya.example:443/", "https://xn--mnchen-3ya.example")
    ]
    directory = parse_directory(json.dumps({"federation": "F", "servers": servers}).encode())
    assert [listed.server for listed in directory.servers] == ["xn--mnchen-3ya.example"]


@pytest.mark.parametrize(
    "changes",
    [
        {"federation": None},
        {"federation": ""},
        {"federation": 7},
        {"servers": None},
        {"servers": {}},
        {"servers": [{}] * (SERVERS_MAX + 1)},
        {"exp": "tomorrow"},
        {"exp": -1},
        {"iat": 1.5},
    ],
)
def test_a_list_without_its_fields_is_none(changes: dict[str, Any]) -> None:
    """REQUIRED: federation, servers; times that cannot be read could be past."""
    with pytest.raises(Malformed) as refused:
        parse_directory(json.dumps(LIST | changes).encode())
    assert refused.value.code == "INVALID_DIRECTORY"


def test_names_for_people_cannot_steer_what_shows_them() -> None:
    servers = [{"url": "https://h.example", "displayName": "\u202eevil\x1b[2J\n"}]
    directory = parse_directory(json.dumps({"federation": "F\x07", "servers": servers}).encode())
    assert (directory.federation, directory.servers[0].display_name) == ("F", "evil[2J")


# --- the signature --------------------------------------------------------------------------------------------------


def joserfc_key(key: SigningKey) -> Any:
    return (OKPKey if key.alg == "Ed25519" else ECKey).import_key(key.private_key)


@pytest.fixture(params=["ed25519", "es256"])
def key(request: pytest.FixtureRequest) -> SigningKey:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["compact", "flattened", "general"])
def document(request: pytest.FixtureRequest, key: SigningKey) -> bytes:
    """The list, signed by another implementation in one of the three serialisations."""
    header, private = {"alg": key.alg, "typ": "JOSE", "kid": "some-key", "x-unknown": 1}, joserfc_key(key)
    registry = jws.JWSRegistry(algorithms=[key.alg], strict_check_header=False)
    if request.param == "compact":
        return jws.serialize_compact(header, PAYLOAD, private, registry=registry).encode() + b"\n"
    members: Any = {"protected": header} if request.param == "flattened" else [{"protected": header}]
    return json.dumps(jws.serialize_json(members, PAYLOAD, private, registry=registry)).encode()


def test_every_serialisation_is_verified(document: bytes, key: SigningKey) -> None:
    for content in (pem(key.private_key), json.dumps(key.public_jwk()).encode()):
        assert verify_jws(document, public_keys(content)) == PAYLOAD


def test_what_is_signed_here_is_verified_by_others(key: SigningKey) -> None:
    signed = sign_jws(PAYLOAD, key)
    name = "EdDSA" if key.alg == "Ed25519" else "ES256"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the older name
        assert jws.deserialize_compact(signed, joserfc_key(key), algorithms=[name]).payload == PAYLOAD
    assert verify_jws(signed.encode(), [key.public()]) == PAYLOAD


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "ES384"])
def test_other_algorithms_come_from_the_key_that_is_configured(algorithm: str) -> None:
    private: Any = ec.generate_private_key(ec.SECP384R1())
    if algorithm != "ES384":
        private = rsa.generate_private_key(65537, 2048)
    jose = (ECKey if algorithm == "ES384" else RSAKey).import_key(private)
    signed = jws.serialize_compact({"alg": algorithm}, PAYLOAD, jose, algorithms=[algorithm]).encode()
    named = json.dumps({**jose.as_dict(private=False), "alg": algorithm}).encode()
    assert verify_jws(signed, public_keys(named)) == PAYLOAD
    if algorithm == "PS512":  # without a name an RSA key is for RS256
        with pytest.raises(SignatureInvalid):
            verify_jws(signed, public_keys(pem(private)))
    else:
        assert verify_jws(signed, public_keys(pem(private))) == PAYLOAD


def test_one_of_several_keys_and_of_several_signatures_is_enough(ed25519: SigningKey, es256: SigningKey) -> None:
    """A Directory Service changes its key: members have both meanwhile, or it signs with both."""
    both = public_keys(pem(ed25519.private_key) + pem(es256.private_key))
    assert [key.alg for key in both] == ["Ed25519", "ES256"]
    for key in (ed25519, es256):
        assert verify_jws(sign_jws(PAYLOAD, key).encode(), both) == PAYLOAD
    members: Any = [{"protected": {"alg": "Ed25519"}}, {"protected": {"alg": "ES256"}}]
    keys = {"Ed25519": joserfc_key(ed25519), "ES256": joserfc_key(es256)}
    signed = jws.serialize_json(members, PAYLOAD, lambda each: keys[each.headers()["alg"]], algorithms=list(keys))
    for key in (ed25519, es256):
        assert verify_jws(json.dumps(signed).encode(), [key.public()]) == PAYLOAD


def test_a_foreign_key_proves_nothing(es256: SigningKey) -> None:
    other = SigningKey.from_private(ec.generate_private_key(ec.SECP256R1()), "other")
    with pytest.raises(SignatureInvalid) as refused:
        verify_jws(sign_jws(PAYLOAD, other).encode(), [es256.public()])
    assert refused.value.code == "SIGNATURE_INVALID"


def test_a_changed_payload_is_not_signed(es256: SigningKey) -> None:
    header, _, signature = sign_jws(PAYLOAD, es256).split(".")
    forged = f"{header}.{encoded(PAYLOAD.replace(b'example', b'evil'))}.{signature}"
    with pytest.raises(SignatureInvalid):
        verify_jws(forged.encode(), [es256.public()])


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "RS256", "ES384", "EdDSA"])
def test_the_header_does_not_choose_the_algorithm(es256: SigningKey, algorithm: str) -> None:
    """`none`, and a MAC whose secret is the public key, are how JOSE was broken before (RFC 8725, section 2.1)."""
    header = encoded(json.dumps({"alg": algorithm}).encode())
    covered = f"{header}.{encoded(PAYLOAD)}"
    mac = hmac.digest(pem(es256.private_key), covered.encode(), "sha256")
    signature = encoded(mac) if algorithm == "HS256" else ""
    with pytest.raises(SignatureInvalid) as refused:
        verify_jws(f"{covered}.{signature}".encode(), [es256.public()])
    assert refused.value.code == "ALGORITHM_REFUSED"
    assert "ES256" in str(refused.value)


def test_only_a_protected_header_counts(es256: SigningKey) -> None:
    _, payload, signature = sign_jws(PAYLOAD, es256).split(".")
    empty = {"payload": payload, "protected": "", "header": {"alg": "ES256"}, "signature": signature}
    extended = {"payload": payload, "protected": encoded(b'{"alg":"ES256","crit":["b64"],"b64":false}')}
    twice = {"payload": payload, "protected": encoded(b'{"alg":"none","alg":"ES256"}'), "signature": signature}
    for document in (empty, extended | {"signature": signature}, twice):
        with pytest.raises(Malformed):
            verify_jws(json.dumps(document).encode(), [es256.public()])


def test_a_document_that_is_cut_off_anywhere_is_refused(es256: SigningKey) -> None:
    whole = sign_jws(PAYLOAD, es256).encode()
    flattened = json.dumps(dict(zip(("protected", "payload", "signature"), whole.decode().split("."), strict=True)))
    for document in (whole, flattened.encode()):
        assert verify_jws(document, [es256.public()]) == PAYLOAD
        for length in range(0, len(document), 7):
            with pytest.raises(ProtocolError):
                verify_jws(document[:length], [es256.public()])


@pytest.mark.parametrize(
    "document",
    [
        {"payload": LIST, "protected": {"alg": "ES256"}, "signature": "..."},  # as the draft prints it, decoded
        {"payload": "e30", "signatures": []},
        {"payload": "e30", "signatures": {}},
        {"payload": "e30", "signatures": [7]},
        {"payload": "e30", "signatures": [{}] * (SIGNATURES_MAX + 1)},
        {"payload": "e30", "protected": "W10", "signature": ""},
        {"payload": "e30", "protected": "e30", "signature": ""},
        {"payload": "e30=", "protected": encoded(b'{"alg":"ES256"}'), "signature": ""},
        {"payload": "e30", "protected": encoded(b'{"alg":7}'), "signature": ""},
        {},
    ],
)
def test_json_that_is_no_jws_is_refused(es256: SigningKey, document: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        verify_jws(json.dumps(document).encode(), [es256.public()])


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(document: bytes) -> None:
    key = SigningKey.from_private(ec.derive_private_key(7, ec.SECP256R1()), "seven").public()
    with pytest.raises(ProtocolError):
        verify_jws(document, [key])
    with pytest.raises(Malformed):
        parse_directory(document + b"\xff")


# --- the key, made available offline --------------------------------------------------------------------------------


def test_a_jwk_set_gives_all_its_keys(ed25519: SigningKey, es256: SigningKey) -> None:
    bare = {name: value for name, value in es256.public_jwk().items() if name not in ("kid", "alg", "use")}
    found = public_keys(json.dumps({"keys": [ed25519.public_jwk(), bare]}).encode())
    assert [(key.alg, key.key.public_bytes_raw() if key.alg == "Ed25519" else None) for key in found] == [
        ("Ed25519", ed25519.private_key.public_key().public_bytes_raw()),
        ("ES256", None),
    ]


@pytest.mark.parametrize(
    "what", ["private PEM", "private JWK", "weak RSA", "P-521", "secret", "nothing", "text", "list"]
)
def test_a_file_without_usable_keys_is_refused_with_the_reason(es256: SigningKey, what: str) -> None:
    private = es256.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    content, reason = {
        "private PEM": (private, "private key"),
        "private JWK": (json.dumps({**es256.public_jwk(), "d": "AAAA"}).encode(), "private key"),
        "weak RSA": (pem(rsa.generate_private_key(65537, 1024)), "RSA from 2048 bits"),
        "P-521": (pem(ec.generate_private_key(ec.SECP521R1())), "P-256"),
        "secret": (b'{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}', "no asymmetric signature algorithm"),
        "nothing": (b"", "neither PEM"),
        "text": (b"ssh-ed25519 AAAA", "neither PEM"),
        "list": (b'{"keys": 7}', "neither PEM"),
    }[what]
    with pytest.raises(ValueError, match=reason):
        public_keys(content)
