"""Fixtures of all tests: the pipeline, and Pub/Sub alone, on our own Pub/Sub and on Google's.

`-k own` and `-k google` choose one of the two. Each worker starts what its tests need once.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import requests

from sandbox.background import Background
from sandbox.google_pubsub import start_emulator
from sandbox.pubsub import PubSub
from sandbox.pubsub_admin import PubSubAdmin
from sandbox.secret_search import refuse_secrets
from sandbox.stack import SANDBOX_API_KEY, PubSubKind, Stack, start_stack
from support.operator import Endpoint, Operator
from support.programs import skip_or_fail
from support.pubsub import BOTH_PUBSUBS, Outlet

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# A shell that starts the tests in the background lets them ignore SIGINT, and every process that
# they start inherits that; tests that send SIGINT would wait in vain.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    skip_or_fail(item)


@pytest.fixture(scope="session", autouse=True)
def no_answer_holds_a_secret() -> Iterator[None]:
    """Every HTTP answer that a test gets is searched for secrets, including those that it sent."""
    send = requests.Session.send

    def searched(session: requests.Session, request: Any, **options: Any) -> requests.Response:
        answer = send(session, request, **options)
        if options.get("stream"):
            return answer  # of an API, in which the functions themselves look
        sent = [str(request.headers.get(name, "")) for name in ("svix-signature", "X-API-KEY")]
        texts = [answer.text, str(answer.headers)]
        refuse_secrets(request.url, texts, [SANDBOX_API_KEY, *sent[0].split(), sent[1]])
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests.Session, "send", searched)
        yield


@pytest.fixture(scope="session")
def background() -> Iterator[Background]:
    with Background() as running:
        yield running


@pytest.fixture(scope="module")
def outlet(background: Background) -> Iterator[Outlet]:
    server = PubSub()
    admin = PubSubAdmin(f"127.0.0.1:{background.run(server.start())}")
    yield Outlet(admin)
    admin.close()
    background.run(server.stop())


@pytest.fixture(scope="session", params=BOTH_PUBSUBS)
def pubsub_kind(request: pytest.FixtureRequest) -> PubSubKind:
    kind: PubSubKind = request.param
    return kind


@pytest.fixture(scope="session")
def stack(pubsub_kind: PubSubKind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole pipeline, once on each Pub/Sub."""
    with start_stack(tmp_path_factory.mktemp(pubsub_kind), pubsub=pubsub_kind) as running:
        yield running


@pytest.fixture(scope="session")
def pubsub(pubsub_kind: PubSubKind, background: Background) -> Iterator[PubSubAdmin]:
    """Pub/Sub alone, once of each kind."""
    with contextlib.ExitStack() as cleanup:
        if pubsub_kind == "google":
            process, host = start_emulator()
            cleanup.callback(process.stop)
        else:
            server = PubSub()
            host = f"127.0.0.1:{background.run(server.start())}"
            cleanup.callback(lambda: background.run(server.stop()))
        admin = PubSubAdmin(host)
        cleanup.callback(admin.close)
        yield admin


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    person = Operator(tmp_path)
    yield person
    person.stop()


@pytest.fixture
def endpoint() -> Iterator[Callable[..., Endpoint]]:
    """Starts HTTP servers that give prepared answers."""
    started: list[Endpoint] = []

    def start(*answers: tuple[int, Any]) -> Endpoint:
        started.append(Endpoint(*answers))
        return started[-1]

    yield start
    for server in started:
        server.stop()
