"""A short run of `make chaos`: every component fails, nothing is lost.

One of them: .venv/bin/pytest tests/system/test_chaos.py -k own
"""

import io

import pytest
from rich.console import Console

from sandbox.chaos import as_table, run_chaos
from sandbox.stack import PubSubKind
from support.programs import needs


@pytest.mark.parametrize("kind", ["own", pytest.param("google", marks=needs("pubsub-emulator"))])
def test_nothing_is_lost_while_every_component_fails(kind: PubSubKind) -> None:
    console = Console(file=io.StringIO(), width=120)

    report = run_chaos(kind, seed=7, events=50, console=console)

    console.print(as_table(report))
    assert isinstance(console.file, io.StringIO)
    output = console.file.getvalue()
    assert report.is_clean, output
    assert report.kills > 0, output
    assert report.refused_writes > 0, output
    assert report.lost_answers > 0, output
    assert report.reconciles > 0, output
    assert report.versions >= report.items, output
    assert report.photos > 0, output
    assert report.repeated_writes == 0, output
    assert "nothing was lost" in output
