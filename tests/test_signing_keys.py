"""The gateway's own keys: private, published, and rotated without a gap."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from parts import Clock

from gateway.ocm import cavage
from gateway.ocm.keys import JWKSet
from gateway.ocm.signatures import Message, sign, verify
from gateway.signing_keys import PUBLISHED_BEFORE_USE, SigningKeys

ORIGIN = "https://gateway.example:8443"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    before = os.umask(0o022)
    yield tmp_path / "state" / "keys"
    os.umask(before)


def opened(directory: Path, clock: Clock) -> SigningKeys:
    """Open the keys with files that say they were made by the test's clock."""
    SigningKeys(directory, ORIGIN, clock)
    for path in directory.iterdir():
        if path.stat().st_mtime > clock():
            os.utime(path, (clock(), clock()))
    return SigningKeys(directory, ORIGIN, clock)


def rotate(keys: SigningKeys, directory: Path, clock: Clock) -> SigningKeys:
    """Rotate now, as the test's clock has it, and open the files again."""
    there = set(directory.iterdir())
    keys.rotate()
    for path in set(directory.iterdir()) - there:
        os.utime(path, (clock(), clock()))
    return SigningKeys(directory, ORIGIN, clock)


def kids(keys: SigningKeys) -> list[str]:
    return [str(jwk["kid"]).removeprefix(f"{ORIGIN}/ocm#") for jwk in keys.document()["keys"]]  # JSON


def test_both_algorithms_are_made_at_the_first_start_and_private(directory: Path, clock: Clock) -> None:
    keys = opened(directory, clock)
    assert sorted(kids(keys)) == ["ed25519-1", "es256-1"]
    assert {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()} == {
        "ed25519-1.pem": 0o600,
        "es256-1.pem": 0o600,
    }
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {key.alg for key in keys.public()} == {"Ed25519", "ES256"}


def test_the_same_keys_are_there_at_the_next_start(directory: Path, clock: Clock) -> None:
    assert opened(directory, clock).document() == opened(directory, clock).document()


def test_two_that_start_at_once_have_the_same_keys(directory: Path, clock: Clock) -> None:
    assert SigningKeys(directory, ORIGIN, clock).document() == SigningKeys(directory, ORIGIN, clock).document()


def test_what_is_published_holds_no_private_part(directory: Path, clock: Clock) -> None:
    for jwk in opened(directory, clock).document()["keys"]:  # JSON
        assert set(jwk) <= {"kty", "crv", "kid", "alg", "use", "x", "y"}


@pytest.mark.parametrize("algorithm", ["Ed25519", "ES256"])
def test_what_is_signed_verifies_with_what_is_published(directory: Path, clock: Clock, algorithm: str) -> None:
    keys = opened(directory, clock)
    message = Message("POST", "https://peer.example/ocm/shares", (), b"{}")
    headers = sign(message, keys.signing_key(algorithm), int(clock()))
    received = Message("POST", "https://peer.example/ocm/shares", tuple(headers.items()), b"{}")
    verified = verify(received, JWKSet.parse(keys.document()), now=clock())
    assert verified.key_id == keys.signing_key(algorithm).kid


def test_a_first_key_signs_at_once(directory: Path, clock: Clock) -> None:
    assert opened(directory, clock).signing_key().kid == f"{ORIGIN}/ocm#ed25519-1"


def test_a_new_key_is_published_at_once_and_signs_when_peers_have_had_time(directory: Path, clock: Clock) -> None:
    keys = opened(directory, clock)
    clock.advance(10 * PUBLISHED_BEFORE_USE)
    keys = rotate(keys, directory, clock)
    assert sorted(kids(keys)) == ["ed25519-1", "ed25519-2", "es256-1", "es256-2"]
    clock.advance(PUBLISHED_BEFORE_USE - 1)
    assert keys.signing_key().kid.endswith("#ed25519-1")
    clock.advance(1)
    assert keys.signing_key().kid.endswith("#ed25519-2")
    assert keys.signing_key("ES256").kid.endswith("#es256-2")
    assert {record.key.kid.rpartition("#")[2] for record in keys.records() if record.signs} == {
        "ed25519-2",
        "es256-2",
    }


def test_rotating_twice_in_the_waiting_time_goes_on_signing_with_what_peers_know(directory: Path, clock: Clock) -> None:
    keys = opened(directory, clock)
    clock.advance(10 * PUBLISHED_BEFORE_USE)
    keys = rotate(rotate(keys, directory, clock), directory, clock)
    assert keys.signing_key().kid.endswith("#ed25519-1")
    clock.advance(PUBLISHED_BEFORE_USE)
    assert keys.signing_key().kid.endswith("#ed25519-3")


def test_a_rotation_in_the_running_gateway_needs_no_restart(directory: Path, clock: Clock) -> None:
    keys = opened(directory, clock)
    records = keys.rotate()
    assert len(records) == 4
    assert sorted(kids(keys)) == ["ed25519-1", "ed25519-2", "es256-1", "es256-2"]


def test_the_rsa_key_is_made_when_it_is_asked_for_and_stands_in_no_jwk_set(directory: Path, clock: Clock) -> None:
    """It has 3072 bits and is named after the host and the port (peers.md section 6)."""
    keys = opened(directory, clock)
    key = keys.cavage_key()
    assert (key.kid, key.private_key.key_size) == (f"{ORIGIN}/ocm#rsa-sha512-1", 3072)
    assert (directory / "rsa-sha512-1.pem").stat().st_mode & 0o777 == 0o600
    assert SigningKeys(directory, ORIGIN, clock).cavage_key().published() == key.published()
    assert sorted(kids(keys)) == ["ed25519-1", "es256-1"]
    assert "PRIVATE" not in repr(keys.records()) + str(key.published())


def test_a_new_rsa_key_is_published_and_signs_from_the_same_moment(directory: Path, clock: Clock) -> None:
    """Nextcloud fetches discovery anew for a name that it does not know, and has to find it there: no hour's wait."""
    keys, another_process = opened(directory, clock), opened(directory, clock)
    message = Message("POST", "https://peer.example/ocm/shares", (), b"{}")
    for name in ("rsa-sha512-1", "rsa-sha512-2"):
        for process in (keys, another_process):
            published = cavage.CavageKey.published(process.cavage_key().published())
            assert published is not None
            assert published.key_id == f"{ORIGIN}/ocm#{name}"
            headers = cavage.sign(message, process.cavage_key(), clock())
            signed = Message("POST", message.target_uri, tuple(headers.items()), b"{}")
            cavage.verify(signed, published, "gateway.example:8443", now=clock())
        signing = [record.key.kid for record in keys.rotate() if record.signs and record.key.alg == cavage.ALGORITHM]
    assert signing == [f"{ORIGIN}/ocm#rsa-sha512-3"]


def test_numbers_are_compared_as_numbers_and_never_used_again(directory: Path, clock: Clock) -> None:
    """Peers pin what a kid means: a new key never gets the name of an old one that was taken away."""
    keys = opened(directory, clock)
    for _ in range(10):
        clock.advance(2 * PUBLISHED_BEFORE_USE)
        keys = rotate(keys, directory, clock)
    clock.advance(2 * PUBLISHED_BEFORE_USE)
    assert keys.signing_key().kid.endswith("#ed25519-11")
    (directory / "ed25519-1.pem").unlink()
    keys = SigningKeys(directory, ORIGIN, clock)
    assert keys.signing_key().kid.endswith("#ed25519-11")
    assert "ed25519-1" not in kids(keys)
    keys = rotate(keys, directory, clock)
    assert "ed25519-12" in kids(keys)


def test_other_files_in_the_directory_are_left_alone(directory: Path, clock: Clock) -> None:
    directory.mkdir(parents=True)
    strangers = ["state.key", "ed25519-0.pem", "ed25519-01.pem", "ed25519-2.pem~", "rsa-1.pem", "README", ".x.pem.ab12"]
    for name in strangers:
        (directory / name).write_text("not a key")
    keys = SigningKeys(directory, ORIGIN, clock)
    assert sorted(kids(keys)) == ["ed25519-1", "es256-1"]
    assert {path.name for path in directory.iterdir()} == {*strangers, "ed25519-1.pem", "es256-1.pem"}


def test_a_key_file_that_is_none_is_an_error_that_names_it(directory: Path, clock: Clock) -> None:
    opened(directory, clock)
    (directory / "ed25519-1.pem").write_text("-----BEGIN NONSENSE-----")
    with pytest.raises(OSError, match=r"ed25519-1\.pem holds no private key"):
        SigningKeys(directory, ORIGIN, clock)


def test_a_key_shows_nothing_of_itself(directory: Path, clock: Clock) -> None:
    keys = opened(directory, clock)
    shown = repr(keys.records()) + repr(keys.public()) + str(keys.signing_key())
    assert "PRIVATE" not in shown
    assert "private_key" not in shown
