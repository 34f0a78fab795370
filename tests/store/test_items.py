"""Items: their content stays as it was written, and `updated_at` decides which one is newer.

One of them: .venv/bin/pytest tests/store/test_items.py -k numbers
"""

import json
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.json_text import (
    MAX_DEPTH,
    NotJsonError,
    TooDeepError,
    compact,
    read_array,
    read_json,
)
from pipeline.store.items import (
    Item,
    MalformedItem,
    NotAnItemError,
    Order,
    is_item_id,
    read_item,
    read_items,
)
from pipeline.store.timestamps import read_timestamp

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(value=json_values, indent=st.integers(0, 3) | st.none(), ascii_only=st.booleans())
def test_compacting_changes_only_white_space(
    value: object, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")

    line = compact(text)

    assert b"\n" not in line
    assert json.loads(line) == json.loads(text)
    expected = json.dumps(json.loads(text), ensure_ascii=ascii_only, separators=(",", ":"))
    assert line == expected.encode()


def test_numbers_escapes_and_order_stay_as_written() -> None:
    body = b'{ "b" : 1.10, "a" : 12345678901234567890.123456789, "c": "\\u00e9\\" \\n", "d":1E5 }'

    assert (
        compact(body)
        == b'{"b":1.10,"a":12345678901234567890.123456789,"c":"\\u00e9\\" \\n","d":1E5}'
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"NaN",
        b'{"a": Infinity}',
        b'"\n"',
        b"[" * 100_000,
        b"1" * 5_000,
        '{"a":1}'.encode("utf-16"),
    ],
    ids=[
        "empty",
        "truncated",
        "not utf-8",
        "nan",
        "infinity",
        "raw newline",
        "nested too deeply",
        "number too long",
        "utf-16",
    ],
)
def test_invalid_json_is_an_error(body: bytes) -> None:
    with pytest.raises(NotJsonError):
        read_json(body)


@pytest.mark.parametrize("body", [b"[]", b"1", b"{}", b'{"_id":7}', b'{"_id":"../x"}'])
def test_json_that_is_not_an_item_is_an_error(body: bytes) -> None:
    with pytest.raises(NotAnItemError):
        read_item(body)


@pytest.mark.parametrize(
    "value",
    [
        "../x",
        "a/b",
        "http://169.254.169.254/",
        "x" * 10_000,
        "",
        " ",
        ".",
        "-x",
        "a.b",
        "a\n",
        "é",
        7,
        None,
        True,
        ["a"],
        {"a": 1},
    ],
)
def test_hostile_values_are_not_item_ids(value: object) -> None:
    assert not is_item_id(value)


@pytest.mark.parametrize(
    "value", ["67c861de20bb29fb40d2cbbd", "a", "0f8fad5b-d9cb-469f-a165-70867728950e", "x" * 128]
)
def test_ids_of_other_formats_are_accepted(value: str) -> None:
    assert is_item_id(value)


MICROSECONDS = "2025-03-05T14:38:22.903456"


@pytest.mark.parametrize(
    ("new", "stored", "order"),
    [
        ("2025-03-05T14:38:22.903001", "2025-03-05T14:38:22.903002", Order.OLDER),
        ("2025-03-05T14:38:22.903002", "2025-03-05T14:38:22.903001", Order.NEWER),
        ("2025-03-05T14:38:22.903000", "2025-03-05T14:38:22.903000", Order.SAME_TIME),
        ("2025-03-05T14:38:23", "2025-03-05T14:38:22.903000", Order.NEWER),
        ("2025-03-05T14:38:22Z", "2025-03-05T15:38:22+01:00", Order.SAME_TIME),
        ("2025-03-05T14:38:23Z", "2025-03-05T14:38:22.9", Order.NEWER),
        # The same time, as databases of another precision keep it
        ("2025-03-05T14:38:22.903000", MICROSECONDS, Order.SAME_TIME),
        (MICROSECONDS, "2025-03-05T14:38:22.903000", Order.SAME_TIME),
        ("2025-03-05T14:38:22.903", MICROSECONDS, Order.SAME_TIME),
        ("2025-03-05T14:38:22", MICROSECONDS, Order.OLDER),  # Python omits a fraction of zero
        (1741185502, MICROSECONDS, Order.SAME_TIME),
        ("2025-03-05T14:38:22.904", MICROSECONDS, Order.NEWER),
        ("2025-03-05T14:38:22.902", MICROSECONDS, Order.OLDER),
        # Other ways to write a time
        ("2025-03-05 14:38:23", "2025-03-05T14:38:22.903000", Order.NEWER),
        (1741185503, "2025-03-05T14:38:22.903000", Order.NEWER),
        (1741185502904, MICROSECONDS, Order.NEWER),
        ("1741185502.902", MICROSECONDS, Order.OLDER),
        (1741185502.903, MICROSECONDS, Order.SAME_TIME),
        ("1741185502.524272", "2025-03-05T14:38:22.524272", Order.SAME_TIME),
        ("2025-03-06", MICROSECONDS, Order.NEWER),
        ("2025-03-05", MICROSECONDS, Order.SAME_TIME),
        # No times
        ("2025-03-05T14:38:22", None, Order.NEWER),
        ("2025-03-05T14:38:22", "yesterday", Order.NEWER),
        (None, "2025-03-05T14:38:22", Order.UNKNOWN),
        ("31/12/2025", "2025-03-05T14:38:22", Order.UNKNOWN),
        (True, "2025-03-05T14:38:22", Order.UNKNOWN),
        ("202503051438", "2025-03-05T14:38:22", Order.UNKNOWN),
        (20250305143822, "2025-03-05T14:38:22", Order.UNKNOWN),
        ("0001-01-01T00:00:00+14:00", "2025-03-05T14:38:22", Order.UNKNOWN),
        (None, None, Order.SAME_TIME),
    ],
)
def test_updated_at_gives_the_order(new: object, stored: object, order: Order) -> None:
    def item(updated_at: object, note: str) -> Item:
        return read_item(json.dumps({"_id": "a", "updated_at": updated_at, "note": note}).encode())

    assert item(new, "new").compare(item(stored, "old")) is order


def test_equal_content_has_no_order() -> None:
    same = read_item(b'{"_id":"a"}').compare(read_item(b'{ "_id": "a" }'))

    assert same is Order.SAME_CONTENT


@given(st.datetimes(), st.datetimes())
def test_the_order_is_that_of_the_times_at_their_common_precision(
    one: datetime, other: datetime
) -> None:
    first, second = read_timestamp(one.isoformat()), read_timestamp(other.isoformat())
    assert first
    assert second

    assert first.compare(second) == -second.compare(first)
    if abs(one - other) >= timedelta(seconds=1):
        assert first.compare(second) == (1 if one > other else -1)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def test_the_depth_that_can_be_read_is_far_below_what_python_can_read() -> None:
    assert read_json(nested(MAX_DEPTH))
    with pytest.raises(TooDeepError, match="nested more than 100 deep"):
        read_json(nested(MAX_DEPTH + 1))
    with pytest.raises(TooDeepError):
        read_json(b'{"a":' * 101 + b"1" + b"}" * 101)


@given(
    st.lists(st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text())),
    st.sampled_from([None, 0, 2, "\t"]),
    st.text(" \t\r\n", max_size=3),
)
def test_the_elements_of_an_array_are_those_of_python(
    values: list[object], indent: int | str | None, space: str
) -> None:
    body = f"{space}{json.dumps(values, indent=indent)}{space}".encode()

    found = list(read_array(body))

    assert [value for value, _ in found] == values
    assert [json.loads(text) for _, text in found] == values


@pytest.mark.parametrize(
    "text",
    [
        *("", "7", "{}", "[", "[1", "[1,", '["a', "[1,]", "[,1]", "[1 2]", "[1]]", "[1] x"),
        *("[NaN]", "[1\u00a0]", "\ufeff[]", "[" * 100_000),
    ],
    ids=lambda text: ascii(text[:8]),
)
def test_what_is_not_an_array_is_refused(text: str) -> None:
    with pytest.raises(NotJsonError):
        list(read_array(text.encode()))
    with pytest.raises(NotJsonError):
        list(read_array(b"[1,\xff]"))


def test_an_element_that_is_nested_too_deeply_does_not_hide_the_others() -> None:
    deep = b'{"_id":"b","x":' + nested(MAX_DEPTH) + b"}"

    found = read_items(b'[{"_id":"a"},' + deep + b',7,{"_id":"c"}]')

    assert [getattr(each, "item_id", None) for each in found] == ["a", None, None, "c"]
    assert found[1] == MalformedItem("nested more than 100 deep", deep)
    assert found[2] == MalformedItem("not a JSON object", b"7")
