"""Receipts: what became of each event, one object an event, one line of JSON."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from items import NotJsonError, one_line, read_json

Kind = Literal["items.scanned", "item.scanned.full_payload", "unrecognised"]
Outcome = Literal["done", "partial", "unrecognised"]

STORED = "stored"
UNCHANGED = "unchanged"
PENDING = "pending"


class ReceiptError(ValueError):
    """The stored object is no receipt."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The state of an event after its latest attempt.

    `items` maps each id to `stored`, `unchanged` or the reason why it is neither (`pending` while a
    long attempt is at work). `received_at`
    (RFC 3339, UTC) is that of the latest delivery: a message that Pub/Sub repeats keeps it, a
    message that the sender sends again has a new one. `payload` is the body of the event;
    `redriven` tells that it has come back from the dead letters.
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
        if self.kind == "unrecognised":
            return "unrecognised"
        return "done" if all(map(is_settled, self.items.values())) else "partial"

    def line(self) -> bytes:
        """The receipt as it is stored. The payload stands in it as JSON, or else in base64."""
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
            payload = one_line(self.payload)
        opened = json.dumps(head, separators=(",", ":"))[:-1]
        return opened.encode() + b',"payload":' + payload + b"}"

    def after(self, earlier: "Receipt", *, same_attempt: bool = False) -> "Receipt":
        """This attempt's receipt, joined with the one that is stored already.

        Within a delivery what one attempt has stored stays stored, whichever of two simultaneous
        attempts writes last. A later delivery is a resend, which asks for fresh items: it starts
        anew.
        """
        joined = replace(
            self,
            attempts=max(self.attempts, earlier.attempts + (not same_attempt)),
            redriven=self.redriven or earlier.redriven,
        )
        if earlier.received_at < self.received_at:
            return joined
        settled = {name: state for name, state in earlier.items.items() if is_settled(state)}
        items = dict(earlier.items) | dict(self.items)
        items |= {name: settled[name] for name in settled if not is_settled(items[name])}
        return replace(joined, items=items, received_at=earlier.received_at)

    @classmethod
    def read(cls, line: bytes) -> "Receipt":
        """The stored receipt (without its payload, which nobody needs back).

        Raises:
            ReceiptError: the line is something else.
        """
        try:
            stored = read_json(line)
            return cls(
                event_id=str(stored["event_id"]),
                kind=stored["kind"],
                received_at=str(stored["received_at"]),
                attempts=int(stored["attempts"]),
                items={str(name): str(state) for name, state in stored["items"].items()},
                payload=b"",
                redriven=bool(stored.get("redriven")),
            )
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ReceiptError(f"not a receipt: {error}") from error


def is_settled(state: str) -> bool:
    """Whether an item's state in a receipt means that it is in storage."""
    return state in {STORED, UNCHANGED}
