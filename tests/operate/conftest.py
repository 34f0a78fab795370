"""Fixtures of the tests of `make view`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.store.settings import StorageSettings
from sandbox.background import Background
from sandbox.web_server import WebServer
from support import page
from support.page import Serve, Served


@pytest.fixture
def serve(background: Background, tmp_path: Path) -> Iterator[Serve]:
    """Serve the items of a folder or a bucket; the result is the page's URL."""
    servers: list[WebServer] = []

    def serve(url: str, emulator: str | None = None, limit: int = 10_000) -> str:
        installation = Served(tmp_path, StorageSettings(url, emulator))
        servers.append(background.run(page.serve(installation, limit)))
        return servers[-1].url

    yield serve
    for server in servers:
        background.run(server.stop())
