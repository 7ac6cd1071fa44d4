"""A grid of one: an authority, certificates of a server and a user, the user's proxy, and an XRootD."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier
from sites import free_port

from .webdav_servers import command, running

DIGITAL_SIGNATURE = x509.KeyUsage(True, False, True, False, False, False, False, False, False)
# RFC 3820 section 3.8: ProxyCertInfo with the policy language id-ppl-inheritAll, as DER
INHERIT_ALL = bytes.fromhex("300c300a06082b06010505071501")
PROXY = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.5.5.7.1.14"), INHERIT_ALL)

XROOTD = """
all.adminpath {place}/run
all.pidpath {place}/run
xrd.port {port}
xrd.protocol http:{port} libXrdHttp.so
xrd.tls {place}/host.pem {place}/host.key
xrd.tlsca certfile {place}/ca.pem
oss.localroot {place}/data
all.export /
ofs.authorize 1
acc.authdb {place}/authdb
http.gridmap {place}/gridmap
http.selfhttps2http no
"""


@dataclass(frozen=True)
class Signed:
    """A certificate with its key."""

    name: x509.Name
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def signed(*names: str, by: Signed | None = None, extension: x509.ExtensionType, lasts: float = 24) -> Signed:
    """Make a certificate for `lasts` hours from an hour ago on; without `by` it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names]
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Grid"), *attributes])
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    builder = x509.CertificateBuilder(
        by.name if by else name,
        name,
        key.public_key(),
        x509.random_serial_number(),
        begin,
        begin + datetime.timedelta(hours=lasts),
    ).add_extension(extension, critical=not isinstance(extension, x509.SubjectAlternativeName))
    return Signed(name, builder.sign(by.key if by else key, SHA256()), key)


class Grid:
    """The files in `place`: ca.pem, ca/ (by hashes), host.pem, host.key, user.pem, user.key, proxy.pem, old.pem."""

    def __init__(self, place: Path) -> None:
        self.place = place
        authority = signed("Authority", extension=x509.BasicConstraints(True, None))
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        host = signed("localhost", by=authority, extension=names)
        self.user = signed("alice", by=authority, extension=DIGITAL_SIGNATURE)
        stranger = signed("mallory", by=authority, extension=DIGITAL_SIGNATURE)
        for name, one in (("ca", authority), ("host", host), ("user", self.user), ("stranger", stranger)):
            (place / f"{name}.pem").write_bytes(one.pem)
            (place / f"{name}.key").write_bytes(one.key_pem)
        self.write_proxy("proxy.pem")
        (place / "ca").mkdir()
        (place / "ca" / f"{_hash(authority.name)}.0").write_bytes(authority.pem)

    def write_proxy(self, name: str, lasts: float = 12) -> Path:
        """Write a proxy of the user's, with its key and the user's certificate, as voms-proxy-init does."""
        proxy = signed("alice", "1234", by=self.user, extension=PROXY, lasts=lasts)
        path = self.place / name
        path.write_bytes(proxy.pem + proxy.key_pem + self.user.pem)
        return path


def _hash(name: x509.Name) -> str:
    """Return what `openssl rehash` calls a file: SHA-1 over the name in its canonical form, which is in lower case."""
    lowered = x509.Name([x509.NameAttribute(one.oid, one.value.lower()) for one in name])
    canonical = lowered.public_bytes()[2:]  # without the head of the sequence, which is a short one
    return f"{int.from_bytes(hashlib.sha1(canonical).digest()[:4], 'little'):08x}"


@contextmanager
def xrootd() -> Iterator[tuple[str, Grid]]:
    """Debian's xrootd with XrdHttp over TLS; alice may do everything by her certificate, nobody else anything."""
    place = Path(tempfile.mkdtemp(prefix="xrootd-"))
    try:
        grid = Grid(place)
        for name in ("data", "run"):
            (place / name).mkdir()
        port = free_port()
        (place / "authdb").write_text("u alice / a\n")
        (place / "gridmap").write_text('"/O=Grid/CN=alice" alice\n')
        (place / "configuration").write_text(XROOTD.format(place=place, port=port))
        arguments = [command("xrootd", "xrootd-server"), "-c", str(place / "configuration"), "-l", str(place / "log")]
        if os.geteuid() == 0:  # it does not serve as root
            arguments += ["-R", "xrootd"]
            place.chmod(0o755)
            for path in (place, *place.rglob("*")):
                shutil.chown(path, "xrootd", "xrootd")
        for key in place.glob("*.key"):
            key.chmod(0o600)
        with running(arguments, port, {}, place / "output"):
            yield f"https://localhost:{port}", grid
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(place)
