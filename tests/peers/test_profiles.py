"""Products are recognised by what they say of themselves, and each is spoken to in its own dialect."""

from __future__ import annotations

from typing import Any

import pytest
from dialects import PRODUCTS, SHARES, discovery

from gateway.ocm.address import OCMAddress
from gateway.ocm.shares import Permission, parse_share
from gateway.profiles import PROFILES, RULES, Marks, recognise

SAME = {"nextcloud-33": "nextcloud-32"}  # the versions that speak alike


@pytest.mark.parametrize("product", PRODUCTS)
def test_each_product_is_recognised_by_its_discovery(product: str) -> None:
    assert recognise(discovery(product)).profile.product == SAME.get(product, product)


def test_every_profile_has_a_product_that_is_recognised_as_it() -> None:
    unknown = {"ocm", "ocm-1.0"}
    assert {SAME.get(product, product) for product in PRODUCTS} | unknown == set(PROFILES)


@pytest.mark.parametrize(
    ("changes", "product"),
    [
        ({"apiVersion": "1.5.0", "capabilities": []}, "ocm"),
        ({"apiVersion": "1.2", "capabilities": []}, "ocm"),
        ({"apiVersion": "1.10.0", "capabilities": []}, "ocm"),
        ({"apiVersion": "1.1.0", "capabilities": ["exchange-token"]}, "ocm"),
        ({"apiVersion": "1.1.0", "capabilities": ["/invite-accepted"]}, "ocm-1.0"),
        ({"apiVersion": "1.0-proposal1", "capabilities": []}, "ocm-1.0"),
        ({"apiVersion": "1.0", "capabilities": []}, "ocm-1.0"),
    ],
)
def test_an_unknown_product_is_taken_for_its_version(changes: dict[str, Any], product: str) -> None:
    """Which body: a capability says so, or the version (peers.md §2b)."""
    resource = {"name": "file", "shareTypes": ["user"], "protocols": {"webdav": "/elsewhere/"}}
    found = discovery("reva", provider=None, resourceTypes=[resource], **changes)
    assert recognise(found).profile.product == product


@pytest.mark.parametrize(
    ("product", "changes", "recognised"),
    [
        ("nextcloud-31", {"resourceTypes": [{"name": "file", "protocols": {"webdav": "/nc/public.php/webdav"}}]}, None),
        ("nextcloud-35", {"provider": "Cloud of the University"}, None),
        ("ocis", {"provider": "Our Cloud"}, None),
        ("seafile", {"apiVersion": "1.1"}, None),
        ("nextcloud-35", {"capabilities": ["notifications"]}, "nextcloud-32"),
        ("nextcloud-31", {"publicKey": "-----BEGIN PUBLIC KEY-----"}, "nextcloud-30"),
        ("opencloud", {"apiVersion": "1.4.0"}, "ocm"),
    ],
)
def test_a_name_of_its_own_or_a_subdirectory_changes_nothing(
    product: str, changes: dict[str, Any], recognised: str | None
) -> None:
    assert recognise(discovery(product, **changes)).profile.product == (recognised or product)


def test_the_rule_says_what_was_found() -> None:
    assert recognise(discovery("nextcloud-31")).rule == "webdav ends in /public.php/webdav/, publicKey is an object"
    assert recognise(discovery("ocis")).rule == "provider is oCIS"
    assert str(Marks()) == "nothing else fits"


def test_only_the_last_rule_fits_everything() -> None:
    assert [marks for marks, _ in RULES if marks == Marks()] == [RULES[-1][0]]
    assert len({marks for marks, _ in RULES}) == len(RULES)


@pytest.mark.parametrize("product", SHARES)
def test_what_each_product_sends_is_read(product: str) -> None:
    """The parsing rules of peers.md §2a, on the shape that each product sends."""
    body, server = SHARES[product]
    notification = parse_share(body)
    assert OCMAddress.normalise(notification.share_with) == OCMAddress("bob", "gw.example")
    assert OCMAddress.normalise(notification.sender).server == server
    assert OCMAddress.normalise(notification.owner).server == server
    assert notification.provider_id == "17"
    assert notification.expiration is None
    webdav = notification.webdav
    assert webdav is not None
    assert webdav.shared_secret.reveal() in ("s3cr3t", "cmVwbzovcGF0aA==")
    has_uri = product not in ("nextcloud-30", "nextcloud-31", "nextcloud-33", "owncloud-10", "seafile")
    assert (webdav.uri is not None) == has_uri
    assert Permission.READ in webdav.permissions
    assert (Permission.WRITE in webdav.permissions) == (product in ("nextcloud-35", "ocis", "opencloud", "reva"))
