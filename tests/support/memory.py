"""The memory that a function has taken."""

import pytest

from sandbox.functions import Function
from sandbox.processes import peak_bytes


def peak_mebibytes(function: Function) -> float:
    """The peak of resident memory of its largest process since its start, as the kernel says."""
    peaks = [peak_bytes(worker.pid) for worker in function.workers]
    if None in peaks:
        pytest.skip("the peak of a process's memory is read from /proc, which only Linux has")
    return max(peak for peak in peaks if peak is not None) / 1024**2
