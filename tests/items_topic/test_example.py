"""The example of a receiving function keeps the newest version of each item.

One of them: .venv/bin/pytest tests/items_topic/test_example.py
"""

import base64
import json
import random
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import requests

from operate.google.deployment import INFRA
from pipeline.items_topic.item_message import describe
from pipeline.store.items import read_item
from sandbox import catalogue
from sandbox.functions import Function

SOURCE = INFRA / "examples" / "receiving_function" / "main.py"


def test_messages_in_any_order_and_repeated_leave_the_newest_version(tmp_path: Path) -> None:
    rng = random.Random(3)
    newest = {}
    messages: list[tuple[bytes, str]] = []

    def publish(item: catalogue.Item) -> None:
        # As Pub/Sub writes it: with 0, 3 or 6 digits of a second.
        digits = f"{500 * len(messages):06}"
        published_at = f"2026-11-01T08:00:00.{digits.removesuffix('000')}Z"
        messages.append((describe(read_item(json.dumps(item).encode())).data(), published_at))

    for _ in range(5):
        item = catalogue.make_item(rng)
        for number in range(4):
            item = catalogue.updated(item, flow_id=f"version {number}")
            publish(item)
        # The same time, but for microseconds, which Dimmy's database does not keep.
        publish(item | {"flow_id": "payload", "updated_at": f"{item['updated_at'][:23]}999"})
        newest[item["_id"]] = item | {"updated_at": item["updated_at"][:23], "flow_id": "answer"}
        publish(newest[item["_id"]])
    messages += rng.sample(messages, 10)
    rng.shuffle(messages)
    database = tmp_path / "items.sqlite"
    function = Function("receive_items", {"DATABASE": str(database)}, source=SOURCE)
    function.wait_until_up()

    def push(published: tuple[bytes, str]) -> int:
        data, time = published
        message = {"data": base64.b64encode(data).decode(), "messageId": "1", "publishTime": time}
        return requests.post(function.url, json={"message": message}, timeout=60).status_code

    try:
        with ThreadPoolExecutor(4) as senders:
            statuses = list(senders.map(push, messages))
    finally:
        function.stop()

    assert set(statuses) == {204}
    with closing(sqlite3.connect(database)) as stored:
        rows = stored.execute("SELECT item_id, item FROM items").fetchall()
    assert {item_id: json.loads(item) for item_id, item in rows} == newest
