"""Fixtures of the tests of `make view`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from pipeline.store.settings import StorageSettings
from sandbox.background import Background
from support import page
from support.page import Serve, Served


@pytest.fixture
def serve(background: Background, tmp_path: Path) -> Iterator[Serve]:
    """Serve the items of a folder or a bucket; the result is the page's URL."""
    runners: list[web.AppRunner] = []

    def serve(url: str, emulator: str | None = None, limit: int = 10_000) -> str:
        installation = Served(tmp_path, StorageSettings(url, emulator))
        runner, served = background.run(page.serve(installation, limit))
        runners.append(runner)
        return served

    yield serve
    for runner in runners:
        background.run(runner.cleanup())
