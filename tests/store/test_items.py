"""Items: their content stays as it was written, and `updated_at` decides which one is newer.

One of them: .venv/bin/pytest tests/store/test_items.py -k numbers
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.json_text import NotJsonError, compact, read_json
from pipeline.store.items import NotAnItemError, is_item_id, read_item

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


@pytest.mark.parametrize(
    ("new", "stored", "replaces"),
    [
        ("2025-03-05T14:38:22.903001", "2025-03-05T14:38:22.903000", True),
        ("2025-03-05T14:38:22.903000", "2025-03-05T14:38:22.903001", False),
        ("2025-03-05T14:38:22.903000", "2025-03-05T14:38:22.903000", False),
        ("2025-03-05T14:38:23", "2025-03-05T14:38:22.903000", True),
        ("2025-03-05T14:38:22Z", "2025-03-05T15:38:22.5+01:00", False),
        ("2025-03-05T14:38:23Z", "2025-03-05T14:38:22.9", True),
        ("2025-03-05T14:38:22", None, True),
        (None, "2025-03-05T14:38:22", False),
        ("yesterday", "2025-03-05T14:38:22", False),
        (None, None, True),
    ],
)
def test_the_newer_updated_at_wins(new: str | None, stored: str | None, replaces: bool) -> None:
    def item(updated_at: str | None, note: str) -> bytes:
        return json.dumps({"_id": "a", "updated_at": updated_at, "note": note}).encode()

    assert read_item(item(new, "new")).is_newer_than(read_item(item(stored, "old"))) is replaces


def test_equal_content_is_not_newer() -> None:
    assert not read_item(b'{"_id":"a"}').is_newer_than(read_item(b'{ "_id": "a" }'))
