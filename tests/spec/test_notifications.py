"""OCM Notifications (draft-07, Notifications; wire.md, Notifications; peers.md, section 5)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ocm.errors import Malformed, NotSupported
from gateway.ocm.notifications import (
    ABOUT_A_SHARE,
    Notification,
    NotificationType,
    parse_notification,
    serialise_notification,
)
from gateway.ocm.protocols import Permission
from gateway.ocm.secret import Secret

READ_WRITE = frozenset({Permission.READ, Permission.WRITE})
ACCEPTED = {
    "notificationType": "SHARE_ACCEPTED",
    "senderDomain": "receiver.example.org",
    "resourceType": "file",
    "notification": {"file": {"providerId": "p1"}},
}


def refused(body: dict[str, Any]) -> tuple[str, dict[str, str]]:
    with pytest.raises(Malformed) as caught:
        parse_notification(body)
    return caught.value.code, {field.name: field.message for field in caught.value.fields}


# --- every type of the draft ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(ABOUT_A_SHARE - {NotificationType.REQUEST_RESHARE}))
def test_a_notification_about_a_share_names_it(kind: NotificationType) -> None:
    """REQUIRED (draft-07, Share Acceptance and Updating): file.providerId."""
    read = parse_notification(ACCEPTED | {"notificationType": kind.value})
    assert read == Notification(type=kind, sender_domain="receiver.example.org", resource_type="file", provider_id="p1")
    code, fields = refused(ACCEPTED | {"notificationType": kind.value, "notification": {}})
    assert (code, fields) == ("INVALID_NOTIFICATION", {"notification.file.providerId": "REQUIRED"})


def test_a_change_of_permissions_names_them() -> None:
    """draft-07, Share Acceptance and Updating: file.permissions, with the words of the webdav protocol."""
    body = ACCEPTED | {
        "notificationType": "SHARE_CHANGE_PERMISSION",
        "notification": {"file": {"providerId": "p1", "permissions": ["write", "read"]}, "message": "Now\nwrite"},
    }
    read = parse_notification(body)
    assert (read.permissions, read.message) == (READ_WRITE, "Now\nwrite")
    body["notification"] = {"file": {"providerId": "p1", "permissions": ["own"]}}
    assert refused(body)[1] == {"notification.file.permissions": "UNKNOWN_PERMISSION"}


def test_a_request_to_reshare_names_share_and_third_party() -> None:
    """REQUIRED (draft-07, Resharing): file.providerId, file.shareWith."""
    file = {"providerId": "p1", "shareWith": "carol@third.example", "permissions": ["read"]}
    body = ACCEPTED | {"notificationType": "REQUEST_RESHARE", "notification": {"file": file}}
    read = parse_notification(body)
    assert (read.provider_id, read.share_with) == ("p1", "carol@third.example")
    assert read.permissions == {Permission.READ}
    body["notification"] = {"file": {"providerId": "p1"}}
    assert refused(body)[1] == {"notification.file.shareWith": "REQUIRED"}


def test_a_request_to_share_names_all_of_it() -> None:
    """REQUIRED (draft-07, Resharing and Request to Share): file.owner, shareWith, shareId, permissions."""
    file = {
        "owner": "alice@gw.example",
        "shareWith": "bob@other.example",
        "shareId": "https://gw.example/files/data.txt",
        "permissions": ["read"],
    }
    body = ACCEPTED | {"notificationType": "REQUEST_SHARE", "notification": {"file": file}}
    read = parse_notification(body)
    assert (read.owner, read.share_with, read.share_id) == (file["owner"], file["shareWith"], file["shareId"])
    body["notification"] = {}
    assert set(refused(body)[1]) == {f"notification.file.{name}" for name in file}


@pytest.mark.parametrize(
    ("kind", "word", "key", "attribute"),
    [
        ("USER_REMOVED", "user", "userId", "user_id"),
        ("GROUP_REMOVED", "group", "groupId", "group_id"),
    ],
)
def test_a_removal_names_the_party(kind: str, word: str, key: str, attribute: str) -> None:
    """REQUIRED (draft-07, Recipient Removal): user.userId or group.groupId, with shareType set."""
    body = {"notificationType": kind, "senderDomain": "a.example", "shareType": word}
    read = parse_notification(body | {"notification": {word: {key: "bob@a.example"}}})
    assert getattr(read, attribute) == "bob@a.example"
    assert refused(body)[1] == {f"notification.{word}.{key}": "REQUIRED"}


def test_the_removal_of_api_1_4_is_understood() -> None:
    """OCM API 1.4.0, NewNotification, example userWasRemoved: resourceType user, the id at the top."""
    body = {"notificationType": "USER_REMOVED", "resourceType": "user", "providerId": "51dc30"}
    assert parse_notification(body).user_id == "51dc30"


def test_either_resource_type_or_share_type_is_there() -> None:
    """MUST (draft-07, Notifications, Fields): resourceType or shareType, or both."""
    body = {name: value for name, value in ACCEPTED.items() if name != "resourceType"}
    assert refused(body)[1] == {"resourceType": "REQUIRED"}
    assert parse_notification(body | {"shareType": "user"}).share_type == "user"


def test_an_unknown_type_is_refused_as_invalid() -> None:
    """MUST (draft-07, Fields): notificationType is a registered one; 400 when it is invalid (OCM API 1.4.0)."""
    assert refused(ACCEPTED | {"notificationType": "SHARE_EATEN"})[0] == "UNKNOWN_NOTIFICATION_TYPE"
    assert refused(ACCEPTED | {"notificationType": None})[1] == {"notificationType": "REQUIRED"}
    assert refused(ACCEPTED | {"notificationType": 5})[1] == {"notificationType": "NOT_A_STRING"}


def test_a_type_that_the_draft_has_dropped_is_not_supported() -> None:
    """RESHARE_UNDO of API 1.0 (peers.md, section 5): 501."""
    with pytest.raises(NotSupported) as caught:
        parse_notification(ACCEPTED | {"notificationType": "RESHARE_UNDO"})
    assert caught.value.status_hint == 501


# --- what products send ---------------------------------------------------------------------------------------------


def test_nextcloud_is_understood() -> None:
    """Nextcloud: the id at the top, the secret in `notification`, no senderDomain (peers.md, section 5)."""
    read = parse_notification(
        {
            "notificationType": "SHARE_ACCEPTED",
            "resourceType": "file",
            "providerId": 17,
            "notification": {"sharedSecret": "s3cret", "message": "Recipient accepted the share"},
        }
    )
    assert (read.provider_id, read.shared_secret, read.sender_domain) == ("17", Secret("s3cret"), None)
    assert "s3cret" not in repr(read)


def test_owncloud_s_old_name_for_a_change_of_permissions_is_understood() -> None:
    """RESHARE_CHANGE_PERMISSION with `permission`; its shareWith may be a bare user name (peers.md, section 5)."""
    read = parse_notification(
        {
            "notificationType": "RESHARE_CHANGE_PERMISSION",
            "resourceType": "file",
            "providerId": "17",
            "notification": {"sharedSecret": "s", "permission": ["read", "write"], "senderId": 3, "shareWith": "bob"},
        }
    )
    assert read.type is NotificationType.SHARE_CHANGE_PERMISSION
    assert read.permissions == READ_WRITE


def test_ocis_is_understood() -> None:
    """oCIS: `grantee`, a whole protocol object, and no secret (peers.md, section 5)."""
    read = parse_notification(
        {
            "notificationType": "SHARE_CHANGE_PERMISSION",
            "resourceType": "file",
            "providerId": "17",
            "notification": {
                "grantee": "4c510ada",
                "protocol": {"name": "multi", "webdav": {"permissions": ["read"], "uri": "https://o.example/x"}},
            },
        }
    )
    assert (read.grantee, read.permissions, read.shared_secret) == ("4c510ada", {Permission.READ}, None)


def test_the_stub_s_key_for_the_type_is_understood() -> None:
    """ocm-stub: `type` instead of notificationType (peers.md, section 10, trap 22)."""
    assert parse_notification({"type": "SHARE_DECLINED", "resourceType": "file", "providerId": "1"}).provider_id == "1"


@pytest.mark.parametrize("absent", [None, [], {}])
def test_a_notification_object_that_is_null_or_empty_is_none(absent: object) -> None:
    """PHP writes an empty object as []; null must not crash (peers.md, section 5)."""
    body = {"notificationType": "SHARE_UNSHARED", "resourceType": "file", "providerId": "1", "notification": absent}
    assert parse_notification(body).provider_id == "1"


@pytest.mark.parametrize(
    ("top", "file", "inner"), [("1", "1", None), (1, "1", "1"), ("1", None, None), (None, "1", None), (None, None, 1)]
)
def test_the_id_of_a_share_is_read_wherever_it_stands(top: object, file: object, inner: object) -> None:
    """Read both places of providerId (wire.md, Notifications)."""
    body = ACCEPTED | {"providerId": top, "notification": {"file": {"providerId": file}, "providerId": inner}}
    assert parse_notification(body).provider_id == "1"


def test_ids_that_contradict_each_other_are_refused() -> None:
    """Two ids could be checked for one Share and applied to another."""
    body = ACCEPTED | {"providerId": "2"}
    assert refused(body) == (
        "CONFLICTING_PROVIDER_ID",
        {"notification.file.providerId": "CONFLICTING_PROVIDER_ID"},
    )


@pytest.mark.parametrize(
    ("domain", "read"), [("Receiver.Example.ORG:443", "receiver.example.org"), ("https://r.example/", "r.example")]
)
def test_the_sender_domain_has_one_form(domain: str, read: str) -> None:
    assert parse_notification(ACCEPTED | {"senderDomain": domain}).sender_domain == read


@pytest.mark.parametrize(
    ("changes", "name", "code"),
    [
        ({"senderDomain": "a/b"}, "senderDomain", "INVALID_ADDRESS"),
        ({"senderDomain": 7}, "senderDomain", "NOT_A_STRING"),
        ({"resourceType": ["file"]}, "resourceType", "NOT_A_STRING"),
        ({"notification": "x"}, "notification", "NOT_AN_OBJECT"),
        ({"notification": {"file": "x"}, "providerId": "1"}, "notification.file", "NOT_AN_OBJECT"),
        (
            {"notification": {"sharedSecret": "a\nb"}, "providerId": "1"},
            "notification.sharedSecret",
            "INVALID_CHARACTERS",
        ),
        ({"providerId": "a\x00b"}, "providerId", "INVALID_CHARACTERS"),
    ],
)
def test_fields_that_make_no_sense_are_refused(changes: dict[str, Any], name: str, code: str) -> None:
    assert refused(ACCEPTED | changes) == ("INVALID_NOTIFICATION", {name: code})


# --- what is sent ---------------------------------------------------------------------------------------------------


def test_both_places_of_the_id_are_sent_and_the_secret_when_there_is_one() -> None:
    """Always resourceType and top-level providerId for peers up to 1.4; old peers also want sharedSecret (wire.md)."""
    notification = Notification(
        type=NotificationType.SHARE_ACCEPTED,
        sender_domain="gw.example",
        resource_type="file",
        share_type="user",
        provider_id="p1",
        shared_secret=Secret("s3cret"),
        message="Accepted",
    )
    assert serialise_notification(notification) == {
        "notificationType": "SHARE_ACCEPTED",
        "senderDomain": "gw.example",
        "resourceType": "file",
        "shareType": "user",
        "providerId": "p1",
        "notification": {"file": {"providerId": "p1"}, "message": "Accepted", "sharedSecret": "s3cret"},
    }


def test_a_request_to_share_is_sent_without_share_type() -> None:
    """MUST (draft-07, Request to Share): the shareType is omitted."""
    notification = Notification(
        type=NotificationType.REQUEST_SHARE,
        sender_domain="gw.example",
        resource_type="file",
        share_type="user",
        owner="alice@a.example",
        share_with="bob@gw.example",
        share_id="d1",
        permissions=frozenset({Permission.READ}),
    )
    body = serialise_notification(notification)
    assert "shareType" not in body
    assert "providerId" not in body


def test_a_removal_is_sent_without_resource_type_except_to_old_peers() -> None:
    """MUST (draft-07, Recipient Removal): the resourceType is omitted, the shareType is set."""
    removal = Notification(type=NotificationType.USER_REMOVED, sender_domain="gw.example", user_id="bob@gw.example")
    body = serialise_notification(removal)
    assert body == {
        "notificationType": "USER_REMOVED",
        "senderDomain": "gw.example",
        "shareType": "user",
        "notification": {"user": {"userId": "bob@gw.example"}},
    }
    old = serialise_notification(removal, legacy=True)
    assert (old["resourceType"], old["providerId"]) == ("user", "bob@gw.example")


@pytest.mark.parametrize("missing", ["sender_domain", "resource_type", "provider_id"])
def test_a_notification_about_a_share_is_sent_with_sender_type_and_id(missing: str) -> None:
    """REQUIRED (draft-07, Notifications, Fields): senderDomain; resourceType or shareType; file.providerId."""
    members = {"sender_domain": "gw.example", "resource_type": "file", "provider_id": "p1"} | {missing: None}
    with pytest.raises(ValueError, match=missing):
        serialise_notification(Notification(type=NotificationType.SHARE_ACCEPTED, **members))


@pytest.mark.parametrize("kind", list(NotificationType))
def test_a_notification_that_lacks_something_is_not_sent(kind: NotificationType) -> None:
    with pytest.raises(ValueError, match="needs"):
        serialise_notification(Notification(type=kind, sender_domain="gw.example", resource_type="file"))


words = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=20)
addresses = words.map("{}@other.example".format)
permission_sets = st.frozensets(st.sampled_from(Permission))
common: dict[str, Any] = {
    "sender_domain": st.sampled_from(["gw.example", "gw.example:8443"]),
    "message": st.none() | words,
    "shared_secret": st.none() | st.just(Secret("s3cret")),
    "grantee": st.none() | words,
}
of_a_share: dict[str, Any] = {
    "resource_type": st.sampled_from(["file", "folder"]),
    "share_type": st.sampled_from([None, "user", "group"]),
    "provider_id": words,
}
T = NotificationType
anything = st.one_of(
    st.builds(
        Notification,
        type=st.sampled_from([T.SHARE_ACCEPTED, T.SHARE_DECLINED, T.SHARE_UNSHARED]),
        **common,
        **of_a_share,
    ),
    st.builds(
        Notification,
        type=st.just(T.SHARE_CHANGE_PERMISSION),
        permissions=st.none() | permission_sets,
        **common,
        **of_a_share,
    ),
    st.builds(Notification, type=st.just(T.REQUEST_RESHARE), share_with=addresses, **common, **of_a_share),
    st.builds(
        Notification,
        type=st.just(T.REQUEST_SHARE),
        resource_type=st.just("file"),
        owner=addresses,
        share_with=addresses,
        share_id=words,
        permissions=permission_sets,
        **common,
    ),
    st.builds(Notification, type=st.just(T.USER_REMOVED), share_type=st.just("user"), user_id=addresses, **common),
    st.builds(Notification, type=st.just(T.GROUP_REMOVED), share_type=st.just("group"), group_id=words, **common),
)


@given(anything)
def test_what_is_sent_is_read_as_the_same(notification: Notification) -> None:
    """Serialise, then parse: nothing is lost and nothing is added."""
    assert parse_notification(serialise_notification(notification)) == notification
