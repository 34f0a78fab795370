"""Cold starts: the time from the start of a process to its first response."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench.load import Load
from bench.processes import REFERENCES, SERVERS, Bench, on_core, send
from bench.report import Section, Target
from sandbox.functions import SOURCE

_TARGETS = {"receive": 1.9, "resolve": 1.4, "reconcile": 1.4}
_CREDENTIALS = "google.auth, google.pubsub_v1.services.publisher.transports"
_FRAMEWORK = "the framework's empty function"


def measure(quick: bool, say: Callable[[str], None]) -> list[Section]:
    """Measure each entry point and the framework's empty function, alternately."""
    rounds = 3 if quick else 11
    alternatives = {
        _FRAMEWORK: ("empty", REFERENCES / "empty.py"),
        "the framework's empty async function": ("empty_async", REFERENCES / "empty_async.py"),
        **{target: (target, SOURCE) for target in _TARGETS},
        "as documented": ("documented", REFERENCES / "documented.py"),
    }
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    events: dict[str, list[float]] = {"receive": [], "as documented": []}
    say("cold starts")
    with Bench() as bench:
        for _ in range(rounds):
            for name, (target, source) in alternatives.items():
                seconds, with_event = _start(bench, target, source)
                times[name].append(seconds)
                if name in events:
                    events[name].append(with_event)
    google = [_seconds_of_import(_CREDENTIALS) for _ in range(rounds)]
    base = [_seconds_of_import("pipeline.receive.publisher") for _ in range(rounds)]
    section = Section(
        "Cold start",
        "The time from the start of the process until the server responds, and until the first"
        " signed event is confirmed. In Google Cloud the first event also imports the libraries for"
        " credentials (last row).",
        ("", "seconds", "relative to the empty function", "first event, s"),
    )
    for name, taken in times.items():
        first = median(events[name]) if name in events else float("nan")
        section.rows.append((name, median(taken), _ratio(times, name), first))
    extra = median(google) - median(base)
    section.rows.append(("(imports for credentials)", extra, float("nan"), float("nan")))
    section.targets = [
        Target(
            f"cold start of {name}, relative to the empty function",
            _ratio(times, name),
            bound,
            highest=True,
        )
        for name, bound in _TARGETS.items()
    ]
    return [section]


def _start(bench: Bench, target: str, source: Path) -> tuple[float, float]:
    """Seconds until any response, and until the first confirmed event."""
    started = time.perf_counter()
    function = bench.start(target, source)
    while not _answers(function.url):
        time.sleep(0.002)
    answered = time.perf_counter() - started
    if target in {"receive", "documented"}:
        before = time.perf_counter()
        result = send(Load(f"{function.url}webhook", bench.secret, 0.01, rate=100))
        generator = time.perf_counter() - before - result.p50
        confirmed = time.perf_counter() - started - generator
    else:
        confirmed = float("nan")
    function.kill()
    return answered, confirmed


def _ratio(times: dict[str, list[float]], name: str) -> float:
    return median(a / b for a, b in zip(times[name], times[_FRAMEWORK], strict=True))


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}robots.txt", timeout=5)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _seconds_of_import(module: str) -> float:
    environment = os.environ | {"PYTHONPATH": str(SOURCE.parent)}
    imports = f"import functions_framework.aio, pipeline.receive.receiver, {module}"
    with on_core(SERVERS):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", imports],
            env=environment,
            check=True,
        )
        return time.perf_counter() - started
