"""The topics that fill the warehouse, with their subscriptions and dead letters, as deployed.

In Google Cloud a log sink publishes each line in which resolve ends an attempt, as a LogEntry.
"""

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

from sandbox.bigquery_subscriptions import TableFeeder
from sandbox.pubsub_admin import PROJECT, PubSubAdmin
from sandbox.warehouse import EVENT_ATTEMPTS, ITEM_VERSIONS, Warehouse

ITEM_VERSIONS_TOPIC = "dimmy-item-versions"
EVENT_ATTEMPTS_TOPIC = "dimmy-event-attempts"
_TOPICS = {ITEM_VERSIONS_TOPIC: ITEM_VERSIONS, EVENT_ATTEMPTS_TOPIC: EVENT_ATTEMPTS}
_DATASET = "dimmy"
_ENTRY_FIELDS = ("severity", "logging.googleapis.com/trace", "logging.googleapis.com/spanId")


@contextmanager
def fill_warehouse(
    warehouse: Warehouse,
    admin: PubSubAdmin,
    backoff_seconds: tuple[float, float] | None,
    *,
    has_bigquery: bool,
) -> Iterator[None]:
    """Create topics and subscriptions; fill the tables until the context ends.

    `has_bigquery` says whether this Pub/Sub has BigQuery subscriptions, which Google's emulator has
    not.
    """
    with ExitStack() as cleanup:
        for topic, table in _TOPICS.items():
            subscription = bigquery_subscription(topic)
            dead_letters = f"{subscription}-dead-letters"
            admin.create_topic(topic)
            admin.create_topic(dead_letters)
            admin.create_subscription(dead_letters, dead_letters)
            admin.create_subscription(
                subscription,
                topic,
                bigquery_table=f"{PROJECT}.{_DATASET}.{table}" if has_bigquery else "",
                dead_letter_topic=dead_letters,
                backoff_seconds=backoff_seconds,
            )
            if not has_bigquery:
                feeder = TableFeeder(admin.host, subscription, table, warehouse)
                feeder.start()
                cleanup.callback(feeder.stop)
        yield


def bigquery_subscription(topic: str) -> str:
    """The name of the subscription that writes a topic to its table."""
    return f"{topic}-bigquery"


def publish_attempt(admin: PubSubAdmin, line: Mapping[str, Any]) -> None:
    """Publish a log line of resolve, if it is one that ends an attempt at an event."""
    is_attempt = str(line.get("message")).startswith("event ") and "outcome" in line
    if is_attempt and "event_id" in line:
        entry = json.dumps(log_entry(line), ensure_ascii=False)
        admin.publish(EVENT_ATTEMPTS_TOPIC, entry.encode(errors="replace"))


def log_entry(line: Mapping[str, Any]) -> dict[str, Any]:
    """A log line as Cloud Logging keeps it: some fields are the entry's own, not the payload's.

    See https://cloud.google.com/logging/docs/structured-logging.
    """
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    own = {name.rpartition("/")[2]: line[name] for name in _ENTRY_FIELDS if name in line}
    return {
        "insertId": secrets.token_hex(8),
        "timestamp": now,
        **own,
        "jsonPayload": {name: line[name] for name in line if name not in _ENTRY_FIELDS},
        "resource": {"type": "cloud_run_revision", "labels": {"service_name": "dimmy-resolve"}},
        "logName": f"projects/{PROJECT}/logs/run.googleapis.com%2Fstdout",
    }
