"""A running `reconcile`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.background import Background
from sandbox.dimmy_api import DimmyApi
from support.dimmy_api import running_api
from support.reconciling import RunningReconcile, start_reconcile


@pytest.fixture
def dimmy_api(background: Background) -> Iterator[DimmyApi]:
    with running_api(background) as api:
        yield api


@pytest.fixture
def reconcile(dimmy_api: DimmyApi, tmp_path: Path) -> Iterator[RunningReconcile]:
    function = start_reconcile(dimmy_api, tmp_path)
    yield RunningReconcile(function, dimmy_api, tmp_path)
    function.stop()
