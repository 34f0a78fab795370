"""`resolve` as a CloudEvent function, as Eventarc's Pub/Sub trigger calls it.

One of them: .venv/bin/pytest tests/resolve/test_cloud_events.py -k binary
"""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from sandbox import catalogue
from sandbox.dimmy_api import DimmyApi
from sandbox.functions import Function
from sandbox.processes import StartError
from sandbox.svix_sender import new_message_id
from support.resolving import RunningResolve, envelope, start_resolve

RNG = random.Random()
ATTRIBUTES = {
    "id": "1234567890",
    "source": "//pubsub.googleapis.com/projects/p/topics/t",
    "specversion": "1.0",
    "type": "google.cloud.pubsub.topic.v1.messagePublished",
}

pytestmark = pytest.mark.xdist_group("cloud-events")


@pytest.fixture(scope="module")
def resolve(api: DimmyApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningResolve]:
    folder = tmp_path_factory.mktemp("resolve")
    function = start_resolve(api, folder, signature_type="cloudevent")
    yield RunningResolve(function, api, folder)
    function.stop()


def send(resolve: RunningResolve, data: dict[str, Any], mode: str) -> requests.Response:
    """Send a CloudEvent in one of its modes over HTTP (https://github.com/cloudevents/spec)."""
    if mode == "binary":
        headers = {f"ce-{name}": value for name, value in ATTRIBUTES.items()}
        headers["Content-Type"] = "application/json"
        return requests.post(resolve.function.url, json=data, headers=headers, timeout=60)
    body = json.dumps({**ATTRIBUTES, "datacontenttype": "application/json", "data": data})
    headers = {"Content-Type": "application/cloudevents+json"}
    return requests.post(resolve.function.url, data=body, headers=headers, timeout=60)


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_the_event_of_a_cloud_event_is_resolved(resolve: RunningResolve, mode: str) -> None:
    item_ids, event_id = [resolve.put_item() for _ in range(3)], new_message_id()

    response = send(resolve, envelope({"item_ids": item_ids}, event_id, attempt=2), mode)

    receipt = resolve.receipt(event_id)
    assert response.status_code == 200
    assert (receipt["outcome"], receipt["attempts"]) == ("done", 2)
    for item_id in item_ids:
        assert resolve.read(f"items/{item_id}.json") == resolve.api.body_of(item_id)


def test_an_event_that_is_not_finished_is_delivered_again(resolve: RunningResolve) -> None:
    late, event_id = catalogue.make_item(RNG), new_message_id()
    event = {"item_ids": [late["_id"]]}

    response = send(resolve, envelope(event, event_id), "binary")

    assert response.status_code == 500
    assert resolve.receipt(event_id)["outcome"] == "partial"
    resolve.api.put(late)
    assert send(resolve, envelope(event, event_id, attempt=2), "binary").status_code == 200
    assert resolve.receipt(event_id)["outcome"] == "done"


def test_a_cloud_event_of_something_else_is_not_acknowledged(resolve: RunningResolve) -> None:
    assert send(resolve, {"kind": "storage#object"}, "binary").status_code == 500


@pytest.mark.parametrize("target", ["dimmy", "main"])
def test_a_wrong_target_names_the_functions(target: str) -> None:
    function = Function(target, {})
    try:
        with pytest.raises(StartError, match="receive, resolve, reconcile or archive"):
            function.wait_until_up()
    finally:
        function.stop()
