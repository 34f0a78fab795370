"""Starts the processes of the benchmark: the servers on one core, the others on the other."""

import contextlib
import dataclasses
import itertools
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.load import Load, Result
from sandbox.background import Background
from sandbox.bigquery_rows import Tables
from sandbox.functions import SOURCE, Function
from sandbox.google_pubsub import find_emulator, start_emulator
from sandbox.processes import Process, free_port, peak_bytes
from sandbox.pubsub import PubSub
from sandbox.pubsub_admin import PubSubAdmin, topic_path
from sandbox.stack import new_secret

REFERENCES = Path(__file__).parent / "references"
TESTS = Path(__file__).parents[1]
TOPIC = "events"
KEY = "key-of-the-benchmark"

_CAN_PIN = hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1
SERVERS, OTHERS = 0, 1  # cores


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Run processes that are started within the context on this core, if the system allows it."""
    if not _CAN_PIN:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Bench:
    """A temporary folder, Pub/Sub, and the servers that a section of the benchmark starts.

    `tables` are what BigQuery subscriptions of the sandbox's own Pub/Sub write to.
    """

    def __init__(self, *, own_pubsub: bool = False, tables: Tables | None = None) -> None:
        self._own_pubsub = own_pubsub
        self._tables = tables

    def __enter__(self) -> Self:
        self._cleanup = contextlib.ExitStack()
        self.folder = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory()))
        self.secret = new_secret()
        self.api_url = ""
        self._numbers = itertools.count(1)
        with on_core(OTHERS):
            self.pubsub_host, self.pubsub_name = self._start_pubsub()
        self.admin = PubSubAdmin(self.pubsub_host)
        self._cleanup.callback(self.admin.close)
        self.admin.create_topic(TOPIC)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    def start_api(self, delay: float) -> None:
        """Start Dimmy's API. Functions that are started later use it."""
        port = free_port()
        self.api_url = f"http://127.0.0.1:{port}"
        with on_core(OTHERS):
            process = _python("bench.api", str(port), str(delay))
        self._cleanup.callback(process.stop)
        process.wait_until(lambda: self.api_calls() == 0)

    def api_calls(self) -> int | None:
        """The number of items requested so far; None while the API is not up."""
        try:
            with urllib.request.urlopen(f"{self.api_url}/calls", timeout=5) as response:
                return int(response.read())
        except OSError:
            return None

    def start_null_server(self) -> str:
        """Start a server that responds at once to everything; return its URL."""
        port = free_port()
        with on_core(SERVERS):
            process = _python("bench.load", "--null-server", str(port))
        self._cleanup.callback(process.stop)
        return f"http://127.0.0.1:{port}/"

    def start(self, target: str, source: Path = SOURCE, **settings: str) -> Function:
        """Start a function on the servers' core, without waiting for it. It logs to a file."""
        environment = {
            "SIGNING_SECRETS": self.secret,
            "EVENTS_TOPIC": topic_path(TOPIC),
            "PUBSUB_EMULATOR_HOST": self.pubsub_host,
            "STORAGE_URL": f"file://{self.folder / 'stored'}",
            "DIMMY_API_URL": self.api_url or "http://127.0.0.1:1",
            "DIMMY_API_KEY": KEY,
            "PYTHONPATH": str(SOURCE.parent),
        }
        log = self.folder / f"{target}-{next(self._numbers)}.log"
        with on_core(SERVERS):
            function = Function(target, environment | settings, source=source, log_file=log)
        self._cleanup.callback(function.stop)
        return function

    def _start_pubsub(self) -> tuple[str, str]:
        if find_emulator() and not self._own_pubsub:
            process, host = start_emulator()
            self._cleanup.callback(process.stop)
            return host, "Google's emulator"
        background = self._cleanup.enter_context(Background())
        server = PubSub(tables=self._tables)
        port = background.run(server.start())
        self._cleanup.callback(lambda: background.run(server.stop()))
        return f"127.0.0.1:{port}", "the sandbox's Pub/Sub"


def send(load: Load) -> Result:
    """Send a load from a separate process."""
    with on_core(OTHERS):
        done = subprocess.run(
            [sys.executable, "-m", "bench.load"],
            input=json.dumps(dataclasses.asdict(load)),
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(TESTS)},
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"the load generator failed:\n{done.stderr[-2000:]}")
    return Result(**json.loads(done.stdout))


def cpu_seconds(function: Function) -> float:
    """CPU time of the worker processes so far."""
    return sum(sum(worker.cpu_times()[:2]) for worker in function.workers)


def resident_megabytes(function: Function) -> float:
    """Resident memory of the worker processes."""
    return sum(worker.memory_info().rss for worker in function.workers) / 1e6


def peak_megabytes(function: Function) -> float:
    """Peak resident memory of the worker processes; the current one where it is not recorded."""
    return sum(peak_bytes(w.pid) or w.memory_info().rss for w in function.workers) / 1e6


def _python(module: str, *arguments: str) -> Process:
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    return Process([sys.executable, "-m", module, *arguments], environment)
