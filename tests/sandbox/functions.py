"""Runs the functions, each in its own process under functions-framework, as deployed."""

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
from sandbox.proxies import without_loopback
from sandbox.secret_search import assert_no_secrets

SOURCE = Path(__file__).resolve().parents[2] / "function" / "main.py"

# The other variables of the caller, which include its own settings, must not reach the function.
_INHERITED_VARIABLES = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "VIRTUAL_ENV",
    "COVERAGE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
)


class Function:
    """A running function. `on_log` gets its decoded log lines, unless `log_file` is set."""

    def __init__(
        self,
        target: str,
        settings: Mapping[str, str],
        *,
        port: int | None = None,
        source: Path = SOURCE,
        signature_type: str = "http",
        python: str = sys.executable,
        log_file: Path | None = None,
        on_log: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self.target = target
        self.settings = dict(settings)
        self.port = port or free_port()
        self._on_log = on_log
        self._source = source
        self._signature_type = signature_type
        self._python = python
        self._log_file = log_file
        self.start()

    def start(self) -> None:
        """Start it, or restart it on the same port after `kill`."""
        inherited = {k: v for k, v in os.environ.items() if k.startswith(_INHERITED_VARIABLES)}
        inherited |= without_loopback(os.environ)
        command = [self._python, "-m", "functions_framework"]
        options = {
            "host": "127.0.0.1",
            "port": self.port,
            "target": self.target,
            "source": self._source,
        }
        if self._signature_type != "http":
            options["signature-type"] = self._signature_type
        self.process = Process(
            [*command, *(f"--{name}={value}" for name, value in options.items())],
            inherited | {"PYTHONUNBUFFERED": "1"} | self.settings,
            self._read,
            log_file=self._log_file,
        )

    def kill(self) -> None:
        """Send SIGKILL to the server and its worker."""
        self.process.kill()
        self._check_output_for_secrets()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def secrets(self) -> list[str]:
        """The secrets in its settings, which it must not print."""
        signing = re.split(r"[\s,]+", self.settings.get("SIGNING_SECRETS", ""))
        return [*signing, self.settings.get("DIMMY_API_KEY", "")]

    @property
    def lines(self) -> list[str]:
        """The lines printed so far."""
        return self.process.lines

    def wait_until_up(self) -> None:
        """Return once it answers requests; another server on its port does not count.

        Raises:
            StartError: it ended or took too long; the text has its last output, such as the
                problems of its settings.
        """
        self.process.wait_until(lambda: self._answers() and self.process.listens_on(self.port))

    @property
    def workers(self) -> list[psutil.Process]:
        """The worker processes, which answer requests. The server only starts and monitors them."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def terminate(self) -> None:
        """Send SIGTERM without waiting for the end."""
        self.process.terminate()

    def stop(self) -> None:
        self.process.stop()
        self._check_output_for_secrets()

    def _check_output_for_secrets(self) -> None:
        """Check that the function has never printed a secret, at any log level.

        Raises:
            SecretLeakError: it has printed one.
        """
        assert_no_secrets(self.target, self.lines, self.secrets)

    def _answers(self) -> bool:
        try:
            # The framework answers this request itself, so the function logs none.
            urllib.request.urlopen(f"{self.url}robots.txt", timeout=5)
        except urllib.error.HTTPError as error:
            return error.code in {404, 405}  # 405: only CloudEvents are accepted
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
