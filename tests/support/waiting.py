"""Waits for conditions instead of sleeping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

WAIT_SECONDS = 120.0  # for what never comes; some programs start slowly beside others


def wait_for(condition: Callable[[], T | None], description: str = "the condition") -> T:
    """The first true value of `condition`. Fails the test after WAIT_SECONDS."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, (
            f"still waiting for {description} after {WAIT_SECONDS:.0f} s"
        )
        time.sleep(0.01)
    return value


def wait_for_early_second() -> int:
    """The unix time. Returns in the first half of a second, so that the caller runs within it."""
    wait_for(lambda: time.time() % 1 < 0.5)
    return int(time.time())
