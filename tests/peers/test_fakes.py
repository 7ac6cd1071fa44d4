"""The fakes themselves: two of a product get along with each other, and each refuses what the product refuses."""

from __future__ import annotations

import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from certificates import self_signed

import gateway.peersim
from gateway.peersim import PRODUCTS, Fake, Resource
from gateway.peersim.inviting import Inviting
from gateway.peersim.reva import Reva

ONLY_READS = ("ocm-go", "seafile")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ssl.SSLContext]:
    """The contexts of a server and of a client that trusts it."""
    certificate = self_signed(tmp_path_factory.mktemp("tls"))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate)
    return {"tls": server, "trusted": ssl.create_default_context(cafile=str(certificate[0]))}


@asynccontextmanager
async def started(*fakes: Fake) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for fake in fakes:
            await fake.start()
            stack.push_async_callback(fake.stop)
        yield


async def two_of(make: Callable[[], Fake]) -> list[str]:
    """Play the story between two fakes of a product and return what they complain about."""
    ann, ben = make(), make()
    async with started(ann, ben):
        (user,) = ann.users
        ann.trust(ben.server, f"{ben.url}{ben.api}")
        ben.trust(ann.server, f"{ann.url}{ann.api}")
        if isinstance(ann, Inviting) and isinstance(ben, Inviting) and ann.needs_invite:
            token, _ = ann.invite(user)
            assert await ben.accept_invite(user, token, ann.server) == ann_known_to_ben(ann, user)
        file_only = ann.product == "ocm-go"
        resource = Resource.file(b"alpha") if file_only else Resource.folder(a_txt=b"alpha")
        permissions = ("read",) if ann.product in ONLY_READS else ("read", "write")
        sent = await ann.send_share(ben.address(ben_known_to_ann(ben, user)), resource, permissions=permissions)
        (received,) = ben.received
        reached = await ben.accept(received)
        if file_only:
            assert await reached.read() == b"alpha"
        else:
            assert await reached.names() == ["a.txt"]
            assert await reached.read("a.txt") == b"alpha"
        if ann.product not in ONLY_READS:
            await reached.write("b.txt", b"beta")
            await reached.make_folder("sub")
            await reached.move("b.txt", "sub/b.txt")
            await reached.remove("sub", folder=True)
            assert sorted(resource.nodes) == ["", "a.txt"]
        await ann.revoke(sent)
        assert await reached.is_refused()
    return ann.journal.complaints + ben.journal.complaints


def ann_known_to_ben(ann: Fake, user: str) -> str:
    return ann.address(ann.user_id(user).partition("@")[0]) if isinstance(ann, Inviting) else ann.address(user)


def ben_known_to_ann(ben: Fake, user: str) -> str:
    return ben.user_id(user).partition("@")[0] if isinstance(ben, Inviting) and ben.needs_invite else user


@pytest.mark.parametrize("product", PRODUCTS)
async def test_two_of_a_product_get_along(product: str, tls: dict[str, ssl.SSLContext]) -> None:
    assert await two_of(partial(PRODUCTS[product], **tls)) == []


async def test_two_revas_with_code_flow_get_along(tls: dict[str, ssl.SSLContext]) -> None:
    assert await two_of(partial(Reva, code_flow=True, **tls)) == []


def test_the_fakes_know_nothing_of_the_gateway() -> None:
    """What they share with it they would get wrong together."""
    directory = Path(gateway.peersim.__path__[0])
    lines = [line for path in directory.glob("*.py") for line in path.read_text(encoding="utf-8").splitlines()]
    imported = [line for line in lines if line.startswith(("import ", "from "))]
    tops = {line.split()[1].partition(".")[0] for line in imported}
    assert tops - set(sys.stdlib_module_names) == {"", "aiohttp", "cryptography"}
