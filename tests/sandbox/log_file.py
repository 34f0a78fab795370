"""What the functions of a `make run` have logged, kept beside its storage for other commands."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from operate.installation import LogLine

_MOST_BYTES = 50_000_000


class LogFile:
    """`log.jsonl` in the folder: one line of JSON for each line that a function has logged."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "log.jsonl"
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Start anew where it has become long."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists() and self._path.stat().st_size > _MOST_BYTES:
            self._path.unlink()

    def add(self, function: str, fields: dict[str, Any]) -> None:
        """Keep a line. Safe to call from any thread."""
        kept = {"time": datetime.now(UTC).isoformat(), "function": function, "fields": fields}
        with self._lock, self._path.open("a") as file:
            file.write(json.dumps(kept) + "\n")

    def lines(self) -> Iterator[LogLine]:
        """What was kept, oldest first; a line that is being written is left out."""
        if not self._path.exists():
            return
        with self._path.open() as file:
            for line in file:
                if line.endswith("\n"):
                    yield _read(line)


class LogTail:
    """The lines of a log file that are wanted, read on as the file grows."""

    def __init__(self, folder: Path, wanted: Callable[[LogLine], bool]) -> None:
        self._path = folder / "log.jsonl"
        self._wanted = wanted
        self._lines: list[LogLine] = []
        self._position = 0

    def lines(self) -> list[LogLine]:
        """All of them so far, oldest first."""
        if not self._path.exists():
            return self._lines
        if self._path.stat().st_size < self._position:  # it was begun anew
            self._lines, self._position = [], 0
        with self._path.open("rb") as file:
            file.seek(self._position)
            for line in file:
                if line.endswith(b"\n"):
                    self._position += len(line)
                    if self._wanted(read := _read(line)):
                        self._lines.append(read)
        return self._lines


def _read(line: str | bytes) -> LogLine:
    kept = json.loads(line)
    return LogLine(datetime.fromisoformat(kept["time"]), kept["function"], kept["fields"])
