"""`resolve` after errors that no rule foresees: a reason in the receipt, 503, and one traceback.

In this process, so that errors can be raised anywhere.

One of them: .venv/bin/pytest tests/resolve/test_unforeseen_errors.py -k items
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from pipeline import logs
from pipeline.resolve.resolver import Resolver
from pipeline.resolve.settings import read_resolve_settings
from pipeline.store.errors import StorageError
from pipeline.store.states import EVENT
from pipeline.store.store import Store
from sandbox import catalogue
from sandbox.background import Background
from sandbox.dimmy_api import DimmyApi
from support.dimmy_api import running_api
from support.resolving import envelope

RNG = random.Random()
PUT_ITEM = Store.put_item


class InProcess:
    """A `resolve` in this process, with its API, its storage folder and its log."""

    def __init__(self, api: DimmyApi, folder: Path) -> None:
        settings = {
            "STORAGE_URL": f"file://{folder}",
            "DIMMY_API_URL": api.url,
            "DIMMY_API_KEY": api.key,
        }
        self.api = api
        self.lines: list[str] = []
        self._folder = folder
        self._resolver = Resolver(read_resolve_settings(settings))

    def put_items(self, count: int) -> list[str]:
        return [self.api.put(catalogue.make_item(RNG)) for _ in range(count)]

    def deliver(self, content: object, delivery: int = 1) -> tuple[int, dict[str, Any]]:
        """Deliver the event; return the status and the receipt."""
        body = json.dumps(envelope(content, "msg_unforeseen", delivery=delivery)).encode()
        request = Request(EnvironBuilder(method="POST", data=body).get_environ())
        _, status = self._resolver.handle(request)
        return status, json.loads((self._folder / "events/msg_unforeseen.json").read_bytes())

    def tracebacks(self) -> list[dict[str, Any]]:
        """The log lines with a traceback since the last call."""
        logged = [json.loads(line) for line in self.lines]
        self.lines.clear()
        return [line for line in logged if "stack_trace" in line]


@pytest.fixture
def resolve(
    background: Background, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InProcess]:
    with running_api(background) as api:
        running = InProcess(api, tmp_path)
        monkeypatch.setattr(logs, "write_line", running.lines.append)
        yield running


def test_items_that_fail_in_an_unforeseen_way_have_it_as_their_state(
    resolve: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, *failing = resolve.put_items(6)

    def put_item(store: Store, item: Any, *arguments: Any, **options: Any) -> Any:
        if item.item_id in failing:
            raise LookupError(item.item_id)
        return PUT_ITEM(store, item, *arguments, **options)

    with monkeypatch.context() as sabotage:
        sabotage.setattr(Store, "put_item", put_item)
        status, receipt = resolve.deliver({"item_ids": [good, *failing]})

    assert (status, receipt["outcome"]) == (503, "partial")
    assert receipt["items"] == dict.fromkeys(failing, "internal error: LookupError") | {
        good: "stored"
    }
    (line,) = resolve.tracebacks()
    assert (line["severity"], line["event_id"]) == ("ERROR", "msg_unforeseen")
    assert line["item_id"] in failing
    assert f"LookupError: {line['item_id']}" in line["stack_trace"]

    status, receipt = resolve.deliver({"item_ids": [good, *failing]})

    assert (status, receipt["outcome"]) == (204, "done")


@pytest.mark.parametrize(
    "place",
    [
        "pipeline.resolve.resolver.recognise",
        "pipeline.resolve.resolver.Progress",
        "pipeline.resolve.fetching.wait",
    ],
)
def test_an_event_that_fails_in_an_unforeseen_way_has_it_in_its_receipt(
    resolve: InProcess, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    event = {"item_ids": resolve.put_items(2)}

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as sabotage:
        sabotage.setattr(place, fail)
        status, receipt = resolve.deliver(event)

    assert (status, receipt["outcome"]) == (503, "partial")
    assert receipt["items"].pop(EVENT) == "internal error: RuntimeError"
    (line,) = resolve.tracebacks()
    assert (line["severity"], line["outcome"]) == ("ERROR", "unavailable")
    assert (line["event_id"], line["reason_class"]) == ("msg_unforeseen", "internal")
    assert "RuntimeError: can't start new thread" in line["stack_trace"]

    status, receipt = resolve.deliver(event)

    assert (status, receipt["outcome"], receipt["payload"]) == (204, "done", event)
    assert set(receipt["items"]) == set(event["item_ids"])


def test_the_cause_is_logged_even_where_the_receipt_cannot_be_stored(
    resolve: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, _ = resolve.deliver({"item_ids": [missing := "0" * 24]})
    assert status == 503

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the cause")

    def refuse(*_: Any, **__: Any) -> None:
        raise StorageError("storage is down")

    monkeypatch.setattr("pipeline.resolve.fetching.wait", fail)
    monkeypatch.setattr(Store, "put_receipt", refuse)

    status, receipt = resolve.deliver({"item_ids": [missing]})

    assert (status, receipt["attempts"]) == (503, 1)
    assert any("storage is down" in line for line in resolve.lines)
    (line,) = resolve.tracebacks()
    assert "RuntimeError: the cause" in line["stack_trace"]


def test_an_event_without_items_that_fails_is_not_taken_for_done(
    resolve: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr("pipeline.resolve.fetching.ItemFetcher.fetch_all", fail)

    for attempts in (1, 2):
        status, receipt = resolve.deliver({"item_ids": []})
        assert (status, receipt["outcome"], receipt["attempts"]) == (503, "partial", attempts)


def test_an_unknown_event_that_failed_is_resolved_once_its_kind_is_known(
    resolve: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay of what an earlier version did not know, whose first attempt fails."""
    assert resolve.deliver({"of": "another kind"})[1]["outcome"] == "unrecognised"
    event = {"item_ids": resolve.put_items(2)}

    def fail(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as sabotage:
        sabotage.setattr("pipeline.resolve.resolver.recognise", fail)
        status, receipt = resolve.deliver(event, delivery=2)
    assert (status, receipt["outcome"]) == (503, "partial")

    status, receipt = resolve.deliver(event, delivery=2)

    assert (status, receipt["outcome"]) == (204, "done")
    assert set(receipt["items"]) == set(event["item_ids"])
