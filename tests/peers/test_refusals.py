"""Each fake refuses what its product refuses, with the product's status, and says why."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from gateway.peersim import PRODUCTS, Fake, Resource
from gateway.peersim.journal import Refused

from .stories import contexts, known_as, two_of, user_of

ABSENT = object()
Change = Callable[[dict[str, Any]], None]


def put(path: str, value: Any) -> Change:
    """Return a change of one member of a body, or its removal."""

    def change(body: dict[str, Any]) -> None:
        *above, name = path.split("/")
        for step in above:
            body = body[step]
        if value is ABSENT:
            del body[name]
        else:
            body[name] = value

    change.__name__ = f"{path}={'ABSENT' if value is ABSENT else value}"
    return change


REFUSED = [
    ("nextcloud-30", put("resourceType", "folder"), 501, "resourceType 'folder'"),
    ("nextcloud-30", put("protocol/name", "multi"), 501, "protocol 'multi'"),
    ("nextcloud-30", put("protocol/options", ABSENT), 400, "options.sharedSecret"),
    ("nextcloud-30", put("ownerDisplayName", ""), 501, "ownerDisplayName"),
    ("nextcloud-30", put("providerId", ABSENT), 400, "providerId"),
    ("nextcloud-30", put("shareWith", "nobody@localhost"), 400, "no user"),
    ("nextcloud-30", put("name", "a/b"), 400, "no name of a file"),
    ("nextcloud-35", put("protocol/webdav/permissions", []), 400, "permissions"),
    ("nextcloud-35", put("protocol/name", "ssh"), 501, "protocol 'ssh'"),
    ("owncloud-10", put("shareType", "group"), 501, "shareType 'group'"),
    ("owncloud-10", put("sender", ABSENT), 400, "sender"),
    ("reva", put("protocol", "webdav"), 400, "what nobody would expect there"),
    ("reva", put("expiration", "0"), 400, "no JSON integer"),
    ("reva", put("expiration", None), 400, "no JSON integer"),
    ("reva", put("protocol/ssh", {}), 400, "ssh not recognized"),
    ("reva", put("protocol/webdav/permissions", []), 400, "permissions"),
    ("reva", put("protocol/webdav/requirements", ["must-use-mfa"]), 400, "requirements"),
    ("reva", put("sender", ABSENT), 400, "sender is missing"),
    ("reva", put("sender", "somebody@localhost"), 401, "no accepted invite"),
    ("opencloud", put("protocol/options", {"sharedSecret": "x"}), 400, "options not supported"),
    ("opencloud", put("protocol/webdav/uri", "abc"), 400, "not absolute"),
    ("opencloud", put("protocol/embedded", {}), 400, "embedded not recognized"),
    ("opencloud", put("sender", "somebody@localhost"), 401, "not listed"),
    ("ocis", put("protocol/webdav/uri", "http://localhost/dav/ocm/1"), 400, "not https"),
    ("seafile", put("protocol/options", ABSENT), 500, "crashes"),
    ("seafile", put("sharedBy", ABSENT), 400, "sharedBy"),
    ("ocm-go", put("protocol/options", {}), 501, "even if empty"),
    ("ocm-go", put("resourceType", "folder"), 501, "'folder'"),
    ("ocm-go", put("protocol/webdav/permissions", ["read", "write"]), 501, "permissions"),
    ("ocm-go", put("protocol/webdav/requirements", ABSENT), 400, "must-exchange-token"),
    ("ocm-go", put("owner", "somebody@localhost"), 403, "signs for"),
    ("ocm-go", put("owner", "somebody@https://localhost"), 400, "scheme or a path"),
]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ssl.SSLContext]:
    return contexts(tmp_path_factory.mktemp("tls"))


def body_of(ann: Fake, ben: Fake, document: dict[str, Any]) -> dict[str, Any]:
    """Return a body that the product takes; ann and ben are contacts."""
    resource = Resource.folder() if ann.shares_folders else Resource.file(b"alpha")
    sent = ann.new_share(known_as(ben), resource, "data", user_of(ann), ("read",))
    ann.sent[sent.path_id] = sent
    for address in (ann.address(user_of(ann)), known_as(ann)):
        ben.befriend(user_of(ben), address)
    return ann.share_body(sent, document)


@pytest.mark.parametrize(
    ("product", "change", "status", "why"), REFUSED, ids=[f"{case[0]}-{case[1].__name__}" for case in REFUSED]
)
async def test_a_share_that_the_product_refuses(
    product: str, change: Change, status: int, why: str, tls: dict[str, ssl.SSLContext]
) -> None:
    async with two_of(PRODUCTS[product], **tls) as (ann, ben):
        document = await ann.discover(ben.server)
        body = body_of(ann, ben, document)
        change(body)
        answer = await ann.post(document, "/shares", body)
        assert answer.status == status, ben.journal.complaints
        assert ben.received == []
        assert any(why in complaint for complaint in ben.journal.complaints), ben.journal.complaints


async def test_nextcloud_35_takes_five_shares_in_twenty_minutes(tls: dict[str, ssl.SSLContext]) -> None:
    async with two_of(PRODUCTS["nextcloud-35"], **tls) as (ann, ben):
        document = await ann.discover(ben.server)
        answers = [await ann.post(document, "/shares", body_of(ann, ben, document)) for _ in range(6)]
        assert [answer.status for answer in answers] == [201] * 5 + [429]


@pytest.mark.parametrize("product", ["nextcloud-31", "nextcloud-35"])
async def test_who_has_signed_once_has_to_go_on(product: str, tls: dict[str, ssl.SSLContext]) -> None:
    async with two_of(PRODUCTS[product], **tls) as (ann, ben):
        document = await ann.discover(ben.server)
        silent = {name: value for name, value in document.items() if name not in ("publicKey", "capabilities")}
        unsigned, signed = body_of(ann, ben, silent), body_of(ann, ben, document)
        assert (await ann.post(silent, "/shares", unsigned)).status == 201
        assert (await ann.post(document, "/shares", signed)).status == 201
        assert (await ann.post(silent, "/shares", body_of(ann, ben, silent))).status == 400
        assert "has signed by" in ben.journal.complaints[-1]


@pytest.mark.parametrize("product", ["nextcloud-31", "nextcloud-35", "ocm-go"])
async def test_a_signature_of_another_request_does_not_count(product: str, tls: dict[str, ssl.SSLContext]) -> None:
    async with two_of(PRODUCTS[product], **tls) as (ann, ben):
        document = await ann.discover(ben.server)
        body = body_of(ann, ben, document)
        sign = ann.sign

        async def of_another(method: str, url: str, body: bytes, document: dict[str, Any]) -> dict[str, str]:
            return await sign(method, url, body.replace(b"data", b"date"), document)

        ann.sign = of_another  # type: ignore[method-assign]  # signs another body
        assert (await ann.post(document, "/shares", body)).status == (401 if product == "ocm-go" else 400)
        assert ben.received == []


async def test_ocm_go_takes_nothing_unsigned_and_nobody_uninvited(tls: dict[str, ssl.SSLContext]) -> None:
    async with two_of(PRODUCTS["ocm-go"], **tls) as (ann, ben):
        document = await ann.discover(ben.server)
        body = body_of(ann, ben, document)
        assert (await ann.post(document | {"capabilities": []}, "/shares", body)).status == 401
        ben.contacts.clear()
        assert (await ann.post(document, "/shares", body)).status == 403


@pytest.mark.parametrize(
    ("product", "about", "status", "why"),
    [
        ("nextcloud-31", {"sharedSecret": "wrong"}, 403, "with this secret"),
        ("nextcloud-31", {}, 400, "notification"),
        ("owncloud-10", {"sharedSecret": "wrong"}, 403, "with this secret"),
        ("ocis", {"sharedSecret": "x"}, 400, "grantee"),
        ("seafile", {"sharedSecret": "wrong"}, 400, "no Share has this secret"),
        ("ocm-go", {"sharedSecret": "x"}, 404, "no Share"),
    ],
)
async def test_a_notification_that_the_product_refuses(
    product: str, about: dict[str, str], status: int, why: str, tls: dict[str, ssl.SSLContext]
) -> None:
    async with two_of(PRODUCTS[product], **tls) as (ann, ben):
        document = await ann.discover(ben.server)
        body = {"notificationType": "SHARE_UNSHARED", "resourceType": "file", "providerId": "1", "notification": about}
        assert (await ann.post(document, "/notifications", body)).status == status
        assert why in ben.journal.complaints[-1]


DOCUMENT: dict[str, Any] = {
    "enabled": True,
    "apiVersion": "1.1",
    "endPoint": "https://gw.example/ocm",
    "resourceTypes": [{"name": "file", "shareTypes": ["user"], "protocols": {"webdav": "/dav/ocm/"}}],
}


@pytest.mark.parametrize(
    ("product", "change", "why"),
    [
        ("nextcloud-30", put("apiVersion", "1.5.0"), "API version not supported"),
        ("nextcloud-33", put("endPoint", ""), "endPoint"),
        ("nextcloud-33", put("resourceTypes", [{"name": "file", "protocols": {"webdav": {}}}]), "no string"),
        ("owncloud-10", put("enabled", 1), "enabled"),
        ("seafile", put("resourceTypes", [{"name": "folder", "protocols": {"ssh": "gw:22"}}]), "resourceTypes[0]"),
        ("ocm-go", put("tokenEndPoint", "https://gw.example/ocm/token"), "come together"),
        ("ocm-go", put("capabilities", ["exchange-token"]), "come together"),
        ("ocm-go", put("jwksUri", "https://gw.example/jwks#1"), "jwksUri"),
    ],
)
def test_a_document_that_the_product_cannot_use(product: str, change: Change, why: str) -> None:
    fake = PRODUCTS[product]()
    fake.check_discovery(deepcopy(DOCUMENT))
    document = deepcopy(DOCUMENT)
    change(document)
    with pytest.raises(Refused) as refused:
        fake.check_discovery(document)
    assert why in refused.value.why
