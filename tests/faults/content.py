"""Content that says of itself whether it is whole: a digest first, and then what has this digest."""

from __future__ import annotations

import hashlib
import random

SIZES = (0, 100, 10_000, 300_000)  # bytes; none, less than a page, a few pages, more than one write
_DIGEST = 64  # characters


def made(choices: random.Random, size: int | None = None) -> bytes:
    """Return new content; `size` without the digest, chosen from SIZES if it is not given."""
    data = choices.randbytes(choices.choice(SIZES) if size is None else size)
    return hashlib.sha256(data).hexdigest().encode() + data


def digest(content: bytes) -> str:
    """Return the digest in whole content; fails for anything else."""
    claimed, data = content[:_DIGEST].decode("latin-1"), content[_DIGEST:]
    assert claimed == hashlib.sha256(data).hexdigest(), f"{len(content)} bytes that are not whole"
    return claimed
