"""The Pub/Sub push handler: reads a delivery, fetches the items of its event, stores them.

One rule decides the answer: an event is acknowledged when, and only when, every item of it is
stored and its receipt is written. After any failure Pub/Sub keeps the message, delivers it again
later and in the end moves it to the dead letters.
"""

import threading
import time
from collections.abc import Mapping
from itertools import islice
from typing import Any

import flask

from pipeline.dimmy.client import DimmyClient
from pipeline.dimmy.deadline import Deadline
from pipeline.dimmy.request_statistics import RequestStatistics
from pipeline.logs import Severity, log
from pipeline.resolve.events import Event, FullPayload, ItemsScanned, Unrecognised, recognise
from pipeline.resolve.fetching import Attempt, ItemFetcher
from pipeline.resolve.progress import Progress
from pipeline.resolve.push import Delivery, EnvelopeError, read_delivery
from pipeline.resolve.settings import ResolveSettings
from pipeline.store.errors import StorageError
from pipeline.store.receipts import Receipt
from pipeline.store.store import Store

_LOGGED_ITEMS = 20  # of an event, so that its line is found by an item's id

Answer = tuple[dict[str, str] | str, int]


class Resolver:
    """Answers Pub/Sub's push requests. Connects to nothing before the first of them."""

    def __init__(self, settings: ResolveSettings) -> None:
        self._attempt_seconds = settings.attempt_seconds
        self._store = Store(settings.storage)
        dimmy = DimmyClient(settings.dimmy)
        self._fetcher = ItemFetcher(self._store, dimmy, settings.dimmy.concurrency)
        # Decoding a large body as JSON takes several times its size, so only one at a time.
        self._large_payload = threading.Lock()

    def handle(self, request: flask.Request) -> Answer:
        """204 acknowledges; 400: this is not a delivery; 503 asks for another attempt."""
        started = time.perf_counter()
        try:
            delivery = read_delivery(request.get_data(cache=False))
        except EnvelopeError as error:
            log("WARNING", "delivery refused", outcome="malformed_envelope", reason=str(error))
            return {"error": "malformed_envelope", "message": f"Nothing was done: {error}."}, 400
        fields: dict[str, Any] = {
            "event_id": delivery.event_id,
            "attempt": delivery.attempt,
            "trace": request.headers.get("traceparent"),
        }
        statistics = RequestStatistics()
        try:
            receipt = self._resolve(delivery, Deadline(self._attempt_seconds), statistics)
        except StorageError as error:
            _log_attempt("ERROR", "unavailable", started, fields | {"reason": str(error)})
            return {"error": "unavailable", "message": f"Storage failed: {error}."}, 503
        unsettled = receipt.unsettled
        fields |= {
            "kind": receipt.kind,
            "attempt": receipt.attempts,
            "items": len(receipt.items),
            "item_ids": list(islice(receipt.items, _LOGGED_ITEMS)),
            "failed": len(unsettled),
            **statistics.log_fields(),
        }
        if unsettled:
            fields["reason"] = next(f"{name}: {state}" for name, state in unsettled.items())
            _log_attempt("WARNING", receipt.outcome, started, fields)
            message = f"{len(unsettled)} items are not stored yet."
            return {"error": "partial", "message": message}, 503
        _log_attempt("INFO", receipt.outcome, started, fields)
        return "", 204

    def _resolve(
        self, delivery: Delivery, deadline: Deadline, statistics: RequestStatistics
    ) -> Receipt:
        """One attempt at an event; return its stored receipt.

        Raises:
            StorageError: the payload could not be read, or the receipt not be written.
        """
        earlier = self._receipt_of_earlier_attempt(delivery)
        if earlier and earlier.is_finished:
            return earlier  # its acknowledgement was lost
        settled = earlier.settled if earlier else {}
        if delivery.body is not None:
            return self._attempt(delivery, delivery.body, settled, deadline, statistics)
        with self._large_payload:
            body = self._store.get_payload(delivery.event_id)
            return self._attempt(delivery, body, settled, deadline, statistics)

    def _attempt(
        self,
        delivery: Delivery,
        body: bytes,
        settled: Mapping[str, str],
        deadline: Deadline,
        statistics: RequestStatistics,
    ) -> Receipt:
        event = recognise(body)
        receipt = Receipt(
            event_id=delivery.event_id,
            kind=event.kind,
            received_at=delivery.received_at,
            attempts=delivery.attempt or 1,
            items={},
            payload=body,
            redriven=delivery.redriven,
        )
        progress = Progress(self._store, receipt)
        states = self._process(event, settled, Attempt(deadline, statistics, progress))
        return progress.store(states)

    def _receipt_of_earlier_attempt(self, delivery: Delivery) -> Receipt | None:
        """The receipt of the same delivery by the sender, if any; a resend is a new delivery."""
        if delivery.attempt == 1:
            return None
        receipt = self._store.get_receipt(delivery.event_id)
        return receipt if receipt and receipt.received_at == delivery.received_at else None

    def _process(
        self, event: Event, settled: Mapping[str, str], attempt: Attempt
    ) -> dict[str, str]:
        """Store every item of the event that is not settled yet; return the state of each."""
        match event:
            case ItemsScanned(item_ids, malformed):
                missing = [item_id for item_id in item_ids if item_id not in settled]
                return self._fetcher.fetch_all(missing, {**settled, **malformed}, attempt)
            case FullPayload(item, malformed):
                states = dict(malformed)
                if item:
                    states[item.item_id] = self._fetcher.store_item(
                        item.item_id, lambda: item, attempt.progress
                    )
                return states
            case Unrecognised():
                return {}


def _log_attempt(severity: Severity, outcome: str, started: float, fields: dict[str, Any]) -> None:
    milliseconds = round((time.perf_counter() - started) * 1000, 1)
    log(severity, f"event {outcome}", outcome=outcome, milliseconds=milliseconds, **fields)
