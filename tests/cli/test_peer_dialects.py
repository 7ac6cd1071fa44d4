"""`peer show`: what a server is taken for, by which rule, and what has worked with it."""

from __future__ import annotations

import json

import pytest
from dialects import documents

from gateway.store import peers

from .served import Served

URL = "https://peer.example/ocm-provider/"


def know(served: Served, document_of: str, /, **more: str) -> None:
    document = json.dumps(documents()[document_of])
    values = dict.fromkeys(("product", *peers.WORKED)) | {"discovery": document, "discovery_url": URL} | more
    served.store.run_sync(lambda tx: peers.put(tx, "peer.example", **values))


def test_a_recognised_product_is_shown_with_its_profile_and_what_worked(served: Served) -> None:
    know(served, "owncloud-10", product="owncloud-10", body="legacy", way_in="basic_root", signature="none")
    shown = served.json("peer", "show", "peer.example")
    assert shown["product"] == "owncloud-10"
    assert shown["worked"] == {"body": "legacy", "way_in": "basic_root", "signature": "none"}
    assert shown["discovery"] == documents()["owncloud-10"]
    assert shown["profile"] == {
        "title": "ownCloud 10",
        "rule": "webdav ends in /public.php/webdav/, shareTypes is there",
        "body": "legacy",
        "folders": "file",
        "permissions": ["read", "write", "share"],
        "exchange": False,
        "signature": "none",
        "algorithm": None,
        "ways": ["basic_root"],
        "notifications": ["SHARE_ACCEPTED", "SHARE_DECLINED", "SHARE_UNSHARED"],
        "invite": None,
    }
    text = served.cli("peer", "show", "peer.example").stdout
    assert "\nhow it is spoken to:\n  title:       ownCloud 10\n" in text
    assert "\nwhat has worked:\n  body:      legacy\n" in text
    for line in ("product: owncloud-10", "title: ownCloud 10", "ways: basic_root", "way in: basic_root"):
        assert line in " ".join(text.split()), text


def test_what_worked_with_another_product_is_not_shown(served: Served) -> None:
    know(served, "nextcloud-31", product="owncloud-10", body="modern")
    assert served.json("peer", "show", "peer.example")["worked"] == {"body": None, "way_in": None, "signature": None}
    assert "what has worked" not in served.cli("peer", "show", "peer.example").stdout


@pytest.mark.parametrize("product", ["ocis", "opencloud", "reva", "ocm-go"])
def test_the_operator_is_told_that_an_invite_comes_first(served: Served, product: str) -> None:
    know(served, product)
    assert "exchange an invite first" in served.cli("peer", "show", "peer.example").stdout


def test_a_server_that_said_nothing_of_itself_is_shown_without_a_product(served: Served) -> None:
    served.cli("peer", "trust", "quiet.example")
    shown = served.json("peer", "show", "quiet.example")
    assert (shown["product"], shown["profile"], shown["worked"], shown["discovery"]) == (None, None, None, None)
