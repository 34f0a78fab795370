"""Starts child processes on this machine, waits until they are ready, and stops them."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from operate.ports import is_free

# On Linux, `setpriv` makes the kernel send SIGTERM to the child if this process ends without
# stopping it (after SIGKILL, or when its terminal was closed).
_SETPRIV = shutil.which("setpriv")
_TERMINATE_WITH_PARENT = [_SETPRIV, "--pdeathsig", "TERM", "--"] if _SETPRIV else []

START_SECONDS = 60.0
STOP_SECONDS = 15.0


class StartError(Exception):
    """A process did not start; the text has the last lines that it printed."""


# A server binds its port some time after the port was chosen. Until then, a UDP socket of the same
# number keeps every other process from choosing it; the kernel closes it with this process.
_reservations: deque[socket.socket] = deque()
_MAX_RESERVATIONS = 256


def free_port() -> int:
    """An unused port on loopback, below the ephemeral ports that the kernel gives to clients.

    No other call returns it, in any process, while this one runs and until 256 calls later.
    """
    while True:
        port = random.randint(15_000, 32_000)
        if is_free(port) and _reserve(port):
            return port


def _reserve(port: int) -> bool:
    """Reserve the port, unless somebody else has."""
    reservation = socket.socket(type=socket.SOCK_DGRAM)
    try:
        reservation.bind(("127.0.0.1", port))
    except OSError:
        reservation.close()
        return False
    _reservations.append(reservation)
    if len(_reservations) > _MAX_RESERVATIONS:
        _reservations.popleft().close()
    return True


def peak_bytes(pid: int) -> int | None:
    """The peak of a process's resident memory since its start; None where it is not recorded."""
    status = Path(f"/proc/{pid}/status")  # only on Linux
    if not status.exists():
        return None
    (peak,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024


class Process:
    """A child process in its own process group. `on_line` gets each line that it prints.

    With `log_file` the child writes its output directly there, which costs this process no time.
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
                [*_TERMINATE_WITH_PARENT, *command],
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
        """The lines printed so far."""
        if self._log_file:
            return self._log_file.read_text(errors="replace").splitlines()
        return self._lines

    @property
    def pid(self) -> int:
        return self._popen.pid

    def wait_until(self, ready: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Return once `ready` returns true.

        Raises:
            StartError: the process ended first, or took too long.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if self._popen.poll() is not None:
                self._reader.join(STOP_SECONDS)
                raise StartError("\n".join(self.lines[-30:]) or "it ended without any output")
            if time.monotonic() > deadline:
                raise StartError(self._describe(f"not ready after {seconds:.0f} s"))
            time.sleep(0.02)

    def wait(self, seconds: float = START_SECONDS) -> int:
        """Wait until the process ends by itself; return its exit status.

        Raises:
            TimeoutError: it has not ended; the text has its last output.
        """
        try:
            status = self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(self._describe(f"still running after {seconds:.0f} s")) from None
        self._reader.join(STOP_SECONDS)
        return status

    def listens_on(self, port: int) -> bool:
        """Whether the process or a descendant of it accepts TCP connections on this port."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            return any(
                connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
                for each in [process, *process.children(recursive=True)]
                for connection in each.net_connections("tcp")
            )
        return False

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM to the process."""
        if self._popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def kill(self) -> None:
        """Send SIGKILL to the process group and wait for the end of the process."""
        self.send(signal.SIGKILL)
        self._popen.wait()
        self._reader.join(STOP_SECONDS)

    def stop(self) -> None:
        """Send SIGTERM, wait, then kill what is left of the process group."""
        if self._popen.poll() is None:
            self.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(STOP_SECONDS)
        self.kill()

    def _describe(self, problem: str) -> str:
        return "\n".join([problem, *self.lines[-30:]])

    def _read(self) -> None:
        if self._popen.stdout is None:
            return
        with self._popen.stdout as output:
            for line in output:
                self._lines.append(line.rstrip("\n"))
                self._on_line(self._lines[-1])
