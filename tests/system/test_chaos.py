"""A short run of `make chaos`: everything breaks, nothing is lost.

One of them: .venv/bin/pytest tests/system/test_chaos.py -k own
"""

import io

import pytest
from rich.console import Console

from sandbox.chaos import as_table, run_chaos
from sandbox.stack import PubSubKind
from support.programs import needs


@pytest.mark.parametrize("kind", ["own", pytest.param("google", marks=needs("pubsub-emulator"))])
def test_nothing_is_lost_while_everything_breaks(kind: PubSubKind) -> None:
    console = Console(file=io.StringIO(), width=120)

    report = run_chaos(kind, seed=7, events=50, console=console)

    console.print(as_table(report))
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert report.is_clean, said
    assert report.kills > 0, said
    assert report.refused_writes > 0, said
    assert report.repeated_writes == 0, said
    assert "nothing was lost" in said
