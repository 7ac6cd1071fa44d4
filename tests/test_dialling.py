"""SSH servers that others name: the same guard as for URLs, one resolution, and a connection to what was checked."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from gateway.outbound import Guard, OutboundRefused, PeerUnreachable, SyncOutbound

REFUSED = {
    "a private address": ("10.0.0.1:22", "ADDRESS_REFUSED"),
    "loopback by IPv6": ("[::1]:22", "ADDRESS_REFUSED"),
    "the mail server's port": ("cloud.example:25", "PORT_REFUSED"),
    "the web server's port": ("cloud.example:443", "PORT_REFUSED"),
    "port 0": ("cloud.example:0", "PORT_REFUSED"),
    "a user": ("u@cloud.example:22", "USERINFO_REFUSED"),
    "a number": ("2130706433:22", "HOST_REFUSED"),
    "an option": ("-oProxyCommand=id:22", "HOST_REFUSED"),
    "a server on the denylist": ("denied.example:2022", "HOST_REFUSED"),
    "nothing": ("", "HOST_REFUSED"),
}


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def outbound(*answers: str) -> SyncOutbound:
    guard = Guard([ipaddress.ip_network("127.0.0.0/8")], lambda _host: False, lambda server: "denied" in server)
    return SyncOutbound(guard, user_agent="test", resolve=lambda _host, _port: [*answers], connect_timeout=2)


@pytest.mark.parametrize("name", REFUSED)
def test_what_may_not_be_contacted_is_refused_before_anything_is_asked(name: str) -> None:
    server, code = REFUSED[name]
    with pytest.raises(OutboundRefused) as refused:
        outbound("8.8.8.8").dial(server)
    assert refused.value.code == code


def test_the_port_of_ssh_is_22_unless_it_is_named() -> None:
    guard = Guard((), lambda _host: False)
    assert [guard.check_ssh(server).port for server in ("cloud.example", "cloud.example:2022")] == [22, 2022]


def test_the_connection_goes_to_the_address_that_was_checked(listening: socket.socket) -> None:
    """A name that has a private address as well is met at the others; plain http need not be allowed."""
    port = listening.getsockname()[1]
    with closing(outbound("10.0.0.1", "127.0.0.1").dial(f"cloud.example:{port}")) as connection:
        assert connection.getpeername() == ("127.0.0.1", port)


def test_a_name_with_private_addresses_alone_is_refused() -> None:
    with pytest.raises(OutboundRefused, match="allow_networks"):
        outbound("10.0.0.1", "fe80::1").dial("cloud.example:22")


def test_who_does_not_listen_is_unreachable(listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    listening.close()
    with pytest.raises(PeerUnreachable) as unreachable:
        outbound("127.0.0.1").dial(f"cloud.example:{port}")
    assert unreachable.value.step == "tcp"
