"""Storage, on a folder and on a bucket: whatever the order and number of writers, the newest stays.

One of them: .venv/bin/pytest tests/store/test_store.py -k "interleaving and bucket"
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Protocol

import pytest

from pipeline.store.errors import StorageError
from pipeline.store.items import Item, read_item
from pipeline.store.receipts import Receipt
from pipeline.store.settings import StorageSettings
from pipeline.store.store import Store, WriteResult
from sandbox.background import Background
from sandbox.cloud_storage import CloudStorage


class Place(Protocol):
    """A store, and a look at what really lies there."""

    store: Store

    def read(self, name: str) -> bytes | None: ...
    def write(self, name: str, content: bytes) -> None: ...


class Folder:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.store = Store(StorageSettings(f"file://{path}"))

    def read(self, name: str) -> bytes | None:
        path = self._path / name
        return path.read_bytes() if path.exists() else None

    def write(self, name: str, content: bytes) -> None:
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


class Bucket:
    def __init__(self, server: CloudStorage, prefix: str) -> None:
        self.server = server
        self._prefix = f"scans/{prefix}"
        self.store = Store(StorageSettings(f"gs://scans/{prefix}", server.url))

    def read(self, name: str) -> bytes | None:
        stored = self.server.objects.get(f"{self._prefix}/{name}")
        return stored.content if stored else None

    def write(self, name: str, content: bytes) -> None:
        self.server.place(f"{self._prefix}/{name}", content)


@pytest.fixture(scope="module")
def cloud_storage(background: Background) -> Iterator[CloudStorage]:
    server = CloudStorage()
    background.run(server.start())
    yield server
    background.run(server.stop())


@pytest.fixture
def bucket(cloud_storage: CloudStorage, tmp_path: Path) -> Bucket:
    return Bucket(cloud_storage, tmp_path.name)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, bucket: Bucket, tmp_path: Path) -> Place:
    return bucket if request.param == "bucket" else Folder(tmp_path / "new")


def item(second: int, note: str = "") -> Item:
    updated_at = f"2026-11-01T08:00:{second:02}"
    return read_item(json.dumps({"_id": "i1", "updated_at": updated_at, "note": note}).encode())


def receipt(
    attempt: int = 1, received_at: str = "2026-11-01T08:00:00.000000Z", **items: str
) -> Receipt:
    return Receipt("msg_1", "items.scanned", received_at, attempt, items, b'{"item_ids": []}')


def test_an_item_is_created_replaced_by_a_newer_one_and_never_by_an_older(place: Place) -> None:
    assert place.store.put_item(item(2)) is WriteResult.CREATED
    assert place.read("items/i1.json") == item(2).line
    assert place.store.put_item(item(3)) is WriteResult.REPLACED
    assert place.store.put_item(item(1)) is WriteResult.UNCHANGED
    assert place.store.put_item(item(3, "tie")) is WriteResult.UNCHANGED
    assert place.read("items/i1.json") == item(3).line


def test_equal_content_is_not_written_again(bucket: Bucket) -> None:
    bucket.store.put_item(item(2))
    writes = bucket.server.writes

    assert bucket.store.put_item(item(2)) is WriteResult.UNCHANGED
    assert bucket.server.writes == writes


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_whatever_the_interleaving_of_writers_the_newest_stays(
    place: Place, order: tuple[int, ...]
) -> None:
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(lambda second: place.store.put_item(item(second)), order * 3))

    assert place.read("items/i1.json") == item(3).line


def test_what_is_no_item_is_replaced_by_one(place: Place) -> None:
    place.write("items/i1.json", b"put here by hand")

    assert place.store.put_item(item(1)) is WriteResult.REPLACED
    assert place.read("items/i1.json") == item(1).line


def test_a_receipt_is_joined_with_what_earlier_attempts_stored(place: Place) -> None:
    place.store.put_receipt(receipt(1, a="stored", b="404: Item not found"))

    joined = place.store.put_receipt(receipt(2, b="stored", a="timeout"))

    assert joined.items == {"a": "stored", "b": "stored"}
    assert (joined.attempts, joined.outcome) == (2, "done")
    assert place.store.get_receipt("msg_1") == Receipt.read(joined.line())
    assert json.loads(place.read("events/msg_1.json") or b"")["payload"] == {"item_ids": []}


def test_a_resend_starts_its_receipt_anew_but_goes_on_counting(place: Place) -> None:
    place.store.put_receipt(receipt(1, a="stored"))

    joined = place.store.put_receipt(receipt(1, "2026-11-02T08:00:00.000000Z", a="timeout"))

    assert (joined.attempts, joined.outcome, joined.items) == (2, "partial", {"a": "timeout"})


def test_simultaneous_attempts_lose_nothing_of_each_other(place: Place) -> None:
    attempts = [replace(receipt(), items={f"i{n}": "stored"}) for n in range(12)]
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(place.store.put_receipt, attempts))

    found = place.store.get_receipt("msg_1")
    assert found
    assert found.attempts == 12
    assert set(found.items) == {f"i{n}" for n in range(12)}


def test_there_is_no_receipt_before_the_first_attempt(place: Place) -> None:
    assert place.store.get_receipt("msg_1") is None


def test_a_receipt_that_is_none_is_an_error_and_stays(place: Place) -> None:
    place.write("events/msg_1.json", b'{"event_id": 1')

    with pytest.raises(StorageError, match=r"events/msg_1\.json cannot be read"):
        place.store.get_receipt("msg_1")
    with pytest.raises(StorageError, match="cannot be read"):
        place.store.put_receipt(receipt())
    assert place.read("events/msg_1.json") == b'{"event_id": 1'


def test_a_payload_is_kept_once(place: Place, background: Background) -> None:
    background.run(place.store.put_payload("msg_1", b"\x00 body"))
    background.run(place.store.put_payload("msg_1", b"\x00 body"))

    assert place.store.get_payload("msg_1") == place.read("payloads/msg_1") == b"\x00 body"


def test_a_missing_payload_is_an_error(place: Place) -> None:
    with pytest.raises(StorageError, match="payloads/msg_1"):
        place.store.get_payload("msg_1")


def test_a_refusal_of_the_bucket_is_an_error_on_one_line(bucket: Bucket) -> None:
    bucket.server.refuse(403)

    with pytest.raises(StorageError, match=r"^items/i1\.json: .*403 Forbidden.*$") as error:
        bucket.store.put_item(item(1))
    assert "\n" not in str(error.value)


def test_a_passing_fault_of_the_bucket_is_tried_again(bucket: Bucket) -> None:
    bucket.server.refuse(503)

    assert bucket.store.put_item(item(1)) is WriteResult.CREATED


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(StorageSettings(f"file://{tmp_path}/file/folder"))

    with pytest.raises(StorageError, match=r"items/i1\.json"):
        store.put_item(item(1))


def test_endless_conflicts_end_in_an_error(bucket: Bucket) -> None:
    bucket.store.put_item(item(1))
    bucket.server.always_conflicting = True
    try:
        with pytest.raises(StorageError, match="too many other writers"):
            bucket.store.put_item(item(2))
        bucket.write("events/msg_1.json", receipt().line())
        with pytest.raises(StorageError, match="too many other writers"):
            bucket.store.put_receipt(receipt())
    finally:
        bucket.server.always_conflicting = False


def test_a_receipt_holds_its_body_in_one_line_whatever_it_is() -> None:
    pretty = Receipt("e", "unrecognised", "", 1, {}, b'[\n  1.10,\n  "\xc3\xa9"\n]')
    binary = Receipt("e", "unrecognised", "", 1, {}, b"\xff\n")

    assert pretty.line().endswith(b',"payload":[1.10,"\xc3\xa9"]}')
    assert binary.line().endswith(b'"payload_encoding":"base64","payload":"/wo="}')
    assert b"\n" not in pretty.line() + binary.line()
