"""The Pub/Sub push handler: reads a delivery, fetches the items of its event, stores them.

One rule decides the answer: an event is acknowledged when, and only when, every item of it is
stored and, where there is an items topic, published, and its receipt is written. After any failure
Pub/Sub keeps the message, delivers it again later and in the end moves it to the dead letters.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import flask
from werkzeug.exceptions import HTTPException

from pipeline.deadline import Deadline
from pipeline.dimmy.client import DimmyClient
from pipeline.dimmy.request_statistics import RequestStatistics
from pipeline.items_topic.topic import ItemsTopic
from pipeline.json_text import without_byte_order_mark
from pipeline.logs import Severity, log, stack_trace
from pipeline.pubsub.push import EnvelopeError
from pipeline.resolve.admission import MAX_ADMITTED_BYTES, Admission, NotAdmittedError
from pipeline.resolve.events import Event, FullPayload, ItemsScanned, Unrecognised, recognise
from pipeline.resolve.fetching import Attempt, ItemFetcher
from pipeline.resolve.progress import Progress
from pipeline.resolve.push import Delivery, read_delivery
from pipeline.resolve.settings import ResolveSettings
from pipeline.store.errors import StorageError
from pipeline.store.receipts import Receipt, encode_payload
from pipeline.store.states import EVENT, reason_class
from pipeline.store.store import Store
from pipeline.unforeseen import state_after

if TYPE_CHECKING:
    from cloudevents.http import CloudEvent

_LOGGED_ITEMS = 20  # of an event, so that its line is found by an item's id

Answer = tuple[dict[str, str] | str, int]


class NotAcknowledgedError(Exception):
    """The event of a CloudEvent is not finished; the text is the answer of an HTTP function."""


class Resolver:
    """Answers Pub/Sub's push requests. Connects to nothing before the first of them."""

    def __init__(self, settings: ResolveSettings) -> None:
        self._attempt_seconds = settings.attempt_seconds
        self._store = Store(settings.storage)
        dimmy = DimmyClient(settings.dimmy)
        topic = ItemsTopic(settings.items_topic)
        self._fetcher = ItemFetcher(self._store, dimmy, topic, settings.dimmy.concurrency)
        self._admission = Admission()

    def handle(self, request: flask.Request) -> Answer:
        """204 acknowledges; 400: this is not a delivery; 503 asks for another attempt."""
        return self._handle(request, lambda: request.get_data(cache=False))

    def handle_cloud_event(self, event: "CloudEvent") -> None:
        """The same for a CloudEvent of Eventarc's Pub/Sub trigger, whose data is a push envelope.

        Raises:
            NotAcknowledgedError: the framework answers 500, so Pub/Sub delivers it again.
        """
        answer, status = self._handle(flask.request, lambda: json.dumps(event.get_data()).encode())
        if status != 204:
            raise NotAcknowledgedError(answer)

    def _handle(self, request: flask.Request, read_envelope: Callable[[], bytes]) -> Answer:
        started = time.perf_counter()
        deadline = Deadline(self._attempt_seconds)
        fields: dict[str, Any] = {"trace": request.headers.get("traceparent")}
        try:
            with self._admission.admit(_size_of(request), deadline):
                delivery = read_delivery(read_envelope())
                fields |= {"event_id": delivery.event_id, "attempt": delivery.attempt}
                if delivery.body is not None:
                    return self._answer(delivery, deadline, started, fields)
            # The body is in storage, and so is a receipt that may be larger than it.
            with self._admission.admit(MAX_ADMITTED_BYTES, deadline):
                return self._answer(delivery, deadline, started, fields)
        except EnvelopeError as error:
            log("WARNING", "delivery refused", outcome="malformed_envelope", reason=str(error))
            return {"error": "malformed_envelope", "message": f"Nothing was done: {error}."}, 400
        except NotAdmittedError as error:
            fields |= {"reason": str(error), "reason_class": reason_class([str(error)])}
            _log_attempt("WARNING", "unavailable", started, fields)
            return {"error": "unavailable", "message": f"Nothing was done: {error}."}, 503
        except HTTPException:
            raise  # the request could not be read
        except Exception as error:  # noqa: BLE001  # see pipeline.unforeseen
            reason = state_after(error)
            fields |= {"reason": reason, "reason_class": reason_class([reason])}
            _log_attempt("ERROR", "unavailable", started, fields | stack_trace(error))
            return {"error": "unavailable", "message": f"The log has the reason: {reason}."}, 503

    def _answer(
        self, delivery: Delivery, deadline: Deadline, started: float, fields: dict[str, Any]
    ) -> Answer:
        statistics = RequestStatistics()
        try:
            receipt = self._resolve(delivery, deadline, statistics)
        except StorageError as error:
            _log_attempt(
                "ERROR",
                "unavailable",
                started,
                fields | {"reason": str(error), "reason_class": "storage"},
            )
            return {"error": "unavailable", "message": f"Storage failed: {error}."}, 503
        unsettled = sum(1 for _ in receipt.iterate_unsettled())
        fields |= {
            "kind": receipt.kind,
            "received_at": receipt.received_at,
            "attempt": receipt.attempts,
            "items": len(receipt.items),
            "item_ids": list(islice(receipt.items, _LOGGED_ITEMS)),
            "failed": unsettled,
            **statistics.log_fields(),
        }
        if receipt.discarded:
            fields["discarded"] = dict(islice(receipt.discarded.items(), _LOGGED_ITEMS))
        if unsettled:
            name, state = next(receipt.iterate_unsettled())
            fields["reason"] = f"{name}: {state}"
            fields["reason_class"] = reason_class(state for _, state in receipt.iterate_unsettled())
            _log_attempt("WARNING", receipt.outcome, started, fields)
            message = f"{unsettled} items are not stored yet."
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
        stored = self._store.get_receipt(delivery.event_id)
        is_later = stored is None or delivery.delivery_id.is_later_than(stored.delivery)
        if stored and stored.is_finished and not is_later:
            # The acknowledgement was lost, a resend was faster, or a person has given up the rest.
            # `make redrive` waits until it has been noted that the dead letter is done, too.
            is_noted = stored.redriven or not delivery.redriven
            return stored if is_noted else self._store.mark_redriven(delivery.event_id)
        started = time.monotonic()
        body = delivery.body
        if body is None:
            body = self._store.get_payload(delivery.event_id)
        body = without_byte_order_mark(body)
        receipt = Receipt(
            event_id=delivery.event_id,
            kind=stored.kind if stored else "items.scanned",
            delivery=delivery.delivery_id,
            attempts=delivery.attempt or 1,
            items={},
            payload=body,
            redriven=delivery.redriven,
        )
        progress = None
        try:
            event = recognise(body)
            encoded = encode_payload(body, is_json=event.is_json)
            receipt = replace(receipt, kind=event.kind, encoded_payload=encoded)
            progress = Progress(self._store, receipt, stored, time.monotonic() - started)
            self._process(event, Attempt(deadline, statistics, progress))
            return progress.store()
        except StorageError:
            raise
        except Exception as error:
            self._store_failure(state_after(error), receipt, progress)
            raise

    def _store_failure(self, state: str, receipt: Receipt, progress: Progress | None) -> None:
        """Store the receipt of an attempt that has failed as a whole."""
        try:
            if progress:
                progress.set_state(EVENT, state)
                progress.store()
            else:
                unread = encode_payload(receipt.payload, is_json=False)
                self._store.put_receipt(
                    replace(receipt, items={EVENT: state}, encoded_payload=unread)
                )
        except StorageError as error:
            event_id = receipt.event_id
            log("ERROR", "receipt not stored", event_id=event_id, state=state, reason=str(error))

    def _process(self, event: Event, attempt: Attempt) -> None:
        """Store every item of the event that is not settled yet, and keep the state of each."""
        match event:
            case ItemsScanned(item_ids, malformed):
                _set_states(malformed, attempt)
                self._fetcher.fetch_all(item_ids, attempt)
            case FullPayload(item, malformed):
                _set_states(malformed, attempt)
                if item:
                    state = self._fetcher.store_payload(item, attempt)
                    attempt.progress.set_state(item.item_id, state)
            case Unrecognised():
                pass


def _set_states(states: Mapping[str, str], attempt: Attempt) -> None:
    for item_id, state in states.items():
        attempt.progress.set_state(item_id, state)


def _size_of(request: flask.Request) -> int:
    """The size of its body in bytes; that of the largest one where the sender has not said."""
    length = request.content_length
    return MAX_ADMITTED_BYTES if length is None else length


def _log_attempt(severity: Severity, outcome: str, started: float, fields: dict[str, Any]) -> None:
    milliseconds = round((time.perf_counter() - started) * 1000, 1)
    log(severity, f"event {outcome}", outcome=outcome, milliseconds=milliseconds, **fields)
