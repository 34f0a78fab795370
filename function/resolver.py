"""The way on: read a delivery, recognise the event, fetch its items, store them, write the receipt.

One rule decides what Pub/Sub is told: an event is acknowledged when, and only when, every item of
it is stored and its receipt is written. Whatever fails leaves the message to Pub/Sub, which brings
it back later and at last parks it among the dead letters.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any

import flask

from deliveries import Delivery, EnvelopeError, read_delivery
from dimmy import ApiKeyRejectedError, DimmyClient, DimmyError
from events import FullPayload, ItemsScanned, Unrecognised, recognise
from items import Item
from logs import log
from receipts import STORED, UNCHANGED, Kind, Receipt, is_settled
from settings import ResolveSettings
from storage import StorageError, Store, Written

Answer = tuple[dict[str, str] | str, int]


class Resolver:
    """Answers Pub/Sub's push requests. Opens nothing before the first of them."""

    def __init__(self, settings: ResolveSettings) -> None:
        self._store = Store(settings.storage)
        self._dimmy = DimmyClient(settings)
        self._attempt_seconds = settings.attempt_seconds
        # One pool for all events of the process. An event has no more in it at a time than this,
        # so that a long one does not keep the others waiting behind its thousands of items.
        self._pool = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="items")
        self._items_at_a_time = settings.concurrency

    def handle(self, request: flask.Request) -> Answer:
        """204 acknowledges; 400 says that this is no delivery; 503 asks for another attempt."""
        started = time.perf_counter()
        try:
            delivery = read_delivery(request.get_data(cache=False))
        except EnvelopeError as error:
            log("WARNING", "delivery refused", outcome="malformed_envelope", reason=str(error))
            return {"error": "malformed_envelope", "message": f"Nothing was done: {error}."}, 400
        known: dict[str, Any] = {"event_id": delivery.event_id, "attempt": delivery.attempt}
        try:
            receipt = self._resolve(delivery)
        except StorageError as error:
            _log_attempt("ERROR", "unavailable", started, known | {"reason": str(error)})
            return {"error": "unavailable", "message": f"Storage failed: {error}."}, 503
        failed = {name: why for name, why in receipt.items.items() if not is_settled(why)}
        known |= {
            "kind": receipt.kind,
            "attempt": receipt.attempts,
            "items": len(receipt.items),
            "failed": len(failed),
        }
        if failed:
            known["reason"] = next(f"{name}: {why}" for name, why in failed.items())
            _log_attempt("WARNING", receipt.outcome, started, known)
            return {"error": "partial", "message": f"{len(failed)} items are not stored yet."}, 503
        _log_attempt("INFO", receipt.outcome, started, known)
        return "", 204

    def _resolve(self, delivery: Delivery) -> Receipt:
        """One attempt at an event, ending in its stored receipt.

        Raises:
            StorageError: the payload could not be read, or the receipt not be written.
        """
        deadline = time.monotonic() + self._attempt_seconds
        earlier = self._receipt_of_earlier_attempt(delivery)
        if earlier and earlier.outcome != "partial":
            return earlier  # finished, but the acknowledgement was lost
        body = delivery.body
        if body is None:
            body = self._store.get_payload(delivery.event_id)
        kind, states = self._process(body, earlier.items if earlier else {}, delivery, deadline)
        return self._store.put_receipt(
            Receipt(
                event_id=delivery.event_id,
                kind=kind,
                received_at=delivery.received_at,
                attempts=delivery.attempt or 1,
                items=states,
                payload=body,
            )
        )

    def _receipt_of_earlier_attempt(self, delivery: Delivery) -> Receipt | None:
        if delivery.attempt == 1:
            return None
        receipt = self._store.get_receipt(delivery.event_id)
        return receipt if receipt and receipt.received_at == delivery.received_at else None

    def _process(
        self, body: bytes, earlier: Mapping[str, str], delivery: Delivery, deadline: float
    ) -> tuple[Kind, dict[str, str]]:
        """Store every item of the event; return its kind and the state of each item."""
        match recognise(body):
            case ItemsScanned(item_ids, malformed):
                states = {i: s for i, s in earlier.items() if is_settled(s)} | dict(malformed)
                missing = [item_id for item_id in item_ids if item_id not in states]
                return "items.scanned", states | self._fetch_all(missing, delivery, deadline)
            case FullPayload(item, malformed):
                states = dict(malformed)
                if item:
                    states[item.item_id] = self._state_of(item.item_id, lambda: item, delivery)
                return "item.scanned.full_payload", states
            case Unrecognised():
                return "unrecognised", {}

    def _fetch_all(
        self, item_ids: Iterable[str], delivery: Delivery, deadline: float
    ) -> dict[str, str]:
        states: dict[str, str] = {}
        remaining = iter(item_ids)
        under_way: dict[Future[str], str] = {}
        rejected: ApiKeyRejectedError | None = None

        def submit_up_to(count: int) -> None:
            for item_id in islice(remaining, count):
                fetch = self._fetch_of(item_id, deadline)
                future = self._pool.submit(self._state_of, item_id, fetch, delivery)
                under_way[future] = item_id

        submit_up_to(self._items_at_a_time)
        while under_way:
            finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in finished:
                item_id = under_way.pop(future)
                try:
                    states[item_id] = future.result()
                except ApiKeyRejectedError as error:
                    states[item_id] = str(error)
                    rejected = error
            if not rejected:
                submit_up_to(self._items_at_a_time - len(under_way))
        states |= dict.fromkeys(remaining, f"not tried: {rejected}")
        return states

    def _fetch_of(self, item_id: str, deadline: float) -> Callable[[], Item]:
        return lambda: self._dimmy.fetch_item(item_id, deadline)

    def _state_of(self, item_id: str, get: Callable[[], Item], delivery: Delivery) -> str:
        """Get one item and store it. What goes wrong is its state, except for a rejected key."""
        try:
            written = self._store.put_item(get())
        except ApiKeyRejectedError as error:
            _log_item("ERROR", item_id, str(error), delivery)
            raise
        except DimmyError as error:
            state = str(error)
        except StorageError as error:
            state = f"storage: {error}"
        else:
            state = UNCHANGED if written is Written.UNCHANGED else STORED
        _log_item("DEBUG" if is_settled(state) else "WARNING", item_id, state, delivery)
        return state


def _log_attempt(severity: str, outcome: str, started: float, known: dict[str, Any]) -> None:
    milliseconds = round((time.perf_counter() - started) * 1000, 1)
    log(severity, f"event {outcome}", outcome=outcome, milliseconds=milliseconds, **known)


def _log_item(severity: str, item_id: str, state: str, delivery: Delivery) -> None:
    log(severity, "item", item_id=item_id, state=state, event_id=delivery.event_id)
