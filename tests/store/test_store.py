"""Storage in a folder and in a bucket: the newest version stays, in any order of writes.

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


class Backend(Protocol):
    """A store, with direct access to its objects."""

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
        self.server.put(f"{self._prefix}/{name}", content)


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
def backend(request: pytest.FixtureRequest, bucket: Bucket, tmp_path: Path) -> Backend:
    return bucket if request.param == "bucket" else Folder(tmp_path / "new")


def item(second: int, note: str = "") -> Item:
    updated_at = f"2026-11-01T08:00:{second:02}"
    return read_item(json.dumps({"_id": "i1", "updated_at": updated_at, "note": note}).encode())


def receipt(
    attempt: int = 1, received_at: str = "2026-11-01T08:00:00.000000Z", **items: str
) -> Receipt:
    return Receipt("msg_1", "items.scanned", received_at, attempt, items, b'{"item_ids": []}')


def test_an_item_is_created_and_replaced_only_by_a_newer_one(backend: Backend) -> None:
    assert backend.store.put_item(item(2)) is WriteResult.CREATED
    assert backend.read("items/i1.json") == item(2).line
    assert backend.store.put_item(item(3)) is WriteResult.REPLACED
    assert backend.store.put_item(item(1)) is WriteResult.UNCHANGED
    assert backend.store.put_item(item(3, "tie")) is WriteResult.UNCHANGED
    assert backend.read("items/i1.json") == item(3).line


def test_equal_content_is_not_written_again(bucket: Bucket) -> None:
    bucket.store.put_item(item(2))
    writes = bucket.server.writes

    assert bucket.store.put_item(item(2)) is WriteResult.UNCHANGED
    assert bucket.server.writes == writes


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_the_newest_item_stays_for_any_interleaving_of_writers(
    backend: Backend, order: tuple[int, ...]
) -> None:
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(lambda second: backend.store.put_item(item(second)), order * 3))

    assert backend.read("items/i1.json") == item(3).line


def test_an_object_that_is_not_an_item_is_replaced(backend: Backend) -> None:
    backend.write("items/i1.json", b"not an item")

    assert backend.store.put_item(item(1)) is WriteResult.REPLACED
    assert backend.read("items/i1.json") == item(1).line


def test_a_receipt_is_merged_with_that_of_earlier_attempts(backend: Backend) -> None:
    backend.store.put_receipt(receipt(1, a="stored", b="404: Item not found"))

    merged = backend.store.put_receipt(receipt(2, b="stored", a="timeout"))

    assert merged.items == {"a": "stored", "b": "stored"}
    assert (merged.attempts, merged.outcome) == (2, "done")
    assert backend.store.get_receipt("msg_1") == Receipt.read(merged.line())
    assert json.loads(backend.read("events/msg_1.json") or b"")["payload"] == {"item_ids": []}


def test_a_resend_replaces_the_states_of_its_receipt_and_continues_the_attempt_count(
    backend: Backend,
) -> None:
    backend.store.put_receipt(receipt(1, a="stored"))

    merged = backend.store.put_receipt(receipt(1, "2026-11-02T08:00:00.000000Z", a="timeout"))

    assert (merged.attempts, merged.outcome, merged.items) == (2, "partial", {"a": "timeout"})


def test_simultaneous_attempts_all_reach_the_receipt(backend: Backend) -> None:
    attempts = [replace(receipt(), items={f"i{n}": "stored"}) for n in range(12)]
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(backend.store.put_receipt, attempts))

    found = backend.store.get_receipt("msg_1")
    assert found
    assert found.attempts == 12
    assert set(found.items) == {f"i{n}" for n in range(12)}


def test_there_is_no_receipt_before_the_first_attempt(backend: Backend) -> None:
    assert backend.store.get_receipt("msg_1") is None


def test_a_malformed_receipt_is_an_error_and_is_not_overwritten(backend: Backend) -> None:
    backend.write("events/msg_1.json", b'{"event_id": 1')

    with pytest.raises(StorageError, match=r"events/msg_1\.json cannot be read"):
        backend.store.get_receipt("msg_1")
    with pytest.raises(StorageError, match="cannot be read"):
        backend.store.put_receipt(receipt())
    assert backend.read("events/msg_1.json") == b'{"event_id": 1'


def test_a_payload_can_be_stored_again(backend: Backend, background: Background) -> None:
    background.run(backend.store.put_payload("msg_1", b"\x00 body"))
    background.run(backend.store.put_payload("msg_1", b"\x00 body"))

    assert backend.store.get_payload("msg_1") == backend.read("payloads/msg_1") == b"\x00 body"


def test_a_missing_payload_is_an_error(backend: Backend) -> None:
    with pytest.raises(StorageError, match="payloads/msg_1"):
        backend.store.get_payload("msg_1")


def test_a_write_refused_by_the_bucket_is_an_error_on_one_line(bucket: Bucket) -> None:
    bucket.server.fail_next(403)

    with pytest.raises(StorageError, match=r"^items/i1\.json: .*403 Forbidden.*$") as error:
        bucket.store.put_item(item(1))
    assert "\n" not in str(error.value)


def test_a_transient_error_of_the_bucket_is_retried(bucket: Bucket) -> None:
    bucket.server.fail_next(503)

    assert bucket.store.put_item(item(1)) is WriteResult.CREATED


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(StorageSettings(f"file://{tmp_path}/file/folder"))

    with pytest.raises(StorageError, match=r"items/i1\.json"):
        store.put_item(item(1))


def test_repeated_conflicts_end_in_an_error(bucket: Bucket) -> None:
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


def test_a_receipt_holds_any_body_on_one_line() -> None:
    pretty = Receipt("e", "unrecognised", "", 1, {}, b'[\n  1.10,\n  "\xc3\xa9"\n]')
    binary = Receipt("e", "unrecognised", "", 1, {}, b"\xff\n")

    assert pretty.line().endswith(b',"payload":[1.10,"\xc3\xa9"]}')
    assert binary.line().endswith(b'"payload_encoding":"base64","payload":"/wo="}')
    assert b"\n" not in pretty.line() + binary.line()
