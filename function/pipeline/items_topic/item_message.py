"""The Pub/Sub message of an item: the contract with everything that subscribes to the items topic.

A message is one version of one item. Messages come at least once and in any order, so a subscriber
keeps the newest `updated_at` of each item and, among equal ones, the one that was published last.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.items_topic.measures import Box, read_box, read_weight
from pipeline.json_text import objects_in, read_json, turn_to_decode
from pipeline.layout import item_name
from pipeline.store.items import Item
from pipeline.store.timestamps import Timestamp, read_timestamp

# Attributes, by which subscriptions filter
ITEM_ID = "item-id"
FLOW_ID = "flow-id"
SCHEMA = "schema"

SCHEMA_VERSION = "1"  # another one where a field is removed or changes its meaning

MAX_ITEM_BYTES = 1_000_000  # of the item's text in a message
MAX_TEXT_CHARACTERS = 1_000
_MAX_ATTRIBUTE_BYTES = 1_024  # Pub/Sub's own limit


def _field(meaning: str) -> Any:
    return field(metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True)
class ItemMessage:
    """The fields of a message, in their order; the meaning of each is in its metadata.

    Times are RFC 3339 in UTC, always with six digits of a second and `Z`, so that their order as
    text is their order in time. What an item does not have, or has in another type, is None.
    """

    item_id: str = _field("its id in Dimmy")
    updated_at: str | None = _field(
        "the version of the item, in milliseconds: the newest one counts"
    )
    flow_id: str | None = _field("the flow that was run")
    owner_id: str | None = _field("the account that owns the item")
    barcode: str | None = _field("the first scanned code")
    width_mm: float | None = _field("millimetres, from the item's own unit")
    height_mm: float | None = _field("millimetres, from the item's own unit")
    depth_mm: float | None = _field("millimetres, from the item's own unit")
    volume_l: float | None = _field("litres: width x height x depth")
    weight_g: float | None = _field("grams, from the item's own unit")
    photo_count: int = _field("the number of photos in all steps")
    started_at: str | None = _field("when the flow was started on the phone")
    ended_at: str | None = _field("when the flow was ended on the phone")
    created_at: str | None = _field("when Dimmy created the item")
    event_id: str | None = _field("the event that announced it; null from reconcile and republish")
    object: str = _field("the name of the item in the bucket")
    item: str | None = _field("the stored line of JSON, as text; null above 1 MB")

    def data(self) -> bytes:
        """The data of the message: one JSON object in UTF-8."""
        text = json.dumps(asdict(self), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", errors="replace")

    def attributes(self) -> dict[str, str]:
        """The attributes of the message. A flow id that is too long for one is left out."""
        attributes = {ITEM_ID: self.item_id, SCHEMA: SCHEMA_VERSION}
        if self.flow_id and len(self.flow_id.encode(errors="replace")) <= _MAX_ATTRIBUTE_BYTES:
            attributes[FLOW_ID] = self.flow_id
        return attributes


def describe(item: Item, event_id: str | None = None) -> ItemMessage:
    """The message of an item, which `event_id` has announced."""
    with turn_to_decode(item.line):
        return _describe(item, read_json(item.line), event_id)


def _describe(item: Item, value: Mapping[str, Any], event_id: str | None) -> ItemMessage:
    box = _first(map(read_box, _members(value, "dimensioning", "dimensions"))) or Box()
    return ItemMessage(
        item_id=item.item_id,
        updated_at=_time(_in_milliseconds(item.updated_at)),
        flow_id=_text(value.get("flow_id")),
        owner_id=_text(value.get("owner_id")),
        barcode=_first(map(_text, _members(value, "barcode_scanning", "code"))),
        width_mm=box.width_mm,
        height_mm=box.height_mm,
        depth_mm=box.depth_mm,
        volume_l=box.volume_l,
        weight_g=_first(map(read_weight, objects_in(value.get("weighing")))),
        photo_count=sum(
            len(photos)
            for photos in _members(value, "photographing", "photos")
            if isinstance(photos, list)
        ),
        started_at=_time(read_timestamp(value.get("started_at"))),
        ended_at=_time(read_timestamp(value.get("ended_at"))),
        created_at=_time(item.created_at),
        event_id=event_id,
        object=item_name(item.item_id),
        item=item.line.decode() if len(item.line) <= MAX_ITEM_BYTES else None,
    )


def _members(value: Mapping[str, Any], kind: str, name: str) -> Sequence[Any]:
    """This member of every step of a kind."""
    return [step.get(name) for step in objects_in(value.get(kind))]


def _first(values: Any) -> Any:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)


def _text(value: object) -> str | None:
    """A text of reasonable length that has any character; codes may be numbers, too."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**100:
        return str(value)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT_CHARACTERS:
        return None
    # JSON can escape half of a character, which UTF-8 and BigQuery do not accept.
    return value.encode("utf-16", errors="surrogatepass").decode("utf-16", errors="replace")


def _in_milliseconds(time: Timestamp | None) -> Timestamp | None:
    """A version's time as Dimmy's database keeps it; its events may have microseconds."""
    return time and Timestamp(time.microseconds // 1000 * 1000, time.unit)


def _time(time: Timestamp | None) -> str | None:
    if time is None:
        return None
    text = time.datetime.isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")
