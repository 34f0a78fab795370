"""The functions themselves, each in a process of its own under functions-framework, as deployed."""

import json
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from sandbox.processes import Process, free_port
from sandbox.secret_search import refuse_secrets

SOURCE = Path(__file__).resolve().parents[2] / "function" / "main.py"

# Nothing of the caller's own settings may reach a function of the sandbox.
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "COVERAGE", "REQUESTS_CA_BUNDLE")


class Function:
    """One running function. `on_log` gets its log lines, decoded, unless a file gets them."""

    def __init__(
        self,
        target: str,
        settings: Mapping[str, str],
        *,
        port: int | None = None,
        source: Path = SOURCE,
        python: str = sys.executable,
        log_file: Path | None = None,
        on_log: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self.target = target
        self.settings = dict(settings)
        self.port = port or free_port()
        self._on_log = on_log
        self._source = source
        self._python = python
        self._log_file = log_file
        self.start()

    def start(self) -> None:
        """Start it (again, where it was killed), on the same port."""
        passed_on = {k: v for k, v in os.environ.items() if k.startswith(_PASSED_ON)}
        command = ["functions_framework", "--host=127.0.0.1", f"--port={self.port}"]
        self.process = Process(
            [self._python, "-m", *command, f"--target={self.target}", f"--source={self._source}"],
            passed_on | {"PYTHONUNBUFFERED": "1"} | self.settings,
            self._read,
            log_file=self._log_file,
        )

    def kill(self) -> None:
        """SIGKILL for the server and its worker, in the middle of whatever they do."""
        self.process.kill()
        self._look_for_secrets()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def secrets(self) -> list[str]:
        """What it knows and must not tell."""
        signing = re.split(r"[\s,]+", self.settings.get("SIGNING_SECRETS", ""))
        return [*signing, self.settings.get("DIMMY_API_KEY", "")]

    @property
    def lines(self) -> list[str]:
        """Everything it has printed so far."""
        return self.process.lines

    def wait_until_up(self) -> None:
        """Return once it answers.

        Raises:
            StartError: it ended instead; the text holds what it said, such as its settings' faults.
        """
        self.process.wait_until(self._answers)

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes that answer; the server itself only starts and watches them."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def terminate(self) -> None:
        """Ask it to end."""
        self.process.terminate()

    def stop(self) -> None:
        self.process.stop()
        self._look_for_secrets()

    def _look_for_secrets(self) -> None:
        """Whatever a function is used for here, at any level of its log, it never prints a secret.

        Raises:
            SecretShownError: it has.
        """
        refuse_secrets(self.target, self.lines, self.secrets)

    def _answers(self) -> bool:
        try:
            # The framework answers this one by itself, so the function's log stays clean.
            urllib.request.urlopen(f"{self.url}robots.txt", timeout=5)
        except urllib.error.HTTPError as error:
            return error.code == 404
        except OSError:
            return False
        return True

    def _read(self, line: str) -> None:
        if decoded := _decode(line):
            self._on_log(decoded)


def _decode(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        decoded = json.loads(line)
    except ValueError:
        return None
    return decoded if isinstance(decoded, dict) else None
