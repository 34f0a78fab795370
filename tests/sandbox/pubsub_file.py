"""What the sandbox's Pub/Sub has to deliver, in an SQLite file, so that it outlives the process.

A message is on the disk before its publication is confirmed. What was acknowledged may come once
more after a power failure: Pub/Sub delivers at least once.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

QUEUE_FILE = "pubsub.sqlite3"  # in the folder of a `make run`

_VERSION = 1
_CREATE = """
    CREATE TABLE IF NOT EXISTS queue (
        subscription TEXT NOT NULL,
        number INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        published_at TEXT NOT NULL,
        attributes TEXT NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (subscription, number)
    )
"""


class QueueFileError(Exception):
    """The file cannot be used; the text says why, and what to do."""


@dataclass(frozen=True)
class StoredMessage:
    """A message that is not acknowledged. `published_at` is RFC 3339 text, `number` its id."""

    number: int
    attempts: int
    published_at: str
    attributes: Mapping[str, str]
    data: bytes = field(repr=False)


class NoFile:
    """Keeps nothing: the queue is only in memory."""

    last_number = 0

    def close(self) -> None:
        """Close the file."""

    def add(self, subscriptions: Sequence[str], messages: Sequence[StoredMessage]) -> None:
        """Keep messages for each of these subscriptions."""

    def set_attempts(self, subscription: str, number: int, attempts: int) -> None:
        """Keep how often the delivery of a message was attempted."""

    def remove(self, subscription: str, number: int) -> None:
        """Forget a message that was delivered."""

    def remove_all(self, subscription: str) -> None:
        """Forget a subscription."""

    def messages(self, subscription: str) -> list[StoredMessage]:  # noqa: ARG002
        """What has to be delivered to a subscription, oldest first."""
        return []


class QueueFile(NoFile):
    """The file of one server. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open it, or create it.

        Raises:
            QueueFileError: it cannot be used.
        """
        with _explained(path):
            self._database = _open(path, "rwc")

    def close(self) -> None:
        self._database.close()

    @property
    def last_number(self) -> int:  # type: ignore[override]
        """The highest number of a message that is kept."""
        (number,) = self._database.execute("SELECT MAX(number) FROM queue").fetchone()
        return number or 0

    def add(self, subscriptions: Sequence[str], messages: Sequence[StoredMessage]) -> None:
        rows = [
            (name, m.number, m.attempts, m.published_at, json.dumps(dict(m.attributes)), m.data)
            for m in messages
            for name in subscriptions
        ]
        if not rows:
            return
        self._database.execute("PRAGMA synchronous = FULL")
        try:
            with self._transaction():
                self._database.executemany("INSERT INTO queue VALUES (?, ?, ?, ?, ?, ?)", rows)
        finally:
            self._database.execute("PRAGMA synchronous = NORMAL")

    def set_attempts(self, subscription: str, number: int, attempts: int) -> None:
        self._database.execute(
            "UPDATE queue SET attempts = ? WHERE subscription = ? AND number = ?",
            (attempts, subscription, number),
        )

    def remove(self, subscription: str, number: int) -> None:
        self._database.execute(
            "DELETE FROM queue WHERE subscription = ? AND number = ?", (subscription, number)
        )

    def remove_all(self, subscription: str) -> None:
        self._database.execute("DELETE FROM queue WHERE subscription = ?", (subscription,))

    def messages(self, subscription: str) -> list[StoredMessage]:
        found = self._database.execute(
            "SELECT number, attempts, published_at, attributes, data FROM queue"
            " WHERE subscription = ? ORDER BY number",
            (subscription,),
        )
        return [
            StoredMessage(number, attempts, published_at, json.loads(attributes), data)
            for number, attempts, published_at, attributes, data in found
        ]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")


@dataclass(frozen=True)
class Waiting:
    """A message that waits in a subscription, without its data."""

    number: int
    published_at: datetime
    attributes: Mapping[str, str]


def read_waiting(path: Path, subscriptions: Sequence[str]) -> dict[str, list[Waiting]]:
    """What waits in each of these subscriptions, oldest first; nothing where there is no file.

    It may be read while a server uses it, and shows one moment: a message that moves from one to
    another subscription is in one of them.

    Raises:
        QueueFileError: it cannot be used.
    """
    waiting: dict[str, list[Waiting]] = {name: [] for name in subscriptions}
    if not path.exists():
        return waiting
    with _explained(path), closing(_open(path, "rw")) as database:
        found = database.execute(
            "SELECT subscription, number, published_at, attributes FROM queue ORDER BY number"
        )
        for subscription, number, published_at, attributes in found:
            if subscription in waiting:
                time = datetime.fromisoformat(published_at)
                waiting[subscription].append(Waiting(number, time, json.loads(attributes)))
    return waiting


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise QueueFileError(
            f"{path}, where events wait, cannot be used: {error}. Move it away to begin with an"
            " empty queue; `make backfill SINCE=...` then stores the items of what waited."
        ) from error


def _open(path: Path, mode: str) -> sqlite3.Connection:
    database = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version not in {0, _VERSION}:
            raise sqlite3.DatabaseError(f"it has version {version} instead of {_VERSION}")
        if version == 0:
            # In this mode readers do not wait for the writer, nor it for them.
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(_CREATE)
            database.execute(f"PRAGMA user_version = {_VERSION}")
    except sqlite3.Error:
        database.close()
        raise
    return database
