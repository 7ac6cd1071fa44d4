"""The section of an S3 backend: what is understood, and what is refused, in words and without a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from certificates import self_signed

from gateway.config import ConfigError, S3Config, load

LEAST = {"type": "s3", "bucket": "lab-data"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "access").write_text("an-access-key\n")
    (tmp_path / "secret").write_text("a-secret-key\n")
    (tmp_path / "two").write_text("an-access-key a-secret-key\n")
    (tmp_path / "none").write_text("\n")
    self_signed(tmp_path)
    return tmp_path


def loaded(directory: Path, section: dict[str, Any]) -> S3Config:
    document = {"public_url": "https://cloud.example.org", "state_dir": "state", "backends": {"lab": section}}
    (directory / "config.yaml").write_text(yaml.safe_dump(document))
    found = load(directory / "config.yaml").backends["lab"]
    assert isinstance(found, S3Config)
    return found


def test_a_bucket_is_all_that_has_to_be_said(directory: Path) -> None:
    least = loaded(directory, LEAST)
    assert (least.endpoint, least.region, least.prefix, least.addressing) == (None, "us-east-1", "", "path")
    assert (least.access_key_file, least.secret_key_file, least.ca_file) == (None, None, None)


def test_every_key_is_understood(directory: Path) -> None:
    """Files are found from the view of the configuration; slashes at the ends mean nothing."""
    files = {"access_key_file": "access", "secret_key_file": "secret", "ca_file": "localhost.pem"}
    more = {"endpoint": "https://S3.lab.example:9000/", "region": "garage", "prefix": "a/b/", "addressing": "virtual"}
    whole = loaded(directory, {**LEAST, **files, **more})
    assert (whole.endpoint, whole.region, whole.prefix) == ("https://s3.lab.example:9000", "garage", "a/b")
    assert (whole.access_key_file, whole.ca_file) == (directory / "access", directory / "localhost.pem")


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        ({"bucket": "a/b"}, ".bucket", "the name of a bucket"),
        ({"bucket": None}, ".bucket", "the name of a bucket"),
        ({"endpoint": "s3.lab.example"}, ".endpoint", "the URL of an S3 server"),
        ({"endpoint": "https://s3.lab.example/lab-data"}, ".endpoint", "without a path"),
        ({"endpoint": "https://key:secret@s3.lab.example"}, ".endpoint", "the URL of an S3 server"),
        ({"region": "Frankfurt am Main"}, ".region", "the name of a region"),
        ({"prefix": "a//b"}, ".prefix", "the beginning of keys"),
        ({"prefix": "../b"}, ".prefix", "the beginning of keys"),
        ({"addressing": "dns"}, ".addressing", "path or virtual"),
        ({"access_key_file": "access"}, "", "both access_key_file and secret_key_file"),
        (
            {"access_key_file": "access", "secret_key_file": "away"},
            ".secret_key_file",
            "a file that this user can read",
        ),
        ({"access_key_file": "two", "secret_key_file": "secret"}, ".access_key_file", "holds the key and nothing else"),
        (
            {"access_key_file": "access", "secret_key_file": "none"},
            ".secret_key_file",
            "holds the key and nothing else",
        ),
        ({"ca_file": "access"}, ".ca_file", "a PEM file with certificates"),
        (
            {"endpoint": "http://localhost:9000", "ca_file": "localhost.pem"},
            ".ca_file",
            "nothing beside an http endpoint",
        ),
        ({"secret_key": "a-secret-key"}, ".secret_key", "secret_key_file"),
    ],
)
def test_a_mistake_is_reported_where_it_stands(directory: Path, change: dict[str, Any], key: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(directory, {**LEAST, **change})
    found = [mistake for mistake in caught.value.mistakes if mistake.path == f"backends.lab{key}"]
    assert any(words in mistake.allowed for mistake in found), caught.value.mistakes
    assert "a-secret-key" not in str(caught.value)
