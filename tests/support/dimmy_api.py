"""Starts the sandbox's Dimmy API for tests."""

from collections.abc import Iterator
from contextlib import contextmanager

from sandbox.background import Background
from sandbox.dimmy_api import DimmyApi


@contextmanager
def running_api(background: Background) -> Iterator[DimmyApi]:
    """A running API that accepts its `key`."""
    api = DimmyApi("a-test-api-key")
    background.run(api.start())
    try:
        yield api
    finally:
        background.run(api.stop())
