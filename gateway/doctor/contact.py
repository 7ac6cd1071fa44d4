"""The first steps to any server: its name, its port, its certificate, and what it answers to a GET."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from gateway.doctor.report import Ended, Report
from gateway.outbound import AsyncOutbound, OutboundError, Response

PATIENCE = 8.0  # seconds for one request
MAX_ANSWER = 256 * 1024  # bytes
RENEW_DAYS = 14  # a certificate that ends sooner should have been renewed
CLOCK_ALLOWED = 60  # seconds that two clocks may differ: a signature may be made that far ahead (wire.md, Verifying)

# The likely causes, by the code of what went wrong.
CAUSES = {
    "NAME_UNRESOLVED": "the name is not in DNS as this machine sees it: look for a typing error, then ask the resolver "
    "(`getent ahosts NAME`)",
    "ADDRESS_REFUSED": "the name has no public address; if that is meant, list its network in "
    "`federation.allow_networks`",
    "SCHEME_REFUSED": "plain http is spoken only with hosts under `federation.allow_http`",
    "PORT_REFUSED": "use port 443, or one above 1023",
    "CONNECT_FAILED": "nobody listens there, or a firewall on the way drops or rejects the connection",
    "TLS_FAILED": "the certificate is expired, for another name, without its intermediate certificate, or of a CA that "
    "this machine does not know; or the port speaks plain http",
    "HTTP_FAILED": "something answers, but no HTTP server in time",
}
UNKNOWN_CAUSE = "see what came back"

Clock = Callable[[], float]


class Contact:
    """Steps towards one origin, written to a report."""

    def __init__(self, report: Report, outbound: AsyncOutbound, clock: Clock = time.time) -> None:
        self._report = report
        self._outbound = outbound
        self._clock = clock

    async def reach(self, url: str) -> None:
        """Add the steps dns, tcp and, for https, tls; raises Ended at the first that fails."""
        probe = self._outbound.probe()
        try:
            destination = probe.destination(url)
            addresses = await probe.addresses(destination)
            self._report.ok("dns", ", ".join(addresses), sent=destination.host)
            address, failures = await probe.connect(destination, addresses)
            self._connected(f"{destination}", address, failures)
            if destination.scheme == "https":
                shaken = await probe.handshake(destination, address)
                self._certificate(shaken.version, shaken.issuer, shaken.expires, destination.host)
        except OutboundError as error:
            step = getattr(error, "step", "dns")
            self._report.failed(step, str(error), cause_of(error), sent=url)
            raise Ended from error

    async def get(self, name: str, url: str) -> Response:
        """Return the answer to a GET; adds the step `name` and raises Ended when there is none."""
        try:
            return await self._outbound.request("GET", url, timeout=PATIENCE, max_body=MAX_ANSWER)
        except OutboundError as error:
            self._report.failed(name, str(error), cause_of(error), sent=f"GET {url}")
            raise Ended from error

    def compare_clocks(self, whose: str, response: Response) -> None:
        """Add the step clock, by the Date of an answer."""
        try:
            theirs = parsedate_to_datetime(response.headers["Date"]).timestamp()
        except (KeyError, ValueError, TypeError, OverflowError):
            self._report.note("clock", "no Date in the answer", f"{whose} does not say what time it is there")
            return
        ahead = round(theirs + 0.5 - self._clock())  # a Date leaves out the fraction of its second (RFC 9110 §5.6.7)
        said = f"{whose} is {abs(ahead)} s {'ahead of' if ahead > 0 else 'behind'} this clock"
        if not ahead:
            said = f"{whose} has the same time"
        if abs(ahead) <= CLOCK_ALLOWED:
            self._report.ok("clock", said)
        else:
            cause = "signatures are refused when the clocks differ that much: set both by NTP"
            self._report.failed("clock", said, cause)

    def _connected(self, where: str, address: str, failures: list[str]) -> None:
        if failures:
            cause = "clients that try that address first wait, or fail: repair it, or take it out of DNS"
            self._report.note("tcp", f"{address} answers; {'; '.join(failures)}", cause, sent=where)
        else:
            self._report.ok("tcp", f"{address} answers", sent=where)

    def _certificate(self, version: str, issuer: str, expires: int, host: str) -> None:
        days = int((expires - self._clock()) // 86400)
        said = f"{version}; certificate of {issuer}, valid for {days} more days"
        if days < RENEW_DAYS:
            self._report.note("tls", said, "renew the certificate", sent=host)
        else:
            self._report.ok("tls", said, sent=host)


def cause_of(error: OutboundError) -> str:
    return CAUSES.get(error.code, UNKNOWN_CAUSE)
