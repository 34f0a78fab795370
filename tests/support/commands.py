"""Runs the operators' commands on a sandbox, in this process or, as `make` does, in another one."""

import asyncio
import contextlib
import os
import pty
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Protocol

from rich.console import Console

from operate.google.deployment import ROOT
from operate.installation import Installation
from sandbox.installation import SandboxInstallation
from sandbox.processes import Process
from sandbox.secret_search import assert_no_secrets
from sandbox.stack import SANDBOX_API_KEY
from sandbox.svix_sender import Message, SvixSender
from support.waiting import wait_for

# Without the settings of the developer who runs the tests.
TERMINAL_ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TZ"}
}


def printed_by(
    command: Callable[[Installation, Mapping[str, str], Console], int],
    folder: Path,
    **settings: str,
) -> tuple[int, str]:
    """The exit status and the output of a command on the `make run` of a folder."""
    output = StringIO()
    console = Console(file=output, width=200)
    return command(SandboxInstallation({"DATA": str(folder)}), settings, console), output.getvalue()


class Start(Protocol):
    def __call__(self, command: str, **changes: str) -> Process: ...


@contextlib.contextmanager
def starting() -> Iterator[Start]:
    """A function that starts a module with its arguments, and these environment variables.

    At the end the processes are stopped, and what they printed is searched for secrets.
    """
    started: list[Process] = []

    def start(command: str, **changes: str) -> Process:
        process = Process(
            [sys.executable, "-m", *command.split()], environment_of(changes), folder=ROOT
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop()
    for process in started:
        assert_no_secrets("a command", process.lines, [SANDBOX_API_KEY])


class Terminal:
    """A command on a terminal of its own, wide enough for its lines."""

    def __init__(self, command: str, **changes: str) -> None:
        self.output = ""
        environment = environment_of({"TERM": "xterm-256color", "COLUMNS": "250"} | changes)
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            os.execve(sys.executable, [sys.executable, "-m", *command.split()], environment)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def close(self) -> int:
        """Wait for the end of the command, and kill one that does not end; its exit status."""
        try:
            wait_for(self._has_ended, "the end of the command")
        finally:
            if not self._has_ended():
                os.kill(self.pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._reader.join()
        os.close(self._terminal)
        assert_no_secrets("a command", [self.output], [SANDBOX_API_KEY])
        return status

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _read(self) -> None:
        # Linux reports the end of a terminal with an error, others with no bytes.
        with contextlib.suppress(OSError):
            while read := os.read(self._terminal, 4096):
                self.output += read.decode(errors="replace")


def environment_of(changes: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command, with these changes."""
    return {
        **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE")},
        **TERMINAL_ENVIRONMENT,
        "PYTHONPATH": f"{ROOT / 'function'}:{ROOT / 'infra'}:{ROOT / 'tests'}",
        **changes,
    }


def send(url: str, secret: str, message: Message) -> None:
    """Send an event once, as Svix does; it must be accepted."""

    async def once() -> None:
        async with SvixSender(url, secret) as sender:
            assert (await sender.attempt(message)).delivered

    asyncio.run(once())
