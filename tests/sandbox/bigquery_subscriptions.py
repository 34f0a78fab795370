"""Writes the messages of a BigQuery subscription to its table, in batches and at least once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from datetime import UTC

from google.api_core.exceptions import GoogleAPICallError

from sandbox.bigquery_rows import (
    NotStorableError,
    Row,
    TableError,
    Tables,
    as_row,
    state_of,
    table_of,
)
from sandbox.pubsub_admin import PubSubAdmin, PulledMessage, subscription_path
from sandbox.pubsub_queue import Message, QueuedMessage, Subscription, now, wait_for_due

# A batch waits this long for more messages: opening the table takes longer than writing a row.
BATCH_SECONDS = 0.02
MAX_BATCH_MESSAGES = 1000
MAX_BATCH_BYTES = 10_000_000

Settle = Callable[[Subscription, QueuedMessage, bool], None]


async def write_all(subscription: Subscription, tables: Tables, settle: Settle) -> None:
    """Write messages as they become due; `settle` gets each one, and whether it was written."""
    while True:
        if not subscription.is_due(now()):
            await wait_for_due(subscription, None)
            continue
        await asyncio.sleep(BATCH_SECONDS)
        batch = _take_batch(subscription)
        writing = asyncio.ensure_future(_write(subscription, batch, tables, settle))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing  # a batch is written or not, but never forgotten
            raise


def _take_batch(subscription: Subscription) -> list[QueuedMessage]:
    batch: list[QueuedMessage] = []
    size = 0
    while len(batch) < MAX_BATCH_MESSAGES and size < MAX_BATCH_BYTES:
        queued = subscription.take_due(now())
        if queued is None:
            break
        queued.attempts += 1
        size += len(queued.message.data)
        batch.append(queued)
    return batch


async def _write(
    subscription: Subscription, batch: Sequence[QueuedMessage], tables: Tables, settle: Settle
) -> None:
    rows: list[Row] = []
    storable: list[QueuedMessage] = []
    for queued in batch:
        try:
            rows.append(_row_of(subscription.config.name, queued.message))
            storable.append(queued)
        except NotStorableError:
            settle(subscription, queued, False)
    if not rows:
        return
    error: TableError | None = None
    try:
        await asyncio.to_thread(tables.write, table_of(subscription.config.bigquery_config), rows)
    except TableError as raised:
        error = raised
    subscription.config.bigquery_config.state = state_of(error)
    for queued in storable:
        settle(subscription, queued, error is None)


def _row_of(subscription_name: str, message: Message) -> Row:
    return as_row(
        subscription_name,
        message.message_id,
        message.publish_time.ToDatetime(UTC),
        message.data,
        message.attributes,
    )


class TableFeeder:
    """Does the work of a BigQuery subscription for Google's emulator, which has none.

    It pulls an ordinary subscription on a thread of its own, from `start` to `stop`.
    """

    def __init__(self, host: str, subscription: str, table: str, tables: Tables) -> None:
        self._admin = PubSubAdmin(host)
        self._subscription = subscription
        self._table = table
        self._tables = tables
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=subscription, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._admin.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            # The emulator may be busy or about to end; what is not acknowledged comes again.
            with contextlib.suppress(GoogleAPICallError):
                if batch := self._admin.pull(self._subscription, MAX_BATCH_MESSAGES, timeout=2):
                    self._write(batch)

    def _write(self, batch: Sequence[PulledMessage]) -> None:
        rows: list[Row] = []
        written: list[PulledMessage] = []
        refused: list[PulledMessage] = []
        for pulled in batch:
            try:
                rows.append(self._row_of(pulled))
                written.append(pulled)
            except NotStorableError:
                refused.append(pulled)
        try:
            if rows:
                self._tables.write(self._table, rows)
        except TableError:
            written, refused = [], [*batch]
        if written:
            self._admin.acknowledge(self._subscription, written)
        if refused:
            self._admin.nack(self._subscription, refused)

    def _row_of(self, pulled: PulledMessage) -> Row:
        return as_row(
            subscription_path(self._subscription),
            pulled.message_id,
            pulled.published_at,
            pulled.data,
            pulled.attributes,
        )
