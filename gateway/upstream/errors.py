"""What goes wrong on the way to the server behind, in two small trees, and the one table of answers.

    UpstreamError
        Unreachable     no connection, or no TLS
        Closed          the connection has ended too early
        Silent          nothing has come for too long
        Malformed       what has come is not HTTP/1
    RequestError
        Looping         our own request has come back to us
        Uncodable       a transfer coding that nobody here knows
        Tunnel          CONNECT: this is no proxy for clients
        BadBody         the client's body is broken, or has stopped

The text of an error is for the operator's log and quotes nothing of a request or an answer.
"""

from __future__ import annotations

from aiohttp import web


class UpstreamError(Exception):
    """The server behind does not do what is needed."""


class Unreachable(UpstreamError):
    """No connection, or no TLS."""


class Closed(UpstreamError):
    """The connection has ended too early."""


class Silent(UpstreamError):
    """Nothing has come for too long."""


class Malformed(UpstreamError):
    """What has come is not HTTP/1."""


class RequestError(Exception):
    """The client's request cannot be passed on."""


class Looping(RequestError):
    """Our own request has come back to us."""


class Uncodable(RequestError):
    """A transfer coding that nobody here knows."""


class Tunnel(RequestError):
    """CONNECT: this is no proxy for clients."""


class BadBody(RequestError):
    """The client's body is broken, or has stopped."""


# Status, code, and the sentence for whoever asked.
ANSWERS: dict[type[UpstreamError | RequestError], tuple[int, str, str]] = {
    Unreachable: (502, "UPSTREAM_UNREACHABLE", "the server behind this address cannot be reached; try again later"),
    Closed: (502, "UPSTREAM_CLOSED", "the server behind this address has hung up without an answer; try again later"),
    Malformed: (502, "UPSTREAM_MALFORMED", "the server behind this address has answered with something unintelligible"),
    Silent: (504, "UPSTREAM_SILENT", "the server behind this address does not answer; try again later"),
    Looping: (
        508,
        "UPSTREAM_LOOP",
        "this gateway is set up to pass requests to itself; its operator has to correct it",
    ),
    Uncodable: (501, "TRANSFER_CODING", "of transfer codings only chunked is understood, in HTTP/1.1"),
    Tunnel: (501, "NO_TUNNELS", "this server is no proxy"),
    BadBody: (400, "MALFORMED_BODY", "the body is broken, or has stopped in the middle"),
}


def response(error: UpstreamError | RequestError) -> web.Response:
    """Return the answer for what went wrong, if none has begun yet."""
    status, code, sentence = ANSWERS[type(error)]
    return web.json_response({"code": code, "message": sentence}, status=status, headers={"Cache-Control": "no-store"})
