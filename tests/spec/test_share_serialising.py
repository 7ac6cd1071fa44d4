"""The Share Creation Notification as it is sent (draft-07, Share Creation Notification; peers.md, section 2b)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ocm.shares import (
    AccessType,
    Permission,
    Requirement,
    Secret,
    ShareCreationNotification,
    SshProtocol,
    Target,
    WebappPermission,
    WebappProtocol,
    WebdavProtocol,
    parse_share,
    payload_digest,
    serialise_share,
)

secrets = st.text("abcdefghijklmnopqrstuvwxyz0123456789/+=._-", min_size=1, max_size=40).map(Secret)
words = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=20)
addresses = st.builds("{}@{}.example".format, words, st.text("abcdef", min_size=1, max_size=8))
requirement_sets = st.frozensets(st.sampled_from(Requirement))


def webdavs(requirements: frozenset[Requirement]) -> st.SearchStrategy[WebdavProtocol]:
    return st.builds(
        WebdavProtocol,
        uri=words | words.map("https://gw.example/dav/ocm/{}".format),
        shared_secret=secrets,
        permissions=st.frozensets(st.sampled_from(Permission), min_size=1),
        requirements=st.just(requirements),
        access_types=st.frozensets(st.sampled_from(AccessType), min_size=1),
        size=st.none() | st.integers(0, 2**53 - 1),
        permissions_stated=st.just(True),
    )


def webapps(requirements: frozenset[Requirement]) -> st.SearchStrategy[WebappProtocol]:
    return st.builds(
        WebappProtocol,
        uri=words.map("https://gw.example/app/{}".format),
        shared_secret=secrets,
        targets=st.frozensets(st.sampled_from(Target), min_size=1),
        permissions=st.frozensets(st.sampled_from(WebappPermission), min_size=1),
        requirements=st.just(requirements | {Requirement.MUST_EXCHANGE_TOKEN}),
        app_name=st.none() | words,
        app_icon_hint=st.none() | words,
        media_types=st.lists(words, max_size=3).map(tuple),
    )


protocols = st.one_of(
    requirement_sets.flatmap(webdavs).map(lambda protocol: (protocol,)),
    requirement_sets.map(lambda found: found | {Requirement.MUST_EXCHANGE_TOKEN}).flatmap(
        lambda found: st.tuples(webdavs(found), webapps(found))
    ),
    st.tuples(webdavs(frozenset()), words.map("u@gw.example:2022/{}".format).map(SshProtocol)),
)
notifications = st.builds(
    ShareCreationNotification,
    share_with=addresses,
    name=words,
    provider_id=words,
    owner=addresses,
    sender=addresses,
    protocols=protocols,
    share_type=st.sampled_from(["user", "group"]),
    resource_type=st.sampled_from(["file", "folder"]),
    description=st.none() | words,
    owner_display_name=st.none() | words,
    sender_display_name=st.none() | words,
    expiration=st.none() | st.integers(1, 2**33),
    encryption=st.none() | st.just({"resourceId": "r", "scheme": "ocm-pgp", "ocm-pgp": {"fingerprints": ["A"]}}),
)


@given(notifications)
def test_what_is_sent_in_the_modern_form_is_read_as_the_same(notification: ShareCreationNotification) -> None:
    """Serialise, then parse: nothing is lost and nothing is added; and the other way round."""
    body = serialise_share(notification, "modern")
    read = parse_share(body)
    assert read == notification
    assert serialise_share(read, "modern") == body
    assert payload_digest(read) == payload_digest(notification)


@given(notifications)
def test_what_is_unset_is_not_sent_and_requirements_are_never_empty(notification: ShareCreationNotification) -> None:
    """Never send an empty `requirements` list (wire.md); reva refuses nulls (peers.md, section 10, trap 20)."""
    body = serialise_share(notification, "modern")
    details = [value for value in body["protocol"].values() if isinstance(value, dict)]
    assert None not in body.values()
    assert all(None not in each.values() and each.get("requirements") != [] for each in details)


def notification(**changes: Any) -> ShareCreationNotification:
    values: dict[str, Any] = {
        "share_with": "bob@nc.example",
        "name": "Data",
        "provider_id": "Zk3vQ8xT1mR7",
        "owner": "alice@gw.example",
        "sender": "alice@gw.example",
        "protocols": (WebdavProtocol("Zk3vQ8", Secret("s3cret"), frozenset({Permission.READ, Permission.WRITE})),),
        "resource_type": "folder",
    }
    return ShareCreationNotification(**values | changes)


def test_the_legacy_form_is_what_nextcloud_owncloud_and_seafile_need() -> None:
    """peers.md, section 2b: options, sharedBy, non-empty display names, `file` for folders too, no uri."""
    assert serialise_share(notification(), "legacy") == {
        "shareWith": "bob@nc.example",
        "shareType": "user",
        "resourceType": "file",
        "name": "Data",
        "description": "",
        "providerId": "Zk3vQ8xT1mR7",
        "owner": "alice@gw.example",
        "ownerDisplayName": "alice",
        "sender": "alice@gw.example",
        "senderDisplayName": "alice",
        "sharedBy": "alice@gw.example",
        "sharedByDisplayName": "alice",
        "protocol": {
            "name": "webdav",
            "options": {
                "sharedSecret": "s3cret",
                "permissions": "{http://open-cloud-mesh.org/ns}share-permissions",
            },
        },
    }


def test_the_modern_form_is_what_reva_opencloud_ocis_and_ocm_go_need() -> None:
    """peers.md, section 2b: no `options` key, not even an empty one; nothing that is unset."""
    assert serialise_share(notification(), "modern") == {
        "shareWith": "bob@nc.example",
        "shareType": "user",
        "resourceType": "folder",
        "name": "Data",
        "providerId": "Zk3vQ8xT1mR7",
        "owner": "alice@gw.example",
        "sender": "alice@gw.example",
        "protocol": {
            "name": "multi",
            "webdav": {"uri": "Zk3vQ8", "sharedSecret": "s3cret", "permissions": ["read", "write"]},
        },
    }


STRICT = frozenset({Requirement.MUST_EXCHANGE_TOKEN})
TARGETS = frozenset({Target.BLANK})
VIEW = frozenset({WebappPermission.VIEW})


@pytest.mark.parametrize(
    ("protocols", "form", "sentence"),
    [
        ((), "modern", "at least one protocol"),
        ((WebdavProtocol("i", Secret("s"), requirements=STRICT), SshProtocol("u@h:1/p")), "modern", "ssh"),
        (
            (
                WebdavProtocol("i", Secret("s")),
                WebappProtocol("https://a.example", Secret("s"), TARGETS, VIEW, STRICT),
            ),
            "modern",
            "agree",
        ),
        ((WebappProtocol("https://a.example", Secret("s"), TARGETS, VIEW, frozenset()),), "modern", "token exchange"),
        ((WebdavProtocol(None, Secret("s")),), "modern", "uri"),
        ((WebdavProtocol("i", Secret("s"), requirements=STRICT),), "legacy", "no requirements"),
        ((SshProtocol("u@h:1/p"),), "legacy", "webdav"),
    ],
)
def test_what_the_draft_forbids_to_send_is_not_made(protocols: Any, form: Any, sentence: str) -> None:
    """MUST (draft-07, Fields; wire.md): webapp with the exchange, agreeing requirements, ssh never beside them."""
    with pytest.raises(ValueError, match=sentence):
        serialise_share(notification(protocols=protocols), form)
