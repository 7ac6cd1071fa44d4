"""An exchange that failed, run again: what we asked is asked once more; what we were asked is verified once more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.doctor.report import Ended, Report
from gateway.errors import NoSuch
from gateway.ocm.address import canonical_server
from gateway.ocm.errors import ProtocolError, SignatureInvalid
from gateway.ocm.secret import Secret
from gateway.ocm.signatures import Message, find_signature, verify
from gateway.peers import Peers
from gateway.traces import LEFT_OUT


class Replay:
    """Runs traces again."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def run(self, trace: Mapping[str, Any]) -> Report:
        """Return what happens now; `trace` is a document of `traces.parse`. Raises NoSuch when it makes no sense."""
        try:
            server = canonical_server(trace["server"])
            request = trace["request"]
            message = Message(
                str(request["method"]),
                str(request["url"]),
                tuple((str(name), str(value)) for name, value in request["headers"]),
                str(request["body"]).encode(),
            )
            is_redacted, moment = bool(request["redacted"]), int(trace["at"])
        except (KeyError, TypeError, ValueError, OverflowError, ProtocolError) as error:
            raise NoSuch("NO_TRACE", "this file is no exchange as `peer trace` keeps them") from error
        report = Report(server)
        try:
            if trace["direction"] == "outgoing":
                await self._ask(report, server, message, is_redacted)
            else:
                await self._verify(report, server, message, is_redacted, moment)
        except Ended:
            pass
        return report

    async def _ask(self, report: Report, server: str, message: Message, is_redacted: bool) -> None:
        """Send the same body to the same URL, signed anew."""
        sent = f"{message.method} {message.target_uri}"
        if is_redacted:
            sent += f" (its secrets are {LEFT_OUT}, so a refusal of those is no finding)"
        with report.step("exchange", sent=sent, cause="there is still no answer"):
            discovery = await self._peers.discover(server, fresh=True)
            if message.method == "GET":
                report.ok("exchange", "its discovery answers now", sent=sent)
                return
            content_type = dict(message.headers).get("Content-Type", "application/json")
            answer = await self._peers.send(
                server, discovery, message.target_uri, message.body, content_type, keeps=False
            )
        said = f"{answer.status} {answer.reason(Secret(''))}"
        if answer.status < 300:
            report.ok("exchange", said, sent=sent)
        else:
            report.failed("exchange", said, "the peer still refuses it: what it says is all that it tells", sent=sent)

    async def _verify(self, report: Report, server: str, message: Message, is_redacted: bool, moment: int) -> None:
        """Verify a request as of the moment when it came, with the keys that its sender publishes now."""
        sent = f"{message.method} {message.target_uri}"
        with report.step("signature", sent=sent, cause="the header cannot be read: the sender makes it wrongly"):
            found = find_signature(message.headers, accept_labelled=True)
        if found is None:
            report.note("signature", "the request carries none", "look at the policy for unsigned requests", sent=sent)
            return
        report.ok("signature", found.signature_input, sent=sent)
        with report.step("keys", sent=str(found.key_id), cause="without its keys nothing can be verified"):
            keys = await self._peers.jwks(server, fresh=True)
        report.ok("keys", ", ".join(key.kid for key in keys) or "none")
        try:
            verify(message, keys, now=moment, is_body_known=not is_redacted)
        except SignatureInvalid as error:
            base = f"; the signature base is\n{error.signature_base}" if error.signature_base else ""
            cause = "compare the base with the one that the sender has signed: a proxy may have changed what it covers"
            report.failed("verification", f"{error}{base}", cause)
        else:
            how = ", but for its body, whose secrets were left out" if is_redacted else ""
            report.ok("verification", f"it verifies{how}")
