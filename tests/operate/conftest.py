"""Fixtures of the tests of `make view`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from operate.installation import open_objects
from operate.object_listing import ObjectListing
from operate.view.index import Index
from operate.view.photos import StoredPhotos
from operate.view.site import Site
from pipeline.store.settings import StorageSettings
from sandbox.background import Background
from support.page import Serve, Served


@pytest.fixture
def serve(background: Background, tmp_path: Path) -> Iterator[Serve]:
    """Serve the items of a folder or a bucket; the result is the page's URL."""
    runners: list[web.AppRunner] = []

    async def start(installation: Served, limit: int) -> str:
        settings = installation.storage()
        storage = open_objects(settings)
        index = Index(storage, ObjectListing(settings), limit)
        site = Site(installation, index, StoredPhotos(storage, ObjectListing(settings)))
        runners.append(web.AppRunner(site.app, access_log=None, shutdown_timeout=0.1))
        await runners[-1].setup()
        await web.TCPSite(runners[-1], "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runners[-1].addresses[0][1]}"

    def serve(url: str, emulator: str | None = None, limit: int = 10_000) -> str:
        installation = Served(tmp_path, StorageSettings(url, emulator))
        return background.run(start(installation, limit))

    yield serve
    for runner in runners:
        background.run(runner.cleanup())
