"""Where a Share is met by SSH: `username@host.fqdn:port/resource/path`, and nothing that could be misread."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ocm.discovery import describe, parse_discovery
from gateway.ocm.errors import Malformed
from gateway.ocm.ssh_address import SSHAddress

OURS: dict[str, Any] = {"public_url": "https://gw.example", "provider": "Gateway", "capabilities": ()}

GOOD = {
    "s-AAECAwQFBgcICQoLDA0ODw@gw.example:2022/": ("s-AAECAwQFBgcICQoLDA0ODw", "gw.example", 2022, "/"),
    "extuser@cloud.example.org:/7c084226": ("extuser", "cloud.example.org", 22, "/7c084226"),  # the example of API 1.4
    "u@H.Example.": ("u", "h.example", 22, ""),
    "u@h:443/x": ("u", "h", 443, "/x"),
    "u@[2001:DB8::1]:22/x": ("u", "[2001:db8::1]", 22, "/x"),
    "u@192.0.2.1:22/x": ("u", "192.0.2.1", 22, "/x"),
    "u@h:22/%2e%2e/x": ("u", "h", 22, "/%2e%2e/x"),  # it is no URL: this is a name that nobody decodes
    "u@h:22/a b/ünï": ("u", "h", 22, "/a b/ünï"),
    "u@h:22/a@b:c": ("u", "h", 22, "/a@b:c"),
}
ATTACKS = {
    "an option as user": "-oProxyCommand=x@h:22/p",
    "an option as host": "u@-oProxyCommand=x/p",
    "a password": "u:secret@h:22/p",
    "two users": "u@good.example@evil.example:22/p",
    "a host in the user": "u@good.example:22@evil.example/p",
    "no user": "@h:22/p",
    "nobody at all": "h:22/p",
    "no host": "u@",
    "no host, but a port": "u@:22/p",
    "a shell in the user": "u;id@h:22/p",
    "a command in the user": "$(id)@h:22/p",
    "a space in the user": "u v@h:22/p",
    "a shell in the host": "u@h;id:22/p",
    "a URL": "ssh://u@h:22/p",
    "port 0": "u@h:0/p",
    "a port beyond 16 bits": "u@h:65558/p",
    "a port in other digits": "u@h:\u0662\u0662/p",
    "two ports": "u@h:22:2022/p",
    "a negative port": "u@h:-22/p",
    "ipv6 without brackets": "u@::1/p",
    "an open bracket": "u@[::1/p",
    "a zone": "u@[fe80::1%25lo]:22/p",
    "a short address": "u@127.1:22/p",
    "a decimal address": "u@2130706433:22/p",
    "a hexadecimal address": "u@0x7f.0.0.1:22/p",
    "an encoded host": "u@%31%32%37.0.0.1:22/p",
    "a backslash": "u@h\\@evil:22/p",
    "upwards": "u@h:22/../etc",
    "upwards in the middle": "u@h:22/a/../../etc",
    "upwards at the end": "u@h:22/a/..",
    "a line feed": "u@h:22/a\nb",
    "a line feed in the host": "u@h\n:22/a",
    "nul": "u@h:22/a\0b",
    "text from right to left": "u@h:22/a\u202eb",
    "an endless user": f"{'u' * 256}@h:22/p",
    "an endless path": f"u@h:22/{'p' * 5000}",
}


@pytest.mark.parametrize("text", GOOD)
def test_an_address_is_taken_apart(text: str) -> None:
    """REQUIRED (draft-07, Fields, ssh): username@host.fqdn:port/resource/path."""
    address = SSHAddress.parse(text)
    assert (address.user, address.host, address.port, address.path) == GOOD[text]
    assert SSHAddress.parse(str(address)) == address


@pytest.mark.parametrize("name", ATTACKS)
def test_what_could_be_misread_is_refused(name: str) -> None:
    with pytest.raises(Malformed) as refused:
        SSHAddress.parse(ATTACKS[name])
    assert refused.value.code == "INVALID_URI"
    assert len(str(refused.value)) < 200


@given(st.text(max_size=60) | st.from_regex(r"[a-z-]{0,3}@[\[\]a-z0-9.:%-]{0,12}[:/]\S{0,8}"))
def test_whatever_comes_is_an_address_or_is_refused(text: str) -> None:
    try:
        address = SSHAddress.parse(text)
    except Malformed:
        return
    assert not address.user.startswith("-")
    assert not address.host.startswith("-")
    assert ".." not in address.path.split("/")
    assert SSHAddress.parse(str(address)) == address


def test_a_door_is_advertised_where_there_is_one_and_receiving_needs_none() -> None:
    """MUST (API 1.4, ssh-receive): whoever receives SSH Shares says so, with an empty object as value."""
    shut, opened = describe(**OURS), describe(**OURS, ssh="gw.example:2022")
    for document, ssh in ((shut, None), (opened, "gw.example:2022")):
        for entry in document["resourceTypes"]:
            assert entry["protocols"].get("ssh") == ssh
            assert entry["protocols"]["ssh-receive"] == {}


def test_who_receives_by_ssh_has_said_so_in_that_word() -> None:
    """Also to a peer that has no `-receive` at all the bare word `ssh` is the Sending role (draft-07, Discovery)."""
    for protocols, takes in (
        ({"webdav": "/x", "ssh": "h:22"}, False),
        ({"webdav": "/x", "ssh": "h:22", "webdav-receive": {}}, False),
        ({"webdav": "/x", "ssh-receive": {}}, True),
    ):
        types = [{"name": "folder", "shareTypes": ["user"], "protocols": protocols}]
        body = json.dumps(describe(**OURS) | {"resourceTypes": types}).encode()
        discovery = parse_discovery(body, "https://p.example/.well-known/ocm")
        assert discovery.receives("folder", "user", "ssh") is takes
        assert not discovery.receives("file", "user", "ssh")
        assert not discovery.receives("folder", "group", "ssh")


def test_what_a_peer_names_as_its_ssh_server_has_one_form_or_is_passed_over() -> None:
    named = ["GW.example:22", "gw.example", "[::1]:2022", {"an": "object"}, "-o:22", "u@h:22", 22]
    types = [{"name": "file", "shareTypes": ["user"], "protocols": {"webdav": "/x", "ssh": one}} for one in named]
    body = json.dumps(describe(**OURS) | {"resourceTypes": types}).encode()
    discovery = parse_discovery(body, "https://gw.example/.well-known/ocm")
    assert discovery.ssh_servers == {"gw.example:22", "[::1]:2022"}
