"""What becomes of a Share (wire.md, Notifications; draft-07, Share Acceptance and Updating)."""

from __future__ import annotations

import pytest

from gateway.ocm.notifications import NotificationType
from gateway.ocm.states import (
    RECEIVED_ENDED,
    RECEIVED_ON_EVENT,
    RECEIVED_ON_NOTIFICATION,
    SENT_ENDED,
    SENT_ON_EVENT,
    SENT_ON_NOTIFICATION,
    ReceivedEvent,
    ReceivedState,
    SentEvent,
    SentState,
)

N = NotificationType


@pytest.mark.parametrize("state", list(SentState))
def test_what_only_a_sender_says_means_nothing_to_a_sent_share(state: SentState) -> None:
    """SHARE_UNSHARED and SHARE_CHANGE_PERMISSION go from sender to receiver only (wire.md, Notifications)."""
    assert (state, N.SHARE_UNSHARED) not in SENT_ON_NOTIFICATION
    assert (state, N.SHARE_CHANGE_PERMISSION) not in SENT_ON_NOTIFICATION


@pytest.mark.parametrize("state", list(ReceivedState))
def test_what_only_a_receiver_says_means_nothing_to_a_received_share(state: ReceivedState) -> None:
    """SHARE_ACCEPTED, SHARE_DECLINED and REQUEST_RESHARE go from receiver to sender (wire.md, Notifications)."""
    for kind in (N.SHARE_ACCEPTED, N.SHARE_DECLINED, N.REQUEST_RESHARE):
        assert (state, kind) not in RECEIVED_ON_NOTIFICATION


def test_no_notification_revives_a_share_that_has_ended() -> None:
    for (state, kind), after in SENT_ON_NOTIFICATION.items():
        assert state not in SENT_ENDED or after is state, kind
    for (received, kind), received_after in RECEIVED_ON_NOTIFICATION.items():
        assert received not in RECEIVED_ENDED or received_after is received, kind


def test_no_event_revives_a_share_that_has_ended() -> None:
    for (state, event), after in SENT_ON_EVENT.items():
        assert state not in SENT_ENDED or after in SENT_ENDED, event
    for (received, gesture), received_after in RECEIVED_ON_EVENT.items():
        assert received not in RECEIVED_ENDED or received_after is received, gesture


@pytest.mark.parametrize("table", [SENT_ON_NOTIFICATION, RECEIVED_ON_NOTIFICATION, SENT_ON_EVENT, RECEIVED_ON_EVENT])
def test_the_same_again_changes_nothing(table: dict) -> None:
    """A repeated message is answered like the first time: each step leads to where it leads to itself."""
    for (_, step), after in table.items():
        if step is not SentEvent.FIND:
            assert table.get((after, step)) in (after, None)
            assert (after, step) in table or after is SentState.REFUSED


@pytest.mark.parametrize("state", [SentState.PENDING, SentState.SENT, SentState.ACCEPTED])
def test_a_receiver_may_accept_and_decline_at_any_time_while_the_share_lives(state: SentState) -> None:
    """A receiver that leaves sends SHARE_DECLINED (wire.md, Notifications)."""
    assert SENT_ON_NOTIFICATION[state, N.SHARE_ACCEPTED] is SentState.ACCEPTED
    assert SENT_ON_NOTIFICATION[state, N.SHARE_DECLINED] is SentState.DECLINED


@pytest.mark.parametrize("state", sorted(SENT_ENDED))
def test_a_late_acceptance_of_an_ended_share_is_refused(state: SentState) -> None:
    assert (state, N.SHARE_ACCEPTED) not in SENT_ON_NOTIFICATION


@pytest.mark.parametrize("state", list(ReceivedState))
def test_a_sender_may_revoke_at_any_time(state: ReceivedState) -> None:
    """SHARE_UNSHARED: the share was removed and is not accessible any longer (draft-07)."""
    after = RECEIVED_ON_NOTIFICATION[state, N.SHARE_UNSHARED]
    assert after is (state if state in RECEIVED_ENDED else ReceivedState.REVOKED)


def test_permissions_change_only_while_a_share_lives() -> None:
    changing = {state for state, kind in RECEIVED_ON_NOTIFICATION if kind is N.SHARE_CHANGE_PERMISSION}
    assert changing == {ReceivedState.PENDING, ReceivedState.ACCEPTED}


def test_the_gestures_of_the_receiving_party() -> None:
    """pending -> accept or decline; accepted -> leave; nothing else."""
    moves = {(state, event): after for (state, event), after in RECEIVED_ON_EVENT.items() if after is not state}
    assert moves == {
        (ReceivedState.PENDING, ReceivedEvent.ACCEPT): ReceivedState.ACCEPTED,
        (ReceivedState.PENDING, ReceivedEvent.DECLINE): ReceivedState.DECLINED,
        (ReceivedState.ACCEPTED, ReceivedEvent.LEAVE): ReceivedState.LEFT,
        (ReceivedState.PENDING, ReceivedEvent.EXPIRE): ReceivedState.EXPIRED,
        (ReceivedState.ACCEPTED, ReceivedEvent.EXPIRE): ReceivedState.EXPIRED,
        (ReceivedState.PENDING, ReceivedEvent.VANISH): ReceivedState.REVOKED,
        (ReceivedState.ACCEPTED, ReceivedEvent.VANISH): ReceivedState.REVOKED,
    }


@pytest.mark.parametrize("state", list(SentState))
def test_the_sending_party_can_always_revoke(state: SentState) -> None:
    """MAY (draft-07, Share Acceptance and Updating): the Sending Server may at any time revoke access."""
    after = SENT_ON_EVENT[state, SentEvent.REVOKE]
    assert after in SENT_ENDED
    assert after is SentState.REVOKED or after is state


def test_an_answer_that_comes_late_does_not_undo_what_overtook_it() -> None:
    for state in SentState:
        after = SENT_ON_EVENT.get((state, SentEvent.DELIVERED))
        assert after in (state, None) or state is SentState.PENDING
    assert SENT_ON_EVENT[SentState.PENDING, SentEvent.DELIVERED] is SentState.SENT
