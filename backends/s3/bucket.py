"""The few requests that are made of a bucket, each with its bound, its second attempt and its errors."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from backends.errors import NotFound, StorageError, Unavailable
from backends.interface import MODIFIED_MAX, MODIFIED_MIN
from backends.s3.answers import FAILURES, code_of, may_pass, refusal
from backends.s3.connection import KeyFiles, Location, Patience, connect

PAGE = 1000  # the most that a server lists at a time
FIRST_PAUSE = 0.2  # seconds before the second attempt; each further one waits twice as long
BODILESS = frozenset({"400", "403", "301"})  # statuses of HEAD, whose reason is told to other methods alone

Parameters = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """An object: `size` in bytes, `modified` in nanoseconds since the epoch, its ETag without quotes."""

    size: int
    modified: int
    etag: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing of one level: objects by key, keys that have others below, and how to go on."""

    objects: dict[str, Found]
    prefixes: list[str]
    following: str | None

    @property
    def is_empty(self) -> bool:
        return not self.objects and not self.prefixes


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload in parts; `begun` in seconds since the epoch, where the server tells."""

    key: str
    id: str
    begun: float | None


class Bucket:
    """One bucket on one server, for any number of threads; nothing is asked of it before the first request."""

    def __init__(self, location: Location, files: KeyFiles | None, patience: Patience) -> None:
        self.location = location
        self._files = files
        self._patience = patience
        self._lock = threading.Lock()
        self._clients: dict[float, Any] = {}  # by the time they wait for an answer

    # --- objects --------------------------------------------------------------------------------------------------

    def find(self, key: str) -> Found | None:
        """Return the object, None if there is none."""
        try:
            return self.head(key)
        except NotFound:
            return None

    def head(self, key: str) -> Found:
        """Return the object; raises NotFound."""
        return _found(self.describe(key))

    def describe(self, key: str) -> Parameters:
        """Return all that the server tells of the object; raises NotFound."""
        try:
            return self.call("head_object", key)
        except StorageError as error:
            if isinstance(error.__cause__, ClientError) and code_of(error.__cause__) in BODILESS:
                self.page(key, most=1)  # says why, if that is a matter of the bucket or of who asks
            raise

    def get(self, key: str, etag: str, first: int, last: int) -> Parameters:
        """Begin to read the bytes `first` to `last` of this version; raises NotFound, PreconditionFailed."""
        return self.call("get_object", key, IfMatch=f'"{etag}"', Range=f"bytes={first}-{last}")

    def put(self, key: str, body: Any, conditions: Parameters) -> None:
        """Store the object; raises PreconditionFailed, OutOfSpace. `body` is bytes or a file."""
        self.call("put_object", key, once=bool(conditions), Body=body, **conditions)

    def delete(self, key: str) -> None:
        """Remove the object; nothing there is no error."""
        self.call("delete_object", key)

    def copy(self, source: str, etag: str, target: str) -> None:
        """Copy the object with this ETag, up to 5 GiB, with its metadata; raises PreconditionFailed."""
        self.call("copy_object", target, patient=True, **self._source(source, etag))

    # --- listings -------------------------------------------------------------------------------------------------

    def walk(self, prefix: str) -> Iterator[tuple[str, Found]]:
        """Give every object whose key begins with `prefix`, however deep, page by page."""
        following = None
        while True:
            page = self.page(prefix, following, delimiter="")
            yield from page.objects.items()
            following = page.following
            if following is None:
                return

    def page(self, prefix: str, following: str | None = None, most: int = PAGE, delimiter: str = "/") -> Page:
        """Return a page of what is directly below `prefix`."""
        more: Parameters = {"Delimiter": delimiter} if delimiter else {}
        more |= {} if following is None else {"ContinuationToken": following}
        answer = self.call("list_objects_v2", None, about=prefix, Prefix=prefix, MaxKeys=most, **more)
        objects = {one["Key"]: _found(one) for one in answer.get("Contents", ())}
        prefixes = [one["Prefix"] for one in answer.get("CommonPrefixes", ())]
        if "IsTruncated" not in answer:
            raise self._no_answer()
        token = answer.get("NextContinuationToken") if answer["IsTruncated"] else None
        if answer["IsTruncated"] and not token:
            raise Unavailable(f"{self.location}: the listing of /{prefix} does not say how to go on")
        return Page(objects, prefixes, token)

    # --- uploads in parts -----------------------------------------------------------------------------------------

    def begin(self, key: str, **description: Any) -> str:
        """Begin an upload in parts and return its id."""
        return self._told(self.call("create_multipart_upload", key, **description), "UploadId")

    def part(self, key: str, upload: str, number: int, body: Any) -> str:
        """Store a part and return its ETag."""
        answer = self.call("upload_part", key, UploadId=upload, PartNumber=number, Body=body)
        return self._told(answer, "ETag")

    def part_copy(self, key: str, upload: str, number: int, source: str, etag: str, first: int, last: int) -> str:
        """Copy the bytes `first` to `last` of the object with this ETag as a part, and return the part's ETag."""
        origin = {**self._source(source, etag), "CopySourceRange": f"bytes={first}-{last}"}
        answer = self.call("upload_part_copy", key, patient=True, UploadId=upload, PartNumber=number, **origin)
        return self._told(answer.get("CopyPartResult", {}), "ETag")

    def complete(self, key: str, upload: str, parts: list[Parameters], conditions: Parameters) -> None:
        """Make the parts one object under its key; raises PreconditionFailed."""
        together = {"UploadId": upload, "MultipartUpload": {"Parts": parts}, **conditions}
        self.call("complete_multipart_upload", key, once=True, patient=True, **together)

    def abort(self, key: str, upload: str) -> None:
        """Drop an upload and its parts; nothing there is no error."""
        self.call("abort_multipart_upload", key, attempts=1, missing="NoSuchUpload", UploadId=upload)

    def uploads(self, prefix: str) -> Iterator[Upload]:
        """Give the uploads to keys that begin with `prefix` which are neither complete nor dropped."""
        more: Parameters = {}
        while True:
            # rclone says NoSuchUpload where there is none in the whole bucket.
            answer = self.call(
                "list_multipart_uploads", None, about=prefix, missing="NoSuchUpload", Prefix=prefix, **more
            )
            for one in answer.get("Uploads", ()):
                begun: datetime | None = one.get("Initiated")
                yield Upload(one["Key"], one["UploadId"], begun.timestamp() if begun else None)
            if not answer.get("IsTruncated"):
                return
            more = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer.get("NextUploadIdMarker", "")}

    def has_parts(self, key: str, upload: str) -> bool:
        """Tell whether anything has been stored for this upload."""
        answer = self.call("list_parts", key, missing="NoSuchUpload", UploadId=upload, MaxParts=1)
        return bool(answer.get("Parts"))

    # --- how they are made ----------------------------------------------------------------------------------------

    def call(
        self,
        operation: str,
        key: str | None,
        *,
        about: str = "",
        once: bool = False,
        patient: bool = False,
        attempts: int | None = None,
        missing: str = "",
        **parameters: Any,
    ) -> Parameters:
        """Make a request until it is answered, `attempts` have failed or the time is over; raises StorageErrors.

        `once`: not again if it may have been done; `patient`: what the server does takes long; `missing`: the code of
        the refusal that means that there is nothing to do.
        """
        if key is not None:
            parameters["Key"] = key
        what = f"{self.location}: {operation.replace('_', ' ')} /{key or about}"
        end, pause = time.monotonic() + self._patience.total, FIRST_PAUSE
        for left in reversed(range(attempts or self._patience.attempts)):
            if hasattr(parameters.get("Body"), "seek"):
                parameters["Body"].seek(0)
            try:
                client = self._client(self._patience.work if patient else self._patience.read)
                answer: Parameters = getattr(client, operation)(Bucket=self.location.bucket, **parameters)
            except FAILURES as error:
                if missing and missing == code_of(error):
                    return {}
                if not left or not may_pass(error, once=once) or time.monotonic() + pause > end:
                    raise refusal(error, what) from error
            else:
                return answer
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 -- only so that not all come back together
            pause *= 2
        raise AssertionError("there is at least one attempt")

    def close(self) -> None:
        """Close the connections that are idle."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def _client(self, read: float) -> Any:
        with self._lock:
            if read not in self._clients:
                self._clients[read] = connect(self.location, self._files, self._patience, read=read)
            return self._clients[read]

    def _told(self, answer: Parameters, name: str) -> str:
        """Return what an answer has to hold; raises Unavailable."""
        if not answer.get(name):
            raise self._no_answer()
        return str(answer[name])

    def _no_answer(self) -> Unavailable:
        return Unavailable(f"{self.location}: the answer is none of an S3 server (`endpoint`)")

    def _source(self, key: str, etag: str) -> Parameters:
        return {"CopySource": {"Bucket": self.location.bucket, "Key": key}, "CopySourceIfMatch": f'"{etag}"'}


def _found(told: Parameters) -> Found:
    """Read what HEAD or a listing tells of an object; times to the second, which is all that HEAD has."""
    modified: datetime | None = told.get("LastModified")
    nanoseconds = int(modified.timestamp()) * 1_000_000_000 if modified else 0
    size = told.get("ContentLength", told.get("Size"))
    if size is None:
        raise Unavailable("the server does not tell the size of an object")
    return Found(int(size), min(max(nanoseconds, MODIFIED_MIN), MODIFIED_MAX), str(told.get("ETag", "")).strip('"'))
