"""The rows that a BigQuery subscription without a schema writes, with `write_metadata`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NoReturn, Protocol

from google.pubsub_v1 import types

Config = Any  # the protocol buffers of google.pubsub.v1 have no type annotations

# Project, dataset and table. A colon after the project, as other tools of BigQuery write it, is
# refused: https://github.com/hashicorp/terraform-provider-google/issues/16479
_TABLE = re.compile(r"[a-z][a-z0-9-]*\.([A-Za-z0-9_]+)\.([A-Za-z0-9_-]+)")


@dataclass(frozen=True, slots=True)
class Row:
    """One message as a row; `data` and `attributes` are JSON."""

    subscription_name: str
    message_id: str
    publish_time: datetime
    data: str
    attributes: str


class NotStorableError(ValueError):
    """The message cannot be written to the table; the text is the reason."""


class TableError(Exception):
    """The rows were not written, or it is not known whether they were."""


class TableNotFoundError(TableError):
    """There is no such table."""


class Tables(Protocol):
    """What BigQuery subscriptions write to."""

    def has_table(self, table: str) -> bool:
        """Whether there is a table of this name."""

    def write(self, table: str, rows: Sequence[Row]) -> None:
        """Append rows; return once they are stored for good.

        Raises:
            TableError: they were not written, or it is not known whether they were.
        """


def table_of(config: Config) -> str:
    """The name of the table, without project and dataset.

    Raises:
        ValueError: the configuration is one that Google or this stand-in refuses.
    """
    found = _TABLE.fullmatch(config.table)
    if not found:
        raise ValueError(f"Invalid table name: {config.table}: projectId.datasetId.tableId")
    if config.use_topic_schema or config.use_table_schema:
        raise ValueError("The sandbox has no schemas: leave out use_topic_schema, use_table_schema")
    if not config.write_metadata:
        raise ValueError("The sandbox's tables have the columns of write_metadata: set it")
    return found[2]


def as_row(
    subscription_name: str,
    message_id: str,
    publish_time: datetime,
    data: bytes,
    attributes: Mapping[str, str],
) -> Row:
    """The row of a message.

    Raises:
        NotStorableError: its data does not fit into a column of type JSON.
    """
    return Row(
        subscription_name,
        message_id,
        publish_time,
        _as_json(data),
        json.dumps(dict(attributes), ensure_ascii=False),
    )


def state_of(error: TableError | None) -> Config:
    """The state of a subscription after a write."""
    states = types.BigQueryConfig.State
    return states.NOT_FOUND if isinstance(error, TableNotFoundError) else states.ACTIVE


def _as_json(data: bytes) -> str:
    """The text, if BigQuery takes it as JSON: DuckDB is more lenient."""
    try:
        text = data.decode()
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_int=_integer, parse_float=_number
        )
        json.dumps(value, ensure_ascii=False).encode()  # refuses half of a surrogate pair
    except (ValueError, RecursionError) as error:
        raise NotStorableError(f"not JSON that BigQuery accepts: {error}") from None
    return text


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _integer(text: str) -> int | float:
    number = int(text)
    return number if -(2**63) <= number < 2**64 else _number(text)


def _number(text: str) -> float:
    """BigQuery refuses numbers that do not survive a round trip through a double."""
    number = float(text)
    if number in {float("inf"), float("-inf")} or Decimal(text) != Decimal(repr(number)):
        raise ValueError(f"{text[:40]} cannot be stored without loss of precision")
    return number
