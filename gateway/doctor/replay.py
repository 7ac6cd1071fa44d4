"""An exchange that failed, run again: what we asked is asked once more; what we were asked is verified once more."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

from gateway.doctor.report import Ended, Report
from gateway.errors import NoSuch
from gateway.ocm.address import canonical_server
from gateway.ocm.discovery import Discovery
from gateway.ocm.errors import ProtocolError, SignatureInvalid
from gateway.ocm.fields import decode_object
from gateway.ocm.notifications import Notification, NotificationType, serialise_notification
from gateway.ocm.secret import Secret
from gateway.ocm.signatures import Message, find_signature, verify
from gateway.peers import Peers, api_url
from gateway.traces import LEFT_OUT


class Replay:
    """Runs traces again."""

    def __init__(self, peers: Peers, *, server: str) -> None:
        """Ask as `server` (host[:port])."""
        self._peers = peers
        self._server = server

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
        """Send the same body to the same URL, signed anew; a Share that is taken now is ended again at once."""
        sent = f"{message.method} {message.target_uri}"
        if is_redacted:
            sent += f" (its secrets are {LEFT_OUT}, so a refusal of those is no finding)"
        with report.step("exchange", sent=sent, cause="there is still no answer"):
            discovery = await self._peers.discover(server, fresh=True)
            if message.method == "GET":
                report.ok("exchange", "its discovery answers now", sent=sent)
                return
            _require_theirs(message.target_uri, discovery)
            content_type = dict(message.headers).get("Content-Type", "application/json")
            body, trial = _as_trial(message, discovery, self._server)
            answer = await self._peers.send(server, discovery, message.target_uri, body, content_type, keeps=False)
            if trial is not None and answer.status < 300:
                await self._peers.post(server, "/notifications", serialise_notification(trial))
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


def _require_theirs(url: str, discovery: Discovery) -> None:
    """Refuse a URL that the server does not name; what we sign goes nowhere else. Raises NoSuch."""
    if not url.startswith(f"{discovery.end_point.rstrip('/')}/") and url != discovery.token_end_point:
        raise NoSuch("NOT_THEIRS", f"{url} is no endpoint that the server names in its discovery now")


def _as_trial(message: Message, discovery: Discovery, server: str) -> tuple[bytes, Notification | None]:
    """Return the body to send, and for a Share what ends it again.

    Its secret was left out, so it opens nothing; and it gets an id of its own, since the one in the file may still be
    on its way.
    """
    if message.target_uri != api_url(discovery, "/shares"):
        return message.body, None
    provider_id = secrets.token_hex(16)
    body = decode_object(message.body) | {"providerId": provider_id}
    ended = Notification(
        type=NotificationType.SHARE_UNSHARED,
        sender_domain=server,
        resource_type=str(body.get("resourceType", "file")),
        provider_id=provider_id,
        shared_secret=Secret(LEFT_OUT),
    )
    return json.dumps(body).encode(), ended
