"""The page of `make view` in tests."""

from collections.abc import Callable
from pathlib import Path

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
