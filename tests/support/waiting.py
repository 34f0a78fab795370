"""Waiting for conditions, in place of sleeping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

WAIT_SECONDS = 45.0


def wait_for(condition: Callable[[], T | None], what: str = "the condition") -> T:
    """The first true value of `condition`; fails the test where none comes."""
    give_up = time.monotonic() + WAIT_SECONDS
    while not (value := condition()):
        assert time.monotonic() < give_up, f"{what} did not come true within {WAIT_SECONDS:.0f} s"
        time.sleep(0.01)
    return value


def early_second() -> int:
    """The unix time, in the first half of a second, so that what follows is in that second."""
    wait_for(lambda: time.time() % 1 < 0.5)
    return int(time.time())
