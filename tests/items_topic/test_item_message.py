"""The message of an item: its fields, its units, and that any item has one.

One of them: .venv/bin/pytest tests/items_topic/test_item_message.py -k units
"""

import json
import random
import re
from dataclasses import fields
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operate.google.deployment import ROOT
from pipeline.items_topic.item_message import MAX_ITEM_BYTES, ItemMessage, describe
from pipeline.store.items import read_item
from sandbox import catalogue

MAX_MESSAGE_BYTES = 10_000_000  # of Pub/Sub, with the attributes
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
TEXT_FIELDS = ("flow_id", "owner_id", "barcode", "event_id", "item")
TIME_FIELDS = ("updated_at", "started_at", "ended_at", "created_at")
NUMBER_FIELDS = ("width_mm", "height_mm", "depth_mm", "volume_l", "weight_g")


def message_of(value: object, event_id: str | None = None) -> dict[str, Any]:
    line = json.dumps(value, separators=(",", ":")).encode()
    message: dict[str, Any] = json.loads(describe(read_item(line), event_id).data())
    return message


def test_the_vendors_example_has_every_field() -> None:
    line = json.dumps(catalogue.VENDOR_EXAMPLE, separators=(",", ":")).encode()

    message = describe(read_item(line), "msg_1")

    assert json.loads(message.data()) == {
        "item_id": "67c861de20bb29fb40d2cbbd",
        "updated_at": "2025-03-05T14:38:22.903000Z",
        "flow_id": "APIDocsFlow1",
        "owner_id": None,
        "barcode": "A0155C35",
        "width_mm": None,
        "height_mm": None,
        "depth_mm": None,
        "volume_l": None,
        "weight_g": None,
        "photo_count": 1,
        "started_at": "2025-03-05T14:38:10.000000Z",
        "ended_at": "2025-03-05T14:38:20.000000Z",
        "created_at": "2025-03-05T14:38:22.903000Z",
        "event_id": "msg_1",
        "object": "items/67c861de20bb29fb40d2cbbd.json",
        "item": line.decode(),
    }
    assert message.attributes() == {
        "item-id": "67c861de20bb29fb40d2cbbd",
        "flow-id": "APIDocsFlow1",
        "schema": "1",
    }


@pytest.mark.parametrize(
    ("unit", "millimetres"),
    [
        ("mm", 2.0),
        ("cm", 20.0),
        ("m", 2000.0),
        ("in", 50.8),
        ("ft", 609.6),
        ("Inches", 50.8),
        ("CM", 20.0),
        (" mm. ", 2.0),
        ("meters", 2000.0),
        ("feet", 609.6),
    ],
)
def test_lengths_of_all_units_are_millimetres(unit: str, millimetres: float) -> None:
    sides = {"width": 2, "height": 2.0, "depth": 2, "unit": unit}

    message = message_of({"_id": "a", "dimensioning": [{"dimensions": sides}]})

    assert [message[f"{side}_mm"] for side in ("width", "height", "depth")] == [millimetres] * 3
    assert message["volume_l"] == round(millimetres**3 / 1_000_000, 3)


@pytest.mark.parametrize(
    ("unit", "grams"),
    [("g", 2.0), ("kg", 2000.0), ("lb", 907.185), ("lbs", 907.185), ("oz", 56.699)],
)
def test_weights_of_all_units_are_grams(unit: str, grams: float) -> None:
    message = message_of({"_id": "a", "weighing": [{"weight": 2, "unit": unit}]})

    assert message["weight_g"] == pytest.approx(grams, abs=0.001)


@pytest.mark.parametrize("unit", ["", None, "yard", "c", "mm2", 5, ["mm"], "s"])
def test_a_number_in_an_unknown_unit_is_not_converted(unit: object) -> None:
    sides = {"width": 2, "height": 2, "depth": 2, "unit": unit}
    weighing = [{"weight": 2, "unit": unit}]

    message = message_of(
        {"_id": "a", "dimensioning": [{"dimensions": sides}], "weighing": weighing}
    )

    assert [message[name] for name in NUMBER_FIELDS] == [None] * 5


@pytest.mark.parametrize("number", ["2", True, None, [2], -1, 1e300])
def test_a_side_that_is_no_length_is_null_beside_the_others(number: object) -> None:
    sides = {"width": 2, "height": number, "depth": 3, "unit": "cm"}

    message = message_of({"_id": "a", "dimensioning": [{"dimensions": sides}]})

    assert [message[name] for name in NUMBER_FIELDS[:4]] == [20.0, None, 30.0, None]


def test_the_first_step_that_has_a_value_counts() -> None:
    item = {
        "_id": "a",
        "dimensioning": [
            {"dimensions": {"width": 1, "height": 1, "depth": 1, "unit": "palms"}},
            {"dimensions": {"width": 1, "height": 2, "depth": 3, "unit": "m"}},
        ],
        "barcode_scanning": [{"code": ""}, {}, {"code": 4006381333931}, {"code": "second"}],
        "photographing": [{"photos": [{}, {}]}, {"photos": "none"}, {"photos": [{}]}],
    }

    message = message_of(item)

    assert (message["depth_mm"], message["volume_l"]) == (3000.0, 6000.0)
    assert message["barcode"] == "4006381333931"
    assert message["photo_count"] == 3


def test_times_have_the_order_of_their_text() -> None:
    written = [
        "2026-11-01T08:00:00",
        "2026-11-01T08:00:00.001001",
        "2026-11-01T08:00:00.5",
        "2026-11-01T10:00:01+01:00",
        "2026-11-01T09:00:01.000500Z",
        1793523601001,
    ]
    found = [message_of({"_id": "a", "updated_at": time})["updated_at"] for time in written]

    assert found == sorted(found)
    assert found[3] == "2026-11-01T09:00:01.000000Z"
    assert [datetime.fromisoformat(time) for time in found] == sorted(
        datetime.fromisoformat(time) for time in found
    )


def test_two_times_within_a_millisecond_are_one_version() -> None:
    """Dimmy's database keeps milliseconds, its events may have more."""
    times = ("2026-11-01T08:00:00.123999", "2026-11-01T08:00:00.123")

    found = {message_of({"_id": "a", "updated_at": time})["updated_at"] for time in times}

    assert found == {"2026-11-01T08:00:00.123000Z"}


def test_a_large_item_is_left_in_the_bucket() -> None:
    small = catalogue.make_item(random.Random(1))
    large = catalogue.padded(small, 2 * MAX_ITEM_BYTES)
    line = json.dumps(large, separators=(",", ":")).encode()

    message = message_of(large)

    assert len(line) > MAX_ITEM_BYTES
    assert (message["item"], message["object"]) == (None, f"items/{small['_id']}.json")
    assert message["photo_count"] == len(large["photographing"][0]["photos"])


def test_the_longest_item_in_a_message_fits_into_it() -> None:
    """Quotation marks are escaped once more, which doubles a text of nothing else."""
    padding = '"' * ((MAX_ITEM_BYTES - 100) // 2)
    item = read_item(json.dumps({"_id": "a", "x": padding}, separators=(",", ":")).encode())

    message = describe(item)

    assert message.item is not None
    assert len(message.data()) < MAX_MESSAGE_BYTES / 2


@pytest.mark.parametrize("length", [1_000, 1_001])
def test_a_text_that_is_too_long_for_a_column_is_null(length: int) -> None:
    item = {"_id": "a", "flow_id": "x" * length, "barcode_scanning": [{"code": "y" * length}]}

    message = message_of(item)

    is_kept = length == 1_000
    assert [message["flow_id"], message["barcode"]] == (
        ["x" * length, "y" * length] if is_kept else [None, None]
    )


def test_a_flow_id_that_is_too_long_for_an_attribute_is_only_in_the_data() -> None:
    item = read_item(json.dumps({"_id": "a", "flow_id": "流" * 400}).encode())

    assert describe(item).flow_id == "流" * 400
    assert describe(item).attributes() == {"item-id": "a", "schema": "1"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
STEPS = JSON | st.lists(
    st.dictionaries(st.sampled_from(["code", "photos", "weight", "unit", "dimensions"]), JSON)
    | st.fixed_dictionaries(
        {
            "dimensions": st.dictionaries(
                st.sampled_from(["width", "height", "depth", "unit"]),
                st.integers() | st.floats() | st.sampled_from(["m", "ft", "in"]),
            )
        }
    ),
    max_size=3,
)
KINDS = ("dimensioning", "barcode_scanning", "weighing", "photographing")
SCALARS = ("flow_id", "owner_id", "updated_at", "created_at", "started_at", "ended_at")


@given(
    steps=st.dictionaries(st.sampled_from(KINDS), STEPS),
    scalars=st.dictionaries(st.sampled_from(SCALARS), JSON),
)
def test_every_item_has_a_message_of_the_documented_types(
    steps: dict[str, Any], scalars: dict[str, Any]
) -> None:
    line = json.dumps(scalars | steps | {"_id": "a"})
    item = read_item(re.sub("-?Infinity|NaN", "1e999", line).encode())

    message = describe(item)
    data = json.loads(message.data().decode("utf-8"), parse_constant=pytest.fail)

    assert data.keys() == {each.name for each in fields(ItemMessage)}
    assert all(data[name] is None or isinstance(data[name], str) for name in TEXT_FIELDS)
    assert all(data[name] is None or TIME.fullmatch(data[name]) for name in TIME_FIELDS)
    for name in NUMBER_FIELDS:
        assert data[name] is None or isinstance(data[name], float | int)
    assert isinstance(data["photo_count"], int)
    for value in message.attributes().values():
        assert 0 < len(value.encode("utf-8")) <= 1024


def test_the_document_has_every_field_in_its_order() -> None:
    document = (ROOT / "function" / "README.md").read_text()
    text = document.partition("\n## Items as messages\n")[2]
    documented = re.findall(r"^\| `(\w+)` \| (.+?) \|$", text.partition("\n## ")[0], re.MULTILINE)

    assert documented == [(each.name, each.metadata["meaning"]) for each in fields(ItemMessage)]
