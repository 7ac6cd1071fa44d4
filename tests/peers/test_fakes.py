"""The fakes themselves: two of a product get along, they know nothing of the gateway, their signatures are right."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import gateway.peersim
from gateway.peersim import PRODUCTS, Fake, Resource, cavage, message_signatures
from gateway.peersim.inviting import Inviting
from gateway.peersim.reva import Reva

from .stories import contexts, known_as, two_of, user_of

VECTORS = Path(__file__).parents[1] / "vectors" / "draft-07-appendix-b.json"
ONLY_READ = ("ocm-go", "seafile")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ssl.SSLContext]:
    return contexts(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("product", PRODUCTS)
async def test_two_of_a_product_get_along(product: str, tls: dict[str, ssl.SSLContext]) -> None:
    async with two_of(PRODUCTS[product], **tls) as (ann, ben):
        await play(ann, ben)


async def test_two_revas_with_code_flow_get_along(tls: dict[str, ssl.SSLContext]) -> None:
    async with two_of(Reva, code_flow=True, **tls) as (ann, ben):
        await play(ann, ben)


async def play(ann: Fake, ben: Fake) -> None:
    """Invite, share, accept, list, read, write, revoke; nobody may have anything to complain about."""
    if isinstance(ann, Inviting) and isinstance(ben, Inviting) and ann.needs_invite:
        token, _ = ann.invite(user_of(ann))
        assert await ben.accept_invite(user_of(ben), token, ann.server) == known_as(ann)
    permissions = ("read",) if ann.product in ONLY_READ else ("read", "write")
    resource = Resource.folder(a_txt=b"alpha") if ann.shares_folders else Resource.file(b"alpha")
    sent = await ann.send_share(known_as(ben), resource, permissions=permissions)
    (received,) = ben.received
    reached = await ben.accept(received)
    if ann.shares_folders:
        assert await reached.names() == ["a.txt"]
    assert await reached.read("a.txt" if ann.shares_folders else "") == b"alpha"
    if ann.product not in ONLY_READ:
        await reached.write("b.txt", b"beta")
        await reached.make_folder("sub")
        await reached.move("b.txt", "sub/b.txt")
        await reached.remove("sub", folder=True)
        assert sorted(resource.nodes) == ["", "a.txt"]
    await ann.revoke(sent)
    assert await reached.is_refused()
    assert ann.journal.complaints + ben.journal.complaints == []


def test_the_fakes_know_nothing_of_the_gateway() -> None:
    """What they shared with it they would get wrong together."""
    files = list(Path(gateway.peersim.__path__[0]).glob("*.py"))
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    tops = {line.split()[1].partition(".")[0] for line in lines if line.startswith(("import ", "from "))}
    assert files
    assert tops - set(sys.stdlib_module_names) == {"", "aiohttp", "cryptography"}


# --- signatures: judged by what others have made ----------------------------------------------------------------------


def test_the_signature_of_the_draft_is_valid_and_no_other() -> None:
    vectors = json.loads(VECTORS.read_text())
    message = vectors["share_creation_notification"]
    url, body, headers = message["target_uri"], message["body"].encode(), message["headers"]
    found = message_signatures.find(headers)
    assert found is not None

    def verify(url: str = url, body: bytes = body, now: float = 1785060500, **changes: str) -> None:
        changed = headers | {name.replace("_", "-"): value for name, value in changes.items()}
        message_signatures.verify(found, vectors["jwks"], "POST", url, changed, body, now=now)

    verify()
    for wrong in ({"url": url + "/"}, {"body": body + b" "}, {"now": 1785060801}, {"now": 1785060439}):
        with pytest.raises(message_signatures.BadSignature):
            verify(**wrong)
    with pytest.raises(message_signatures.BadSignature, match="length"):
        verify(Content_Length="1", Content_length="1")


def test_openssl_accepts_a_cavage_signature(tmp_path: Path) -> None:
    """The string is the one of the draft, with the signature that PKCS #1 v1.5 over SHA-512 makes of it."""
    key = cavage.new_key()
    headers = cavage.sign(key, "https://nc.example/ocm#signature", "POST", "/ocm/shares", "gw.example", b"{}", 0)
    signature = cavage.members(headers["Signature"])
    text = (
        "(request-target): post /ocm/shares\ncontent-length: 2\ndate: Thu, 01 Jan 1970 00:00:00 GMT\n"
        "digest: SHA-512=J8dGcK23UHX60FjVzq97IMTneGyDuuijL2Jvl4KvNMmjPCBG72D9Knh403jin+yFGAa72aZ4ePOp8c2kgwdj/Q==\n"
        "host: gw.example"
    )
    (tmp_path / "key.pem").write_text(cavage.public_pem(key))
    (tmp_path / "text").write_text(text)
    (tmp_path / "signature").write_bytes(base64.b64decode(signature["signature"]))
    command = ["openssl", "dgst", "-sha512", "-verify", "key.pem", "-signature", "signature", "text"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "Verified OK\n", done.stderr


@pytest.mark.parametrize("algorithm", ["rsa-sha256", "rsa-sha512", "hs2019"])
def test_a_cavage_signature_of_openssl_is_accepted(tmp_path: Path, algorithm: str) -> None:
    """What is not called rsa-sha512 is checked with SHA-256, whatever it is called."""
    key = cavage.new_key()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    headers = {
        "Host": "nc.example",
        "Date": "Thu, 01 Jan 1970 00:00:00 GMT",
        "Digest": "SHA-256=RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=",
        "Content-Length": "2",
    }
    lines = (
        "(request-target): post /x",
        "content-length: 2",
        f"date: {headers['Date']}",
        f"digest: {headers['Digest']}",
    )
    text = "\n".join([*lines, "host: nc.example"])
    digest = "-sha512" if algorithm == "rsa-sha512" else "-sha256"
    (tmp_path / "text").write_text(text)
    command = ["openssl", "dgst", digest, "-sign", "key.pem", "text"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    value = base64.b64encode(made).decode()
    covered = "(request-target) content-length date digest host"
    headers["Signature"] = f'keyId="k",algorithm="{algorithm}",headers="{covered}",signature="{value}"'
    public = cavage.public_pem(key)
    cavage.verify(public, "POST", "/x", headers, b"{}", now=300)
    for target, body, now in (("/y", b"{}", 0), ("/x", b"[]", 0), ("/x", b"{}", 301)):
        with pytest.raises(cavage.BadSignature):
            cavage.verify(public, "POST", target, headers, body, now=now)
