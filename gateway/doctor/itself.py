"""This gateway, looked at from the outside in: through its public URL, as a peer meets it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.doctor.contact import PATIENCE, Contact, cause_of
from gateway.doctor.report import Ended, Report
from gateway.ocm.signatures import Message, sign
from gateway.outbound import AsyncOutbound, OutboundError, Response
from gateway.own_paths import DISCOVERY, ECHO
from gateway.signing_keys import SigningKeys
from gateway.tickets import Tickets

# A path that a proxy must pass on byte by byte, since signatures cover it: escapes, a doubled slash, a query.
ODD_PATH = f"{ECHO}/a%2Fb//c%20d;e?x=%41&y=/"
ECHO_TIME = 60  # seconds that a ticket for an echo is good for
LARGE = 2 * 1024 * 1024  # bytes: over the 1 MiB that nginx allows unless told otherwise
REMOVING = ("/status.php", "/ocs-provider/")  # by these ownCloud 10 and Nextcloud decide to drop a share (peers.md §3b)


@dataclass(frozen=True, slots=True)
class Self:
    """What this gateway says of itself."""

    public_url: str
    origin: str
    document: Mapping[str, Any]


class Itself:
    """Examines one gateway."""

    def __init__(
        self,
        this: Self,
        outbound: AsyncOutbound,
        keys: SigningKeys,
        tickets: Tickets,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`outbound` goes to `public_url` alone, wherever that is: the operator has chosen it."""
        self._this = this
        self._outbound = outbound
        self._keys = keys
        self._tickets = tickets
        self._clock = clock

    async def examine(self) -> Report:
        """Return what was found; takes at most about a minute."""
        report = Report(self._this.public_url)
        contact = Contact(report, self._outbound, self._clock)
        try:
            await contact.reach(self._this.origin)
            await self._discovery(report, contact)
            await self._jwks(report, contact)
            await self._arrival(report)
            await self._bodies(report)
            await self._methods(report)
            await self._other_products(report, contact)
        except Ended:
            report.skipped("an earlier step failed", *_missing(report))
        return report

    async def _discovery(self, report: Report, contact: Contact) -> None:
        """Every path that some product asks for answers with our document, without a redirect (peers.md §10, 4)."""
        wrong = []
        response: Response | None = None
        paths = [path + slash for path in DISCOVERY for slash in ("", "/")]
        for path in paths:
            response = await contact.get("discovery", self._this.origin + path)
            if (problem := self._not_ours(response)) is not None:
                wrong.append(f"{path}: {problem}")
        sent = f"GET {self._this.origin}{{{','.join(paths)}}}"
        if wrong:
            cause = (
                "the proxy has to pass these paths of the host's root to the gateway, without a redirect; "
                "README has the lines for nginx and Apache"
            )
            report.failed("discovery", "; ".join(wrong), cause, sent=sent)
            raise Ended
        report.ok("discovery", "this gateway's document, 4 times", sent=sent)
        if response is not None:
            contact.compare_clocks("the public address", response)

    def _not_ours(self, response: Response) -> str | None:
        if 300 <= response.status < 400:
            return f"a redirect to {response.headers.get('Location', 'nowhere')[:200]}"
        if response.status != 200:
            return f"answers {response.status}"
        try:
            document = json.loads(response.body)
        except ValueError:
            return "answers with something else than JSON"
        if not isinstance(document, dict) or document.get("endPoint") != self._this.document["endPoint"]:
            return "answers with the document of somebody else"
        return None

    async def _jwks(self, report: Report, contact: Contact) -> None:
        url = str(self._this.document["jwksUri"])
        response = await contact.get("jwks", url)
        try:
            kids = [key["kid"] for key in json.loads(response.body)["keys"]]
        except (ValueError, KeyError, TypeError):
            kids = []
        ours = [key.kid for key in self._keys.public()]
        if response.status == 200 and kids == ours:
            report.ok("jwks", ", ".join(kids), sent=f"GET {url}")
        else:
            cause = "peers cannot verify our signatures: the proxy does not pass this path on, or serves an old copy"
            report.failed("jwks", f"{response.status}, {', '.join(kids) or 'no keys'}", cause, sent=f"GET {url}")

    async def _arrival(self, report: Report) -> None:
        """A signed request through the public address: what of it has the proxy changed?"""
        told = await self._echo(report, "arrival", b'{"doctor": true}')
        expected = self._target()
        if told["target"] != expected:
            cause = (
                "the proxy rewrites paths, and signatures cover them: pass the path as it came "
                "(nginx: `proxy_pass` without a path; Apache: `nocanon` and `AllowEncodedSlashes NoDecode`)"
            )
            report.failed("path", f"{told['target']} arrived", cause, sent=expected)
            report.skipped("it covers the path, so it cannot hold", "signature")
        else:
            report.ok("path", "arrives byte for byte", sent=expected)
            self._signature(report, told["signature"])
        self._client(report, told)

    @staticmethod
    def _signature(report: Report, found: Mapping[str, str | None]) -> None:
        sent = "a request signed by this gateway"
        if found["code"] is None:
            report.ok("signature", "verifies after the way through the proxy", sent=sent)
            return
        base = f"; the base here was\n{found['signature_base']}" if found["signature_base"] else ""
        cause = "the proxy changes what signatures cover: path, body, Content-Digest or Content-Length"
        report.failed("signature", f"{found['reason']}{base}", cause, sent=sent)

    @staticmethod
    def _client(report: Report, told: Mapping[str, Any]) -> None:
        """Limits and the log go by the client's address; behind a proxy that is what X-Forwarded-For says."""
        remote, client, header = told["remote"], told["client"], told["forwarded_for"]
        seen = f"the connection comes from {remote}, X-Forwarded-For is {header or 'absent'}: the client is {client}"
        if header is not None and client == remote:
            cause = f"the proxy is not believed: list {remote} in `proxy.trusted`, or all clients look like one"
            report.note("proxy", seen, cause)
        else:
            report.ok("proxy", seen)

    async def _bodies(self, report: Report) -> None:
        told = await self._echo(report, "body", bytes(LARGE))
        report.ok("body", f"{told['bytes']} bytes arrive", sent=f"POST of {LARGE} bytes")

    async def _methods(self, report: Report) -> None:
        """The methods of WebDAV reach us: without a credential the answer is 401 with both ways in."""
        url = f"{self._this.public_url}/dav/ocm/"
        for method in ("PROPFIND", "MKCOL", "MOVE"):
            try:
                response = await self._outbound.request(method, url, timeout=PATIENCE, max_body=64 * 1024)
            except OutboundError as error:
                report.failed("webdav", str(error), cause_of(error), sent=f"{method} {url}")
                return
            challenges = ", ".join(response.headers.getall("WWW-Authenticate", []))
            if response.status != 401 or "Basic" not in challenges or "Bearer" not in challenges:
                cause = "the proxy answers WebDAV by itself, or takes Authorization away: pass every method and header"
                received = f"{response.status}, WWW-Authenticate: {challenges or 'none'}"
                report.failed("webdav", received, cause, sent=f"{method} {url}")
                return
        report.ok("webdav", "401 with Basic and Bearer, as it should be", sent=f"PROPFIND, MKCOL, MOVE {url}")

    async def _other_products(self, report: Report, contact: Contact) -> None:
        there = []
        for path in REMOVING:
            response = await contact.get("neighbours", self._this.origin + path)
            if response.status == 200:
                there.append(path)
        if there:
            cause = "ownCloud 10 and Nextcloud ask there whether to drop a share that does not answer for a moment"
            report.note("neighbours", f"{', '.join(there)} answers 200", cause, sent=f"GET {self._this.origin}")
        else:
            report.ok("neighbours", "nothing that makes peers drop shares", sent=f"GET {', '.join(REMOVING)}")

    async def _echo(self, report: Report, name: str, body: bytes) -> Mapping[str, Any]:
        """Return how a signed POST has arrived; raises Ended after a failed step."""
        url = f"{self._this.public_url}{ODD_PATH}"
        headers = sign(Message("POST", url, (), body), self._keys.signing_key(), int(self._clock()))
        headers |= {
            "Authorization": f"Doctor {self._tickets.issue(ECHO, ECHO_TIME)}",
            "Content-Type": "application/json",
        }
        sent = f"POST {url}, {len(body)} bytes"
        try:
            response = await self._outbound.request(
                "POST", url, headers=headers, body=body, timeout=PATIENCE, max_body=64 * 1024
            )
            told: Mapping[str, Any] = json.loads(response.body)
            if response.status != 200 or "target" not in told:
                raise ValueError("no echo")
        except OutboundError as error:
            report.failed(name, str(error), cause_of(error), sent=sent)
            raise Ended from error
        except (ValueError, TypeError):
            report.failed(name, f"{response.status}", _CAUSE_OF_STATUS.get(response.status, _NOT_US), sent=sent)
            raise Ended from None
        return told

    def _target(self) -> str:
        return (self._this.public_url + ODD_PATH).removeprefix(self._this.origin)


# In the order in which they are looked at; which of them is not in a report was not reached.
_STEPS = (*("dns", "tcp", "discovery", "clock", "jwks", "path", "signature", "proxy", "body", "webdav", "neighbours"),)
_NOT_US = "the proxy does not pass what is below /ocm/ on to this gateway, or takes the header Authorization away"
_CAUSE_OF_STATUS = {
    413: "the proxy bounds bodies, and so uploads: `client_max_body_size 0` in nginx, `LimitRequestBody 0` in Apache",
    502: "the proxy does not reach the gateway: compare its target with `listen.http`",
    504: "the proxy does not get an answer from the gateway in time",
}


def _missing(report: Report) -> list[str]:
    there = {step.name for step in report.steps}
    return [name for name in _STEPS if name not in there]
