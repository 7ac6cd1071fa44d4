"""Public keys of SSH as ssh-keygen writes them, and as nobody should (RFC 4253, 5656, 8709; sshd(8))."""

from __future__ import annotations

import base64
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.ocm.errors import Malformed
from gateway.ocm.ssh_keys import (
    ACCEPTED,
    COMMENT_MAX,
    LINE_MAX,
    PublicKey,
    comment_of,
    is_blank,
    parse_authorized_keys,
    parse_public_key,
)

MADE = {
    "ssh-ed25519": ["-t", "ed25519"],
    "ecdsa-sha2-nistp256": ["-t", "ecdsa", "-b", "256"],
    "ecdsa-sha2-nistp384": ["-t", "ecdsa", "-b", "384"],
    "ecdsa-sha2-nistp521": ["-t", "ecdsa", "-b", "521"],
    "ssh-rsa": ["-t", "rsa", "-b", "2048"],
}
WORDS = {
    "ssh-ed25519": "Ed25519, 256 bits",
    "ecdsa-sha2-nistp384": "ECDSA, 384 bits",
    "ecdsa-sha2-nistp521": "ECDSA, 521 bits",
    "ssh-rsa": "RSA, 2048 bits",
    "sk-ssh-ed25519@openssh.com": "Ed25519 in a security key, 256 bits",
}
# Points of edwards25519 that hold no secret: of order 1, 2, 4 and 8, two of them with the sign that x cannot have.
SMALL = [
    "01" + "00" * 31,
    "ec" + "ff" * 30 + "7f",
    "00" * 32,
    "00" * 31 + "80",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
]


def string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def number(value: int) -> bytes:
    return string(value.to_bytes(value.bit_length() // 8 + 1, "big"))


def line_of(*fields: bytes, comment: str = "") -> str:
    """Return a line whose blob has these fields, the first being its type."""
    blob = fields[0] + b"".join(fields[1:])
    return f"{blob[4 : 4 + blob[3]].decode()} {base64.b64encode(blob).decode()} {comment}".strip()


def keygen(*arguments: str) -> str:
    return subprocess.run(["ssh-keygen", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A line of each type: made by ssh-keygen, or, where that takes a device, from such a key by hand."""
    directory = tmp_path_factory.mktemp("keys")
    found = {}
    for name, arguments in MADE.items():
        keygen("-q", "-N", "", "-C", "marie@laptop", "-f", str(directory / name), *arguments)
        found[name] = (directory / f"{name}.pub").read_text().strip()
    for name in ACCEPTED:
        if name.startswith("sk-"):
            plain = base64.b64decode(found[name.removeprefix("sk-").removesuffix("@openssh.com")].split()[1])
            plain = plain[4 + plain[3] :]
            found[name] = line_of(string(name.encode()), plain, string(b"ssh:"), comment="marie@token")
    return found


def refused(line: str) -> str:
    """Return the code of the refusal, which the reading of files shares."""
    assert parse_authorized_keys(line) == []
    with pytest.raises(Malformed) as caught:
        parse_public_key(line)
    return caught.value.code


@pytest.mark.parametrize("name", ACCEPTED)
def test_each_accepted_type_is_read_as_ssh_keygen_reads_it(name: str, lines: dict[str, str], tmp_path: Path) -> None:
    key = parse_public_key(lines[name])
    file = tmp_path / "key.pub"
    file.write_text(key.line + "\n")
    assert key.algorithm == name
    assert key.fingerprint == keygen("-l", "-f", str(file)).split()[1]
    assert key.line == " ".join(lines[name].split()[:2])
    assert key.words == WORDS.get(name, key.words)
    assert PublicKey.of_blob(key.blob) == key


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_key_that_is_cut_or_followed_by_something_is_none(name: str, lines: dict[str, str]) -> None:
    blob = base64.b64decode(lines[name].split()[1])
    for broken in (*(blob[:size] for size in range(4, len(blob))), blob + b"\0", blob + blob):
        assert refused(f"{name} {base64.b64encode(broken).decode()}") == "INVALID_SSH_KEY"


def test_options_and_comment_are_dropped(lines: dict[str, str]) -> None:
    plain = lines["ssh-ed25519"]
    key = parse_public_key(plain)
    for options in (
        "restrict",
        'no-pty,environment="A=b c",X11-forwarding',
        r'environment="say \"ssh-rsa AAAA\" x"',
        "from=10.0.0.0/8",
    ):
        assert parse_public_key(f"{options} {plain}") == key
    assert parse_public_key(f"\t {key.line}\r\n") == key
    assert comment_of(plain) == "marie@laptop"
    assert comment_of(key.line) == ""
    assert comment_of(f"{key.line} \x1b[31ma\u202eb{'c' * 999}") == ("[31mab" + "c" * 999)[:COMMENT_MAX]
    assert [is_blank(line) for line in ("", " \t", " # x", key.line)] == [True, True, True, False]


def test_a_file_for_sshd_gives_what_allows_at_least_as_much_there(lines: dict[str, str]) -> None:
    one, two, three = (parse_public_key(lines[name]) for name in ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256"))
    content = "\n".join(
        (
            "# all of mine",
            f"{one.line} a comment\u2028{two.line}",  # a comment has one line, whatever it holds
            f"{one.line} again",
            f'cert-authority,principals="root" {two.line}',
            f'Command="rsync --server" {two.line}',
            f'no-pty,from="10.0.0.0/8" {two.line}',
            f'expiry-time="20200101" {two.line}',
            f"verify-required {two.line}",
            "ssh-rsa AAAA",
            "\0\ud800",
            f'restrict,environment="command=x" {three.line}\r',
            two.line[:-1],
        )
    )
    assert parse_authorized_keys(content) == [one, three]


def test_a_certificate_authority_is_no_user(lines: dict[str, str]) -> None:
    assert refused(f"cert-authority {lines['ssh-ed25519']}") == "SSH_KEY_TYPE_NOT_ACCEPTED"
    assert refused(f'from="*",Cert-Authority {lines["ssh-ed25519"]}') == "SSH_KEY_TYPE_NOT_ACCEPTED"


def test_certificates_are_not_accepted(tmp_path: Path) -> None:
    for name in ("ca", "user"):
        keygen("-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name))
    keygen("-q", "-s", str(tmp_path / "ca"), "-I", "marie", "-n", "marie", str(tmp_path / "user.pub"))
    assert refused((tmp_path / "user-cert.pub").read_text()) == "SSH_KEY_TYPE_NOT_ACCEPTED"


def test_dsa_and_short_rsa_are_not_accepted(tmp_path: Path) -> None:
    numbers = dsa.generate_private_key(1024).public_key().public_numbers()
    parts = numbers.parameter_numbers
    fields = [number(value) for value in (parts.p, parts.q, parts.g, numbers.y)]
    assert refused(line_of(string(b"ssh-dss"), *fields)) == "SSH_KEY_TYPE_NOT_ACCEPTED"
    keygen("-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", str(tmp_path / "short"))
    assert refused((tmp_path / "short.pub").read_text()) == "SSH_KEY_TOO_SHORT"


def test_numbers_that_no_program_makes_are_refused(lines: dict[str, str]) -> None:
    numbers = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
    n, kind = numbers.n, string(b"ssh-rsa")
    assert parse_public_key(line_of(kind, number(65537), number(n))).words == "RSA, 2048 bits"
    for fields in (
        (number(n), number(65537)),  # in the wrong order: an exponent of 2048 bits
        (number(65537), string(b"\0" + number(n)[4:])),  # a zero too many
        (number(65537), string(number(n)[5:])),  # negative
        (number(65537), number(n - 1)),
        (number(65536), number(n)),
        (number(1), number(n)),
        (number(2**64 + 1), number(n)),
        (number(65537), number(2**16384 + 1)),
        (string(b""), number(n)),
    ):
        assert refused(line_of(kind, *fields)) in ("INVALID_SSH_KEY", "SSH_KEY_TOO_SHORT")
    blob = base64.b64decode(lines["ecdsa-sha2-nistp256"].split()[1])
    kind, curve, point = string(b"ecdsa-sha2-nistp256"), string(b"nistp256"), blob[-65:]
    assert line_of(kind, curve, string(point)) in lines["ecdsa-sha2-nistp256"]
    compressed = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    compressed = compressed.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    assert refused(line_of(kind, curve, string(compressed))) == "INVALID_SSH_KEY"
    assert refused(line_of(kind, curve, string(point[:-1] + bytes([point[-1] ^ 1])))) == "INVALID_SSH_KEY"
    assert refused(line_of(kind, curve, string(b"\0"))) == "INVALID_SSH_KEY"  # the point at infinity
    assert refused(line_of(kind, string(b"nistp384"), string(point))) == "INVALID_SSH_KEY"


@pytest.mark.parametrize("encoded", [*SMALL, "02" + "00" * 31, "ff" * 32, "ed" + "ff" * 30 + "7f"])
def test_an_ed25519_key_that_everybody_or_nobody_can_have_is_refused(encoded: str) -> None:
    """OpenSSL would verify signatures with the first ones that anybody can make; the last ones are no points."""
    for kind, more in ((b"ssh-ed25519", b""), (b"sk-ssh-ed25519@openssh.com", string(b"ssh:"))):
        assert refused(line_of(string(kind), string(bytes.fromhex(encoded)), more)) == "INVALID_SSH_KEY"


def test_what_is_over_long_or_not_one_line_is_refused(lines: dict[str, str]) -> None:
    line = lines["ssh-ed25519"]
    assert parse_public_key(line + "x" * (LINE_MAX - len(line)))
    assert refused(line + "x" * (LINE_MAX - len(line) + 1)) == "INVALID_SSH_KEY"
    assert refused('a"' * (LINE_MAX // 2)) == "INVALID_SSH_KEY"  # and soon: no way back in the pattern
    for other in (
        "",
        "ssh-ed25519",
        line.replace("ssh-ed25519", "ssh-rsa", 1),
        line.replace("AAAA", "AAA", 1),
        "ssh-ed25519 AAAA====",
        f'from="unended {line}',
        rf'from="unended\\" {line}',  # for sshd the second backslash belongs to the quote
    ):
        assert refused(other) == "INVALID_SSH_KEY"
    with pytest.raises(Malformed):
        parse_public_key(f"{line}\n{line}")
    token = string(b"sk-ssh-ed25519@openssh.com") + base64.b64decode(line.split()[1])[-36:]
    assert refused(line_of(token, string(b"s" * 256))) == "INVALID_SSH_KEY"


@given(st.binary(max_size=120), st.sampled_from(ACCEPTED))
@example(b"\xff\xff\xff\xff", "ssh-rsa")
def test_any_blob_is_a_key_or_malformed(rest: bytes, name: str) -> None:
    for blob in (rest, string(name.encode()) + rest):
        with suppress(Malformed):
            key = PublicKey.of_blob(blob)
            assert parse_public_key(key.line) == key


@given(st.text(), st.integers(0, 90), st.text(max_size=3))
def test_any_line_is_a_key_or_malformed(noise: str, at: int, change: str) -> None:
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDj4Y8ZxZ0L0y6dVCJpi2ZqvdHJNoP5XU8J6D4m8nQmB"
    for text in (noise, line[:at] + change + line[at:], line[:at] + change + line[at + 1 :]):
        parse_authorized_keys(text)
        with suppress(Malformed):
            assert parse_public_key(parse_public_key(text).line)
