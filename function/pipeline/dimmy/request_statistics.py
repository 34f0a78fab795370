"""Counts the API requests of an attempt, for its log line."""

import threading


class RequestStatistics:
    """The number of requests, of those that failed, and the slowest one. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = self._failed = 0
        self._slowest_seconds = 0.0

    def add(self, seconds: float, *, failed: bool) -> None:
        """Count a request, with its duration."""
        with self._lock:
            self._requests += 1
            self._failed += failed
            self._slowest_seconds = max(self._slowest_seconds, seconds)

    def log_fields(self) -> dict[str, float]:
        """The fields of the attempt's log line; times in milliseconds."""
        if not self._requests:
            return {"api_requests": 0}
        return {
            "api_requests": self._requests,
            "api_errors": self._failed,
            "api_milliseconds": round(self._slowest_seconds * 1000, 1),
        }
