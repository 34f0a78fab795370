"""The page of `make view` in tests."""

from collections.abc import Callable
from pathlib import Path

from operate.installation import Installation
from operate.view.site import open_site
from pipeline.store.settings import StorageSettings
from sandbox.installation import SandboxInstallation
from sandbox.web_server import WebServer

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


async def serve(installation: Installation, limit: int) -> WebServer:
    """Serve the page on a free port."""
    return await WebServer.start(open_site(installation, limit).app, shutdown_seconds=0.1)
