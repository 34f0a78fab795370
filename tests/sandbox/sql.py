"""`make sql QUERY="SELECT ..."`: queries the tables and views that `make run` fills.

The SQL is BigQuery's. A terminal gets a table, or one line for each value where a table would not
fit; a file or a pipe gets one JSON object for each row.
"""

import json
import os
import sys
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from operate.console import CommandError, UsageError, count_of, print_text, run
from sandbox.environment import data_folder, read_settings
from sandbox.journal import as_plain_text
from sandbox.warehouse import (
    WAREHOUSE_FILE,
    Answer,
    QueryError,
    Warehouse,
    WarehouseError,
)

_SHOWN_CHARACTERS = 200  # of a value on a terminal
_HELP = """\
What can be asked, in BigQuery's SQL:
  items           the newest version of each item, in typed columns
  events          each event, with its attempts and its outcome
  item_versions   every version of every item, as it was published
  event_attempts  every attempt at an event, as it was logged

For example:
  make sql QUERY="SELECT flow_id, COUNT(*) AS scans FROM items GROUP BY flow_id"
  make sql QUERY="SELECT barcode, width_mm, height_mm, depth_mm, weight_g FROM items
    ORDER BY updated_at DESC LIMIT 10\""""


def main() -> int:
    settings = read_settings()
    return run(lambda console: _answer(settings, console))


def _answer(settings: Mapping[str, str], console: Console) -> int:
    query = settings.get("QUERY", "").strip()
    if not query:
        print_text(console, _HELP)
        return 0
    file = data_folder(settings) / WAREHOUSE_FILE
    warehouse = Warehouse(file, threads=os.cpu_count() or 1)
    if not warehouse.file.exists():
        raise UsageError(f"{warehouse.file} does not exist yet: start `make run` first.")
    try:
        answer = warehouse.query(query)
    except QueryError as error:
        raise UsageError(str(error)) from error
    except WarehouseError as error:
        raise CommandError(str(error)) from error
    if console.is_terminal:
        show(console, answer)
    else:
        for row in answer.dicts():
            print(json.dumps(row, ensure_ascii=False, default=as_text))
    return 0


def show(console: Console, answer: Answer) -> None:
    """Print the rows as a table or, where it would be too wide, as a block for each row."""
    table = as_table(answer)
    if console.measure(table).minimum <= console.width and _widest(answer) <= console.width:
        console.print(table)
    else:
        for row in answer.rows:
            console.print(_as_block(answer.columns, row))
    print_text(console, count_of(len(answer.rows), "row"))


def as_table(answer: Answer) -> Table:
    """The rows as a table; numbers are aligned to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(answer.columns):
        is_number = any(isinstance(row[number], int | float) for row in answer.rows)
        table.add_column(Text(column), justify="right" if is_number else "left", overflow="fold")
    for row in answer.rows:
        table.add_row(*map(_shown, row))
    return table


def as_text(value: Any) -> str:
    """A value that JSON has no type for; times are UTC."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _as_block(columns: Any, row: Any) -> Table:
    block = Table(box=None, show_header=False, pad_edge=False)
    block.add_column(style="dim", no_wrap=True)
    block.add_column(overflow="fold")
    for name, value in zip(columns, row, strict=True):
        block.add_row(Text(name), _shown(value))
    block.add_row("", "")
    return block


def _shown(value: Any) -> Text:
    if value is None:
        return Text("NULL", style="dim")
    plain = isinstance(value, str | int | float)
    text = as_plain_text(str(value) if plain else as_text(value))
    shortened = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
    return Text(shortened)


def _widest(answer: Answer) -> int:
    """The width of the table if no cell is folded."""
    cells = [answer.columns, *([str(_shown(value)) for value in row] for row in answer.rows)]
    return sum(max(map(len, column)) + 2 for column in zip(*cells, strict=True))


if __name__ == "__main__":
    sys.exit(main())
