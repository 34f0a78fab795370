"""What the tests share: the pipeline, and Pub/Sub alone, on our own Pub/Sub and on Google's.

`-k own` and `-k google` choose one of the two. Each worker starts what its tests need once.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

from operating import Endpoint, Operator
from sandbox.background import Background
from sandbox.google_pubsub import find_emulator, start_emulator
from sandbox.pubsub import PubSub
from sandbox.pubsub_admin import PubSubAdmin, Pulled
from sandbox.secrecy import refuse_secrets
from sandbox.stack import SANDBOX_API_KEY, PubSubKind, Stack, start_stack

T = TypeVar("T")

WAIT_SECONDS = 45.0

# A shell that starts the tests in the background lets them ignore SIGINT, and every process that
# they start inherits that; tests that send SIGINT would wait in vain.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

NO_GOOGLE = pytest.mark.skipif(
    find_emulator() is None, reason="Google's Pub/Sub emulator is not installed (gcloud SDK, Java)"
)
# A group stays on one worker, so that each Pub/Sub, and above all Google's, is started once.
BOTH_PUBSUBS = [
    pytest.param("own", marks=pytest.mark.xdist_group("own")),
    pytest.param("google", marks=[pytest.mark.xdist_group("google"), NO_GOOGLE]),
]


def wait_for(condition: Callable[[], T | None], what: str = "the condition") -> T:
    """The first true value of `condition`; fails the test where none comes."""
    give_up = time.monotonic() + WAIT_SECONDS
    while not (value := condition()):
        assert time.monotonic() < give_up, f"{what} did not come true within {WAIT_SECONDS:.0f} s"
        time.sleep(0.01)
    return value


def early_second() -> int:
    """The unix time, in the first half of a second: what follows happens within that second."""
    wait_for(lambda: time.time() % 1 < 0.5)
    return int(time.time())


@pytest.fixture(scope="session", autouse=True)
def no_answer_holds_a_secret() -> Iterator[None]:
    """Whatever a test asks for over HTTP is searched for secrets, those that it sent among them."""
    send = requests.Session.send

    def searched(session: requests.Session, request: Any, **options: Any) -> requests.Response:
        answer = send(session, request, **options)
        if options.get("stream"):
            return answer  # of an API; it is for the functions to read
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


class Outlet:
    """A topic on our own Pub/Sub, and what is published to it."""

    def __init__(self, admin: PubSubAdmin) -> None:
        self._admin = admin
        self.host = admin.host
        self.topic = admin.create_topic("outlet")
        admin.create_subscription("outlet", "outlet")

    def taken_until(self, event_id: str) -> list[Pulled]:
        """Everything since the last look, up to an event that is known to come, without that."""
        found: list[Pulled] = []

        def has_come() -> bool:
            pulled = self._admin.pull("outlet")
            self._admin.acknowledge("outlet", pulled)
            found.extend(pulled)
            return any(p.attributes["svix-id"] == event_id for p in pulled)

        wait_for(has_come, f"the event {event_id}")
        return [p for p in found if p.attributes["svix-id"] != event_id]


class HaltingPubSub(PubSub):
    """Halts before it keeps a message, or after, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.halt_before = False
        self.halt_after = False
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    async def _publish(self, request: Any, context: Any) -> Any:
        if self.halt_before:
            self.reached.set()
            await self.go_on.wait()
        response = await super()._publish(request, context)
        if self.halt_after:
            self.reached.set()
            await self.go_on.wait()
        return response


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
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


@pytest.fixture
def endpoint() -> Iterator[Callable[..., Endpoint]]:
    started: list[Endpoint] = []

    def start(*answers: tuple[int, Any]) -> Endpoint:
        started.append(Endpoint(*answers))
        return started[-1]

    yield start
    for server in started:
        server.stop()
