"""What a run found: tables of numbers, and targets that hold or do not."""

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).parent
_LIBRARIES = (
    "functions-framework uvicorn starlette uvloop httptools gunicorn flask standardwebhooks svix"
    " grpcio google-cloud-pubsub requests urllib3 obstore"
)


@dataclass(frozen=True)
class Target:
    """One comparison. `bound` is what is asked for; `highest` says on which side of it to be."""

    what: str
    measured: float
    bound: float
    unit: str = "x"
    highest: bool = False  # the bound is the highest that is allowed, not the least

    @property
    def holds(self) -> bool:
        return self.measured <= self.bound if self.highest else self.measured >= self.bound


@dataclass
class Section:
    """One table with its title, a remark on how it was measured, and its targets."""

    title: str
    remark: str
    columns: Sequence[str]
    rows: list[Sequence[str | float]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES.split()},
    }


def show(console: Console, section: Section) -> None:
    """Print one section."""
    table = Table(title=section.title, title_justify="left", caption=section.remark)
    table.caption_justify = "left"
    for number, column in enumerate(section.columns):
        table.add_column(column, justify="right" if number else "left")
    for row in section.rows:
        table.add_row(*map(_shown, row))
    console.print(table)


def show_targets(console: Console, targets: Sequence[Target]) -> None:
    """Print the last table: each target beside what was measured."""
    table = Table(title="Targets (ratios within this run)", title_justify="left")
    for number, column in enumerate(("", "measured", "target", "")):
        table.add_column(column, justify="right" if number else "left")
    for target in targets:
        verdict = "[green]holds[/]" if target.holds else "[yellow]missed[/]"
        table.add_row(target.what, *_measured_and_bound(target), verdict)
    console.print(table)


def keep(sections: Sequence[Section], what_was_tried: str) -> None:
    """Write results.json for machines and results.md for people."""
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "sections": [
            {
                "title": section.title,
                "rows": [dict(zip(section.columns, row, strict=True)) for row in section.rows],
            }
            for section in sections
        ],
        "targets": [
            vars(target) | {"holds": target.holds} for s in sections for target in s.targets
        ],
    }
    (FOLDER / "results.json").write_text(json.dumps(_finite(found), indent=1) + "\n")
    (FOLDER / "results.md").write_text(_as_markdown(found, sections, what_was_tried))


def _as_markdown(found: dict[str, Any], sections: Sequence[Section], what_was_tried: str) -> str:
    about = found["machine"]
    lines = [
        f"# Results of {found['date']}",
        "",
        "Written by `make bench`; the ratios are what to compare, the numbers are this machine's.",
        "",
        f"{about['processor']}, {about['cores']} cores, {about['memory_gb']} GB,",
        f"{about['system']}, Python {about['python']};",
        ", ".join(f"{name} {number}" for name, number in about["libraries"].items()) + ".",
        "",
        "## Targets",
        "",
        *_markdown_table(
            ("", "measured", "target", ""),
            [
                (t.what, *_measured_and_bound(t), "holds" if t.holds else "**missed**")
                for section in sections
                for t in section.targets
            ],
        ),
    ]
    for section in sections:
        lines += ["", f"## {section.title}", "", section.remark, ""]
        lines += _markdown_table(section.columns, section.rows)
    return "\n".join([*lines, "", what_was_tried.strip(), ""])


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str | float]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    ruler = [":--"] + ["--:"] * (len(columns) - 1)
    return [line(columns), line(ruler), *(line([_shown(cell) for cell in row]) for row in rows)]


def _measured_and_bound(target: Target) -> tuple[str, str]:
    sign = "at most" if target.highest else "at least"
    return f"{_shown(target.measured)} {target.unit}", f"{sign} {target.bound:g} {target.unit}"


def _shown(cell: str | float) -> str:
    if isinstance(cell, str):
        return cell
    if math.isnan(cell):
        return "-"
    if cell == 0 or abs(cell) >= 100:
        return f"{cell:,.0f}"
    return f"{cell:.3g}"


def _finite(value: Any) -> Any:
    """The value with null for what is not a number, as JSON has it."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
