"""The memory that a function has taken."""

import sys
from pathlib import Path

import pytest

from sandbox.functions import Function


def peak_mebibytes(function: Function) -> float:
    """The peak of resident memory of its largest process since its start, as the kernel says."""
    if sys.platform != "linux":
        pytest.skip("the peak of a process's memory is read from /proc, which only Linux has")
    return max(_peak(worker.pid) for worker in function.workers)


def _peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak) / 1024
