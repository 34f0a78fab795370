"""The dataset of BigQuery in DuckDB, with the tables and views that Terraform creates.

BigQuery's SQL is translated by sqlglot, so what is tested is what is deployed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import duckdb
import sqlglot

from operate.google.deployment import MODULE
from sandbox.warehouse import VIEWS, view_query

EXAMPLES = MODULE / "views/examples"
DATASET = "dimmy_prod"  # that of the examples
NOW = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)

Row = dict[str, Any]


@dataclass(frozen=True)
class Message:
    """A message of a topic, as a BigQuery subscription writes it."""

    data: str
    message_id: str = "1"
    publish_time: datetime = NOW

    def row(self) -> tuple[object, ...]:
        return ("a-subscription", self.message_id, in_utc(self.publish_time), self.data, "{}")


class Database:
    """DuckDB with the tables and the views of the dataset."""

    def __init__(self) -> None:
        self._connection = duckdb.connect()
        self._connection.execute(f"CREATE SCHEMA {DATASET}; SET TimeZone = 'UTC'")
        for view, table in VIEWS.items():
            self.run(f"CREATE TABLE {DATASET}.{table} ({', '.join(_table_columns())})")
            query = _without_zones(view_query(view, f"{DATASET}.{table}"))
            self._connection.execute(f"CREATE VIEW {DATASET}.{view} AS {query}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def write(self, table: str, messages: Sequence[Message]) -> None:
        """Append the messages to a table, in this order."""
        for message in messages:
            statement = f"INSERT INTO {DATASET}.{table} VALUES (?, ?, ?, ?, ?)"
            self._connection.execute(statement, message.row())

    def empty(self, table: str) -> None:
        self.run(f"TRUNCATE TABLE {DATASET}.{table}")

    def run(self, query: str, **parameters: str) -> list[Row]:
        """The rows of a query in BigQuery's SQL."""
        (translated,) = sqlglot.transpile(query, read="bigquery", write="duckdb")
        # The only construct here that sqlglot does not translate
        translated = _without_zones(translated).replace("INSERT ROW", "INSERT *")
        found = self._connection.execute(translated, parameters)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def view(self, name: str) -> list[Row]:
        return self.run(f"SELECT * FROM {DATASET}.{name}")

    def types(self, view: str) -> dict[str, str]:
        """The columns of a view with their types in DuckDB, in their order."""
        rows = self._connection.execute(f"DESCRIBE {DATASET}.{view}").fetchall()
        return {row[0]: row[1] for row in rows}

    def run_example(self, name: str, **parameters: str) -> list[Row]:
        return self.run((EXAMPLES / f"{name}.sql").read_text(), **parameters)


def _without_zones(query: str) -> str:
    """The query with times in UTC, for whose zone DuckDB needs another package in Python."""
    return query.replace("TIMESTAMPTZ", "TIMESTAMP")


def _table_columns() -> list[str]:
    """The columns of the tables in Terraform, as `name TYPE`."""
    text = (MODULE / "bigquery.tf").read_text()
    columns = re.findall(r'\{ name = "(\w+)", type = "(\w+)" \}', text)
    assert columns
    return [f"{name} {kind}" for name, kind in columns]


def in_utc(time: datetime) -> datetime:
    """A time as DuckDB returns it: in UTC, without a zone."""
    return time.astimezone(UTC).replace(tzinfo=None)
