"""The clock of what verifies signatures."""

import time
from datetime import datetime, tzinfo

import pytest
import standardwebhooks.webhooks

from pipeline.receive import verification


class Clock:
    """A clock that shows the present, or stands still at a time, until `patch` is undone."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        clock = self
        self._moment: float | None = None

        class ClockDatetime(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> "ClockDatetime":
                return cls.fromtimestamp(clock.time(), tz)

        patch.setattr(verification, "time", self)
        patch.setattr(standardwebhooks.webhooks, "datetime", ClockDatetime)

    def time(self) -> float:
        """The unix time."""
        return time.time() if self._moment is None else self._moment

    def set(self, moment: float | None) -> None:
        """Stand still at this unix time; with None, show the present."""
        self._moment = moment
