"""Processes on loopback: started on a free port, watched until they answer, ended by their id."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from operate.ports import is_free

# On Linux the kernel ends a child when we end without having stopped it (a closed terminal, or
# SIGKILL).
_SETPRIV = shutil.which("setpriv")
_LEASH = [_SETPRIV, "--pdeathsig", "TERM", "--"] if _SETPRIV else []

START_SECONDS = 60.0
STOP_SECONDS = 15.0


class StartError(Exception):
    """A process did not come up; the text says what it printed last."""


def free_port() -> int:
    """A port on loopback that nobody uses, below those that the kernel lends to clients."""
    while True:
        port = random.randint(15_000, 32_000)
        if is_free(port):
            return port


class Process:
    """A child process in a group of its own; each line that it prints goes to `on_line`.

    With `log_file` its lines go there instead, without a reader that takes part of the time.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        on_line: Callable[[str], None] = lambda _: None,
        folder: Path | None = None,
        log_file: Path | None = None,
    ) -> None:
        self._lines: list[str] = []
        self._on_line = on_line
        self._log_file = log_file
        with contextlib.ExitStack() as cleanup:
            output = cleanup.enter_context(log_file.open("ab")) if log_file else subprocess.PIPE
            self._popen = subprocess.Popen(
                [*_LEASH, *command],
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def lines(self) -> list[str]:
        """What it has printed so far."""
        if self._log_file:
            return self._log_file.read_text(errors="replace").splitlines()
        return self._lines

    @property
    def pid(self) -> int:
        return self._popen.pid

    def wait_until(self, ready: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Return once `ready` says so.

        Raises:
            StartError: the process ended first, or took too long.
        """
        give_up = time.monotonic() + seconds
        while not ready():
            if self._popen.poll() is not None:
                self._reader.join(STOP_SECONDS)
                raise StartError("\n".join(self.lines[-30:]) or "ended without a word")
            if time.monotonic() > give_up:
                raise StartError(f"not up after {seconds:.0f} s\n" + "\n".join(self.lines[-30:]))
            time.sleep(0.02)

    def wait(self, seconds: float = START_SECONDS) -> int:
        """The exit status, once the process has ended by itself."""
        status = self._popen.wait(seconds)
        self._reader.join(STOP_SECONDS)
        return status

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and to those it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def terminate(self) -> None:
        """Ask the process to end."""
        if self._popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def kill(self) -> None:
        """End the process and its group at once, without a chance to clean up."""
        self.send(signal.SIGKILL)
        self._popen.wait()
        self._reader.join(STOP_SECONDS)

    def stop(self) -> None:
        """Ask the process to end, insist if need be, and leave none of its group behind."""
        if self._popen.poll() is None:
            self.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(STOP_SECONDS)
        self.kill()

    def _read(self) -> None:
        if self._popen.stdout is None:
            return
        with self._popen.stdout as output:
            for line in output:
                self._lines.append(line.rstrip("\n"))
                self._on_line(self._lines[-1])
