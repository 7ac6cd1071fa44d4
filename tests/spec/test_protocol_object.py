"""The `protocol` object in its three forms (draft-07, Fields, protocol)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dialects import SHARES

from gateway.ocm.errors import Malformed
from gateway.ocm.protocols import LEGACY_PERMISSIONS
from gateway.ocm.shares import (
    AccessType,
    Permission,
    Requirement,
    Secret,
    SshProtocol,
    WebappProtocol,
    WebdavProtocol,
    parse_share,
)

Body = Callable[..., dict[str, Any]]
WEBAPP = {
    "uri": "https://apps.example.org/hedgedoc/7c08",
    "sharedSecret": "s3cret",
    "targets": ["blank"],
    "permissions": ["view", "read"],
    "requirements": ["must-exchange-token"],
    "appName": "HedgeDoc",
    "mediaTypes": ["text/markdown"],
}
WEBDAV = {"uri": "id", "sharedSecret": "s3cret", "permissions": ["read"]}


def mistakes(body: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(Malformed) as caught:
        parse_share(body)
    assert caught.value.status_hint == 400
    return {field.name: field.message for field in caught.value.fields}


def webdav_of(share: Body, **members: Any) -> WebdavProtocol:
    """Return what is read from a webdav protocol with these members."""
    webdav = parse_share(share(protocol={"name": "multi", "webdav": WEBDAV | members})).webdav
    assert webdav is not None
    return webdav


LEGACY = {"name": "webdav", "options": {"sharedSecret": "s3cret", "permissions": LEGACY_PERMISSIONS}}


def test_the_three_forms_of_protocol_say_the_same(share: Body) -> None:
    """draft-07, Fields, protocol: options 1 to 3; a receiver reads all of them."""
    details = {"uri": "id", "sharedSecret": "s3cret", "permissions": ["read", "write"]}
    forms = [
        {"name": "webdav", "options": details},
        {"name": "webdav", "webdav": details},
        {"name": "multi", "webdav": details},
        {"name": "multi", "options": {}, "webdav": details},
        {"name": "multi", "options": [], "webdav": details},
        {"webdav": details},
    ]
    read = {parse_share(share(protocol=form)).protocols for form in forms}
    assert len(read) == 1


def test_an_opaque_permission_string_is_read_only_until_more_is_known(share: Body) -> None:
    """The literal of API 1.0 lists nothing (peers.md, section 2a)."""
    for opaque in (LEGACY_PERMISSIONS, "read", "write"):
        protocol = LEGACY | {"options": {"sharedSecret": "s3cret", "permissions": opaque}}
        webdav = parse_share(share(protocol=protocol)).webdav
        assert webdav == WebdavProtocol(None, Secret("s3cret"), permissions_stated=False)


def test_absent_permissions_are_read(share: Body) -> None:
    """OPTIONAL (draft-07, Fields, webdav): absent = read (wire.md)."""
    assert webdav_of(share, permissions=None).permissions == {Permission.READ}


@pytest.mark.parametrize("name", ["uri", "URI", "url"])
def test_the_uri_has_several_names_among_products(share: Body, name: str) -> None:
    """peers.md, section 2a: uri, URI, url, or none."""
    assert webdav_of(share, **{"uri": None} | {name: "the-id"}).uri == "the-id"
    assert webdav_of(share, uri="").uri is None


def test_a_secret_in_options_completes_a_modern_member(share: Body) -> None:
    """Secret from webdav.sharedSecret, else from options.sharedSecret (peers.md, section 2a)."""
    protocol = {"name": "webdav", "options": {"sharedSecret": "old"}, "webdav": {"URI": "https://stub.example/f"}}
    webdav = parse_share(share(protocol=protocol)).webdav
    assert webdav == WebdavProtocol("https://stub.example/f", Secret("old"), permissions_stated=False)
    assert webdav_of(share, sharedSecret="new").shared_secret == Secret("new")


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ({"name": "webdav"}, {"protocol.options": "REQUIRED"}),
        ({"name": "webdav", "options": {}}, {"protocol.options.sharedSecret": "REQUIRED"}),
        ({"name": "webdav", "options": "x"}, {"protocol.options": "NOT_AN_OBJECT"}),
        ({"name": "multi"}, {"protocol.webdav": "REQUIRED"}),
        ({"name": "multi", "options": {"sharedSecret": "s"}}, {"protocol.webdav": "REQUIRED"}),
        ({"name": "multi", "webdav": "x"}, {"protocol.webdav": "NOT_AN_OBJECT"}),
        ({"name": ["multi"], "webdav": WEBDAV}, {"protocol.name": "NOT_A_STRING"}),
    ],
)
def test_a_protocol_without_details_is_refused(share: Body, protocol: object, expected: dict[str, str]) -> None:
    """If a secret cannot be identified, the share is discarded as invalid (draft-07, Resource Access, step 5)."""
    assert mistakes(share(protocol=protocol)) == expected


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"sharedSecret": "with\nnewline"}, {"sharedSecret": "INVALID_CHARACTERS"}),
        ({"sharedSecret": "geheim-ä"}, {"sharedSecret": "INVALID_CHARACTERS"}),
        ({"sharedSecret": 7}, {"sharedSecret": "NOT_A_STRING"}),
        ({"sharedSecret": "x" * 4097}, {"sharedSecret": "INVALID_CHARACTERS"}),
        ({"permissions": []}, {"permissions": "REQUIRED"}),
        ({"permissions": ["read", 1]}, {"permissions": "UNKNOWN_PERMISSION"}),
        ({"permissions": {"read": True}}, {"permissions": "NOT_A_LIST"}),
        ({"requirements": "must-use-mfa"}, {"requirements": "NOT_A_LIST"}),
        ({"accessTypes": ["carrier-pigeon"]}, {"accessTypes": "UNKNOWN_ACCESS_TYPE"}),
        ({"size": -1}, {"size": "OUT_OF_RANGE"}),
        ({"uri": "a\r\nb"}, {"uri": "INVALID_CHARACTERS"}),
        ({"uri": "ftp://sender.example/x"}, {"uri": "INVALID_URL"}),
        ({"uri": "https://user:password@sender.example/x"}, {"uri": "INVALID_URL"}),
        ({"uri": "https://sender.example/x#fragment"}, {"uri": "INVALID_URL"}),
        ({"uri": "x" * 4097}, {"uri": "TOO_LONG"}),
    ],
)
def test_details_that_make_no_sense_are_refused(share: Body, members: dict[str, Any], expected: dict[str, str]) -> None:
    body = share(protocol={"name": "multi", "webdav": WEBDAV | members})
    assert mistakes(body) == {f"protocol.webdav.{name}": code for name, code in expected.items()}


def test_unknown_requirements_are_refused_by_their_own_code(share: Body) -> None:
    """MUST: a receiver refuses requirements that it does not understand (OCM API 1.4.0; wire.md) with 400."""
    body = share(protocol={"name": "multi", "webdav": WEBDAV | {"requirements": ["must-use-mfa", "must-dance"]}})
    with pytest.raises(Malformed) as caught:
        parse_share(body)
    assert caught.value.code == "UNKNOWN_REQUIREMENT"
    assert [field.name for field in caught.value.fields] == ["protocol.webdav.requirements"]


def test_known_requirements_are_read_the_old_name_included(share: Body) -> None:
    """`mfa-enforced` = must-use-mfa (wire.md, Discovery); an empty list is as none."""
    both = frozenset({Requirement.MUST_EXCHANGE_TOKEN, Requirement.MUST_USE_MFA})
    assert webdav_of(share, requirements=["mfa-enforced", "must-exchange-token"]).requirements == both
    assert webdav_of(share, requirements=[]).requirements == frozenset()


def test_access_types_default_to_remote(share: Body) -> None:
    """OPTIONAL (draft-07, Fields): if omitted, it defaults to ['remote']."""
    assert webdav_of(share).access_types == {AccessType.REMOTE}
    assert webdav_of(share, accessTypes=["datatx"], size=7).access_types == {AccessType.DATATX}


def test_unknown_protocols_beside_a_known_one_are_left_out(share: Body) -> None:
    """The receiver may take what it can act as a client for (draft-07, Decision to Discard)."""
    protocol = {"name": "multi", "webdav": WEBDAV, "embedded": {"payload": {}}, "webapp": {"uriTemplate": "x"}}
    assert [type(each) for each in parse_share(share(protocol=protocol)).protocols] == [WebdavProtocol]


def test_all_three_protocols_are_read_as_in_the_example_of_api_1_4(share: Body) -> None:
    """OCM API 1.4.0, NewShare, example multipleProtocols: ssh stands beside requirements there."""
    required = {"requirements": ["must-use-mfa", "must-exchange-token"]}
    protocol = {
        "name": "multi",
        "webdav": WEBDAV | required,
        "webapp": WEBAPP | required,
        "ssh": {"accessTypes": ["datatx"], "uri": "extuser@cloud.example.org:/7c084226"},
    }
    notification = parse_share(share(protocol=protocol))
    assert SshProtocol("extuser@cloud.example.org:/7c084226", frozenset({AccessType.DATATX})) in notification.protocols
    assert notification.requirements == {Requirement.MUST_USE_MFA, Requirement.MUST_EXCHANGE_TOKEN}
    webapp = notification.protocols[1]
    assert isinstance(webapp, WebappProtocol)
    assert (webapp.app_name, webapp.media_types) == ("HedgeDoc", ("text/markdown",))


def test_the_requirements_of_all_protocols_agree(share: Body) -> None:
    """MUST (draft-07, Fields, webapp): if multiple protocols are present, their requirements agree."""
    body = share(protocol={"name": "multi", "webdav": WEBDAV, "webapp": WEBAPP})
    assert mistakes(body) == {"protocol.webapp.requirements": "REQUIREMENTS_DISAGREE"}


@pytest.mark.parametrize(
    ("members", "name", "code"),
    [
        ({"uri": None}, "uri", "REQUIRED"),
        ({"uri": "relative"}, "uri", "INVALID_URL"),
        ({"uri": "javascript:alert(1)"}, "uri", "INVALID_URL"),
        ({"sharedSecret": None}, "sharedSecret", "REQUIRED"),
        ({"targets": None}, "targets", "REQUIRED"),
        ({"targets": []}, "targets", "REQUIRED"),
        ({"targets": ["popup"]}, "targets", "UNKNOWN_TARGET"),
        ({"permissions": []}, "permissions", "REQUIRED"),
        ({"permissions": ["print"]}, "permissions", "UNKNOWN_PERMISSION"),
        ({"requirements": None}, "requirements", "MUST_EXCHANGE_TOKEN_MISSING"),
        ({"requirements": ["must-use-mfa"]}, "requirements", "MUST_EXCHANGE_TOKEN_MISSING"),
    ],
)
def test_a_webapp_has_all_its_required_fields(share: Body, members: dict[str, Any], name: str, code: str) -> None:
    """REQUIRED, MUST NOT be empty, MUST include must-exchange-token (draft-07, Fields, webapp)."""
    body = share(protocol={"name": "multi", "webapp": WEBAPP | members})
    assert mistakes(body) == {f"protocol.webapp.{name}": code}


@pytest.mark.parametrize(
    "uri", ["-oProxyCommand=x@host:22/p", "user@-host/p", "host:22/path", "user@host :22", "user@", "ssh://u@h/p"]
)
def test_an_ssh_uri_that_could_be_an_option_or_names_nobody_is_refused(share: Body, uri: str) -> None:
    """REQUIRED (draft-07, Fields, ssh): username@host.fqdn:port/resource/path."""
    assert mistakes(share(protocol={"name": "ssh", "ssh": {"uri": uri}})) == {"protocol.ssh.uri": "INVALID_URI"}


def test_an_address_is_kept_as_it_was_written() -> None:
    """Keep the raw value for replies (wire.md, Vocabulary)."""
    assert parse_share(SHARES["nextcloud-30"][0]).sender == "alice@https://nc.example/"
