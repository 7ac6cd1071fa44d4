"""`request`: what peers of each age are told, and what people read."""

from __future__ import annotations

from typing import Any

import pytest
from fake_peers import MODERN

from gateway.requesting import UNANSWERED

from .served import Served

OWNER = "carol@peer.example"


@pytest.fixture
def peers(served: Served) -> Any:
    """The peers of this gateway, which are as new as they can be, and will be again."""
    yield served.peers
    served.peers.advertise(*MODERN)
    served.peers.answers["/notifications"] = (201, {})
    served.peers.answers.pop("/request-share", None)


def ask(served: Served, resource: str, *more: str) -> Any:
    return served.cli("request", "create", OWNER, resource, "--as", "alice", *more)


def asked(served: Served, resource: str) -> dict[str, Any]:
    requests = served.json("request", "list", "--as", "alice")
    return dict(next(request for request in requests if request["resource"] == resource))


def test_a_peer_of_api_1_5_is_asked_by_a_notification(served: Served, peers: Any) -> None:
    done = ask(served, "/docs/one", "--permissions", "read,write")
    assert (done.exit_code, asked(served, "/docs/one")["state"]) == (0, "sent")
    assert "has taken the request" in done.stdout
    assert peers.posts[-1] == (
        "peer.example",
        "/notifications",
        {
            "notificationType": "REQUEST_SHARE",
            "senderDomain": "gateway.example",
            "resourceType": "file",
            "notification": {
                "file": {
                    "owner": OWNER,
                    "shareWith": "alice@gateway.example",
                    "shareId": "/docs/one",
                    "permissions": ["read", "write"],
                }
            },
        },
    )


def test_a_peer_of_api_1_4_is_asked_at_its_endpoint(served: Served, peers: Any) -> None:
    peers.advertise(*MODERN, apiVersion="1.4.0")
    peers.answers["/request-share"] = (201, {})
    assert ask(served, "/docs/two").exit_code == 0
    body = {"owner": OWNER, "shareWith": "alice@gateway.example", "share": "/docs/two"}
    assert peers.posts[-1] == ("peer.example", "/request-share", body)


def test_an_older_peer_cannot_be_asked(served: Served, peers: Any) -> None:
    peers.advertise(*MODERN, apiVersion="1.3.0")
    said = len(peers.posts)
    done = ask(served, "/docs/three")
    assert (done.exit_code, asked(served, "/docs/three")["state"], len(peers.posts)) == (1, "refused", said)
    assert "speaks API 1.3.0, which has no requests; write to the owner" in done.stderr


@pytest.mark.parametrize(("status", "state"), [(404, "refused"), (501, "refused"), (409, "sent"), (503, "pending")])
def test_what_the_peer_answers_is_what_becomes_of_it(served: Served, peers: Any, status: int, state: str) -> None:
    peers.answers["/notifications"] = (status, {"message": "WHY"})
    done = ask(served, f"/docs/answered {status}")
    assert asked(served, f"/docs/answered {status}")["state"] == state
    assert done.exit_code == (1 if state == "refused" else 0)
    assert ("WHY" in done.stderr) == (state != "sent")


@pytest.mark.parametrize("what", ["", " ", "two\nlines", "x" * 5000])
def test_what_is_no_line_of_text_cannot_be_asked_for(served: Served, what: str) -> None:
    assert ask(served, what).exit_code == 1


def test_a_request_is_for_its_owner_to_answer(served: Served, peers: Any) -> None:
    ask(served, "/docs/mine")
    mine = asked(served, "/docs/mine")["id"]
    for verb in ("grant", "decline"):
        done = served.cli("request", verb, mine, "--as", "alice")
        assert (done.exit_code, f"this is for {OWNER} to answer" in done.stderr) == (1, True)
        assert "there is no such request" in served.cli("request", verb, mine, "--as", "bob").stderr
    shown = served.cli("request", "show", mine, "--as", "alice").stdout
    assert "request.create" in shown
    assert "/docs/mine" in served.cli("request", "list", "--as", "alice").stdout


def test_what_nobody_has_answered_for_a_month_can_be_asked_for_again(served: Served, peers: Any) -> None:
    """The owner's server has dropped it by then."""
    ask(served, "/docs/forgotten")
    assert ask(served, "/docs/forgotten").exit_code == 1
    first = asked(served, "/docs/forgotten")["id"]
    earlier = served.clock() - UNANSWERED - 1
    served.store.run_sync(
        lambda tx: tx.exec_driver_sql("UPDATE share_requests SET created = ? WHERE id = ?", (int(earlier), first))
    )
    assert ask(served, "/docs/forgotten").exit_code == 0
    assert asked(served, "/docs/forgotten")["id"] != first
