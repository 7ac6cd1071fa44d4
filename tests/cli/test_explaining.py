"""`share create --explain`: the peer, the rule, and the exact body, before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.store import peers, sent_shares

from .served import Served

CREATE = ("share", "create", "/home/data", "--as", "alice", "--with", "bob@peer.example")


@pytest.fixture
def explained(served: Served) -> Iterator[Served]:
    """A gateway whose peers become what the test says, and after that what they were."""
    before = served.peers.discovery
    served.peers.posts.clear()
    yield served
    served.peers.discovery = before
    served.store.run_sync(lambda tx: peers.forget(tx, "peer.example"))


def stored(served: Served) -> list[Any]:
    return [*served.store.read_sync(lambda tx: sent_shares.of_owner(tx, None)), *served.messages()]


@pytest.mark.parametrize("product", ["nextcloud-31", "ocis", "nextcloud-35"])
def test_what_is_explained_is_what_would_be_sent(explained: Served, product: str) -> None:
    served = explained
    served.peers.be(product)
    before = stored(served)
    told = served.json(*CREATE, "--explain")
    assert (served.peers.posts, stored(served)) == ([], before)
    served.json(*CREATE)
    (sent,) = served.peers.told("/shares")
    assert told["url"].endswith("/ocm/shares")
    assert (told["product"], told["method"], told["problem"]) == (product, "POST", None)
    secret = json.dumps(sent["protocol"]).partition('"sharedSecret": "')[2].partition('"')[0]
    known = {secret: "***", sent["providerId"]: told["body"]["providerId"]}
    text = json.dumps(sent)
    for made, shown in known.items():
        text = text.replace(made, shown)
    assert json.loads(text) == told["body"]


def test_the_body_of_the_second_attempt_is_explained_too(explained: Served) -> None:
    explained.peers.be("owncloud-10")
    told = explained.json(*CREATE, "--explain")
    assert (told["body"]["protocol"]["name"], told["other_body"]["protocol"]["name"]) == ("webdav", "multi")
    explained.peers.be("nextcloud-35")
    assert explained.json(*CREATE, "--explain")["other_body"] is None, "the exchange is required"


def test_what_has_worked_is_explained(explained: Served) -> None:
    explained.peers.be("owncloud-10")
    explained.store.run_sync(lambda tx: peers.worked(tx, "peer.example", "owncloud-10", body="modern"))
    assert explained.json(*CREATE, "--explain")["body"]["protocol"]["name"] == "multi"


def test_people_read_product_rule_url_and_body(explained: Served) -> None:
    explained.peers.be("nextcloud-31")
    done = explained.cli(*CREATE, "--explain")
    assert done.exit_code == 0
    for line in (
        "product: nextcloud-31",
        "rule: webdav ends in /public.php/webdav/, publicKey is an object",
        "POST https://peer.example/index.php/ocm/shares (signature: cavage)",
        '"sharedSecret": "***"',
        "Nothing was sent or stored.",
    ):
        assert line in " ".join(done.stdout.split()), done.stdout


def test_what_would_not_be_sent_is_explained_with_the_reason(explained: Served) -> None:
    explained.peers.be("ocm-go")
    done = explained.cli(*CREATE, "--explain", "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (told["body"], told["other_body"], told["product"]) == (None, None, "ocm-go")
    assert "takes files only" in told["problem"]
    assert "takes files only" in explained.cli(*CREATE, "--explain").stderr


def test_what_cannot_be_shared_is_not_explained(explained: Served) -> None:
    done = explained.cli("share", "create", "/home/none", "--as", "alice", "--with", "bob@peer.example", "--explain")
    assert (done.exit_code, "(NO_SUCH_PATH)" in done.stderr) == (1, True)
