"""The deadline of an attempt: its end, or earlier when the server is asked to stop."""

import time

from pipeline.environment import Environment, seconds
from pipeline.shutdown import is_shutting_down

_DEFAULT_SECONDS = 500.0
_POLL_SECONDS = 0.25  # how soon a sleep notices that the server is asked to stop


def read_attempt_seconds(environment: Environment, longest: float) -> float:
    """ATTEMPT_SECONDS, the time of one attempt; `longest` depends on the timeout of the caller."""
    return environment.optional("ATTEMPT_SECONDS", seconds(1, longest), _DEFAULT_SECONDS)


class Deadline:
    """The time that an attempt has. All waiting goes through it."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left; 0.0 from the end on."""
        return 0.0 if is_shutting_down() else max(0.0, self._end - time.monotonic())

    @property
    def overdue(self) -> float:
        """Seconds since the end; 0.0 before it."""
        return max(0.0, time.monotonic() - self._end)

    @property
    def reason(self) -> str:
        """Why nothing remains, for a receipt."""
        if is_shutting_down():
            return "the process was asked to stop"
        return "this attempt's time was over"

    def or_at_least(self, seconds: float) -> "Deadline":
        """This deadline, or a later one where fewer seconds than these remain."""
        later = Deadline(seconds)
        return later if later._end > self._end else self

    def allows(self, seconds: float) -> bool:
        """Whether there is time for a pause and for something after it."""
        return self.remaining > seconds

    def sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the deadline."""
        wake = time.monotonic() + seconds
        while (left := min(wake - time.monotonic(), self.remaining)) > 0:
            time.sleep(min(left, _POLL_SECONDS))
