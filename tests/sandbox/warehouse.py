"""BigQuery's stand-in: a DuckDB file with the tables that Pub/Sub fills, and the deployed views.

The views are those of infra/modules/dimmy/views, and queries are BigQuery's SQL, too: sqlglot
translates both.
"""

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from operate.google.deployment import MODULE
from sandbox.bigquery_rows import Row, TableError, TableNotFoundError

ITEM_VERSIONS, EVENT_ATTEMPTS = "item_versions", "event_attempts"
TABLES = (ITEM_VERSIONS, EVENT_ATTEMPTS)
VIEWS = {"items": ITEM_VERSIONS, "events": EVENT_ATTEMPTS}

WAREHOUSE_FILE = "scans.duckdb"
LOCK_SECONDS = 30.0  # how long to wait for another process
_LOCK_POLL_SECONDS = 0.003
_LOCKED = "Could not set lock"
_ATTACHED = "warehouse"
_ZONED, _PLAIN = "TIMESTAMP WITH TIME ZONE", "TIMESTAMP"

# DuckDB's own lock keeps other processes away from a file, but not other connections of this one.
_in_this_process = threading.Lock()


class QueryError(Exception):
    """A query cannot be answered; the text is one sentence."""


class WarehouseError(TableError):
    """The file cannot be used; the text is one sentence."""


@dataclass(frozen=True)
class Answer:
    """The rows of a query, with the names of their columns. Times have the zone UTC."""

    columns: Sequence[str]
    rows: Sequence[tuple[Any, ...]]

    def dicts(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


class Warehouse:
    """The tables and views in one file. Safe to share between threads.

    DuckDB lets either one process write to a file or several read it. So the file is opened for one
    batch or one query at a time, and one that finds it locked tries again a little later: then
    `make sql` works beside a running `make run`. Attaching it to a database in memory takes 1 ms;
    opening it by itself takes 12 ms. One thread is best for small batches; queries of many rows
    are faster with more.
    """

    def __init__(self, file: Path, threads: int = 1) -> None:
        self.file = file
        self._threads = threads
        self._database: duckdb.DuckDBPyConnection | None = None

    def create(self) -> None:
        """Create the tables where they are missing, and the views as they are deployed now.

        Raises:
            WarehouseError: the file cannot be created, or is not a database.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as database:
            for table in TABLES:
                database.execute(
                    f"CREATE TABLE IF NOT EXISTS {table} (subscription_name VARCHAR,"
                    " message_id VARCHAR, publish_time TIMESTAMPTZ, data JSON, attributes JSON)"
                )
            for view, table in VIEWS.items():
                database.execute(f"CREATE OR REPLACE VIEW {view} AS {view_query(view, table)}")

    def has_table(self, table: str) -> bool:
        """Whether there is a table of this name."""
        with self._open(read_only=True) as database:
            found = database.execute(
                "SELECT 1 FROM duckdb_tables() WHERE database_name = ? AND table_name = ?",
                [_ATTACHED, table],
            )
            return found.fetchone() is not None

    def write(self, table: str, rows: Sequence[Row]) -> None:
        """Append rows; return once they are stored for good.

        Raises:
            TableNotFoundError: there is no such table.
            WarehouseError: another process keeps the file open, or it cannot be written to.
        """
        columns = [
            [row.subscription_name for row in rows],
            [row.message_id for row in rows],
            [row.publish_time for row in rows],
            [row.data for row in rows],
            [row.attributes for row in rows],
        ]
        with self._open() as database:
            database.execute(
                f'INSERT INTO "{table}"'
                " SELECT unnest(?), unnest(?), unnest(?), unnest(?)::JSON, unnest(?)::JSON",
                columns,
            )

    def query(self, sql: str) -> Answer:
        """The rows that a query in BigQuery's SQL selects.

        Raises:
            QueryError: it is not a query, or DuckDB does not accept its translation.
            WarehouseError: there is no file, or another process keeps it open.
        """
        translated = translate(sql)
        if not self.file.exists():
            raise WarehouseError(f"{self.file} does not exist.")
        with self._open(read_only=True) as database:
            try:
                described = database.execute(f"DESCRIBE {translated}").fetchall()
                database.execute(_without_zones(translated, [column[1] for column in described]))
                rows = database.fetchall()
            except duckdb.Error as error:
                raise QueryError(
                    f"DuckDB does not accept the query: {_first_line(error)}"
                ) from error
        zoned = [column[1] == _ZONED for column in described]
        return Answer(
            [column[0] for column in described],
            [tuple(map(_with_zone, row, zoned)) for row in rows],
        )

    @contextmanager
    def _open(self, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        with _in_this_process:
            if self._database is None:
                self._database = duckdb.connect(config={"threads": self._threads})
                self._database.execute("SET TimeZone = 'UTC'")
            database = self._database
            try:
                _attach(database, self.file, read_only=read_only)
            except duckdb.Error as error:
                raise WarehouseError(
                    f"{self.file} cannot be opened: {_first_line(error)}"
                ) from error
            try:
                database.execute(f"USE {_ATTACHED}")
                yield database
            except duckdb.CatalogException as error:
                raise TableNotFoundError(_first_line(error)) from error
            except duckdb.Error as error:
                raise WarehouseError(f"{self.file}: {_first_line(error)}") from error
            finally:
                database.execute("USE memory")
                database.execute(f"DETACH {_ATTACHED}")


def view_query(view: str, table: str) -> str:
    """The query of a deployed view in DuckDB's SQL, over this table."""
    text = (MODULE / "views" / f"{view}.sql").read_text().replace("${table}", table)
    return sqlglot.transpile(text, read="bigquery", write="duckdb")[0]


def translate(sql: str) -> str:
    """A query in BigQuery's SQL as DuckDB's. Names of tables may have a project and a dataset.

    Raises:
        QueryError: it is not one query, or it asks for an unknown table.
    """
    try:
        statements = [found for found in sqlglot.parse(sql, read="bigquery") if found]
    except SqlglotError as error:
        raise QueryError(f"The SQL cannot be read: {_described(error)}") from error
    query = statements[0] if len(statements) == 1 else None
    if not isinstance(query, exp.Query):
        raise QueryError("The sandbox answers one query at a time: SELECT ... or WITH ...")
    defined = {cte.alias_or_name for cte in query.find_all(exp.CTE)}
    for table in query.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier) or table.name in defined:
            continue
        # A name in one pair of backticks is one name, or several with dots between them.
        name = table.name.rpartition(".")[2]
        if name not in (*VIEWS, *TABLES):
            known = ", ".join((*VIEWS, *TABLES))
            raise QueryError(f"There is no table {table.name}; there are {known}.")
        renamed = exp.to_table(name)
        table.replace(exp.alias_(renamed, table.alias, table=True) if table.alias else renamed)
    for number, column in enumerate(query.selects):
        if not (column.is_star or isinstance(column, exp.Alias | exp.Column | exp.Dot)):
            column.replace(exp.alias_(column.copy(), f"f{number}_"))  # as BigQuery calls it
    return query.sql(dialect="duckdb")


def _attach(database: duckdb.DuckDBPyConnection, file: Path, *, read_only: bool) -> None:
    """Open the file, and wait while another process has it open."""
    name = str(file).replace("'", "''")
    options = "(READ_ONLY)" if read_only else ""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            database.execute(f"ATTACH '{name}' AS {_ATTACHED} {options}")
        except duckdb.IOException as error:
            if _LOCKED not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_LOCK_POLL_SECONDS)
        else:
            return


def _without_zones(query: str, types: Sequence[str]) -> str:
    """The query with times in UTC and without their zone, for which Python would need pytz."""
    names = [f"c{number}" for number in range(len(types))]
    columns = (
        f"CAST({name} AS {kind.replace(_ZONED, _PLAIN)})" if _ZONED in kind else name
        for name, kind in zip(names, types, strict=True)
    )
    return f"SELECT {', '.join(columns)} FROM ({query}) AS found({', '.join(names)})"


def _with_zone(value: Any, is_zoned: bool) -> Any:
    return value.replace(tzinfo=UTC) if is_zoned and isinstance(value, datetime) else value


def _described(error: SqlglotError) -> str:
    """The first of sqlglot's errors, without the colours of a terminal."""
    errors = getattr(error, "errors", None)
    if not errors:
        return re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()[0]
    first = errors[0]
    near = f" near {first['highlight']!r}" if first.get("highlight") else ""
    return f"{first['description']} (line {first['line']}, column {first['col']}{near})."


def _first_line(error: duckdb.Error) -> str:
    return str(error).strip().splitlines()[0]
