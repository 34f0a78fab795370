"""`reconcile` with the largest items: bounded memory.

One of them: .venv/bin/pytest tests/reconcile/test_large_pages.py -k bounded
"""

import pytest

from support.memory import peak_mebibytes
from support.reconciling import RunningReconcile

pytestmark = pytest.mark.xdist_group("large")

DAY = {"start_date": "2026-01-05", "end_date": "2026-01-06"}
POINT = {"x": 0.123456, "y": 1.234567, "z": 0.004321}


# A deployed instance has 2048 MiB. Items as large as a response hold several times their size each.
@pytest.mark.parametrize(
    ("count", "size", "mebibytes"), [(14, 4_500_000, 400), (3, 28_000_000, 1100)]
)
def test_large_items_are_stored_and_compared_in_bounded_memory(
    reconcile: RunningReconcile, count: int, size: int, mebibytes: int
) -> None:
    for updated_at, counted_as in (("2026-01-05T08:00:00", "stored"), ("2026-01-05T09", "updated")):
        for number in range(count):
            times = {"created_at": f"2026-01-05T08:00:{number:02}", "updated_at": updated_at}
            rows = [POINT] * (size // 42)
            reconcile.api.put({"_id": f"{number:024x}", **times, "rows": rows})

        status, counts = reconcile.request(**DAY)

        assert (status, counts[counted_as]) == (200, count)
    assert peak_mebibytes(reconcile.function) < mebibytes
