"""The journal prints any item and any event, each event on one line.

One of them: .venv/bin/pytest tests/stand_ins/test_journal.py -k table
"""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from sandbox.catalogue import VENDOR_EXAMPLE
from sandbox.journal import Journal, describe, item_table

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
items = st.fixed_dictionaries(
    {},
    optional={
        name: json_values
        | st.lists(
            st.fixed_dictionaries({}, optional=dict.fromkeys(("dimensions", "photos"), json_values))
        )
        for name in ("_id", "flow_id", "barcode_scanning", "dimensioning", "photographing")
    },
)


def render(lines: list[bytes]) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(item_table(lines))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@given(item=items | json_values)
def test_a_table_can_show_any_json_value(item: object) -> None:
    render([json.dumps(item).encode()])


def test_a_table_shows_the_main_fields_of_an_item() -> None:
    item = VENDOR_EXAMPLE | {
        "dimensioning": [{"dimensions": {"width": 1, "height": 2.5, "depth": 3, "unit": "cm"}}],
        "weighing": [{"weight": 7.25, "unit": "kg"}],
    }

    table = render([json.dumps(item).encode()])

    for cell in ("67c861de20bb29fb40d2cbbd", "APIDocsFlow1", "1 x 2.5 x 3 cm", "7.25 kg", " 1 "):
        assert cell in table


@pytest.mark.parametrize("hostile", ["\x1b[2J", "[red]x[/red]", "a\nb"])
def test_a_hostile_value_is_printed_as_plain_text_on_one_line(hostile: str, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=140)
    journal = Journal(console, tmp_path)

    journal.log("receive", {"message": "webhook", "outcome": hostile, "event_id": "msg_1"})

    assert isinstance(console.file, io.StringIO)
    (line,) = console.file.getvalue().splitlines()
    assert "\x1b" not in line
    if hostile.startswith("["):
        assert hostile in line


def test_ids_are_printed_whole_so_that_they_can_be_pasted(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=140)
    event_id, item_id = "msg_3MfH1wBsCWCV5KtKYvzjIxWh9Jl", "67c861de20bb29fb40d2cbbd"

    Journal(console, tmp_path).log(
        "resolve", {"message": "item", "event_id": event_id, "item_id": item_id, "state": "404"}
    )

    assert isinstance(console.file, io.StringIO)
    assert f" {event_id} {item_id} 404" in console.file.getvalue()


@pytest.mark.parametrize(
    ("content", "description"),
    [
        ({"item_ids": ["a"]}, "items.scanned, 1 item"),
        ({"item_ids": []}, "items.scanned, 0 items"),
        ({"_id": "a"}, "item.scanned.full_payload"),
        ({"success": True}, "unrecognised"),
        (b"x", "unrecognised"),
    ],
)
def test_an_event_is_described_by_its_shape(content: object, description: str) -> None:
    assert describe(content) == description
