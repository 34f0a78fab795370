"""A running `reconcile`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.background import Background
from sandbox.dimmy_api import DimmyApi
from support.reconciling import RunningReconcile, start_reconcile


@pytest.fixture
def dimmy_api(background: Background) -> Iterator[DimmyApi]:
    api = DimmyApi("a-test-api-key")
    background.run(api.start())
    yield api
    background.run(api.stop())


@pytest.fixture
def reconcile(dimmy_api: DimmyApi, tmp_path: Path) -> Iterator[RunningReconcile]:
    function = start_reconcile(dimmy_api, tmp_path)
    yield RunningReconcile(function, dimmy_api, tmp_path)
    function.stop()
