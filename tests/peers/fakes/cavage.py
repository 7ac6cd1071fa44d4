"""Signatures by draft-cavage-http-signatures-12 with RSA, as Nextcloud 31 to 34 make and demand them (peers.md §6).

An implementation of its own, from the draft's text, so that a mistake of the gateway's does not cancel itself out.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Mapping
from email.utils import formatdate, parsedate_to_datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

COVERED = ("(request-target)", "content-length", "date", "digest", "host")
HASHES = {"SHA-256": hashlib.sha256, "SHA-512": hashlib.sha512}
AGE_MAX = 300  # seconds that `Date` may be old
KEY_MIN = 2048  # bits


class BadSignature(Exception):
    """Why a signature does not count."""


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_MIN)


def public_pem(key: rsa.RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def sign(
    key: rsa.RSAPrivateKey, key_id: str, method: str, target: str, host: str, body: bytes, now: float
) -> dict[str, str]:
    """Return the headers to send with the request; `target` is path and query as they are sent."""
    headers = {
        "Content-Length": str(len(body)),
        "Date": formatdate(now, usegmt=True),
        "Digest": "SHA-512=" + base64.b64encode(hashlib.sha512(body).digest()).decode(),
        "Host": host,
    }
    text = signing_string(COVERED, method, target, headers)
    signature = base64.b64encode(key.sign(text.encode(), padding.PKCS1v15(), SHA512())).decode()
    members = {"keyId": key_id, "algorithm": "rsa-sha512", "headers": " ".join(COVERED), "signature": signature}
    return headers | {"Signature": ",".join(f'{name}="{value}"' for name, value in members.items())}


def signing_string(covered: tuple[str, ...], method: str, target: str, headers: Mapping[str, str]) -> str:
    """Return the string that is signed (section 2.3); raises BadSignature for a header that is not there."""
    present = {name.lower(): value.strip() for name, value in headers.items()}
    lines = []
    for name in covered:
        if name == "(request-target)":
            lines.append(f"(request-target): {method.lower()} {target}")
        elif name in present:
            lines.append(f"{name}: {present[name]}")
        else:
            raise BadSignature(f"the signature covers {name}, which the request does not have")
    return "\n".join(lines)


def members(header: str) -> dict[str, str]:
    """Return the parameters of a Signature header (section 2.1); raises BadSignature."""
    found = dict(re.findall(r'([A-Za-z]+)="([^"]*)"', header))
    lacking = {"keyId", "headers", "signature"} - found.keys()
    if lacking:
        raise BadSignature(f"the Signature header has no {', '.join(sorted(lacking))}")
    return found


def verify(
    pem: str, method: str, target: str, headers: Mapping[str, str], body: bytes, now: float | None = None
) -> None:
    """Verify a request as Nextcloud does; raises BadSignature with the reason."""
    values = {name.lower(): value for name, value in headers.items()}
    found = members(values.get("signature", ""))
    covered = tuple(found["headers"].split())
    lacking = set(COVERED) - set(covered)
    if lacking:
        raise BadSignature(f"the signature does not cover {', '.join(sorted(lacking))}")
    if covered[0] != "(request-target)":
        raise BadSignature("(request-target) is not the first of the covered headers")
    _check_date(values.get("date", ""), time.time() if now is None else now)
    _check_digest(values.get("digest", ""), body)
    if values.get("content-length") != str(len(body)):
        raise BadSignature("Content-Length is not the length of the body")
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < KEY_MIN:
        raise BadSignature(f"publicKeyPem is no RSA key of {KEY_MIN} bits or more")
    # Anything but rsa-sha512 is checked as rsa-sha256, whatever it says.
    algorithm = SHA512() if found.get("algorithm") == "rsa-sha512" else SHA256()
    text = signing_string(covered, method, target, headers)
    try:
        key.verify(base64.b64decode(found["signature"]), text.encode(), padding.PKCS1v15(), algorithm)
    except (InvalidSignature, ValueError) as error:
        raise BadSignature(f"the signature does not fit this string: {text!r}") from error


def _check_date(date: str, now: float) -> None:
    try:
        age = now - parsedate_to_datetime(date).timestamp()
    except ValueError as error:
        raise BadSignature(f"Date is no date: {date!r}") from error
    if abs(age) > AGE_MAX:
        raise BadSignature(f"Date is {age:.0f} s old")


def _check_digest(digest: str, body: bytes) -> None:
    name, _, value = digest.partition("=")
    if name not in HASHES:
        raise BadSignature(f"Digest is neither SHA-256 nor SHA-512: {name!r}")
    if value != base64.b64encode(HASHES[name](body).digest()).decode():
        raise BadSignature("Digest does not fit the body")
