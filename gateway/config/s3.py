"""`backends.NAME` of type s3: a bucket, the prefix in it that is the root, and whose keys open it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, PlainValidator, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from gateway.config.section import Section
from gateway.config.values import ReadableFile, public_url, refuse, require_certificates

# Amazon S3 User Guide, "General purpose bucket naming rules"; older buckets and other servers also have capitals and _
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
REGION = re.compile(r"[a-z0-9-]{1,64}")


def _bucket(value: object) -> str:
    if not isinstance(value, str) or not BUCKET.fullmatch(value):
        refuse("the name of a bucket: letters, digits, '.', '_' and '-', at least 3")
    return value


def _endpoint(value: object) -> str | None:
    if value is None:
        return None
    try:
        url = public_url(value)
    except PydanticCustomError:
        url = ""
    if not url or urlsplit(url).path:
        refuse("the URL of an S3 server without a path, as in https://s3.example.org:9000; null for Amazon's")
    return url


def _region(value: object) -> str:
    if not isinstance(value, str) or not REGION.fullmatch(value):
        refuse("the name of a region, as in eu-central-1; most servers other than Amazon's have us-east-1")
    return value


def _prefix(value: object) -> str:
    allowed = "the beginning of keys, as in lab/data, without '.', '..' and '//'"
    if not isinstance(value, str) or (value and not value.isprintable()) or len(value.encode()) > 512:
        refuse(allowed)
    prefix = value.removesuffix("/")
    if prefix and any(part in ("", ".", "..") for part in prefix.split("/")):
        refuse(allowed)
    return prefix


class S3Config(Section):
    """A bucket of an S3 server."""

    type: Literal["s3"]
    endpoint: Annotated[str | None, PlainValidator(_endpoint)] = None
    region: Annotated[str, PlainValidator(_region)] = "us-east-1"
    bucket: Annotated[str, PlainValidator(_bucket)] = Field(description="the name of a bucket")
    prefix: Annotated[str, PlainValidator(_prefix)] = ""
    addressing: Literal["path", "virtual"] = Field(default="path", description="path or virtual")
    access_key_file: ReadableFile | None = Field(default=None, description="a file with the access key")
    secret_key_file: ReadableFile | None = Field(default=None, description="a file with the secret key")
    ca_file: ReadableFile | None = Field(default=None, description="a PEM file with the certificates to believe")

    @field_validator("access_key_file", "secret_key_file")
    @classmethod
    def _holds_a_key(cls, path: Path | None) -> Path | None:
        """Look at the length alone: the text is a secret."""
        if path is not None and len(path.read_bytes().split()) != 1:
            refuse("a file that holds the key and nothing else", f"{str(path)!r}, which does not")
        return path

    @field_validator("ca_file")
    @classmethod
    def _has_certificates(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and (info.data.get("endpoint") or "https:").startswith("http:"):
            refuse("nothing beside an http endpoint, which uses no certificates")
        return path if path is None else require_certificates(path)

    @model_validator(mode="after")
    def _both_keys(self) -> S3Config:
        if (self.access_key_file is None) != (self.secret_key_file is None):
            refuse("both access_key_file and secret_key_file, or neither: then boto3 looks for keys", "one of the two")
        return self
