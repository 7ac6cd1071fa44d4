"""What a server may answer to the doctor's first questions."""

from __future__ import annotations

from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.doctor.contact import Contact
from gateway.doctor.report import Report, Verdict
from gateway.outbound import Response

EPOCH = "Thu, 01 Jan 1970 00:00:30 GMT"


@pytest.mark.parametrize(
    ("date", "verdict"),
    [
        (EPOCH, Verdict.OK),
        ("Thu, 01 Jan 1970 01:00:00 GMT", Verdict.FAILED),
        ("yesterday", Verdict.NOTE),
        ("Thu, 01 Jan 99999999999 00:00:00 GMT", Verdict.NOTE),
        ("Thu, 01 Jan 1970 00:00:00 +9999999999", Verdict.NOTE),
    ],
)
def test_any_date_is_an_answer(date: str, verdict: Verdict) -> None:
    report = Report("peer.example")
    nowhere: Any = None
    headers = CIMultiDictProxy(CIMultiDict({"Date": date}))
    Contact(report, nowhere, lambda: 0.0).compare_clocks("peer.example", Response(200, headers, b"", "https://x/"))
    assert [(step.name, step.verdict) for step in report.steps] == [("clock", verdict)]


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (30.0, "has the same time"),
        (30.9, "has the same time"),
        (32.0, "is 2 s behind this clock"),
        (28.0, "is 2 s ahead of this clock"),
    ],
)
def test_a_date_is_true_for_its_whole_second(now: float, said: str) -> None:
    report = Report("peer.example")
    nowhere: Any = None
    headers = CIMultiDictProxy(CIMultiDict({"Date": EPOCH}))
    Contact(report, nowhere, lambda: now).compare_clocks("peer.example", Response(200, headers, b"", "https://x/"))
    (step,) = report.steps
    assert (step.received or "") == f"peer.example {said}"
