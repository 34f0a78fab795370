"""The log of a `make run`, written to its folder for the other commands."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from operate.installation import LogLine

_MAX_BYTES = 50_000_000


class LogFile:
    """`log.jsonl` in the folder: one JSON object per log line of a function."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "log.jsonl"
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Create the folder, and delete a log that has become too large."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists() and self._path.stat().st_size > _MAX_BYTES:
            self._path.unlink()

    def add(self, function: str, fields: dict[str, Any]) -> None:
        """Append a line. Safe to call from any thread."""
        entry = {"time": datetime.now(UTC).isoformat(), "function": function, "fields": fields}
        with self._lock, self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def lines(self) -> Iterator[LogLine]:
        """All lines, oldest first, without one that is still being written."""
        if not self._path.exists():
            return
        with self._path.open() as file:
            for line in file:
                if line.endswith("\n"):
                    yield _parse(line)


class LogTail:
    """Some lines of a log file. Each call reads only what was appended since the last one."""

    def __init__(self, folder: Path, is_wanted: Callable[[LogLine], bool]) -> None:
        self._path = folder / "log.jsonl"
        self._is_wanted = is_wanted
        self._lines: list[LogLine] = []
        self._position = 0

    def lines(self) -> list[LogLine]:
        """All wanted lines so far, oldest first."""
        if not self._path.exists():
            return self._lines
        if self._path.stat().st_size < self._position:  # the file was replaced
            self._lines, self._position = [], 0
        with self._path.open("rb") as file:
            file.seek(self._position)
            for line in file:
                if line.endswith(b"\n"):
                    self._position += len(line)
                    if self._is_wanted(parsed := _parse(line)):
                        self._lines.append(parsed)
        return self._lines


def _parse(line: str | bytes) -> LogLine:
    entry = json.loads(line)
    return LogLine(datetime.fromisoformat(entry["time"]), entry["function"], entry["fields"])
