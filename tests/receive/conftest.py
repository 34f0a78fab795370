"""Running `receive`s, as deployed and in the process of the tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.background import Background
from sandbox.functions import Function
from support.clock import Clock
from support.pubsub import Topic
from support.receiving import InProcess, RunningReceive, Start, settings_of, start_receive


@pytest.fixture(scope="module", params=["process", "in process"])
def start(request: pytest.FixtureRequest, topic: Topic, background: Background) -> Iterator[Start]:
    """Start a `receive`, as deployed or in this process; stop all of them at the end."""
    running: list[Function | InProcess] = []
    lines: list[str] = []

    def start_one(storage: Path, **changes: str) -> RunningReceive:
        settings = settings_of(topic, storage) | changes
        if request.param == "process":
            running.append(start_receive(settings))
        else:
            running.append(InProcess(settings, background, lines))
        return RunningReceive(running[-1], topic)

    yield start_one
    for function in reversed(running):
        function.stop()


@pytest.fixture(scope="module")
def receive(start: Start, tmp_path_factory: pytest.TempPathFactory) -> RunningReceive:
    return start(tmp_path_factory.mktemp("receive"))


@pytest.fixture(scope="module")
def restricted(start: Start, tmp_path_factory: pytest.TempPathFactory) -> RunningReceive:
    """A `receive` that allows only Svix's US addresses."""
    return start(tmp_path_factory.mktemp("restricted"), ALLOWED_SOURCES="svix-us")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)
