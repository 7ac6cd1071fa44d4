"""The guarded way out: what is refused, that only checked addresses are used, and that failures name their step."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.outbound import AsyncOutbound, Guard, OutboundRefused, PeerUnreachable, SyncOutbound, asynchronous

SIDES = ("async", "sync", "uvloop")
Handler = Callable[[socket.socket, bytes], None]


def guard_for(*networks: str, http: tuple[str, ...] = ()) -> Guard:
    return Guard([ipaddress.ip_network(network) for network in networks], lambda host: host in http)


LOOPBACK = guard_for("127.0.0.0/8", http=("peer.example", "127.0.0.1"))


# --------------------------------------------------------------------------------------------- the tables

REFUSED_ADDRESSES = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254 169.254.169.254
    172.16.0.1 172.31.255.255 192.0.0.8 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.7
    203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b::808:808
    64:ff9b:1::a00:1 100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:db8::1
    2002:7f00:1::1 2002:808:808::1 3fff::1 fc00::1 fd12:3456::1 fe80::1 fe80::1%1 febf::1 fec0::1 ff02::1 4000::1
    5f00::1 e000::1
"""
PUBLIC_ADDRESSES = "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 172.32.0.1 192.0.1.1 223.255.255.255 \
    2001:4860:4860::8888 2606:4700::1111 2a00:1450::1 3ffe::1"


@pytest.mark.parametrize("address", REFUSED_ADDRESSES.split())
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    """Every special-purpose range is refused, however the address is wrapped."""
    with pytest.raises(OutboundRefused) as caught:
        guard_for().check_address(address)
    assert caught.value.code == "ADDRESS_REFUSED"


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES.split())
def test_a_public_address_passes(address: str) -> None:
    """Neighbours of the special ranges are not caught with them."""
    guard_for().check_address(address)


@pytest.mark.parametrize("text", ["", "localhost", "0x7f.1", "127.1", "2130706433", "0177.0.0.1", "127.0.0.01"])
def test_what_is_no_plain_address_is_refused_as_address(text: str) -> None:
    """A resolver that answers in another notation gets nowhere."""
    with pytest.raises(OutboundRefused):
        guard_for("0.0.0.0/0").check_address(text)


@pytest.mark.parametrize(
    ("listed", "address"),
    [
        (("127.0.0.0/8",), "127.0.0.1"),
        (("10.1.0.0/16",), "10.1.255.255"),
        (("::1/128",), "::1"),
        (("fd00::/8",), "fd12::1"),
        (("64:ff9b::/96",), "64:ff9b::808:808"),
        (("64:ff9b::/96", "10.0.0.0/8"), "64:ff9b::a00:1"),
        (("::ffff:0:0/96", "127.0.0.0/8"), "::ffff:127.0.0.1"),
    ],
)
def test_a_listed_network_passes(listed: tuple[str, ...], address: str) -> None:
    """allow_networks opens exactly what it lists."""
    guard_for(*listed).check_address(address)


@pytest.mark.parametrize(
    ("listed", "address"),
    [
        (("10.1.0.0/16",), "10.2.0.1"),
        (("::ffff:0:0/96",), "::ffff:127.0.0.1"),
        (("127.0.0.0/8",), "::ffff:127.0.0.1"),
        (("64:ff9b::/96",), "64:ff9b::7f00:1"),
        (("2002::/16",), "2002:a00:1::1"),
        (("2001::/32",), "2001:0:a00:1:8000:63bf:3fff:fdd2"),
    ],
)
def test_a_listed_wrapper_does_not_open_what_it_wraps(listed: tuple[str, ...], address: str) -> None:
    """The IPv4 address inside has to be public or listed itself."""
    with pytest.raises(OutboundRefused):
        guard_for(*listed).check_address(address)


REFUSED_URLS = [
    ("", "URL_REFUSED"),
    ("peer.example/x", "URL_REFUSED"),
    ("//peer.example/x", "URL_REFUSED"),
    ("/etc/passwd", "URL_REFUSED"),
    ("https:/peer.example/", "URL_REFUSED"),
    ("https:peer.example", "URL_REFUSED"),
    ("https://peer.example/a b", "URL_REFUSED"),
    ("https://peer.example/a\r\nHost: x", "URL_REFUSED"),
    ("https://peer.example\\@127.0.0.1/", "URL_REFUSED"),
    ("https://peer.example/..\\..\\x", "URL_REFUSED"),
    ("https://p\u00e9er.example/", "URL_REFUSED"),
    ("https://127\u30020\u30020\u30021/", "URL_REFUSED"),
    ("https://\uff11\uff12\uff17.0.0.1/", "URL_REFUSED"),
    (" https://peer.example/", "URL_REFUSED"),
    ("https://peer.example/\x00", "URL_REFUSED"),
    ("http://peer.example/", "SCHEME_REFUSED"),
    ("ftp://peer.example/", "SCHEME_REFUSED"),
    ("file:///etc/passwd", "SCHEME_REFUSED"),
    ("gopher://peer.example/", "SCHEME_REFUSED"),
    ("unix://var/run/x", "SCHEME_REFUSED"),
    ("https://user@peer.example/", "USERINFO_REFUSED"),
    ("https://user:pw@peer.example/", "USERINFO_REFUSED"),
    ("https://peer.example@127.0.0.1/", "USERINFO_REFUSED"),
    ("https://@peer.example/", "USERINFO_REFUSED"),
    ("https:///x", "HOST_REFUSED"),
    ("https://:443/x", "HOST_REFUSED"),
    ("https://peer.example./", "HOST_REFUSED"),
    ("https://peer..example/", "HOST_REFUSED"),
    ("https://-peer.example/", "HOST_REFUSED"),
    ("https://%31%32%37.0.0.1/", "HOST_REFUSED"),
    ("https://0x7f.1/", "HOST_REFUSED"),
    ("https://0x7f000001/", "HOST_REFUSED"),
    ("https://2130706433/", "HOST_REFUSED"),
    ("https://127.1/", "HOST_REFUSED"),
    ("https://0177.0.0.1/", "HOST_REFUSED"),
    ("https://127.0.0.01/", "HOST_REFUSED"),
    ("https://1.2.3.4.5/", "HOST_REFUSED"),
    ("https://peer.0x10/", "HOST_REFUSED"),
    ("https://::1/", "HOST_REFUSED"),
    ("https://[::1/", "HOST_REFUSED"),
    ("https://[fe80::1%25eth0]/", "HOST_REFUSED"),
    ("https://[v1.x]/", "HOST_REFUSED"),
    ("https://[127.0.0.1]/", "HOST_REFUSED"),
    ("https://[peer.example]/", "HOST_REFUSED"),
    ("https://peer.example:443:444/", "HOST_REFUSED"),
    ("https://peer.example:/", "HOST_REFUSED"),
    (f"https://{'a' * 64}.example/", "HOST_REFUSED"),
    (f"https://{'a.' * 130}example/", "HOST_REFUSED"),
    ("https://peer.example:0/", "PORT_REFUSED"),
    ("https://peer.example:22/", "PORT_REFUSED"),
    ("https://peer.example:25/", "PORT_REFUSED"),
    ("https://peer.example:1023/", "PORT_REFUSED"),
    ("https://peer.example:65536/", "PORT_REFUSED"),
    ("https://peer.example:99999/", "PORT_REFUSED"),
    ("https://127.0.0.1/", "ADDRESS_REFUSED"),
    ("https://169.254.169.254/latest/meta-data", "ADDRESS_REFUSED"),
    ("https://[::1]/", "ADDRESS_REFUSED"),
    ("https://[::ffff:7f00:1]/", "ADDRESS_REFUSED"),
    ("https://[::ffff:127.0.0.1]/", "ADDRESS_REFUSED"),
    ("https://[64:ff9b::a9fe:a9fe]/", "ADDRESS_REFUSED"),
    ("https://[2002:7f00:1::]/", "ADDRESS_REFUSED"),
    ("https://0.0.0.0:8080/", "ADDRESS_REFUSED"),
]


@pytest.mark.parametrize(("url", "code"), REFUSED_URLS)
def test_a_url_that_leads_astray_is_refused(url: str, code: str) -> None:
    """Each refusal carries its code, before anything is resolved."""
    with pytest.raises(OutboundRefused) as caught:
        guard_for().check_url(url)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://peer.example", ("https", "peer.example", 443, "/")),
        ("HTTPS://Peer.Example:443/a%2Fb/?q=1#top", ("https", "peer.example", 443, "/a%2Fb/?q=1")),
        ("https://peer.example?q=/", ("https", "peer.example", 443, "/?q=/")),
        ("https://peer.example:8443/%FF", ("https", "peer.example", 8443, "/%FF")),
        ("https://xn--per-dma.example/", ("https", "xn--per-dma.example", 443, "/")),
        ("https://1.1.1.1/", ("https", "1.1.1.1", 443, "/")),
        ("https://[2606:4700:0::1111]:1024/", ("https", "2606:4700::1111", 1024, "/")),
        ("https://4peer.example/", ("https", "4peer.example", 443, "/")),
        ("http://lab.example/", ("http", "lab.example", 80, "/")),
    ],
)
def test_a_proper_url_passes_byte_for_byte(url: str, expected: tuple[str, str, int, str]) -> None:
    """The path and query are sent exactly as they were given, since signatures cover them."""
    found = guard_for(http=("lab.example",)).check_url(url)
    assert (found.scheme, found.host, found.port, found.target) == expected


def test_no_refusal_repeats_a_password() -> None:
    """A URL with a password in it is not quoted."""
    with pytest.raises(OutboundRefused) as caught:
        guard_for().check_url("https://alice:hunter2@peer.example/")
    assert "hunter2" not in str(caught.value)


# ------------------------------------------------------------------------------------ servers and both sides


class Server:
    """A scripted server on a free loopback port; `handler` gets each connection after its request's head."""

    def __init__(self, handler: Handler, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._handler = handler
        self._context = context
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._open: set[socket.socket] = set()
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with closing(connection):
            connection.settimeout(5)
            try:
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
                with closing(connection):
                    self._open.add(connection)
                    while head := read_head(connection):
                        self.requests.append(head)
                        self._handler(connection, head)
            except (OSError, Close):
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):  # closed by its own thread
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


class Close(Exception):
    """The handler wants the connection closed."""


def read_head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        byte = connection.recv(1)
        if not byte:
            return b""
        head += byte
    return head


@contextmanager
def serving(handler: Handler, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(handler, context)
    try:
        yield server
    finally:
        server.close()


def answering(status: str = "200 OK", body: bytes = b"hello", headers: str = "") -> Handler:
    def handler(connection: socket.socket, head: bytes) -> None:
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body)

    return handler


def silent(connection: socket.socket, head: bytes) -> None:
    """Say nothing until the client gives up."""
    connection.recv(1)
    raise Close


class Names:
    """A resolver that gives one list of addresses after the other and counts the questions."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.questions = 0

    def sync(self, host: str, port: int) -> list[str]:
        self.questions += 1
        return self.answers[min(self.questions, len(self.answers)) - 1]

    async def asynchronous(self, host: str, port: int) -> list[str]:
        return self.sync(host, port)


def ask(
    side: str,
    url: str,
    guard: Guard = LOOPBACK,
    names: Names | None = None,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    timeout: float = 5,
    max_body: int = 1_000_000,
    **options: Any,
) -> tuple[int, dict[str, str], bytes]:
    """Send one request by one of the transports and return status, headers and body."""
    names = names or Names(["127.0.0.1"])
    if side == "sync":
        with closing(SyncOutbound(guard, user_agent="test/1", resolve=names.sync, **options)) as outbound:
            answer = outbound.request(method, url, headers, body)
            with closing(answer):
                return answer.status, dict(answer.headers), answer.read(max_body)

    async def exchange() -> tuple[int, dict[str, str], bytes]:
        async with AsyncOutbound(guard, user_agent="test/1", resolve=names.asynchronous, **options) as outbound:
            response = await outbound.request(
                method, url, headers=headers, body=body, timeout=timeout, max_body=max_body
            )
            return response.status, dict(response.headers), response.body

    factory = uvloop.new_event_loop if side == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(exchange())


@pytest.fixture(params=SIDES)
def side(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ------------------------------------------------------------------------------------------- both transports


def test_a_request_arrives_as_it_was_made(side: str) -> None:
    """Target, host, headers and body are sent as given, and nothing compressed is asked for."""
    received: list[bytes] = []

    def handler(connection: socket.socket, head: bytes) -> None:
        received.append(connection.recv(4))
        answering("201 Created", b"done", "X-One: 1\r\n")(connection, head)

    with serving(handler) as server:
        url = f"http://peer.example:{server.port}/a%2fb//c/%FF?x=%20&y"
        status, headers, body = ask(side, url, method="POST", headers={"X-Two": "2"}, body=b"body")
    assert (status, headers["X-One"], body, received) == (201, "1", b"done", [b"body"])
    lines = server.requests[0].decode().split("\r\n")
    assert lines[0] == "POST /a%2fb//c/%FF?x=%20&y HTTP/1.1"
    assert {f"Host: peer.example:{server.port}", "X-Two: 2", "Accept-Encoding: identity", "User-Agent: test/1"} <= set(
        lines
    )
    assert "Content-Length: 4" in lines


def test_dot_segments_are_not_resolved_on_the_way(side: str) -> None:
    """What was checked is what is sent: no library rewrites the path."""
    with serving(answering()) as server:
        ask(side, f"http://127.0.0.1:{server.port}/a/../b/%2e%2e/c")
    assert server.requests[0].startswith(b"GET /a/../b/%2e%2e/c HTTP/1.1")


def test_a_redirect_is_returned_and_not_followed(side: str) -> None:
    """The 302 is the answer, and nobody connects to its target."""
    with serving(answering()) as target:
        location = f"Location: http://127.0.0.1:{target.port}/\r\n"
        with serving(answering("302 Found", b"", location)) as server:
            status, headers, _ = ask(side, f"http://127.0.0.1:{server.port}/")
        assert status == 302
        assert headers["Location"].endswith(f":{target.port}/")
    assert target.connections == 0


def test_proxies_of_the_environment_are_ignored(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """http_proxy of the service's environment does not see a request."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    with serving(answering()) as server:
        assert ask(side, f"http://127.0.0.1:{server.port}/")[2] == b"hello"


def test_a_name_that_resolves_to_a_private_address_is_refused(side: str) -> None:
    """Nobody connects where the check says no."""
    with serving(answering()) as server:
        with pytest.raises(OutboundRefused) as caught:
            ask(side, f"http://peer.example:{server.port}/", guard_for(http=("peer.example",)))
        assert caught.value.code == "ADDRESS_REFUSED"
        assert "peer.example" in str(caught.value)
    assert server.connections == 0


def test_an_address_in_the_url_is_checked_without_a_resolver(side: str) -> None:
    """An IP literal gets no way around the check."""
    names = Names(["127.0.0.1"])
    with serving(answering()) as server, pytest.raises(OutboundRefused):
        ask(side, f"http://127.0.0.1:{server.port}/", guard_for(http=("127.0.0.1",)), names)
    assert (server.connections, names.questions) == (0, 0)


def test_a_name_that_changes_its_address_gains_nothing(side: str) -> None:
    """The first answer alone is used: the second, which names the server, is never asked for."""
    guard = guard_for("127.0.0.2/32", http=("peer.example",))
    names = Names(["127.0.0.2"], ["127.0.0.1"])
    with serving(answering()) as server:
        with pytest.raises(PeerUnreachable) as caught:
            ask(side, f"http://peer.example:{server.port}/", guard, names)
        assert caught.value.step == "tcp"
    assert (server.connections, names.questions) == (0, 1)


def test_of_several_addresses_only_those_that_pass_are_tried(side: str) -> None:
    """A mixed answer is filtered: here the refused address comes first and would refuse the connection."""
    guard = guard_for("127.0.0.1/32", http=("peer.example",))
    with serving(answering()) as server:
        url = f"http://peer.example:{server.port}/"
        assert ask(side, url, guard, Names(["127.0.0.9", "::1", "127.0.0.1"]))[0] == 200


def test_a_second_address_is_tried_when_the_first_does_not_answer(side: str) -> None:
    """A host with one dead address is reached."""
    with serving(answering()) as server:
        names = Names(["127.0.0.7", "127.0.0.1"])
        assert ask(side, f"http://peer.example:{server.port}/", names=names)[0] == 200


def test_plain_http_needs_permission(side: str) -> None:
    """http to a host that is not listed is refused before it is resolved."""
    names = Names(["127.0.0.1"])
    with pytest.raises(OutboundRefused) as caught:
        ask(side, "http://other.example:8080/", names=names)
    assert (caught.value.code, names.questions) == ("SCHEME_REFUSED", 0)


@pytest.mark.parametrize("value", ["a\r\nX: 1", "a\nb", "a\x00b", "t\u00f6ken\u2603"])
def test_a_credential_that_would_break_the_header_is_refused(side: str, value: str) -> None:
    """Nothing is sent, and the message does not hold the value."""
    with serving(answering()) as server, pytest.raises(OutboundRefused) as caught:
        ask(side, f"http://127.0.0.1:{server.port}/", headers={"Authorization": f"Bearer {value}"})
    assert caught.value.code == "HEADER_REFUSED"
    assert value not in str(caught.value)
    assert server.connections == 0


# ------------------------------------------------------------------------------ which step failed


def failure(side: str, url: str, **options: Any) -> PeerUnreachable:
    with pytest.raises(PeerUnreachable) as caught:
        ask(side, url, **options)
    return caught.value


class Unresolvable(Names):
    def sync(self, host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_a_name_without_address_fails_at_dns(side: str) -> None:
    """The sentence names the host and says that the name is the trouble."""
    error = failure(side, "https://peer.example/", names=Unresolvable())
    assert (error.step, error.code) == ("dns", "NAME_UNRESOLVED")
    assert "peer.example:443: the name cannot be resolved" in str(error)


def test_an_empty_answer_of_the_resolver_fails_at_dns(side: str) -> None:
    """No address is no permission."""
    assert failure(side, "https://peer.example/", names=Names([])).step == "dns"


def test_a_closed_port_fails_at_tcp(side: str) -> None:
    """Connection refused is said as such."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    error = failure(side, f"https://127.0.0.1:{port}/")
    assert (error.step, error.code) == ("tcp", "CONNECT_FAILED")
    assert "refused" in str(error).lower()


def test_a_port_that_swallows_the_connection_fails_at_tcp_in_time(side: str) -> None:
    """A full backlog drops SYN as a firewall does; the connect time-out ends it."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as listener:
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        time.sleep(0.05)
        began = time.monotonic()
        error = failure(side, f"https://127.0.0.1:{port}/", connect_timeout=0.3)
        assert time.monotonic() - began < 3
        for filler in fillers:
            filler.close()
    assert error.step == "tcp"


class Authority:
    """A throw-away certificate authority with one server certificate."""

    def __init__(self, directory: Path, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Throw-away")])
        certificate = self._sign(issuer, issuer, self._key, ca=True)
        self.file = directory / f"{name}-ca.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        leaf = self._sign(subject, issuer, key, ca=False, name=name)
        chain = directory / f"{name}.pem"
        chain.write_bytes(
            leaf.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(chain)

    def _sign(
        self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool, name: str = ""
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if name:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        return builder.sign(self._key, hashes.SHA256())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "peer.example")


def test_a_certificate_of_the_given_authority_is_accepted(side: str, authority: Authority) -> None:
    """The host's own authority is believed, and the name is checked though the connection goes to an address."""
    with serving(answering(), authority.context) as server:
        url = f"https://peer.example:{server.port}/"
        assert ask(side, url, authorities={"peer.example": authority.file})[2] == b"hello"
    assert b"Host: peer.example" in server.requests[0]


def test_an_unknown_authority_fails_at_tls(side: str, authority: Authority) -> None:
    """The sentence says that the certificate is the trouble, and no request was sent."""
    with serving(answering(), authority.context) as server:
        error = failure(side, f"https://peer.example:{server.port}/")
    assert (error.step, error.code) == ("tls", "TLS_FAILED")
    assert "certificate is not accepted" in str(error)
    assert str(error).endswith("name that in federation.peers.peer.example.ca_file (tls)")
    assert server.requests == []


def test_a_certificate_for_another_name_fails_at_tls(side: str, authority: Authority) -> None:
    """The name of the URL counts, not the one of the certificate."""
    guard = guard_for("127.0.0.0/8")
    with serving(answering(), authority.context) as server:
        own = {"other.example": authority.file}
        error = failure(side, f"https://other.example:{server.port}/", guard=guard, authorities=own)
    assert error.step == "tls"
    assert "other.example" in str(error)
    assert "ca_file" not in str(error), "another authority would not help"


def test_a_hosts_own_authority_is_believed_alone(
    side: str, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the system's store holds: there it is here, and does not help."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    another = Authority(tmp_path, "another.example")
    with serving(answering(), authority.context) as server:
        url = f"https://peer.example:{server.port}/"
        assert ask(side, url)[2] == b"hello"
        error = failure(side, url, authorities={"peer.example": another.file})
    assert error.step == "tls"
    assert "federation.peers.peer.example.ca_file alone may sign for this host" in str(error)


def test_the_authority_of_one_host_is_not_believed_for_another(side: str, authority: Authority) -> None:
    with serving(answering(), authority.context) as server:
        error = failure(side, f"https://peer.example:{server.port}/", authorities={"other.example": authority.file})
    assert error.step == "tls"


def test_a_server_without_tls_fails_at_tls(side: str) -> None:
    """https to a plain HTTP port is not called unreachable."""

    def plain(connection: socket.socket, head: bytes) -> None:
        raise Close

    listener = socket.create_server(("127.0.0.1", 0))

    def talk() -> None:
        connection, _ = listener.accept()
        with closing(connection):
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=talk)
    thread.start()
    with closing(listener):
        error = failure(side, f"https://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()
    assert error.step == "tls"


@pytest.mark.parametrize("hang", [True, False])
def test_a_handshake_that_hangs_or_is_cut_fails_at_tls(side: str, hang: bool) -> None:
    """The TCP connection stood, so tcp would be the wrong name."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def talk() -> None:
        connection, _ = listener.accept()
        with closing(connection):
            connection.recv(10)
            if hang:
                done.wait(5)

    thread = threading.Thread(target=talk)
    thread.start()
    with closing(listener):
        error = failure(side, f"https://127.0.0.1:{listener.getsockname()[1]}/", connect_timeout=0.3)
        done.set()
        thread.join()
    assert error.step == "tls"


def test_an_answer_that_is_not_http_fails_at_http(side: str) -> None:
    """The peer was reached, and what it says makes no sense."""

    def handler(connection: socket.socket, head: bytes) -> None:
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        raise Close

    with serving(handler) as server:
        error = failure(side, f"http://127.0.0.1:{server.port}/")
    assert (error.step, error.code) == ("http", "HTTP_FAILED")


def test_a_server_that_closes_without_an_answer_fails_at_http(side: str) -> None:
    """Closed after the request is another thing than refused."""

    def handler(connection: socket.socket, head: bytes) -> None:
        raise Close

    with serving(handler) as server:
        assert failure(side, f"http://127.0.0.1:{server.port}/").step == "http"


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nshort",
    ],
)
def test_a_cut_answer_is_an_error(side: str, start: bytes) -> None:
    """A truncated body is never returned as a whole one."""

    def handler(connection: socket.socket, head: bytes) -> None:
        connection.sendall(start)
        raise Close

    with serving(handler) as server:
        assert failure(side, f"http://127.0.0.1:{server.port}/").step == "http"


def test_a_server_that_says_nothing_is_left_after_the_idle_time(side: str) -> None:
    """The time between two bytes is bounded on both sides."""
    with serving(silent) as server:
        began = time.monotonic()
        error = failure(side, f"http://127.0.0.1:{server.port}/", idle_timeout=0.3)
        assert time.monotonic() - began < 3
    assert error.step == "http"
    assert "no answer in time" in str(error)


# ------------------------------------------------------------------------------------------- async alone


@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [("POST", None, b""), ("GET", {"Authorization": "Bearer x"}, None), ("PROPFIND", {}, None)],
)
async def test_a_redirect_is_for_a_bare_get_only(
    method: str, headers: dict[str, str] | None, body: bytes | None
) -> None:
    async with AsyncOutbound(LOOPBACK, user_agent="test/1") as outbound:
        url, options = "http://127.0.0.1:8080/", {"timeout": 1, "max_body": 1, "redirects": 1}
        with pytest.raises(ValueError, match="bare GET"):
            await outbound.request(method, url, headers=headers, body=body, **options)


async def test_a_redirect_from_https_to_http_is_not_followed(authority: Authority) -> None:
    """Who is between would have the rest of the way to himself."""
    names, own = Names(["127.0.0.1"]), {"peer.example": authority.file}
    with serving(answering()) as target:
        location = f"Location: http://127.0.0.1:{target.port}/\r\n"
        with serving(answering("302 Found", b"", location), authority.context) as server:
            url = f"https://peer.example:{server.port}/"
            async with AsyncOutbound(
                LOOPBACK, user_agent="test/1", authorities=own, resolve=names.asynchronous
            ) as outbound:
                answer = await outbound.request("GET", url, timeout=5, max_body=100, redirects=3)
    assert (answer.status, answer.url, target.connections) == (302, url, 0)


@pytest.mark.parametrize("location", ["//[", "http://[::1", "//peer\xe9.example/"])
async def test_a_redirect_to_something_that_is_no_url_is_refused(location: str) -> None:
    with serving(answering("302 Found", b"", f"Location: {location}\r\n")) as server:
        async with AsyncOutbound(LOOPBACK, user_agent="test/1") as outbound:
            with pytest.raises(OutboundRefused):
                await outbound.request("GET", f"http://127.0.0.1:{server.port}/", timeout=5, max_body=100, redirects=3)


@pytest.mark.parametrize("loop", ["async", "uvloop"])
def test_a_trickling_answer_meets_the_total_bound(loop: str) -> None:
    """Each byte comes within the idle time, and the whole still ends when it was told to."""

    def handler(connection: socket.socket, head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            connection.sendall(b"x")
            time.sleep(0.05)

    with serving(handler) as server:
        began = time.monotonic()
        error = failure(loop, f"http://127.0.0.1:{server.port}/", timeout=0.4)
        assert 0.3 < time.monotonic() - began < 2
    assert error.step == "http"


@pytest.mark.parametrize("loop", ["async", "uvloop"])
def test_a_resolver_that_hangs_is_left_at_dns(loop: str) -> None:
    """The look-up has its own bound."""

    class Hanging(Names):
        async def asynchronous(self, host: str, port: int) -> list[str]:
            await asyncio.sleep(30)
            return []

    began = time.monotonic()
    error = failure(loop, "https://peer.example/", names=Hanging(), connect_timeout=0.2)
    assert time.monotonic() - began < 2
    assert error.step == "dns"


async def test_names_that_hang_after_all_patience_are_bounded_and_those_of_strangers_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread goes on when nobody waits any more: it still counts, and one too many is refused at once."""
    released = threading.Event()
    threads: list[threading.Thread] = []

    def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        if host.startswith("hanging"):
            threads.append(threading.current_thread())
            released.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(asynchronous, "STRANGERS_LOOK_UPS", 3)

    with serving(answering()) as server:
        url = f"http://peer.example:{server.port}/"
        async with AsyncOutbound(LOOPBACK, user_agent="test/1", connect_timeout=0.1) as outbound:
            asked = (
                outbound.request("GET", f"https://hanging-{number}.example/", timeout=9, max_body=1, stranger=True)
                for number in range(3)
            )
            failures = await asyncio.gather(*asked, return_exceptions=True)
            assert ["in time" in str(failure) for failure in failures] == [True] * 3
            with pytest.raises(PeerUnreachable, match="too many names") as refused:
                await outbound.request("GET", url, timeout=2, max_body=100, stranger=True)
            assert refused.value.step == "dns"
            assert (await outbound.request("GET", url, timeout=2, max_body=100)).body == b"hello"
            assert [thread.daemon for thread in threads] == [True] * 3, "the interpreter ends without them"
            released.set()
            for thread in threads:
                thread.join(5)
            answer = await outbound.request("GET", url, timeout=2, max_body=100, stranger=True)
            assert answer.body == b"hello"


async def test_names_that_hang_do_not_stop_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty look-ups that get no answer leave threads for the next name."""
    released = threading.Event()

    def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        if host.startswith("hanging"):
            released.wait(10)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with serving(answering()) as server:
        async with AsyncOutbound(LOOPBACK, user_agent="test/1") as outbound:
            hanging = [
                asyncio.ensure_future(outbound.request("GET", f"https://hanging-{n}.example/", timeout=9, max_body=1))
                for n in range(20)
            ]
            await asyncio.sleep(0.05)
            url = f"http://peer.example:{server.port}/"
            answer = await outbound.request("GET", url, timeout=2, max_body=100)
            assert answer.body == b"hello"
            released.set()
            failures = await asyncio.gather(*hanging, return_exceptions=True)
    assert [getattr(failure, "step", None) for failure in failures] == ["dns"] * 20


@pytest.mark.parametrize("headers", ["", "Transfer-Encoding: chunked\r\n"])
def test_a_body_above_the_cap_is_cut_off(headers: str) -> None:
    """An endless answer costs no more memory than the caller allows."""

    def handler(connection: socket.socket, head: bytes) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\n{headers}\r\n".encode())
        piece = b"1000\r\n" + b"x" * 4096 + b"\r\n"
        for _ in range(100_000):
            connection.sendall(piece)

    with serving(handler) as server:
        error = failure("async", f"http://127.0.0.1:{server.port}/", max_body=64 * 1024)
    assert "larger than 65536 bytes" in str(error)


def test_a_body_of_exactly_the_cap_is_returned() -> None:
    """The cap is inclusive."""
    with serving(answering(body=b"x" * 100)) as server:
        assert len(ask("async", f"http://127.0.0.1:{server.port}/", max_body=100)[2]) == 100


def test_a_compressed_answer_is_refused_unread() -> None:
    """identity was asked for, so a bomb cannot come in as gzip."""
    with serving(answering(headers="Content-Encoding: gzip\r\n")) as server:
        error = failure("async", f"http://127.0.0.1:{server.port}/")
    assert "encoding" in str(error)


async def test_concurrent_requests_keep_their_own_step() -> None:
    """One that fails at tcp does not rename the failure of another at http."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        closed = listener.getsockname()[1]

    def handler(connection: socket.socket, head: bytes) -> None:
        raise Close

    with serving(handler) as server:
        async with AsyncOutbound(LOOPBACK, user_agent="test/1") as outbound:
            ports = [server.port, closed] * 5
            results = await asyncio.gather(
                *(outbound.request("GET", f"http://127.0.0.1:{p}/", timeout=5, max_body=1) for p in ports),
                return_exceptions=True,
            )
    assert [getattr(result, "step", None) for result in results] == ["http", "tcp"] * 5


# -------------------------------------------------------------------------------------------- sync alone


def read_body(connection: socket.socket, head: bytes) -> bytes:
    """Read a request's body by either framing; raises Close when it is cut off."""
    stream = connection.makefile("rb")
    if b"transfer-encoding: chunked" in head.lower():
        body = b""
        while size := int(line := stream.readline().strip() or b"-1", 16):
            if size < 0:
                raise Close(line)
            body += stream.read(size)
            stream.readline()
        stream.readline()
        return body
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    body = stream.read(length)
    if len(body) < length:
        raise Close
    return body


@pytest.fixture
def outbound() -> Iterator[SyncOutbound]:
    with closing(SyncOutbound(LOOPBACK, user_agent="test/1", idle_timeout=2)) as made:
        yield made


@pytest.mark.parametrize("size", [6, None])
def test_an_upload_is_pushed_piece_by_piece(outbound: SyncOutbound, size: int | None) -> None:
    """With a known size by Content-Length, else in chunks."""
    bodies: list[bytes] = []

    def handler(connection: socket.socket, head: bytes) -> None:
        bodies.append(read_body(connection, head))
        answering("201 Created", b"")(connection, head)

    with serving(handler) as server:
        upload = outbound.upload("PUT", f"http://127.0.0.1:{server.port}/f", {"X-A": "1"}, size)
        assert upload.send(b"abc")
        assert upload.send(b"")
        assert upload.send(b"def")
        with closing(upload.finish()) as answer:
            assert answer.status == 201
    assert bodies == [b"abcdef"]


@pytest.mark.parametrize("size", [3_000_000, None])
def test_an_upload_goes_through_tls(authority: Authority, size: int | None) -> None:
    """Large pieces, and the answer after them."""
    bodies: list[bytes] = []

    def handler(connection: socket.socket, head: bytes) -> None:
        bodies.append(read_body(connection, head))
        answering("201 Created", b"")(connection, head)

    piece = bytes(range(250)) * 4000
    names = Names(["127.0.0.1"])
    own = {"peer.example": authority.file}
    made = SyncOutbound(LOOPBACK, user_agent="test/1", authorities=own, resolve=names.sync)
    with closing(made) as outbound, serving(handler, authority.context) as server:
        upload = outbound.upload("PUT", f"https://peer.example:{server.port}/f", {}, size)
        assert all(upload.send(piece) for _ in range(3))
        with closing(upload.finish()) as answer:
            assert answer.status == 201
    assert bodies == [piece * 3]


@pytest.mark.parametrize("size", [6, None])
def test_an_aborted_upload_is_seen_as_cut_off(outbound: SyncOutbound, size: int | None) -> None:
    """The server never gets a complete request."""
    bodies: list[bytes] = []

    def handler(connection: socket.socket, head: bytes) -> None:
        bodies.append(read_body(connection, head))

    with serving(handler) as server:
        upload = outbound.upload("PUT", f"http://127.0.0.1:{server.port}/f", {}, size)
        upload.send(b"abc")
        upload.abort()
    assert bodies == []


def test_a_body_of_another_size_than_announced_is_not_finished(outbound: SyncOutbound) -> None:
    """The caller's mistake closes the connection instead of hanging on it."""
    with serving(silent) as server:
        upload = outbound.upload("PUT", f"http://127.0.0.1:{server.port}/f", {}, 10)
        upload.send(b"abc")
        with pytest.raises(ValueError):
            upload.finish()


def test_an_early_refusal_is_told_while_uploading(outbound: SyncOutbound) -> None:
    """A server that answers 507 and closes does not cost the rest of the upload, and its answer is read."""

    def handler(connection: socket.socket, head: bytes) -> None:
        if head.startswith(b"PUT"):
            connection.recv(1)
        answering("507 Insufficient Storage", b"full", "Connection: close\r\n")(connection, head)
        raise Close

    with serving(handler) as server:
        upload = outbound.upload("PUT", f"http://127.0.0.1:{server.port}/f", {}, None)
        sent = 0
        while upload.send(b"x" * 65536):
            sent += 1
            assert sent < 10_000
        with closing(upload.finish()) as answer:
            assert answer.status == 507
        outbound.request("GET", f"http://127.0.0.1:{server.port}/").close()
        assert server.connections == 2


def test_connections_are_used_again(outbound: SyncOutbound) -> None:
    """Also after an answer whose small body nobody read."""
    with serving(answering("404 Not Found", b"x" * 1000)) as server:
        for _ in range(3):
            outbound.request("GET", f"http://127.0.0.1:{server.port}/").close()
    assert (server.connections, len(server.requests)) == (1, 3)


def test_a_connection_with_an_unread_large_answer_is_dropped(outbound: SyncOutbound) -> None:
    """Nothing reads gigabytes to save a handshake."""

    def handler(connection: socket.socket, head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n" + b"x" * 1000)

    with serving(handler) as server:
        for _ in range(2):
            with closing(outbound.request("GET", f"http://127.0.0.1:{server.port}/")) as answer:
                assert answer.read(10) == b"x" * 10
    assert server.connections == 2


def test_a_connection_that_was_idle_for_long_is_not_used_again(
    outbound: SyncOutbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may be closing it at this moment."""
    with serving(answering()) as server:
        outbound.request("GET", f"http://127.0.0.1:{server.port}/").close()
        later = time.monotonic() + 5
        monkeypatch.setattr(time, "monotonic", lambda: later)
        outbound.request("GET", f"http://127.0.0.1:{server.port}/").close()
        outbound.close()
    assert server.connections == 2


def test_a_connection_that_the_server_closed_is_not_used_again(outbound: SyncOutbound) -> None:
    """Keep-alive that ended meanwhile costs a new connection, not an error."""

    def handler(connection: socket.socket, head: bytes) -> None:
        answering()(connection, head)
        raise Close

    with serving(handler) as server:
        for _ in range(3):
            with closing(outbound.request("GET", f"http://127.0.0.1:{server.port}/")) as answer:
                assert answer.read(100) == b"hello"
            time.sleep(0.05)
    assert server.connections == 3


def test_a_large_answer_arrives_whole_and_in_the_sizes_asked_for(outbound: SyncOutbound) -> None:
    """read(n) gives n bytes until the end."""
    content = bytes(range(256)) * 4096

    with (
        serving(answering(body=content)) as server,
        closing(outbound.request("GET", f"http://127.0.0.1:{server.port}/")) as answer,
    ):
        pieces = list(iter(lambda: answer.read(100_000), b""))
    assert b"".join(pieces) == content
    sizes = [len(piece) for piece in pieces]
    assert sizes == [100_000] * 10 + [len(content) - 1_000_000]


def test_an_unknown_transfer_coding_is_refused(outbound: SyncOutbound) -> None:
    """Otherwise the chunk sizes would be read as content."""
    handler = answering(headers="Transfer-Encoding: gzip, chunked\r\n")
    with serving(handler) as server, pytest.raises(PeerUnreachable):
        outbound.request("GET", f"http://127.0.0.1:{server.port}/")


def test_many_threads_share_one_outbound(outbound: SyncOutbound) -> None:
    """No answer reaches another thread."""
    results: list[tuple[bytes, bytes]] = []

    def handler(connection: socket.socket, head: bytes) -> None:
        answering(body=head.split()[1])(connection, head)

    def work(number: int) -> None:
        for turn in range(10):
            path = f"/{number}-{turn}".encode()
            with closing(outbound.request("GET", f"http://127.0.0.1:{server.port}{path.decode()}")) as answer:
                results.append((path, answer.read(100)))

    with serving(handler) as server:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        outbound.close()
    assert len(results) == 80
    assert all(asked == answered for asked, answered in results)


def trickling(piece: bytes) -> Handler:
    def handler(connection: socket.socket, head: bytes) -> None:
        with suppress(OSError):
            connection.sendall(b"HTTP/1.1 ")
            for _ in range(60):
                connection.sendall(piece)
                time.sleep(0.05)
        raise Close

    return handler


@pytest.mark.parametrize("piece", [b"2", b"100 Continue\r\n\r\nHTTP/1.1 ", b"200 OK\r\nx: y\r\n"])
@pytest.mark.parametrize("patience", [0.3, None])
def test_a_trickling_head_meets_its_bound(piece: bytes, patience: float | None) -> None:
    """Each piece comes in time, and all of them would hold the thread for as long as the server likes."""
    outbound = SyncOutbound(LOOPBACK, user_agent="test/1", idle_timeout=0.4)
    with closing(outbound), serving(trickling(piece)) as server:
        began = time.monotonic()
        with pytest.raises(PeerUnreachable, match="no answer in time"):
            outbound.request("GET", f"http://127.0.0.1:{server.port}/", patience=patience)
        assert time.monotonic() - began < 2


def test_patience_with_the_head_ends_with_it() -> None:
    def slow(connection: socket.socket, head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
        time.sleep(0.5)
        connection.sendall(b"b")

    outbound = SyncOutbound(LOOPBACK, user_agent="test/1")
    with closing(outbound), serving(slow) as server:
        answer = outbound.request("GET", f"http://127.0.0.1:{server.port}/", patience=0.25)
        with closing(answer):
            assert answer.read(10) == b"ab"


def dripping(connection: socket.socket, head: bytes) -> None:
    """Send a body of 60 bytes, each of them in time."""
    with suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n")
        for _ in range(60):
            connection.sendall(b"x")
            time.sleep(0.05)


def test_a_trickling_body_meets_the_bound_of_the_whole_answer() -> None:
    outbound = SyncOutbound(LOOPBACK, user_agent="test/1", idle_timeout=0.4)
    with closing(outbound), serving(dripping) as server:
        began = time.monotonic()
        answer = outbound.request("GET", f"http://127.0.0.1:{server.port}/", whole=True)
        with closing(answer), pytest.raises(PeerUnreachable, match="no answer in time"):
            answer.read(100)
        assert time.monotonic() - began < 2


def test_a_trickling_body_that_nobody_wants_keeps_nobody() -> None:
    """What is left of it is read for the next request's sake, but not for as long as the server likes."""
    outbound = SyncOutbound(LOOPBACK, user_agent="test/1", idle_timeout=0.4)
    with closing(outbound), serving(dripping) as server:
        began = time.monotonic()
        outbound.request("GET", f"http://127.0.0.1:{server.port}/").close()
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("head", ["Content-Length: 5", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("reads", [True, False])
def test_the_rest_of_an_answer_that_came_too_late_is_no_other_answer(head: str, reads: bool) -> None:
    """Not even if it looks like one."""
    go_on = threading.Event()

    def handler(connection: socket.socket, asked: bytes) -> None:
        if b"/second" in asked:
            answering()(connection, asked)
            return
        begin = "5\r\na" if "chunked" in head else "a"
        connection.sendall(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n{begin}".encode())
        go_on.wait(10)
        with suppress(OSError):
            answering(body=b"evil!")(connection, asked)

    outbound = SyncOutbound(LOOPBACK, user_agent="test/1", idle_timeout=0.2)
    with closing(outbound), serving(handler) as server:
        first = outbound.request("GET", f"http://127.0.0.1:{server.port}/")
        with closing(first):
            if reads:
                with pytest.raises(PeerUnreachable, match="no answer in time"):
                    first.read(5)
        upload = outbound.upload("PUT", f"http://127.0.0.1:{server.port}/second", {}, 0)
        go_on.set()
        with closing(upload.finish()) as answer:
            assert answer.read(5) == b"hello"


def test_the_bound_of_a_whole_answer_ends_with_it(outbound: SyncOutbound) -> None:
    """The next one on the same connection has a time of its own."""

    def late(connection: socket.socket, head: bytes) -> None:
        if head.startswith(b"GET /late"):
            time.sleep(0.6)
        answering()(connection, head)

    with serving(late) as server:
        for target, patience in (("/", 0.5), ("/late", None)):
            url = f"http://127.0.0.1:{server.port}{target}"
            with closing(outbound.request("GET", url, patience=patience, whole=target == "/")) as answer:
                assert answer.read(100) == b"hello"
        assert server.connections == 1
