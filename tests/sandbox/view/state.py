"""The pipeline's state, as it stands at the top of each page."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from operate import status as cloud_status
from operate.cloud import Cloud
from operate.console import CommandError, UsageError
from operate.status import Finding
from sandbox import status
from sandbox.environment import running_stack
from sandbox.log_file import LogTail
from sandbox.view.index import Index


class State(Protocol):
    """Where the state comes from."""

    every_seconds: float  # how often it is worth while to look

    def look(self) -> list[Finding]:
        """How it stands. May take long."""


class RunState:
    """That of a `make run`, from its log and the receipts, without touching its Pub/Sub."""

    every_seconds = 0.5

    def __init__(self, folder: Path, index: Index) -> None:
        self._folder = folder
        self._index = index
        self._log = LogTail(folder, status.tells_of_state)
        self._finished: set[str] = set()

    def look(self) -> list[Finding]:
        stack = running_stack(self._folder)
        # A look at the dead letters themselves would keep them from others for a while.
        dead = self._index.given_up(stack.max_delivery_attempts) if stack else set()
        seen = status.Seen(stack, self._log.lines(), self._is_finished, dead)
        return list(status.findings(seen, datetime.now(UTC)))

    def _is_finished(self, event_id: str) -> bool:
        if event_id not in self._finished and (
            self._index.is_finished(event_id)
            or status.is_finished(self._folder / "events" / f"{event_id}.json")
        ):
            self._finished.add(event_id)
        return event_id in self._finished


class CloudState:
    """That of an installation, as `make status` tells it; its numbers are some minutes old."""

    every_seconds = 60.0

    def __init__(self, cloud: Cloud, outputs: dict[str, Any]) -> None:
        self._cloud = cloud
        self._outputs = outputs

    def look(self) -> list[Finding]:
        try:
            return list(cloud_status.findings(self._cloud, self._outputs))
        except (CommandError, UsageError) as error:
            return [Finding("state", "cannot be told", str(error))]
