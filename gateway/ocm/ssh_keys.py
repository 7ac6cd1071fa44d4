"""SSH public keys as others write them: of a line of authorized_keys a checked key stays, and nothing else.

A key is taken apart to its numbers, because what is stored here opens files later. There is one way to write each key
(RFC 4253 section 6.6, RFC 5656, RFC 8709, OpenSSH's PROTOCOL.u2f), so equal keys have equal blobs and fingerprints.
Certificates and DSA are not in the table, so they cannot be used.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from gateway.ocm import text
from gateway.ocm.errors import Malformed
from gateway.ocm.keys import RSA_EXPONENT_BITS

LINE_MAX = 16_384  # characters; the longest key that is taken has 2,800
COMMENT_MAX = 100  # characters that are kept of a comment, for people
RSA_BITS = range(2048, 16_385)  # from what is not broken (NIST SP 800-131A) to OpenSSH's own limit
APPLICATION_MAX = 255  # bytes of a security key's application; everybody uses "ssh:"

# Options that take away what our door would give, or for which a key is no log-in key (sshd(8), AUTHORIZED_KEYS FILE
# FORMAT). Others widen, or forbid what is not there, such as forwarding: they may be ignored.
_RESTRICTING = frozenset({"cert-authority", "command", "expiry-time", "from", "principals", "verify-required"})

# As sshd reads it: \" is a quote inside quotes, any other backslash is itself; each branch has one way to match.
_QUOTED = r'"(?:\\"|(?!\\")[^"])*+"'
_LINE = re.compile(
    rf"""(?:(?P<options> (?: \\" | {_QUOTED} | (?!\\")[^"\ \t] )++ ) [\ \t]+ )?
    (?P<algorithm> [a-z0-9@.-]+ ) [\ \t]+
    (?P<data> AAAA[A-Za-z0-9+/]*={{0,2}} )  # the length of the algorithm's name comes first, so it begins with zeros
    (?: [\ \t]+ (?P<comment> .* ) )?""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An SSH public key: its `algorithm` as in the blob, and the `blob` as it goes over the wire."""

    algorithm: str
    blob: bytes

    @classmethod
    def of_blob(cls, blob: bytes) -> PublicKey:
        """Return the key in `blob`; raises Malformed as parse_public_key does."""
        try:
            return cls(_read(blob)[0], blob)
        except ValueError as error:
            raise Malformed("INVALID_SSH_KEY", str(error)) from error

    @property
    def line(self) -> str:
        """The key as authorized_keys has it, without options and comment."""
        return f"{self.algorithm} {base64.b64encode(self.blob).decode()}"

    @property
    def fingerprint(self) -> str:
        """`SHA256:` and 43 characters, as ssh-keygen shows it."""
        return "SHA256:" + base64.b64encode(sha256(self.blob).digest()).rstrip(b"=").decode()

    @property
    def words(self) -> str:
        """Kind and size for people, such as `RSA, 3072 bits`."""
        algorithm, bits = _read(self.blob)
        return f"{_KINDS[algorithm].name}, {bits} bits"


def parse_public_key(line: str) -> PublicKey:
    """Return the key in one line of authorized_keys; options and comment are dropped.

    Raises Malformed: INVALID_SSH_KEY, SSH_KEY_TYPE_NOT_ACCEPTED (also for the key of a certificate authority),
    SSH_KEY_TOO_SHORT.
    """
    found = _split(line)
    if "cert-authority" in _options(found):
        raise Malformed("SSH_KEY_TYPE_NOT_ACCEPTED", "the key is a certificate authority's")
    return _key(found)


def parse_authorized_keys(content: str) -> list[PublicKey]:
    """Return the keys in a file that may have been written for sshd, each once.

    A line that cannot be used is left out, and so is one whose options allow less than our door would.
    """
    keys: dict[PublicKey, None] = {}
    for line in content.split("\n"):  # only these end a line for sshd: in a comment anything else may stand
        try:
            if not is_blank(line) and not is_restricted(line):
                keys[parse_public_key(line)] = None
        except Malformed:
            continue
    return list(keys)


def is_blank(line: str) -> bool:
    """Tell whether a line of authorized_keys is empty or only a comment."""
    return line.strip()[:1] in ("", "#")


def is_restricted(line: str) -> bool:
    """Tell whether the options before a key allow less than our door would; raises Malformed for no key."""
    return not _RESTRICTING.isdisjoint(_options(_split(line)))


def comment_of(line: str) -> str:
    """Return the comment behind a key, cleaned for people and cut; raises Malformed for a line that holds no key."""
    return text.line(_split(line)["comment"] or "").strip()[:COMMENT_MAX]


def _split(line: str) -> re.Match[str]:
    found = _LINE.fullmatch(line.strip()) if len(line) <= LINE_MAX else None
    if found is None:
        raise Malformed("INVALID_SSH_KEY", "the line is no public key in the format of OpenSSH")
    return found


def _options(found: re.Match[str]) -> set[str]:
    """Return the names of a line's options, in lower case: sshd does not distinguish."""
    bare = re.sub(_QUOTED, "", found["options"] or "")
    return {option.partition("=")[0].lower() for option in bare.split(",")}


def _key(found: re.Match[str]) -> PublicKey:
    try:
        blob = base64.b64decode(found["data"], validate=True)
    except binascii.Error as error:
        raise Malformed("INVALID_SSH_KEY", "the key is not base64") from error
    if base64.b64encode(blob).decode() != found["data"]:
        raise Malformed("INVALID_SSH_KEY", "the key is not base64 as anybody writes it")
    key = PublicKey.of_blob(blob)
    if key.algorithm != found["algorithm"]:
        raise Malformed("INVALID_SSH_KEY", "the key is of another type than the line says")
    return key


class _Fields:
    """The fields of a blob, one after the other (RFC 4251 section 5); raises ValueError."""

    def __init__(self, blob: bytes) -> None:
        self._rest = blob

    def string(self) -> bytes:
        size = int.from_bytes(self._rest[:4], "big")
        value, rest = self._rest[4 : 4 + size], self._rest[4 + size :]
        if len(self._rest) < 4 or len(value) != size:
            raise ValueError("the key is cut")
        self._rest = rest
        return value

    def number(self) -> int:
        value = self.string()
        number = int.from_bytes(value, "big", signed=True)
        if number <= 0 or len(value) != number.bit_length() // 8 + 1:  # one bit more than its size, for the sign
            raise ValueError("a number of the key is not written as it has to be")
        return number

    def end(self) -> None:
        if self._rest:
            raise ValueError("something follows the key")


def _ed25519(fields: _Fields) -> int:
    encoded = fields.string()
    if len(encoded) != 32:
        raise ValueError(f"an Ed25519 key of {len(encoded)} bytes")
    if not _is_sound_point(int.from_bytes(encoded, "little") & ~(1 << 255)):
        raise ValueError("an Ed25519 key that nobody can have")
    return 256


def _is_sound_point(y: int) -> bool:
    """Tell whether a point of edwards25519 has this y, and is none of the eight that everybody can sign for.

    RFC 8032 section 5.1.3; OpenSSL looks at neither before it verifies. Adding a point to itself needs only x²
    (section 5.1.4), and whoever is of small order is the neutral element after three times.
    """
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p)
    x2 = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
    if y >= p or pow(x2, (p - 1) // 2, p) == p - 1:
        return False
    for _ in range(3):
        y = (y * y + x2) * pow(1 - d * x2 * y * y, -1, p) % p
        x2 = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
    return y != 1


def _ecdsa(name: str, curve: EllipticCurve) -> Callable[[_Fields], int]:
    def read(fields: _Fields) -> int:
        if fields.string() != name.encode():
            raise ValueError("an ECDSA key of another curve than its type says")
        point = fields.string()
        if point[:1] != b"\4":  # RFC 5656 section 3.1 allows compressed points; no program writes them
            raise ValueError("an ECDSA key whose point is compressed")
        EllipticCurvePublicKey.from_encoded_point(curve, point)  # refuses what is not on the curve
        return curve.key_size

    return read


def _rsa(fields: _Fields) -> int:
    exponent, modulus = fields.number(), fields.number()
    bits = modulus.bit_length()
    if bits < RSA_BITS.start:
        raise Malformed("SSH_KEY_TOO_SHORT", f"an RSA key of {bits} bits, and {RSA_BITS.start} are the least")
    if bits not in RSA_BITS or exponent.bit_length() > RSA_EXPONENT_BITS or modulus % 2 == 0:
        raise ValueError(f"an RSA key of {bits} bits with numbers that no program makes")
    RSAPublicNumbers(exponent, modulus).public_key()  # refuses an even exponent, and 1
    return bits


def _security_key(read: Callable[[_Fields], int]) -> Callable[[_Fields], int]:
    def read_both(fields: _Fields) -> int:
        bits = read(fields)
        if len(fields.string()) > APPLICATION_MAX:
            raise ValueError("a security key with an over-long application")
        return bits

    return read_both


@dataclass(frozen=True, slots=True)
class _Kind:
    """One type of key: its name for people, and what reads its numbers and returns its size in bits."""

    name: str
    read: Callable[[_Fields], int]


_P256 = _ecdsa("nistp256", SECP256R1())
_KINDS: Mapping[str, _Kind] = {
    "ssh-ed25519": _Kind("Ed25519", _ed25519),
    "ecdsa-sha2-nistp256": _Kind("ECDSA", _P256),
    "ecdsa-sha2-nistp384": _Kind("ECDSA", _ecdsa("nistp384", SECP384R1())),
    "ecdsa-sha2-nistp521": _Kind("ECDSA", _ecdsa("nistp521", SECP521R1())),
    "ssh-rsa": _Kind("RSA", _rsa),
    "sk-ssh-ed25519@openssh.com": _Kind("Ed25519 in a security key", _security_key(_ed25519)),
    "sk-ecdsa-sha2-nistp256@openssh.com": _Kind("ECDSA in a security key", _security_key(_P256)),
}

ACCEPTED = tuple(_KINDS)


def _read(blob: bytes) -> tuple[str, int]:
    """Return algorithm and size in bits of the key in `blob`; raises ValueError, and Malformed with its own code."""
    fields = _Fields(blob)
    algorithm = fields.string().decode("ascii", "replace")
    kind = _KINDS.get(algorithm)
    if kind is None:
        raise Malformed("SSH_KEY_TYPE_NOT_ACCEPTED", f"its type is none of {', '.join(ACCEPTED)}")
    bits = kind.read(fields)
    fields.end()
    return algorithm, bits
