"""The commands as subprocesses: their output, their exit status, and what they leave running.

One of them: .venv/bin/pytest tests/system/test_commands.py -k busy
"""

import errno
import io
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from operate.console import UsageError
from operate.google.deployment import ROOT
from operate.ports import is_free
from pipeline.items_topic.item_message import describe
from pipeline.store.items import read_item
from sandbox import catalogue, google_pubsub, sql
from sandbox.bigquery_rows import as_row
from sandbox.environment import claim
from sandbox.processes import Process, free_port
from sandbox.stack import new_secret
from sandbox.svix_sender import new_message
from sandbox.warehouse import EVENT_ATTEMPTS, ITEM_VERSIONS, WAREHOUSE_FILE, Warehouse
from sandbox.warehouse_topics import log_entry
from support.commands import Start, send, starting
from support.programs import needs
from support.waiting import WAIT_SECONDS, wait_for


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts commands of the sandbox, and stops them after the test."""
    with starting() as starter:
        yield starter


@pytest.fixture(params=["own", pytest.param("google", marks=needs("pubsub-emulator"))])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_demo_shows_every_step_and_every_item_and_loses_nothing(
    start: Start, kind: str
) -> None:
    demo = start("sandbox.demo", PUBSUB=kind)
    wait_for(lambda: any(line.startswith("Up") for line in demo.lines), "the first line")
    started = descendants(demo)

    assert demo.wait(WAIT_SECONDS) == 0, "\n".join(demo.lines)
    output = "\n".join(demo.lines)
    for step in ("sent", "received", "item", "resolved", "refused", "Nothing was lost"):
        assert step in output
    for cell in ("67c861de20bb29fb40d2cbbd", "APIDocsFlow1", "A0155C35", " kg ", " cm "):
        assert cell in output
    assert "FROM items GROUP BY flow_id" in output
    assert any(
        line.startswith("10 items in the bucket, 10 of them in the view") for line in demo.lines
    )
    assert len(started) >= 6  # three functions, each a server and its worker
    assert not any(map(psutil.pid_exists, started))


@pytest.mark.parametrize("command", ["sandbox.demo", "sandbox.run"])
def test_a_missing_sdk_is_reported(start: Start, command: str) -> None:
    refused = start(command, PUBSUB="google", PORT=str(free_port()), PATH="/nonexistent")

    assert refused.wait() == 2
    assert refused.lines[-1] == google_pubsub.NOT_INSTALLED


def test_a_demo_that_is_terminated_leaves_no_process(start: Start) -> None:
    demo = start("sandbox.demo")
    wait_for(lambda: any(line.startswith("Up") for line in demo.lines), "the first line")
    started = descendants(demo)

    os.kill(demo.pid, signal.SIGTERM)

    assert demo.wait() == 130
    assert demo.lines[-1] == "Stopped."
    assert not any(map(psutil.pid_exists, started))


@needs("setpriv")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_a_demo_whose_terminal_closes_or_that_is_killed_leaves_no_process(
    start: Start, number: signal.Signals
) -> None:
    demo = start("sandbox.demo")
    wait_for(lambda: any(line.startswith("Up") for line in demo.lines), "the first line")
    started = descendants(demo)

    os.kill(demo.pid, number)

    wait_for(lambda: not any(map(psutil.pid_exists, started)), "the end of its processes")


def test_an_unknown_pubsub_is_refused_in_one_line(start: Start) -> None:
    refused = start("sandbox.demo", PUBSUB="kafka")

    assert refused.wait() == 2
    assert refused.lines == ["PUBSUB=kafka is neither own (the default) nor google."]


def test_a_busy_port_is_reported_in_one_line(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        refused = start("sandbox.run", PORT=str(port))

        assert refused.wait() == 2
    (line,) = refused.lines
    assert line.startswith(f"Port {port} is busy")


def test_a_folder_has_one_run_and_knows_when_it_was_killed(start: Start, tmp_path: Path) -> None:
    first = start("sandbox.run", DATA=str(tmp_path), PORT=str(free_port()))
    wait_for((tmp_path / ".running.json").exists, "the first run")

    second = start("sandbox.run", DATA=str(tmp_path), PORT=str(free_port()))

    assert second.wait() == 2
    assert "make run DATA=.data/other" in second.lines[-1]
    assert first.is_running
    status = start("sandbox status", DATA=str(tmp_path))
    status.wait()
    assert any("make run" in line and "http://" in line for line in status.lines)

    first.kill()

    status = start("sandbox status", DATA=str(tmp_path))
    status.wait()
    assert any("make run" in line and "is not running" in line for line in status.lines)
    third = start("sandbox.run", DATA=str(tmp_path), PORT=str(free_port()))
    wait_for(lambda: any(line.startswith("Up.") for line in third.lines), "another run")


def test_a_folder_that_does_not_exist_is_not_made_by_looking_at_it(
    start: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "mistyped"

    view = start("sandbox view", DATA=str(folder), VIEW_PORT=str(free_port()))

    assert view.wait() == 2
    assert view.lines == [f"There is no folder {folder}: `make run` creates it."]
    assert not folder.exists()


def test_a_missing_secret_is_reported_in_one_line(start: Start) -> None:
    refused = start("sandbox.run", DIMMY_API_KEY="the-key-of-an-account", PORT=str(free_port()))

    assert refused.wait() == 2
    (line,) = refused.lines
    assert line.startswith("SIGNING_SECRETS is missing")


def test_a_malformed_secret_is_reported_by_the_function(start: Start, tmp_path: Path) -> None:
    refused = start(
        "sandbox.run",
        SIGNING_SECRETS="<WEBHOOK_SIGNING_SECRET>",
        PORT=str(free_port()),
        DATA=str(tmp_path),
    )

    assert refused.wait() == 2
    assert any("SIGNING_SECRETS secret 1 of 1 does not begin" in line for line in refused.lines)
    assert not any("<WEBHOOK_SIGNING_SECRET>" in line for line in refused.lines)


def test_the_faults_of_all_functions_are_reported_at_once(start: Start, tmp_path: Path) -> None:
    refused = start(
        "sandbox.run",
        SIGNING_SECRETS="whsec_short",
        DIMMY_CONCURRENCY="many",
        PORT=str(free_port()),
        DATA=str(tmp_path),
    )

    assert refused.wait() == 2
    for name in ("SIGNING_SECRETS", "DIMMY_CONCURRENCY"):
        assert any(name in line for line in refused.lines), name


def test_a_file_system_without_hard_links_is_named_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: Path, _target: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refuse)

    with pytest.raises(UsageError, match=r"without hard links.*DATA=/a/folder"), claim(tmp_path):
        pass


@pytest.fixture
def run(start: Start, tmp_path: Path) -> tuple[Process, int, str]:
    """A running `make run`, its port and its signing secret."""
    port, secret = free_port(), new_secret()
    running = start(
        "sandbox.run", PORT=str(port), SIGNING_SECRETS=secret, DATA=str(tmp_path / "data")
    )
    wait_for(lambda: any("svix listen" in line for line in running.lines), "the instructions")
    return running, port, secret


def test_run_prints_instructions_and_events_and_ends_cleanly_on_ctrl_c(
    start: Start, run: tuple[Process, int, str], tmp_path: Path
) -> None:
    running, port, secret = run
    assert any(f"svix listen http://localhost:{port}/webhook" in line for line in running.lines)
    assert any(str(tmp_path / "data") in line for line in running.lines)

    message = new_message({"_id": "67c861de20bb29fb40d2cbbd", "flow_id": "\x1b[31mred"})
    send(f"http://127.0.0.1:{port}/webhook", secret, message)

    stored = tmp_path / "data" / "items" / "67c861de20bb29fb40d2cbbd.json"
    wait_for(stored.exists, "the item in storage")
    wait_for(lambda: any("resolved" in line and "done" in line for line in running.lines))
    started = descendants(running)
    assert query(start, tmp_path, "SELECT item_id, flow_id FROM items") == [
        {"item_id": "67c861de20bb29fb40d2cbbd", "flow_id": "\x1b[31mred"}
    ]
    os.kill(running.pid, signal.SIGINT)
    assert running.wait() == 0
    assert running.lines[-1] == f"Stopped. Stored objects remain in {tmp_path / 'data'}"
    assert not any("Traceback" in line for line in running.lines)
    assert not any(map(psutil.pid_exists, started))
    assert is_free(port)


def test_backfill_stores_items_scanned_before_the_installation(
    start: Start, tmp_path: Path
) -> None:
    data = str(tmp_path / "data")
    running = start("sandbox.run", PORT=str(free_port()), DATA=data)
    wait_for((tmp_path / "data" / ".running.json").exists, "the stack")

    backfill = start("sandbox backfill", DATA=data, SINCE="2020-01-01")
    assert backfill.wait() == 0, "\n".join(backfill.lines)
    again = start("sandbox backfill", DATA=data, SINCE="2020-01-01")
    assert again.wait() == 0
    redrive = start("sandbox redrive", DATA=data)
    assert redrive.wait() == 0

    assert backfill.lines[-1] == "40 seen, 40 stored, 0 updated, 0 unchanged, 0 failed"
    assert again.lines[-1] == "40 seen, 0 stored, 0 updated, 40 unchanged, 0 failed"
    assert len(list((tmp_path / "data" / "items").iterdir())) == 40
    assert redrive.lines == ["0 dead letters."]
    wait_for(
        lambda: query(start, tmp_path, "SELECT COUNT(*) AS items FROM items") == [{"items": 40}],
        "the items in the view",
    )
    os.kill(running.pid, signal.SIGINT)
    assert running.wait() == 0
    assert not (tmp_path / "data" / ".running.json").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "SINCE is missing"),
        ({"SINCE": "yesterday"}, "SINCE=yesterday is not a date"),
        ({"SINCE": "2026-01-02", "UNTIL": "2026-01-01"}, "The window from SINCE=2026-01-02"),
        ({"SINCE": "2026-01-02"}, "No Dimmy API is configured"),
    ],
)
def test_a_backfill_that_cannot_begin_is_refused_in_one_line(
    start: Start, tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    refused = start("sandbox backfill", DATA=str(tmp_path), **settings)

    assert refused.wait() == 2
    (line,) = refused.lines
    assert line.startswith(message)


def test_a_redrive_without_a_running_stack_is_refused_in_one_line(
    start: Start, tmp_path: Path
) -> None:
    refused = start("sandbox redrive", DATA=str(tmp_path))

    assert refused.wait() == 2
    assert refused.lines == ["`make run` is not running: start it in another terminal first."]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A folder with the tables that a `make run` has left: two items, and one attempt."""
    warehouse = Warehouse(tmp_path / "data" / WAREHOUSE_FILE)
    warehouse.create()
    now = datetime(2026, 11, 26, 12, 0, 0, 500, tzinfo=UTC)
    messages = [
        describe(read_item(json.dumps(catalogue.VENDOR_EXAMPLE | {"_id": item_id}).encode()))
        for item_id in ("67c861de20bb29fb40d2cbbd", "67c861de20bb29fb40d2cbbe")
    ]
    warehouse.write(
        ITEM_VERSIONS, [as_row("s", "1", now, m.data(), m.attributes()) for m in messages]
    )
    entry = log_entry({"message": "event done", "event_id": "msg_1", "outcome": "done"})
    warehouse.write(EVENT_ATTEMPTS, [as_row("s", "1", now, json.dumps(entry).encode(), {})])
    return tmp_path


def query(start: Start, folder: Path, sql: str) -> list[dict[str, Any]]:
    """The lines of JSON that `make sql` prints."""
    asked = start("sandbox.sql", DATA=str(folder / "data"), QUERY=sql)
    assert asked.wait() == 0, asked.lines
    return [json.loads(line) for line in asked.lines]


def test_sql_prints_a_line_of_json_for_each_row(start: Start, filled: Path) -> None:
    found = query(
        start,
        filled,
        "SELECT item_id, barcode, width_mm, photo_count, published_at, DATE(started_at) AS day"
        " FROM `any.dataset.items` ORDER BY item_id DESC",
    )

    assert found[0] == {
        "item_id": "67c861de20bb29fb40d2cbbe",
        "barcode": "A0155C35",
        "width_mm": None,
        "photo_count": 1,
        "published_at": "2026-11-26T12:00:00.000500Z",
        "day": "2025-03-05",
    }
    assert [row["item_id"][-1] for row in found] == ["e", "d"]
    assert query(start, filled, "SELECT event_id, outcome FROM events") == [
        {"event_id": "msg_1", "outcome": "done"}
    ]


@pytest.mark.parametrize(
    ("sql", "answer"),
    [
        ("SELEC 1", "The SQL cannot be read: "),
        ("SELECT * FROM scans", "There is no table scans; there are items, events, "),
        ("DROP TABLE item_versions", "The sandbox answers one query at a time"),
        ("SELECT colour FROM items", "DuckDB does not accept the query: "),
    ],
)
def test_sql_that_cannot_be_answered_is_refused_in_one_line(
    start: Start, filled: Path, sql: str, answer: str
) -> None:
    refused = start("sandbox.sql", DATA=str(filled / "data"), QUERY=sql)

    assert refused.wait() == 2
    (line,) = refused.lines
    assert line.startswith(answer)


def test_sql_before_the_first_run_says_what_to_do(start: Start, tmp_path: Path) -> None:
    refused = start("sandbox.sql", DATA=str(tmp_path), QUERY="SELECT 1")

    assert refused.wait() == 2
    assert refused.lines == [
        f"{tmp_path / WAREHOUSE_FILE} does not exist yet: start `make run` first."
    ]


def test_run_reports_tables_that_it_cannot_open_in_one_line(start: Start, tmp_path: Path) -> None:
    (tmp_path / WAREHOUSE_FILE).write_text("not a database " * 1000)

    refused = start("sandbox.run", DATA=str(tmp_path), PORT=str(free_port()))

    assert refused.wait() == 2
    assert refused.lines[-1].startswith(f"{tmp_path / WAREHOUSE_FILE} cannot be opened: ")


def test_sql_without_a_query_shows_what_can_be_asked(start: Start, filled: Path) -> None:
    asked = start("sandbox.sql", DATA=str(filled / "data"))

    assert asked.wait() == 0
    output = "\n".join(asked.lines)
    for table in ("items", "events", "item_versions", "event_attempts"):
        assert f"  {table}  " in output
    examples = re.findall(r'make sql QUERY="(.*?)"', output, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        assert query(start, filled, example)


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (100, " 67c861de20bb29fb40d2cbbd   APIDocsFlow1   NULL       [red]\ufffd[31m"),
        (40, "item_id   67c861de20bb29fb40d2cbbd"),
    ],
    ids=["a table", "a block for each row"],
)
def test_sql_shows_a_table_on_a_terminal_or_blocks_where_it_would_be_too_wide(
    filled: Path, width: int, shown: str
) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=width, no_color=True)
    columns = "item_id, flow_id, weight_g, '[red]\\x1b[31m' AS text"

    warehouse = Warehouse(filled / "data" / WAREHOUSE_FILE)
    sql.show(console, warehouse.query(f"SELECT {columns} FROM items ORDER BY item_id"))

    printed = re.sub(r"\x1b\[[\d;]*m", "", output.getvalue())
    lines = [line.rstrip() for line in printed.split("\n")]
    assert shown in lines
    assert "2 rows" in lines


def printed_by_make(folder: Path, script: str, *arguments: str, **environment: str) -> str:
    """What make prints if a shell script takes the place of Python."""
    python = folder / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}")
    python.chmod(0o755)
    for name in (".operator", ".developer"):
        (folder / "venv" / name).touch()
    make = ["make", f"VENV={folder}/venv", *arguments]
    done = subprocess.run(
        make, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_make_passes_a_query_on_as_it_was_typed(tmp_path: Path) -> None:
    typed = """SELECT JSON_VALUE(data, '$.item_id') AS "$(id)" FROM `a.b.item_versions`  # $$"""

    printed = printed_by_make(tmp_path, 'printf %s "$QUERY"', "sql", f"QUERY={typed}")

    assert printed == typed


def test_make_passes_on_what_to_send_only_from_its_own_command_line(tmp_path: Path) -> None:
    script = 'printf %s "$ITEMS,$URL,$SECRET"'
    exported = {"URL": "https://example.com", "SECRET": "of something else"}

    assert printed_by_make(tmp_path, script, "send", "ITEMS=67c8", **exported) == "67c8,,"


def test_make_help_names_every_command() -> None:
    make = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)
    assert len(targets) > 5

    for target in targets:
        assert f"make {target} " in make.stdout


def test_make_names_the_python_version_it_needs(tmp_path: Path) -> None:
    make = subprocess.run(
        ["make", "demo", "PYTHON=", f"VENV={tmp_path}/venv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert make.returncode != 0
    assert "Python 3.11 or newer is needed" in make.stdout


def descendants(process: Process) -> set[int]:
    """The ids of all processes below one."""
    return {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
