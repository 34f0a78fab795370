"""The way on: read a delivery, recognise the event, fetch its items, store them, write the receipt.

One rule decides what Pub/Sub is told: an event is acknowledged when, and only when, every item of
it is stored and its receipt is written. Whatever fails leaves the message to Pub/Sub, which brings
it back later and at last parks it among the dead letters.
"""

import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import islice
from typing import Any

import flask

from budget import Budget, told_to_stop
from deliveries import Delivery, EnvelopeError, read_delivery
from dimmy import ApiKeyRejectedError, DimmyClient, DimmyError
from events import Event, FullPayload, ItemsScanned, Unrecognised, recognise
from items import Item
from logs import Severity, log
from receipts import PENDING, STORED, UNCHANGED, Receipt, is_settled
from settings import FetchSettings
from storage import StorageError, Store, Written

FIRST_WRITE_SECONDS = 0.4
WRITE_EVERY_SECONDS = 1.0  # Cloud Storage takes about one write a second of the same object
GRACE_SECONDS = 2.0  # for requests to notice that the time is over; then they are left alone
_LOGGED_ITEMS = 20  # of an event, by which its lines are found

Answer = tuple[dict[str, str] | str, int]


class Resolver:
    """Answers Pub/Sub's push requests. Opens nothing before the first of them."""

    def __init__(self, settings: FetchSettings) -> None:
        self._store = Store(settings.storage)
        self._dimmy = DimmyClient(settings)
        self._attempt_seconds = settings.attempt_seconds
        # One pool for all events of the process. An event has no more in it at a time than this,
        # so that a long one does not keep the others waiting behind its thousands of items.
        self._pool = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="items")
        self._items_at_a_time = settings.concurrency
        self._large_payload = threading.Lock()  # reading one as JSON takes several times its size

    def handle(self, request: flask.Request) -> Answer:
        """204 acknowledges; 400 says that this is no delivery; 503 asks for another attempt."""
        started = time.perf_counter()
        try:
            delivery = read_delivery(request.get_data(cache=False))
        except EnvelopeError as error:
            log("WARNING", "delivery refused", outcome="malformed_envelope", reason=str(error))
            return {"error": "malformed_envelope", "message": f"Nothing was done: {error}."}, 400
        known: dict[str, Any] = {
            "event_id": delivery.event_id,
            "attempt": delivery.attempt,
            "trace": request.headers.get("traceparent"),
        }
        budget = Budget(self._attempt_seconds)
        try:
            receipt = self._resolve(delivery, budget)
        except StorageError as error:
            _log_attempt("ERROR", "unavailable", started, known | {"reason": str(error)})
            return {"error": "unavailable", "message": f"Storage failed: {error}."}, 503
        failed = {name: why for name, why in receipt.items.items() if not is_settled(why)}
        known |= {
            "kind": receipt.kind,
            "attempt": receipt.attempts,
            "items": len(receipt.items),
            "item_ids": list(islice(receipt.items, _LOGGED_ITEMS)),
            "failed": len(failed),
            **budget.requests_for_log(),
        }
        if failed:
            known["reason"] = next(f"{name}: {why}" for name, why in failed.items())
            _log_attempt("WARNING", receipt.outcome, started, known)
            return {"error": "partial", "message": f"{len(failed)} items are not stored yet."}, 503
        _log_attempt("INFO", receipt.outcome, started, known)
        return "", 204

    def _resolve(self, delivery: Delivery, budget: Budget) -> Receipt:
        """One attempt at an event, ending in its stored receipt.

        Raises:
            StorageError: the payload could not be read, or the receipt not be written.
        """
        earlier = self._receipt_of_earlier_attempt(delivery)
        if earlier and earlier.outcome != "partial":
            return earlier  # finished, but the acknowledgement was lost
        states = earlier.items if earlier else {}
        if delivery.body is not None:
            return self._attempt(delivery, delivery.body, states, budget)
        with self._large_payload:
            body = self._store.get_payload(delivery.event_id)
            return self._attempt(delivery, body, states, budget)

    def _attempt(
        self, delivery: Delivery, body: bytes, earlier: Mapping[str, str], budget: Budget
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
        record = _Record(self._store, receipt)
        return record.write(self._process(event, earlier, record, budget))

    def _receipt_of_earlier_attempt(self, delivery: Delivery) -> Receipt | None:
        if delivery.attempt == 1:
            return None
        receipt = self._store.get_receipt(delivery.event_id)
        return receipt if receipt and receipt.received_at == delivery.received_at else None

    def _process(
        self, event: Event, earlier: Mapping[str, str], record: "_Record", budget: Budget
    ) -> dict[str, str]:
        """Store every item of the event; return the state of each."""
        match event:
            case ItemsScanned(item_ids, malformed):
                settled = {name: state for name, state in earlier.items() if is_settled(state)}
                missing = [item_id for item_id in item_ids if item_id not in settled]
                return self._fetch_all(missing, settled | dict(malformed), record, budget)
            case FullPayload(item, malformed):
                states = dict(malformed)
                if item:
                    states[item.item_id] = self._state_of(item.item_id, lambda: item, record)
                return states
            case Unrecognised():
                return {}

    def _fetch_all(
        self, missing: Sequence[str], states: dict[str, str], record: "_Record", budget: Budget
    ) -> dict[str, str]:
        """Fetch and store what is missing, for as long as it makes sense; return all states."""
        states = states | dict.fromkeys(missing, PENDING)
        waiting = iter(missing)
        under_way: dict[Future[str], str] = {}
        over = ""  # why nothing more is begun

        def begin_up_to(count: int) -> None:
            for item_id in islice(waiting, count):
                fetch = functools.partial(self._dimmy.fetch_item, item_id, budget)
                under_way[self._pool.submit(self._state_of, item_id, fetch, record)] = item_id

        begin_up_to(self._items_at_a_time)
        while under_way and not told_to_stop() and budget.overdue < GRACE_SECONDS:
            finished, _ = wait(under_way, timeout=record.due_in, return_when=FIRST_COMPLETED)
            for future in finished:
                item_id = under_way.pop(future)
                try:
                    states[item_id] = future.result()
                except ApiKeyRejectedError as error:
                    over = states[item_id] = str(error)
            if not budget.remaining:
                over = over or budget.why_over
            if not over:
                begin_up_to(self._items_at_a_time - len(under_way))
            record.write_now_and_then(states)
        states |= dict.fromkeys(under_way.values(), f"not finished: {budget.why_over}")
        return states | dict.fromkeys(waiting, f"not tried: {over or budget.why_over}")

    def _state_of(self, item_id: str, get: Callable[[], Item], record: "_Record") -> str:
        """Get one item and store it. What goes wrong is its state, except for a rejected key."""
        try:
            written = self._store.put_item(get())
        except ApiKeyRejectedError as error:
            _log_item("ERROR", item_id, str(error), record)
            raise
        except DimmyError as error:
            state = str(error)
        except StorageError as error:
            state = f"storage: {error}"
        else:
            state = UNCHANGED if written is Written.UNCHANGED else STORED
        _log_item("DEBUG" if is_settled(state) else "WARNING", item_id, state, record)
        return state


class _Record:
    """The receipt of one attempt: written at its end, and during a long one now and then."""

    def __init__(self, store: Store, receipt: Receipt) -> None:
        self.event_id = receipt.event_id
        self._store = store
        self._receipt = receipt
        self._is_counted = False
        self._written: dict[str, str] = {}
        self._due = time.monotonic() + FIRST_WRITE_SECONDS

    @property
    def due_in(self) -> float:
        """Seconds until it is to be written again; at least a moment."""
        return max(0.05, self._due - time.monotonic())

    def write(self, states: Mapping[str, str]) -> Receipt:
        self._written = dict(states)
        receipt = replace(self._receipt, items=self._written)
        joined = self._store.put_receipt(receipt, same_attempt=self._is_counted)
        self._is_counted = True
        return joined

    def write_now_and_then(self, states: Mapping[str, str]) -> None:
        """So that an attempt that is killed has not fetched its items in vain."""
        if time.monotonic() < self._due:
            return
        if states != self._written:
            self.write(states)
        self._due = time.monotonic() + WRITE_EVERY_SECONDS


def _log_attempt(severity: Severity, outcome: str, started: float, known: dict[str, Any]) -> None:
    milliseconds = round((time.perf_counter() - started) * 1000, 1)
    log(severity, f"event {outcome}", outcome=outcome, milliseconds=milliseconds, **known)


def _log_item(severity: Severity, item_id: str, state: str, record: _Record) -> None:
    log(severity, "item", item_id=item_id, state=state, event_id=record.event_id)
