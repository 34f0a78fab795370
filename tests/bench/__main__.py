"""`make bench`: runs the sections and prints the tables and targets.

`python -m bench [--quick] [--only SECTION ...]` with `function`, `infra` and `tests` on PYTHONPATH.
A complete run without --quick replaces results.json and results.md in this folder.
"""

import argparse
import time
from pathlib import Path

from rich.console import Console

from bench import (
    cold_start,
    growth,
    receive,
    report,
    resolve,
    unsigned_requests,
    view,
    warehouse,
    whole_way,
)

SECTIONS = {
    "receive": receive.measure,
    "unsigned-requests": unsigned_requests.measure,
    "resolve": resolve.measure,
    "whole-way": whole_way.measure,
    "cold-start": cold_start.measure,
    "growth": growth.measure,
    "view": view.measure,
    "warehouse": warehouse.measure,
}


def main() -> None:
    """Measure, print, and write the results of a complete run."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--quick", action="store_true", help="shorter, without writing the results")
    parser.add_argument("--only", choices=SECTIONS, nargs="+", default=list(SECTIONS))
    chosen = parser.parse_args()
    console = Console(width=None if Console().is_terminal else 120)
    started = time.monotonic()
    sections: list[report.Section] = []
    with console.status("") as status:

        def say(what: str) -> None:
            line = f"{time.monotonic() - started:4.0f} s  {what}"
            if console.is_terminal:
                status.update(line)
            else:
                print(line, flush=True)

        for name in chosen.only:
            sections += SECTIONS[name](chosen.quick, say)
    for section in sections:
        report.show(console, section)
    report.show_targets(console, [target for s in sections for target in s.targets])
    console.print(f"{time.monotonic() - started:.0f} s in all.")
    if not chosen.quick and len(chosen.only) == len(SECTIONS):
        tried = (Path(__file__).parent / "tried.md").read_text()
        report.keep(sections, tried)
        console.print("Results: tests/bench/results.md and results.json.")


if __name__ == "__main__":
    main()
