"""`make status`: what is deployed, whether it works, what waits, and which command helps.

Exit status 0 when all is well, 1 when something needs a person.
"""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from operate.diagnosis.findings import findings
from operate.installation import Installation


def run(installation: Installation, _: Mapping[str, str], console: Console) -> int:
    """Print the status; return the exit status."""
    shown = list(findings(installation))
    table = Table(show_header=False, box=None, pad_edge=False)
    for finding in shown:
        style = "red" if finding.remedy else None
        # As they are: an error may have brackets, which rich would take for markup.
        cells = (Text(cell) for cell in (finding.name, finding.value, finding.remedy))
        table.add_row(*cells, style=style)
    console.print(table)
    return 1 if any(finding.remedy for finding in shown) else 0
