"""Receipts: the state of each event, one stored object per event, one line of JSON."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pipeline.json_text import NotJsonError, compact, read_json

Kind = Literal["items.scanned", "item.scanned.full_payload", "unrecognised"]
Outcome = Literal["done", "partial", "unrecognised"]

# States of an item. Any other state is the reason why the item is not stored.
STORED = "stored"
UNCHANGED = "unchanged"  # storage already had it, or a newer version
PENDING = "pending"  # not reached yet by an attempt in progress


class ReceiptError(ValueError):
    """The stored object is not a receipt."""


def is_settled(state: str) -> bool:
    """Whether an item's state means that it is in storage."""
    return state in {STORED, UNCHANGED}


@dataclass(frozen=True, slots=True)
class Receipt:
    """The state of an event after its latest attempt.

    `items` maps each item's id to its state. `received_at` (RFC 3339, UTC) is the time of the
    latest delivery by the sender: repetitions by Pub/Sub keep it, a resend has a new one.
    `payload` is the body of the event. `redriven`: the event was sent again from the dead letters.
    """

    event_id: str
    kind: Kind
    received_at: str
    attempts: int
    items: Mapping[str, str]
    payload: bytes = field(repr=False)
    redriven: bool = False

    @property
    def outcome(self) -> Outcome:
        """`unrecognised`, or whether all items are settled."""
        if self.kind == "unrecognised":
            return "unrecognised"
        return "partial" if self.unsettled else "done"

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do, so that the event is acknowledged."""
        return self.outcome != "partial"

    @property
    def unsettled(self) -> dict[str, str]:
        """The items that are not in storage, with the reason for each."""
        return {name: state for name, state in self.items.items() if not is_settled(state)}

    @property
    def settled(self) -> dict[str, str]:
        """The items that are in storage, with the state of each."""
        return {name: state for name, state in self.items.items() if is_settled(state)}

    def line(self) -> bytes:
        """The receipt as it is stored. The payload is included as JSON, or else in base64."""
        head: dict[str, Any] = {
            "event_id": self.event_id,
            "kind": self.kind,
            "received_at": self.received_at,
            "attempts": self.attempts,
            "outcome": self.outcome,
            "redriven": self.redriven,
            "items": dict(self.items),
        }
        try:
            read_json(self.payload)
        except NotJsonError:
            head["payload_encoding"] = "base64"
            payload = b'"' + base64.b64encode(self.payload) + b'"'
        else:
            payload = compact(self.payload)
        opened = json.dumps(head, separators=(",", ":"))[:-1]
        return opened.encode() + b',"payload":' + payload + b"}"

    def merged_with(self, earlier: "Receipt", *, same_attempt: bool = False) -> "Receipt":
        """This attempt's receipt, merged with the one that is already stored.

        Within a delivery, what one attempt has stored stays stored, whichever of two simultaneous
        attempts writes last. A later delivery is a resend, which asks for fresh items, so only its
        own states count.
        """
        merged = replace(
            self,
            attempts=max(self.attempts, earlier.attempts + (not same_attempt)),
            redriven=self.redriven or earlier.redriven,
        )
        if earlier.received_at < self.received_at:
            return merged
        items = {**earlier.items, **self.items, **earlier.settled, **self.settled}
        return replace(merged, items=items, received_at=earlier.received_at)

    @classmethod
    def read(cls, line: bytes) -> "Receipt":
        """The stored receipt, without its payload.

        Raises:
            ReceiptError: the line is something else.
        """
        try:
            return cls.from_json(read_json(line))
        except NotJsonError as error:
            raise ReceiptError(f"not a receipt: {error}") from error

    @classmethod
    def from_json(cls, value: Any) -> "Receipt":
        """The receipt in a decoded line, without its payload.

        Raises:
            ReceiptError: the value is something else.
        """
        try:
            return cls(
                event_id=str(value["event_id"]),
                kind=value["kind"],
                received_at=str(value["received_at"]),
                attempts=int(value["attempts"]),
                items={str(name): str(state) for name, state in value["items"].items()},
                payload=b"",
                redriven=bool(value.get("redriven")),
            )
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ReceiptError(f"not a receipt: {error}") from error
