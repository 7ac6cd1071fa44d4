"""The digest that a WebDAV server sends with a file, in each of the three ways."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

import pytest

from backends.webdav.digests import digest_of

from .conformance.actions import path
from .test_webdav_odd_servers import DATE, file, listing
from .webdav_servers import Request, Scripted, backend_at, outbound

CONTENT = b"0123456789"


def made(name: str) -> bytes:
    return hashlib.new(name, CONTENT).digest()


def b64(name: str) -> str:
    return base64.b64encode(made(name)).decode()


SENT: dict[str, tuple[Mapping[str, str], str | None]] = {
    "RFC 9530": ({"Repr-Digest": f"sha-256=:{b64('sha256')}:"}, "sha256"),
    "with parameters, and beside others": (
        {"Repr-Digest": f"unixsum=7, sha-512=:{b64('sha512')}:;x=1, sha-256=:{b64('sha256')}:"},
        "sha512",
    ),
    "RFC 3230": ({"Digest": f"adler32=0a1b2c3d,SHA-256={b64('sha256')}"}, "sha256"),
    "RFC 3230's name of SHA-1": ({"Digest": f"SHA={b64('sha1')}"}, "sha1"),
    "ownCloud": ({"OC-Checksum": f"SHA1:{made('sha1').hex()} MD5:{made('md5').hex()} ADLER32:0a1b2c3d"}, "sha1"),
    "ownCloud, in capitals": ({"OC-Checksum": f"MD5:{made('md5').hex().upper()}"}, "md5"),
    "several fields": ({"OC-Checksum": f"MD5:{made('md5').hex()}", "Digest": f"SHA-512={b64('sha512')}"}, "sha512"),
    "none": ({}, None),
    "one that finds accidents only": ({"Digest": "adler32=0a1b2c3d"}, None),
    "one of what is not read": (
        {"Repr-Digest": f"sha-256=:{b64('sha256')}:", "Content-Encoding": "gzip"},
        None,
    ),
    "cut off": ({"Repr-Digest": f"sha-256=:{b64('sha256')[:20]}:", "OC-Checksum": "SHA1:abc"}, None),
    "garbage": ({"Repr-Digest": ",=:;:=,", "Digest": "SHA-256=***,=", "OC-Checksum": ":: SHA1:xyz"}, None),
    "what no header should hold": ({"Digest": "SHA-256=\xe9", "Repr-Digest": "sha-256=:\xe9:"}, None),
}


@pytest.mark.parametrize("what", SENT)
def test_the_strongest_digest_that_can_be_understood_is_taken(what: str) -> None:
    headers, name = SENT[what]
    assert digest_of(headers) == ({name: made(name)} if name else {})


def test_a_reader_tells_it_once_something_was_read() -> None:
    def answer(request: Request) -> None:
        if request.command == "PROPFIND":
            request.reply(207, listing(file("/a.txt")), Content_Type="application/xml")
        else:
            headers = {"OC_Checksum": f"SHA1:{made('sha1').hex()}", "ETag": '"v1"', "Last_Modified": DATE}
            request.reply(200, CONTENT, **headers)

    with Scripted(answer) as server:
        transport = outbound()
        with backend_at(server.url, transport).open_read(path("a.txt")) as reader:
            assert reader.digests == {}
            assert reader.read_at(0, 100) == CONTENT
            assert reader.digests == {"sha1": made("sha1")}
        transport.close()
