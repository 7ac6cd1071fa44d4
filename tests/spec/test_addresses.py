"""OCM Addresses and servers (draft-07, Terms; wire.md, Vocabulary)."""

from __future__ import annotations

import ipaddress
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ocm.address import OCMAddress, canonical_server, normalise_server
from gateway.ocm.errors import Malformed
from gateway.ocm.text import is_identifier

labels = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=12).filter(
    lambda label: not label.startswith("-") and not label.endswith("-")
)
names = st.lists(labels, min_size=1, max_size=4).map(".".join).filter(lambda name: name.split(".")[-1][0].isalpha())
hosts = st.one_of(
    names,
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{ipaddress.IPv6Address(int(address)).compressed}]"),
)
ports = st.none() | st.integers(1, 65535)
identifiers = st.text(min_size=1, max_size=30).filter(
    lambda text: is_identifier(text, 1024) and text == text.strip() and "://" not in text
)


@given(identifiers, hosts, ports)
def test_an_address_is_what_its_text_says(identifier: str, host: str, port: int | None) -> None:
    """parse(str(address)) is the address, whatever the identifier holds."""
    address = OCMAddress(identifier, host, port)
    assert OCMAddress.parse(str(address)) == address
    assert OCMAddress.normalise(str(address)).server == address.server


@given(identifiers, names, ports)
def test_the_last_at_sign_separates_identifier_and_host(identifier: str, host: str, port: int | None) -> None:
    """MUST (draft-07, Terms): the identifier is separated from the host by the last "@"; it may hold more of them."""
    address = OCMAddress.parse(f"nomen@{identifier}@{OCMAddress('x', host, port).server}")
    assert address.identifier == f"nomen@{identifier}"
    assert address.host == host


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(raw: str) -> None:
    """Nothing but Malformed comes out of reading an address, and what is read reads the same again."""
    for read in (OCMAddress.parse, OCMAddress.normalise):
        try:
            address = read(raw)
        except Malformed:
            continue
        assert OCMAddress.parse(str(address)) == address


@given(st.text("[]:.@/%#?0123456789abcdefx-_\u00e4\u2100\u3002 ", max_size=25))
def test_a_server_that_is_read_has_one_form_only(raw: str) -> None:
    """canonical_server is idempotent, and its result holds nothing that a URL could read as another host."""
    try:
        server = canonical_server(raw)
    except Malformed:
        return
    assert canonical_server(server) == server
    assert server.isascii()
    assert not set("/@?#%\\ ") & set(server)


def test_the_identifier_is_case_sensitive_and_the_host_is_not() -> None:
    """MUST (draft-07, Terms): the identifier is an opaque, case-sensitive UTF-8 string."""
    assert OCMAddress.parse("Alice@Cloud.Example.ORG") == OCMAddress.parse("Alice@cloud.example.org")
    assert OCMAddress.parse("Alice@cloud.example.org") != OCMAddress.parse("alice@cloud.example.org")


def test_an_e_mail_address_can_be_the_identifier() -> None:
    """draft-07, Terms: nomen.nescio@example.org@cloud.example.org."""
    address = OCMAddress.parse("nomen.nescio@example.org@cloud.example.org")
    assert (address.identifier, address.server) == ("nomen.nescio@example.org", "cloud.example.org")


def test_an_identifier_may_be_utf_8_with_spaces_and_slashes() -> None:
    assert OCMAddress.parse("Zoë de Vries/+=@nc.example").identifier == "Zoë de Vries/+="


@pytest.mark.parametrize(
    ("raw", "server"),
    [
        ("Cloud.EXAMPLE.org", "cloud.example.org"),
        ("cloud.example.org:443", "cloud.example.org"),
        ("cloud.example.org:0443", "cloud.example.org"),
        ("cloud.example.org:8443", "cloud.example.org:8443"),
        ("cloud.example.org.", "cloud.example.org"),
        ("cloud.example.org.:8443", "cloud.example.org:8443"),
        ("localhost:8080", "localhost:8080"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:DB8:0:0:0:0:0:1]", "[2001:db8::1]"),
        ("[::1]:443", "[::1]"),
        ("[::1]:8443", "[::1]:8443"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("nas_1.lab.example", "nas_1.lab.example"),
    ],
)
def test_a_server_has_one_form(raw: str, server: str) -> None:
    """The host is compared without case, the port counts, `:443` equals no port, [IPv6] works (wire.md)."""
    assert canonical_server(raw) == server
    assert OCMAddress.parse(f"a@{raw}").server == server


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "@",
        ":443",
        "https://host",
        "host/",
        "host/path",
        "host?x",
        "host#x",
        "ho st",
        " host",
        "host\n",
        "ho\x00st",
        "host:",
        "host:0",
        "host:65536",
        "host:99999999999",
        "host:٤٤٣",
        "host:-1",
        "host:80:80",
        "host%00",
        "ho\\st",
        "a..b",
        ".host",
        "-host",
        "host-",
        "a" * 64,
        "a." * 127 + "a",
        "256.1.1.1",
        "1.2.3",
        "2130706433",
        "0x7f.1",
        "host.0x7f000001",
        "01.2.3.4",
        "::1",
        "[::1",
        "[::1%eth0]",
        "[host]",
        "[1:2]",
        "[]",
        "straße.example",
        "a\u200db.example",
        "\u2100.example",  # a compatibility mapping turns it into a/c
        "host\ud800",
        "ß" * 10_000,
    ],
)
def test_what_is_no_server_is_refused(raw: str) -> None:
    """MUST NOT (draft-07, Terms): no scheme, no path; and no user information, controls or ambiguous numbers."""
    with pytest.raises(Malformed) as caught:
        canonical_server(raw)
    assert caught.value.code == "INVALID_ADDRESS"
    with pytest.raises(Malformed):
        OCMAddress.parse(f"alice@{raw}")


@pytest.mark.parametrize(
    "raw",
    [
        "cloud.example",
        "@cloud.example",
        " @cloud.example",
        "alice @cloud.example",
        " alice@cloud.example",
        "https://alice@cloud.example",
        "al\x00ice@cloud.example",
        "al\x1bice@cloud.example",
        "al\nice@cloud.example",
        "al\u202eice@cloud.example",
        "al\ud800ice@cloud.example",
        "a" * 1025 + "@cloud.example",
    ],
)
def test_what_is_no_address_is_refused(raw: str) -> None:
    """An identifier is not empty, has no scheme, and holds nothing that is not shown or steers what is shown."""
    with pytest.raises(Malformed):
        OCMAddress.parse(raw)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("alice@https://nc1/", "alice@nc1"),
        ("alice@http://nc1:8080//", "alice@nc1:8080"),
        ("alice@https://nc1/index.php", "alice@nc1"),
        ("alice@HTTPS://NC1/", "alice@nc1"),
        ("uuid@https://oc.example@oc.example", "uuid@oc.example"),
        ("uuid@oc.example@https://oc.example", "uuid@oc.example"),
        ("alice@gw.example@gw.example", "alice@gw.example"),
        ("alice@gw.example:443@gw.example@GW.example", "alice@gw.example"),
        ("alice@gw.example@gw.example:9200", "alice@gw.example@gw.example:9200"),
        ("bob@mail.example@https://gw.example/", "bob@mail.example@gw.example"),
        (" alice@gw.example ", "alice@gw.example"),
    ],
)
def test_what_products_write_is_normalised(raw: str, text: str) -> None:
    """Peers send schemes, slashes and doubled hosts: normalise on the way in (wire.md, Vocabulary; peers.md, 2a)."""
    assert str(OCMAddress.normalise(raw)) == text


@pytest.mark.parametrize(
    "raw",
    [
        "alice",
        "https://nc1/alice",
        "alice@nc1/nextcloud",
        "alice@https://nc1/nextcloud/",
        "alice@https://user:password@nc1/",
        "@nc1@nc1",
        "alice@nc1:https://nc2",
        pytest.param("alice@" + "h" * 60_000, marks=pytest.mark.timeout(5)),  # seconds, were it searched for a scheme
    ],
)
def test_what_cannot_be_normalised_is_refused(raw: str) -> None:
    """MUST NOT (draft-07, Terms): an address has no path; two servers on one host would become one."""
    with pytest.raises(Malformed):
        OCMAddress.normalise(raw)


def test_a_server_has_no_user_information() -> None:
    with pytest.raises(Malformed):
        canonical_server("user@host")


def test_a_server_that_is_a_url_is_normalised() -> None:
    """reva's client_id may be a URL (peers.md, section 8)."""
    assert normalise_server("https://Cloud.Example:443/") == "cloud.example"


def test_443_is_no_port_however_an_address_is_made() -> None:
    assert OCMAddress("a", "h", 443) == OCMAddress("a", "H.") == OCMAddress.parse("a@h")


def test_a_host_is_not_taken_off_without_end() -> None:
    """16,000 of them, in a message of 64 KiB, kept all other requests waiting for a twentieth of a second."""
    assert OCMAddress.normalise("alice" + "@h.example" * 300).server == "h.example"
    with pytest.raises(Malformed, match="too long"):
        OCMAddress.normalise("alice" + "@h.example" * 6000)
