"""`make backfill SINCE=2026-11-01 [UNTIL=...]`: what Dimmy has of a window goes into storage.

It runs the deployed `reconcile` on the data of `make run`. Exit status 0 when the window is done;
1 when it is not (asking again goes on where storage has got to); 2 when it could not begin.
"""

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import requests
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from operate.backfill import COUNTS
from operate.console import UsageError, open_console, say_error
from operate.window import read_window
from sandbox.environment import Api, data_folder, read_settings, real_api, running_stack
from sandbox.functions import Function
from sandbox.processes import StartError
from sandbox.stack import SANDBOX_API_KEY


def main() -> int:
    console = open_console()
    settings = read_settings()
    folder = data_folder(settings)
    try:
        start, end = read_window(settings)
        api = _api(settings)
        folder.mkdir(parents=True, exist_ok=True)
        status, answer = _reconcile(settings, api, start, end)
    except (UsageError, StartError) as error:
        say_error(console, error)
        return 2
    counts = ", ".join(f"{answer.get(name, 0)} {name}" for name in COUNTS)
    console.print(f"{counts}. Items: {folder}/items/", markup=False, soft_wrap=True)
    if status != 200:
        say_error(console, answer.get("message"))
        return 1
    return 0


def _api(settings: Mapping[str, str]) -> Api:
    if api := real_api(settings):
        return api
    stack = running_stack(data_folder(settings))
    if stack and stack.sandbox_api:
        return Api(stack.sandbox_api, SANDBOX_API_KEY)
    raise UsageError(
        "There is no Dimmy to ask: set DIMMY_API_KEY in .env for the real one, or start `make run`"
        " in another terminal for the sandbox's."
    )


def _reconcile(
    settings: Mapping[str, str], api: Api, start: datetime, end: datetime
) -> tuple[int, dict[str, Any]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[seen]} seen"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=open_console()) as progress:
        window = (end - start).total_seconds()
        bar = progress.add_task(f"{start:%F} to {end:%F}", total=window, seen=0)

        def show(line: dict[str, Any]) -> None:
            if line.get("reached"):
                reached = datetime.fromisoformat(line["reached"])
                progress.update(bar, completed=(reached - start).total_seconds())
            if "seen" in line:
                progress.update(bar, seen=line["seen"])

        function = Function(
            "reconcile",
            {
                "STORAGE_URL": f"file://{data_folder(settings)}",
                "DIMMY_API_URL": api.url,
                "DIMMY_API_KEY": api.key,
                "ATTEMPT_SECONDS": "1790",
            },
            on_log=show,
        )
        try:
            function.wait_until_up()
            response = requests.post(
                function.url,
                params={"start_date": start.isoformat(), "end_date": end.isoformat()},
                timeout=1800,
            )
        finally:
            function.stop()
        if response.status_code == 200:
            progress.update(bar, completed=window)
    return response.status_code, response.json()


if __name__ == "__main__":
    sys.exit(main())
