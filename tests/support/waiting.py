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
