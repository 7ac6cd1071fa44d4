"""Who a client is behind reverse proxies."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.proxies import client_address, subscriber

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("::1/128"))


@pytest.mark.parametrize(
    ("remote", "forwarded_for", "client"),
    [
        ("192.0.2.7", "", "192.0.2.7"),
        ("192.0.2.7", "198.51.100.1", "192.0.2.7"),  # not a proxy of ours: what it says is its own invention
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::1", "2001:db8::5", "2001:db8::5"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),  # the client itself had sent the first
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),  # two proxies in a row
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "unknown", "unknown"),
        ("10.0.0.1", "198.51.100.1:50123", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1:50123, 10.0.0.2:50124", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::5]:50123, [::1]", "2001:db8::5"),
        ("10.0.0.1", "2001:db8::5", "2001:db8::5"),
        ("10.0.0.1", " , ,", "10.0.0.1"),
        (None, "198.51.100.1", None),
    ],
)
def test_only_trusted_proxies_are_believed(remote: str | None, forwarded_for: str, client: str | None) -> None:
    assert client_address(remote, forwarded_for, TRUSTED) == client


@pytest.mark.parametrize(
    ("address", "stands_for"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
        ("x" * 1000, "x" * 64),
        (None, ""),
    ],
)
def test_a_subscriber_is_one_address_or_one_ipv6_network(address: str | None, stands_for: str) -> None:
    assert subscriber(address) == stands_for
