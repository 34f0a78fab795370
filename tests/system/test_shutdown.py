"""SIGTERM, 10 s before Cloud Run's SIGKILL: `receive` completes publishes, `resolve` stops early.

One of them: .venv/bin/pytest tests/system/test_shutdown.py -k receive
"""

import asyncio
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sandbox.background import Background
from sandbox.dimmy_api import DimmyApi
from sandbox.functions import Function
from sandbox.pubsub_admin import PubSubAdmin
from sandbox.stack import new_secret
from sandbox.svix_sender import Attempt, SvixSender, new_message
from support.pubsub import HaltingPubSub
from support.resolving import RunningResolve, start_resolve
from support.waiting import wait_for

VARIETY = random.Random()


def test_resolve_leaves_unfinished_items_to_the_next_delivery_and_names_them_in_the_receipt(
    background: Background, tmp_path: Path
) -> None:
    api = DimmyApi("the-key-of-the-tests")
    background.run(api.start())
    function = start_resolve(api, tmp_path, DIMMY_CONCURRENCY="2", DIMMY_TIMEOUT_SECONDS="8")
    resolving = RunningResolve(function, api, tmp_path)
    item_ids = [resolving.put_item() for _ in range(200)]
    api.latency = lambda: 0.1
    with ThreadPoolExecutor(1) as sender:
        delivery = sender.submit(resolving.deliver, {"item_ids": item_ids}, "msg_stopped")
        wait_for(lambda: len(api.requests) > 10, "the first items")
        function.process.terminate()
        status, receipt = delivery.result()
    assert function.process.wait() == 0
    background.run(api.stop())

    states = set(receipt["items"].values())
    assert (status, receipt["outcome"]) == (503, "partial")
    assert "stored" in states
    assert states <= {
        "stored",
        "not finished: the process was asked to stop",
        "not tried: the process was asked to stop",
    }
    assert set(receipt["items"]) == set(item_ids)


def test_receive_finishes_a_publish_that_has_begun(background: Background, tmp_path: Path) -> None:
    server, secret = HaltingPubSub(), new_secret()
    server.halt_before = True
    admin = PubSubAdmin(f"127.0.0.1:{background.run(server.start())}")
    topic = admin.create_topic("events")
    admin.create_subscription("events", "events")
    function = Function(
        "receive",
        {
            "SIGNING_SECRETS": secret,
            "EVENTS_TOPIC": topic,
            "STORAGE_URL": f"file://{tmp_path}",
            "PUBSUB_EMULATOR_HOST": admin.host,
        },
    )
    function.wait_until_up()
    message = new_message({"item_ids": []})

    async def stop_during_publish() -> Attempt:
        async with SvixSender(function.url, secret) as sender:
            delivery = asyncio.create_task(sender.attempt(message))
            await server.reached.wait()
            function.process.terminate()
            await asyncio.to_thread(wait_for, lambda: not accepts_connections(function.port))
            server.resume.set()
            return await delivery

    assert background.run(stop_during_publish()).status == 204
    assert function.process.wait() == 0
    (published,) = admin.pull("events")
    assert published.attributes["svix-id"] == message.message_id
    admin.close()
    background.run(server.stop())


def accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
