"""The page of `make view` in tests."""

from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from operate.installation import Installation
from operate.view.site import open_site
from pipeline.store.settings import StorageSettings
from sandbox.installation import SandboxInstallation

HOSTILE = (
    "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">'\"&"
)

Serve = Callable[..., str]


class Served(SandboxInstallation):
    """A sandbox installation that reads the given storage."""

    storage_poll_seconds = 0.05

    def __init__(self, folder: Path, storage: StorageSettings) -> None:
        super().__init__({"DATA": str(folder)})
        self.title = "the test's sandbox"
        self._storage = storage

    def storage(self) -> StorageSettings:
        return self._storage


async def serve(installation: Installation, limit: int) -> tuple[web.AppRunner, str]:
    """Serve the page on a free port: what serves it, and its URL."""
    site = open_site(installation, limit)
    runner = web.AppRunner(site.app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"
