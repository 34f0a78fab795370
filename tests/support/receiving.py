"""Starts `receive`, posts signed webhooks to it, and collects what it publishes."""

import gc
import sys
from pathlib import Path
from typing import Protocol

import pytest
import requests
import uvicorn
from functions_framework.aio import create_asgi_app

from sandbox.background import Background
from sandbox.functions import SOURCE, Function
from sandbox.processes import free_port
from sandbox.pubsub_admin import PulledMessage
from sandbox.stack import new_secret
from sandbox.svix_sender import Message, SvixSender, new_message
from support.pubsub import Topic
from support.waiting import wait_for

OLD_SECRET, NEW_SECRET = new_secret(), new_secret()


class RunningReceive:
    """A running `receive`, and what it has published."""

    def __init__(
        self,
        function: "Function | InProcess",
        topic: Topic,
    ) -> None:
        self.url = f"{function.url}webhook"
        self.port = function.port
        self.function = function
        self._topic = topic
        self.sender = SvixSender(self.url, OLD_SECRET, NEW_SECRET)

    def post(self, message: Message, **headers: str) -> requests.Response:
        signed = self.sender.sign(message) | headers
        return requests.post(self.url, data=message.body, headers=signed, timeout=15)

    def wait_for_line(self, *words: str) -> None:
        """Wait until it has logged a line that contains all of these words."""

        def logged() -> bool:
            return any(all(word in line for word in words) for line in self.function.lines)

        wait_for(logged, f"a log line with {words}")

    def published_of(self, message: Message) -> list[PulledMessage]:
        """The Pub/Sub messages published for this event since the last call."""
        return [p for p in self.published() if p.attributes["svix-id"] == message.message_id]

    def published(self) -> list[PulledMessage]:
        """Everything published since the last call; a sentinel event marks the end."""
        sentinel = new_message(b"sentinel")
        assert self.post(sentinel).status_code == 204
        return self._topic.published_until(sentinel.message_id)


class InProcess:
    """The framework's app in this process, on the same server, so that coverage measures it.

    The deployed server stops its workers with a signal that leaves coverage no time to write.
    """

    def __init__(self, settings: dict[str, str], background: Background, lines: list[str]) -> None:
        """Log to `lines`. All that run in this process share one log; stop the last one first."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.lines = lines
        self._background = background
        thresholds = gc.get_threshold()
        with pytest.MonkeyPatch.context() as environment:
            for name, value in settings.items():
                environment.setenv(name, value)
            environment.setenv("FUNCTION_TARGET", "receive")
            environment.setenv("FORWARDED_ALLOW_IPS", "")
            app = create_asgi_app("receive", str(SOURCE))  # type: ignore[no-untyped-call]
        # main.py tunes the garbage collector for a process of its own. Undo that here: frozen
        # objects are never freed, and libraries report them as leaks when the tests end.
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        self._logs = pytest.MonkeyPatch()
        self._logs.setattr(sys.modules["pipeline.logs"], "write_line", self.lines.append)
        self._server = uvicorn.Server(
            uvicorn.Config(app, port=self.port, log_config=None, forwarded_allow_ips="")
        )
        self._serving = background.start(self._server.serve())
        wait_for(lambda: self._server.started, "the server")

    def stop(self) -> None:
        self._server.should_exit = True
        self._serving.result()
        self._logs.undo()


def settings_of(topic: Topic, storage: Path) -> dict[str, str]:
    """The settings of a `receive` that publishes to this topic."""
    return {
        "SIGNING_SECRETS": f"{OLD_SECRET},{NEW_SECRET}",
        "EVENTS_TOPIC": topic.path,
        "STORAGE_URL": f"file://{storage}",
        "PUBSUB_EMULATOR_HOST": topic.host,
    }


def start_receive(settings: dict[str, str]) -> Function:
    """Start `receive` as deployed, and wait until it answers."""
    function = Function("receive", settings)
    function.wait_until_up()
    return function


class Start(Protocol):
    def __call__(self, storage: Path, **changes: str) -> RunningReceive: ...


def assert_refused(response: requests.Response, status: int, code: str) -> str:
    """Check a refusal; return its message."""
    assert response.status_code == status, response.text
    refusal = response.json()
    assert refusal["error"] == code
    assert OLD_SECRET not in response.text
    assert NEW_SECRET not in response.text
    return str(refusal["message"])
