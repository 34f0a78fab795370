"""Receipts: the state of each event, one stored object per event, one line of JSON."""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from pipeline.json_text import (
    MAX_DEPTH,
    NotJsonError,
    compact,
    read_json,
    read_member,
    read_members_before,
)
from pipeline.store.states import DISCARDED, EVENT, STORED, UNCHANGED, is_settled
from pipeline.store.timestamps import read_timestamp

if TYPE_CHECKING:
    from obstore import UpdateVersion

_MAX_DEPTH = MAX_DEPTH + 1  # the payload in a receipt is one level deeper than the body was
_STATES_PER_PART = 10_000
_ITEMS = b',"items":{'
_STATES = re.compile(rb'(?:"(?:[^"\\]++|\\.)*+":"(?:[^"\\]++|\\.)*+",?+){1,%d}+' % _STATES_PER_PART)

Kind = Literal["items.scanned", "item.scanned.full_payload", "unrecognised"]
Outcome = Literal["done", "partial", "unrecognised"]


class ReceiptError(ValueError):
    """The stored object is not a receipt."""


@dataclass(frozen=True, slots=True)
class DeliveryId:
    """What distinguishes two deliveries of an event by the sender.

    Pub/Sub delivers one message several times: then both are equal. `receive` may publish a
    delivery twice: then only the message ids differ. A resend by the sender differs in both.
    """

    received_at: str  # RFC 3339, UTC
    message_id: str

    def is_same_as(self, other: "DeliveryId") -> bool:
        """Whether both are the same delivery by the sender."""
        return self.received_at == other.received_at or (
            self.message_id != "" and self.message_id == other.message_id
        )

    def is_later_than(self, other: "DeliveryId") -> bool:
        """Whether this is a later delivery, not the same one."""
        return not self.is_same_as(other) and _order(self.received_at) > _order(other.received_at)


def _order(received_at: str) -> tuple[int, str]:
    time = read_timestamp(received_at)
    return (time.microseconds if time else 0, received_at)


@dataclass(frozen=True, slots=True)
class EncodedPayload:
    """The body of an event as its receipt has it: compact JSON, or base64 in quotation marks."""

    text: bytes = field(repr=False)
    is_json: bool


def encode_payload(body: bytes, *, is_json: bool) -> EncodedPayload:
    """The body as a receipt has it. `is_json`: `read_json` accepts it."""
    text = compact(body) if is_json else b'"' + base64.b64encode(body) + b'"'
    return EncodedPayload(text, is_json)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The state of an event after its latest attempt.

    `items` maps each item's id to its state. `delivery` is the latest one by the sender:
    repetitions by Pub/Sub keep it, a resend is another one. `payload` is the body of the event;
    `encoded_payload` saves the time of encoding it for each write. `redriven`: the event has come
    back from the dead letters. `discarded` says of each item that a person has given up who that
    was, and when. `version` is that of the stored object with which this receipt was merged.

    An attempt that fails as a whole has its reason under the name EVENT among the items, so that
    every version of this software sees that the event is not finished.
    """

    event_id: str
    kind: Kind
    delivery: DeliveryId
    attempts: int
    items: Mapping[str, str]
    payload: bytes = field(repr=False)
    redriven: bool = False
    discarded: Mapping[str, str] = field(default_factory=dict)
    encoded_payload: EncodedPayload | None = field(default=None, repr=False, compare=False)
    version: "UpdateVersion | None" = field(default=None, repr=False, compare=False)

    @property
    def received_at(self) -> str:
        """When the latest delivery by the sender was received; RFC 3339, in UTC."""
        return self.delivery.received_at

    @property
    def outcome(self) -> Outcome:
        """Whether all items are settled; `unrecognised` if the event has none that are known."""
        if next(self.iterate_unsettled(), None) is not None:
            return "partial"
        return "unrecognised" if self.kind == "unrecognised" else "done"

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do, so that the event is acknowledged."""
        return self.outcome != "partial"

    @property
    def unsettled(self) -> dict[str, str]:
        """The items that something is left to do for, with the reason for each."""
        return dict(self.iterate_unsettled())

    def iterate_unsettled(self) -> Iterator[tuple[str, str]]:
        """The same items, one after the other: there may be more than a million of them."""
        return ((name, state) for name, state in self.items.items() if not is_settled(state))

    def line(self) -> bytes:
        """The receipt as it is stored. The payload is included as JSON, or else in base64."""
        return b"".join(self.parts())

    def parts(self) -> list[bytes]:
        """The same line in parts, which take less memory than one text of them all."""
        head = {
            "event_id": self.event_id,
            "kind": self.kind,
            "received_at": self.delivery.received_at,
            "message_id": self.delivery.message_id,
            "attempts": self.attempts,
            "outcome": self.outcome,
            "redriven": self.redriven,
        }
        tail: dict[str, Any] = {"discarded": dict(self.discarded)} if self.discarded else {}
        payload = self.encoded_payload or _encode_unknown(self.payload)
        if not payload.is_json:
            tail["payload_encoding"] = "base64"
        opened = b"{" + _members(head) + b',"items":{'
        closed = b"}," + _members(tail) if tail else b"}"
        return [opened, *_parts(self.items), closed, b',"payload":', payload.text, b"}"]

    def merged_with(self, stored: "Receipt", *, same_attempt: bool = False) -> "Receipt":
        """This attempt's receipt, merged with the one that is already stored.

        Within a delivery, what one attempt has settled stays settled, whichever of two simultaneous
        attempts writes last. A later delivery is a resend, which asks for fresh items, so only its
        own states count, whichever delivery writes last.
        """
        attempts = max(self.attempts, stored.attempts + (not same_attempt))
        if self.delivery.is_same_as(stored.delivery):
            return replace(
                self,
                delivery=stored.delivery,
                attempts=attempts,
                items=_merge_states(stored, self),
                redriven=self.redriven or stored.redriven,
                discarded={
                    name: note
                    for name, note in stored.discarded.items()
                    if self.items.get(name) not in {STORED, UNCHANGED}
                },
                version=stored.version,
            )
        latest = self if self.delivery.is_later_than(stored.delivery) else stored
        return replace(
            latest,
            attempts=attempts,
            # What was stored of an earlier delivery does not say that this one was re-driven.
            redriven=self.redriven or latest.redriven,
            payload=self.payload,
            encoded_payload=self.encoded_payload,
            version=stored.version,
        )

    def with_discarded(self, item_ids: Iterable[str], note: str) -> "Receipt":
        """The receipt with these items given up; `note` says who did it, and when."""
        given_up = list(item_ids)
        return replace(
            self,
            items={**self.items, **dict.fromkeys(given_up, DISCARDED)},
            discarded={**self.discarded, **dict.fromkeys(given_up, note)},
            redriven=False,  # its dead letter is still there, and is pushed once more
        )

    @classmethod
    def read(cls, line: bytes) -> "Receipt":
        """The stored receipt, without its payload, which is not decoded: it may have 31 MB.

        Raises:
            ReceiptError: the line is something else.
        """
        try:
            states, rest = _read_states(line)
            receipt = cls.from_json(read_members_before(rest, "payload", _MAX_DEPTH))
        except NotJsonError as error:
            raise ReceiptError(f"not a receipt: {error}") from error
        return replace(receipt, items={**states, **receipt.items})

    @classmethod
    def read_with_payload(cls, line: bytes) -> "Receipt":
        """The stored receipt.

        Raises:
            ReceiptError: the line is something else.
        """
        try:
            receipt = cls.from_json(read_json(line, _MAX_DEPTH))
        except NotJsonError as error:
            raise ReceiptError(f"not a receipt: {error}") from error
        payload = read_member(line, "payload")
        if read_member(line, "payload_encoding"):
            payload = base64.b64decode(payload.strip(b'"'))
        return replace(receipt, payload=payload)

    @classmethod
    def from_json(cls, value: Any) -> "Receipt":
        """The receipt in a decoded line, without its payload.

        Raises:
            ReceiptError: the value is something else.
        """
        shared: dict[str, str] = {}  # one object for each state, however many items have it
        try:
            items = {
                str(name): shared.setdefault(str(state), str(state))
                for name, state in value["items"].items()
            }
            if "error" in value:  # where an earlier version kept what is now the state of EVENT
                items[EVENT] = str(value["error"])
            return cls(
                event_id=str(value["event_id"]),
                kind=value["kind"],
                delivery=DeliveryId(str(value["received_at"]), str(value.get("message_id", ""))),
                attempts=int(value["attempts"]),
                items=items,
                payload=b"",
                redriven=bool(value.get("redriven")),
                discarded={str(k): str(v) for k, v in value.get("discarded", {}).items()},
            )
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ReceiptError(f"not a receipt: {error}") from error


def _merge_states(stored: Receipt, latest: Receipt) -> dict[str, str]:
    """The latest states, but what is settled stays settled.

    The failure of a whole attempt is dropped by the next one, and where the event is finished.
    """
    merged = {**stored.items, **latest.items}
    if stored.is_finished or EVENT not in latest.items:
        merged.pop(EVENT, None)
    for name, state in stored.items.items():
        if is_settled(state) and not is_settled(merged.get(name, state)):
            merged[name] = state
    return merged


def _read_states(line: bytes) -> tuple[dict[str, str], bytes]:
    """The states of the items in a stored receipt, and the line without them.

    They are decoded in parts, so that equal states become one object at once: a million of them
    take more memory than the line. What is not as `Receipt.parts` writes it stays in the line.
    """
    states: dict[str, str] = {}
    start = line.find(_ITEMS)
    try:
        read_json(line[: max(start, 0)] + b"}")
    except NotJsonError:
        return states, line  # what was found is not a member of the receipt itself
    place = end = start + len(_ITEMS)
    shared: dict[str, str] = {}
    while part := _STATES.match(line, end):
        decoded = read_json(b"{" + part[0].removesuffix(b",") + b"}")
        states_of_part = map(shared.setdefault, decoded.values(), decoded.values())
        states.update(zip(decoded, states_of_part, strict=True))
        end = part.end()
    return states, b"".join((line[:place], memoryview(line)[end:]))


def _encode_unknown(body: bytes) -> EncodedPayload:
    try:
        read_json(body)
    except NotJsonError:
        return encode_payload(body, is_json=False)
    return encode_payload(body, is_json=True)


def _parts(states: Mapping[str, str]) -> Iterator[bytes]:
    """The members of an object, in parts of at most _STATES_PER_PART."""
    entries = iter(states.items())
    separator = b""
    while part := dict(islice(entries, _STATES_PER_PART)):
        yield separator + _members(part)
        separator = b","


def _members(value: Mapping[str, Any]) -> bytes:
    """The members of an object as compact JSON, without its braces."""
    return json.dumps(value, separators=(",", ":"))[1:-1].encode()
