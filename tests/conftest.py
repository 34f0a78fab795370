"""Shared fixtures. Tests of Pub/Sub run on the sandbox's own Pub/Sub and on Google's emulator.

`-k own` and `-k google` select one of the two. Each pytest-xdist worker starts a server only once.
Those of `receive` use only the sandbox's own or, with PUBSUB=google, only the emulator.
"""

import contextlib
import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import requests

from sandbox.background import Background
from sandbox.dimmy_api import DimmyApi
from sandbox.google_pubsub import start_emulator
from sandbox.pubsub import PubSub
from sandbox.pubsub_admin import PubSubAdmin
from sandbox.secret_search import assert_no_secrets
from sandbox.stack import SANDBOX_API_KEY, PubSubKind, Stack, start_stack
from sandbox.warehouse import WAREHOUSE_FILE, Warehouse
from support.dimmy_api import running_api
from support.operator import Endpoint, Operator
from support.programs import GOOGLE_PROVIDER, skip_or_fail
from support.pubsub import BOTH_PUBSUBS, Topic

# Times are shown in the zone of the person who runs the commands.
os.environ["TZ"] = "UTC"
time.tzset()

# Without a deadline per example, because a slow machine would exceed it.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# A shell that starts the tests in the background makes them and their child processes ignore
# SIGINT. Tests that send SIGINT to a child process would then never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    skip_or_fail(item)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say that infra/ was checked with Google's provider; where it is not found, a skip says so."""
    passed = terminalreporter.stats.get("passed", [])
    if any("the_real_provider" in report.nodeid for report in passed):
        terminalreporter.write_line(f"{GOOGLE_PROVIDER} was found by terraform init, and used.")


def pytest_unconfigure() -> None:
    """Let the process end quietly.

    With Hypothesis' callback, the last garbage collection leaves objects of DuckDB, which then
    prints what it takes for leaks.
    """
    gc.callbacks.clear()


@pytest.fixture(scope="session", autouse=True)
def search_responses_for_secrets() -> Iterator[None]:
    """Search every HTTP response that a test gets for secrets, including those in its request."""
    send = requests.Session.send

    def checked_send(session: requests.Session, request: Any, **options: Any) -> requests.Response:
        response = send(session, request, **options)
        if options.get("stream"):
            return response  # of Dimmy's API; its client has yet to read the body
        signatures = str(request.headers.get("svix-signature", "")).split()
        api_key = str(request.headers.get("X-API-KEY", ""))
        texts = [response.text, str(response.headers)]
        assert_no_secrets(request.url, texts, [SANDBOX_API_KEY, *signatures, api_key])
        return response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests.Session, "send", checked_send)
        yield


@pytest.fixture(scope="session")
def background() -> Iterator[Background]:
    with Background() as running:
        yield running


@pytest.fixture(scope="module")
def api(background: Background) -> Iterator[DimmyApi]:
    """Dimmy's API, one for the tests of a module."""
    with running_api(background) as api:
        yield api


@pytest.fixture(scope="module")
def topic(background: Background) -> Iterator[Topic]:
    """A topic of the sandbox's Pub/Sub; with PUBSUB=google, of Google's emulator."""
    with contextlib.ExitStack() as cleanup:
        if os.environ.get("PUBSUB") == "google":
            emulator, host = start_emulator()
            cleanup.callback(emulator.stop)
        else:
            server = PubSub()
            host = f"127.0.0.1:{background.run(server.start())}"
            cleanup.callback(lambda: background.run(server.stop()))
        admin = PubSubAdmin(host)
        cleanup.callback(admin.close)
        yield Topic(admin)


@pytest.fixture(scope="session", params=BOTH_PUBSUBS)
def pubsub_kind(request: pytest.FixtureRequest) -> PubSubKind:
    kind: PubSubKind = request.param
    return kind


@pytest.fixture(scope="session")
def stack(pubsub_kind: PubSubKind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The complete pipeline, once on each Pub/Sub."""
    folder = tmp_path_factory.mktemp(pubsub_kind)
    with start_stack(folder, pubsub=pubsub_kind, warehouse=True) as running:
        yield running


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """The tables to which the BigQuery subscriptions of `pubsub` write."""
    warehouse = Warehouse(tmp_path_factory.mktemp("warehouse") / WAREHOUSE_FILE)
    warehouse.create()
    return warehouse


@pytest.fixture(scope="session")
def pubsub(
    pubsub_kind: PubSubKind, background: Background, warehouse: Warehouse
) -> Iterator[PubSubAdmin]:
    """A client of Pub/Sub without the pipeline, once for each Pub/Sub."""
    with contextlib.ExitStack() as cleanup:
        if pubsub_kind == "google":
            process, host = start_emulator()
            cleanup.callback(process.stop)
        else:
            server = PubSub(tables=warehouse)
            host = f"127.0.0.1:{background.run(server.start())}"
            cleanup.callback(lambda: background.run(server.stop()))
        admin = PubSubAdmin(host)
        cleanup.callback(admin.close)
        yield admin


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    operator = Operator(tmp_path)
    yield operator
    operator.stop()


@pytest.fixture
def endpoint() -> Iterator[Callable[..., Endpoint]]:
    """Starts HTTP servers with prepared answers."""
    started: list[Endpoint] = []

    def start(*answers: tuple[int, Any]) -> Endpoint:
        started.append(Endpoint(*answers))
        return started[-1]

    yield start
    for server in started:
        server.stop()
