"""Asking for a Share: the body of API 1.4, and what becomes of a request (OCM API 1.4.0, /request-share)."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.ocm.errors import Malformed
from gateway.ocm.notifications import Notification, NotificationType
from gateway.ocm.protocols import Permission
from gateway.ocm.share_requests import parse_share_request, serialise_share_request
from gateway.ocm.states import (
    INCOMING_ON_EVENT,
    OUTGOING_ON_EVENT,
    REQUEST_OPEN,
    RequestEvent,
    RequestState,
)

BODY = {"owner": "alice@gw.example", "shareWith": "bob@other.example", "share": "https://gw.example/files/spec.yaml"}


def test_a_request_is_read_as_the_notification_that_has_replaced_it() -> None:
    assert parse_share_request(BODY) == Notification(
        type=NotificationType.REQUEST_SHARE,
        owner="alice@gw.example",
        share_with="bob@other.example",
        share_id="https://gw.example/files/spec.yaml",
        permissions=frozenset({Permission.READ}),
    )


def test_what_is_sent_is_read_as_the_same() -> None:
    assert serialise_share_request(parse_share_request(BODY)) == BODY


@pytest.mark.parametrize("name", BODY)
@pytest.mark.parametrize(("value", "code"), [(None, "REQUIRED"), ("", "REQUIRED"), ([], "NOT_A_STRING")])
def test_all_three_are_required(name: str, value: Any, code: str) -> None:
    with pytest.raises(Malformed) as error:
        parse_share_request(BODY | {name: value})
    assert error.value.code == "INVALID_REQUEST"
    assert [(field.name, field.message) for field in error.value.fields] == [(name, code)]


def test_a_request_that_lacks_something_is_not_sent() -> None:
    with pytest.raises(ValueError, match="names owner"):
        serialise_share_request(Notification(type=NotificationType.REQUEST_SHARE, owner="alice@gw.example"))


@pytest.mark.parametrize("table", [INCOMING_ON_EVENT, OUTGOING_ON_EVENT])
def test_an_answer_stands_and_the_same_again_changes_nothing(table: dict) -> None:
    for (state, event), after in table.items():
        assert table.get((after, event)) in (after, None)
        assert state in REQUEST_OPEN or after is state
        if after not in REQUEST_OPEN:
            assert {table.get((after, other)) for other in RequestEvent} <= {after, None}


def test_only_who_is_asked_can_answer_at_home() -> None:
    assert {state for state, _ in INCOMING_ON_EVENT} == {
        RequestState.PENDING,
        RequestState.GRANTED,
        RequestState.DECLINED,
    }
    assert {event for _, event in INCOMING_ON_EVENT} == {RequestEvent.GRANT, RequestEvent.DECLINE}
