"""receive: the latency of signed webhooks, and the memory, beside requests that are not signed."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException

from bench.load import Load, Result
from bench.processes import OTHERS, Bench, on_core, peak_megabytes, send
from bench.report import Section, Target
from pipeline.receive.body import MAX_BODY_BYTES, SMALL_BODY_BYTES
from sandbox.functions import Function
from sandbox.stack import new_secret
from sandbox.svix_sender import SvixSender
from support.unsigned_requests import OpenRequest

_PER_SECOND = 100
_STALE = {"svix-timestamp": "1614265330"}
# Text that takes four bytes for each character once it is decoded.
_WIDE = b"x" * (MAX_BODY_BYTES - 4) + "\N{GRINNING FACE}".encode()


@dataclass(frozen=True)
class _Sender:
    """`size` is the announced size of its bodies in bytes, or None for chunked ones.

    `sent` is what it sends of each, at most.
    """

    size: int | None
    sent: int
    is_stale: bool = False


class _Senders:
    """Each sends a request, waits for its answer, and begins again, until all are stopped."""

    def __init__(self, receive: Function) -> None:
        self.port = receive.port
        self.sender = SvixSender(receive.url, new_secret())
        self._is_over = threading.Event()
        self._open: set[OpenRequest] = set()

    def repeat(self, sender: _Sender) -> int:
        """Return the number of its requests."""
        headers = _STALE if sender.is_stale else {}
        count = 0
        while not self._is_over.is_set():
            with suppress(OSError, HTTPException):  # the connection may be closed at any time
                request = OpenRequest(self, sender.size, **headers)
                self._open.add(request)
                if self._is_over.is_set():  # and `stop` may have missed this one
                    request.close()
                count += 1
                try:
                    request.send(_WIDE[-sender.sent :])
                    request.answer()
                finally:
                    request.close()
                    self._open.discard(request)
        return count

    def stop(self) -> None:
        """End the open requests, too."""
        self._is_over.set()
        for request in list(self._open):
            request.close()


_STALLED = _Sender(MAX_BODY_BYTES, MAX_BODY_BYTES - 1)
_COMPLETE = _Sender(MAX_BODY_BYTES, MAX_BODY_BYTES)
_CHUNKED = _Sender(None, MAX_BODY_BYTES)
_SMALL = _Sender(SMALL_BODY_BYTES, SMALL_BODY_BYTES - 1)
_REFUSED = _Sender(MAX_BODY_BYTES, MAX_BODY_BYTES - 1, is_stale=True)

MIXES: dict[str, Sequence[_Sender]] = {
    "none": [],
    "4 of 32 MiB, less a byte": [_STALLED] * 4,
    "16 of 32 MiB, less a byte": [_STALLED] * 16,
    "8 of 32 MiB, complete": [_COMPLETE] * 8,
    "8 chunked of 32 MiB": [_CHUNKED] * 8,
    "80 of 256 KiB, less a byte": [_SMALL] * 80,
    "8 of 32 MiB that the headers refuse": [_REFUSED] * 8,
    "all of these": [_STALLED, _COMPLETE, _CHUNKED, _REFUSED] * 4 + [_SMALL] * 40,
}
_QUICK = ("none", "16 of 32 MiB, less a byte", "all of these")


def measure(quick: bool, say: Callable[[str], None]) -> list[Section]:
    """Send signed webhooks at a rate beside each mix of senders; count those that are in time."""
    section = Section(
        "receive: beside requests that are not signed",
        f"{_PER_SECOND} signed webhooks a second, each beside this many senders, which send their"
        " bodies (an emoji at the end, a signature of another body), wait for the answer, and begin"
        " again. In time: answered with 204 within 1 s. The peak is that of the process.",
        (
            "unsigned senders",
            "webhooks",
            "in time",
            "p50 ms",
            "p99 ms",
            "their requests",
            "peak MB",
        ),
    )
    seconds = 3 if quick else 10
    late, highest = 0, 0.0
    with Bench() as bench:
        for name in _QUICK if quick else MIXES:
            say(f"beside unsigned requests: {name}")
            receive = bench.start("receive")
            receive.wait_until_up()
            result, answered = beside(MIXES[name], receive, bench.secret, seconds)
            in_time = _in_time(result)
            late += result.requests - in_time
            highest = max(highest, peak_megabytes(receive))
            section.rows.append(
                (
                    name,
                    str(result.requests),
                    str(in_time),
                    result.p50 * 1000,
                    result.p99 * 1000,
                    str(answered),
                    peak_megabytes(receive),
                )
            )
            receive.stop()
    section.targets = [
        Target(
            "receive: signed webhooks late, beside unsigned requests", late, 0, "", highest=True
        ),
        Target(
            "receive: memory beside unsigned requests", highest, 314, "MB", highest=True
        ),  # 300 MiB
    ]
    return [section]


def beside(
    mix: Sequence[_Sender], receive: Function, secret: str, seconds: float
) -> tuple[Result, int]:
    """The result of the signed webhooks, and the number of the unsigned requests."""
    senders = _Senders(receive)
    with on_core(OTHERS), ThreadPoolExecutor(len(mix) or 1) as threads:
        running = [threads.submit(senders.repeat, each) for each in mix]
        try:
            result = send(Load(receive.url, secret, seconds, rate=_PER_SECOND))
        finally:
            senders.stop()
    return result, sum(each.result() for each in running)


def _in_time(result: Result) -> int:
    """At least this many: an answer of another status may have been one of those within 1 s."""
    within = sum(seconds <= 1 for seconds in result.answered_in)
    others = len(result.answered_in) - result.statuses.get("204", 0)
    return max(0, within - others)
