"""The time that an attempt has, up to the ack deadline or until the server is told to stop, and the
requests that it took.
"""

import signal
import threading
import time


class Budget:
    """Seconds to spend. Everything that waits asks it first, and waits through it."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        self._noting = threading.Lock()
        self._requests = self._failed_requests = 0
        self._slowest_request = 0.0

    @property
    def remaining(self) -> float:
        """Seconds left, 0.0 at the end."""
        return 0.0 if told_to_stop() else max(0.0, self._ends - time.monotonic())

    @property
    def overdue(self) -> float:
        """Seconds since the end, 0.0 before it."""
        return max(0.0, time.monotonic() - self._ends)

    @property
    def why_over(self) -> str:
        """The reason, for a receipt, once nothing remains."""
        if told_to_stop():
            return "the process was told to stop"
        return "this attempt's time was over"

    def allows(self, seconds: float) -> bool:
        """Whether there is time for a wait and for something after it."""
        return self.remaining > seconds

    def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the end."""
        wake = time.monotonic() + seconds
        while (left := min(wake - time.monotonic(), self.remaining)) > 0:
            time.sleep(min(left, 0.25))

    def note_request(self, seconds: float, *, failed: bool) -> None:
        """Count a request to the API."""
        with self._noting:
            self._requests += 1
            self._failed_requests += failed
            self._slowest_request = max(self._slowest_request, seconds)

    def requests_for_log(self) -> dict[str, float]:
        """The requests so far, those that failed, and the milliseconds of the slowest."""
        if not self._requests:
            return {"api_requests": 0}
        return {
            "api_requests": self._requests,
            "api_errors": self._failed_requests,
            "api_milliseconds": round(self._slowest_request * 1000, 1),
        }


def told_to_stop() -> bool:
    """Whether the server has received SIGTERM; Cloud Run leaves it 10 s from there.

    gunicorn tells its worker and nobody else, so this asks the worker, whose method is the handler
    of the signal. Under any other server nothing is ever told.
    """
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(worker, "alive", True) is False
