"""The processes that tests and commands start: their ports, their start and their end.

One of them: .venv/bin/pytest tests/stand_ins/test_processes.py -k chosen
"""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sandbox.background import Background
from sandbox.dimmy_api import DimmyApi
from sandbox.functions import Function
from sandbox.processes import Process, StartError, free_port
from support.commands import environment_of

_CHOOSE_AND_STAY = """
import signal
from sandbox.processes import free_port
print(free_port(), flush=True)
signal.pause()
"""


@contextmanager
def python(program: str) -> Iterator[Process]:
    """Another process that runs this program."""
    process = Process([sys.executable, "-c", program], environment_of({}))
    try:
        yield process
    finally:
        process.kill()


def test_a_port_is_chosen_once_until_the_process_that_chose_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with python(_CHOOSE_AND_STAY) as other:
        other.wait_until(lambda: bool(other.lines))
        chosen = int(other.lines[0])
        free = free_port()
        draw = random.randint
        draws = iter([chosen, free])
        monkeypatch.setattr(random, "randint", lambda *limits: next(draws, 0) or draw(*limits))

        assert free_port() not in {chosen, free}

    draws = iter([chosen])
    assert free_port() == chosen


def test_a_function_is_not_up_because_another_server_answers_on_its_port() -> None:
    with Background() as background:
        other = DimmyApi("any-key")
        background.run(other.start())
        port = int(other.url.rpartition(":")[2])
        function = Function("receive", {"SIGNING_SECRETS": "whsec_short"}, port=port)
        try:
            with pytest.raises(StartError, match="SIGNING_SECRETS"):
                function.wait_until_up()
        finally:
            function.stop()
            background.run(other.stop())


def test_a_command_that_does_not_end_is_described_by_what_it_printed() -> None:
    with python(_CHOOSE_AND_STAY) as endless:
        endless.wait_until(lambda: bool(endless.lines))
        with pytest.raises(TimeoutError, match=r"still running after 0 s\n\d+"):
            endless.wait(0.01)
