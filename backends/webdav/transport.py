"""What this backend needs of an HTTP client; who builds the backend supplies it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

# Returns the headers that prove who asks. It is given those that the server has refused, if any: then it returns
# others, which somebody else may have got meanwhile. May block, and raises StorageError.
Credential = Callable[[Mapping[str, str] | None], Mapping[str, str]]


class Response(Protocol):
    """An answer whose body is read piece by piece."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by names in any case."""
        ...

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the true end; raises one of `failures` when the answer is cut off."""
        ...

    def close(self) -> None:
        """Release the connection, whether all was read or not; may be called more than once."""
        ...


class Upload(Protocol):
    """A request whose body is being sent."""

    def send(self, data: bytes) -> bool:
        """Send `data`; False means that the server takes no more, and `finish` tells its answer."""
        ...

    def finish(self) -> Response:
        """End the body and return the answer; raises one of `failures`."""
        ...

    def abort(self) -> None:
        """Close the connection in the middle of the body, so that the server sees it cut off; never raises."""
        ...


class Requests(Protocol):
    """Sends requests from any number of threads at once; follows no redirects."""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What is raised when there is no answer; the text says why, without secrets."""
        ...

    def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Response:
        """Send a request and return its answer, whatever the status."""
        ...


class Transport(Requests, Protocol):
    """Sends contents of any size as well."""

    def upload(self, method: str, url: str, headers: Mapping[str, str], size: int | None) -> Upload:
        """Begin a request with a body of `size` bytes; None when the size is not known beforehand."""
        ...
