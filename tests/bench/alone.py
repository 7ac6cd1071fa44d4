"""boto3 alone, as a program of its own: it is told on its standard input what to do, and answers in seconds.

Usage: alone.py ENDPOINT BUCKET. The keys come from the environment, as boto3 finds them by itself. A line is a JSON
list: ["get", KEY], ["put", KEY, FILE] or ["list", PREFIX].
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import boto3
from botocore.config import Config

PIECE = 1 << 20  # bytes


def get(client: Any, bucket: str, key: str) -> None:
    """One stream, which is its fastest here: rclone takes minutes for what `download_file` asks it for at a time."""
    body = client.get_object(Bucket=bucket, Key=key)["Body"]
    while body.read(PIECE):
        pass


def put(client: Any, bucket: str, key: str, file: str) -> None:
    client.upload_file(file, bucket, key)


def listed(client: Any, bucket: str, prefix: str) -> None:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
        assert page["Contents"]


ACTS = {"get": get, "put": put, "list": listed}


def main(endpoint: str, bucket: str) -> None:
    config = Config(
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    client = boto3.session.Session().client("s3", endpoint_url=endpoint, region_name="us-east-1", config=config)
    for line in sys.stdin:
        act, *arguments = json.loads(line)
        begun = time.monotonic()
        ACTS[act](client, bucket, *arguments)
        print(time.monotonic() - begun, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
