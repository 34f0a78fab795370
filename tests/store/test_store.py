"""Storage in a folder and in a bucket: the newest version stays, in any order of writes.

One of them: .venv/bin/pytest tests/store/test_store.py -k "interleaving and bucket"
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations, permutations
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.json_text import MAX_DEPTH
from pipeline.store import objects
from pipeline.store.errors import StorageError
from pipeline.store.items import Item, read_item
from pipeline.store.receipts import DeliveryId, Receipt, ReceiptError
from pipeline.store.settings import StorageSettings
from pipeline.store.states import EVENT
from pipeline.store.store import CLOCK_UNCERTAINTY, Store, WriteResult
from sandbox.background import Background
from sandbox.cloud_storage import CloudStorage
from support.waiting import wait_for


class Backend(Protocol):
    """A store, with direct access to its objects."""

    store: Store

    def read(self, name: str) -> bytes | None: ...
    def written_at(self, name: str) -> float: ...
    def write(self, name: str, content: bytes) -> None: ...
    def delete(self, name: str) -> None: ...


class Folder:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.store = Store(StorageSettings(f"file://{path}"))

    def read(self, name: str) -> bytes | None:
        path = self._path / name
        return path.read_bytes() if path.exists() else None

    def written_at(self, name: str) -> float:
        return (self._path / name).stat().st_mtime_ns

    def write(self, name: str, content: bytes) -> None:
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def delete(self, name: str) -> None:
        (self._path / name).unlink()


class Bucket:
    def __init__(self, server: CloudStorage, prefix: str) -> None:
        self.server = server
        self.prefix = f"scans/{prefix}"
        self.store = Store(StorageSettings(f"gs://scans/{prefix}", server.url))

    def read(self, name: str) -> bytes | None:
        stored = self.server.objects.get(f"{self.prefix}/{name}")
        return stored.content if stored else None

    def written_at(self, name: str) -> float:
        return self.server.objects[f"{self.prefix}/{name}"].generation

    def write(self, name: str, content: bytes) -> None:
        self.server.put(f"{self.prefix}/{name}", content)

    def delete(self, name: str) -> None:
        del self.server.objects[f"{self.prefix}/{name}"]


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
    delivery = DeliveryId(received_at, f"message-of-{received_at}")
    return Receipt("msg_1", "items.scanned", delivery, attempt, items, b'{"item_ids": []}')


def test_an_item_is_created_and_replaced_only_by_a_newer_one(backend: Backend) -> None:
    assert backend.store.put_item(item(2)).result is WriteResult.CREATED
    assert backend.read("items/i1.json") == item(2).line
    assert backend.store.put_item(item(3)).result is WriteResult.REPLACED
    assert backend.store.put_item(item(1)).result is WriteResult.UNCHANGED
    assert backend.store.put_item(item(3, "tie")).result is WriteResult.UNCHANGED
    assert backend.read("items/i1.json") == item(3).line


def test_equal_content_is_not_written_again(bucket: Bucket) -> None:
    bucket.store.put_item(item(2))
    writes = bucket.server.writes

    assert bucket.store.put_item(item(2)).result is WriteResult.UNCHANGED
    assert bucket.server.writes == writes


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_the_newest_item_stays_for_any_interleaving_of_writers(
    backend: Backend, order: tuple[int, ...]
) -> None:
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(lambda second: backend.store.put_item(item(second)), order * 3))

    assert backend.read("items/i1.json") == item(3).line


def test_of_two_contents_of_the_same_time_an_answer_of_the_api_wins(backend: Backend) -> None:
    later = datetime.now(UTC) + 2 * CLOCK_UNCERTAINTY
    backend.store.put_item(item(2, "payload"))

    assert backend.store.put_item(item(2, "another payload")).result is WriteResult.UNCHANGED
    assert backend.store.put_item(item(2, "answer"), later).result is WriteResult.REPLACED
    assert backend.store.put_item(item(2, "payload")).result is WriteResult.UNCHANGED
    assert backend.read("items/i1.json") == item(2, "answer").line


def test_an_answer_that_may_be_older_than_the_stored_one_has_to_be_fetched_again(
    backend: Backend,
) -> None:
    before = datetime.now(UTC)
    backend.store.put_item(item(2, "of a later fetch"), before)

    assert backend.store.put_item(item(2, "old"), before).result is WriteResult.FETCHED_TOO_EARLY
    assert backend.read("items/i1.json") == item(2, "of a later fetch").line


def test_an_item_whose_time_cannot_be_read_never_counts_as_unchanged(backend: Backend) -> None:
    strange = read_item(b'{"_id":"i1","updated_at":"31/12/2026"}')
    assert backend.store.put_item(strange).result is WriteResult.CREATED
    assert backend.store.put_item(strange).result is WriteResult.UNCHANGED
    assert backend.store.put_item(item(1)).result is WriteResult.REPLACED

    later = datetime.now(UTC) + 2 * CLOCK_UNCERTAINTY
    assert backend.store.put_item(strange, later).result is WriteResult.NOT_COMPARABLE
    assert backend.read("items/i1.json") == item(1).line
    assert strange.unreadable_time == '"31/12/2026"'


def test_an_item_that_arrives_garbled_is_read_once_more(bucket: Bucket) -> None:
    bucket.store.put_item(item(2))
    bucket.server.garble_reads(1)

    assert bucket.store.put_item(item(1)).result is WriteResult.UNCHANGED
    assert bucket.read("items/i1.json") == item(2).line


def test_an_object_that_is_not_an_item_is_replaced(backend: Backend) -> None:
    backend.write("items/i1.json", b"not an item")

    assert backend.store.put_item(item(1)).result is WriteResult.REPLACED
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


def test_a_resend_or_a_discard_is_not_taken_for_a_re_drive(backend: Backend) -> None:
    """`make redrive` waits until a dead letter that it has pushed is noted in the receipt."""
    backend.store.put_receipt(replace(receipt(1, a="timeout", b="stored"), redriven=True))
    assert backend.store.put_receipt(receipt(2, a="timeout")).redriven

    assert not backend.store.discard_items("msg_1", ["a"], "by a person").redriven
    assert backend.store.mark_redriven("msg_1").redriven
    resend = "2026-11-02T08:00:00.000000Z"
    assert not backend.store.put_receipt(receipt(1, resend, a="stored")).redriven
    assert backend.store.put_receipt(replace(receipt(3, a="timeout"), redriven=True)).redriven


def test_a_failure_of_an_attempt_keeps_its_event_unfinished_until_another_one_finishes_it(
    backend: Backend,
) -> None:
    failed = receipt(1, a="stored", **{EVENT: "internal error: KeyError"})
    backend.store.put_receipt(failed)

    found = backend.store.get_receipt("msg_1")
    assert found
    assert (found.unsettled, found.outcome) == ({EVENT: "internal error: KeyError"}, "partial")
    assert backend.store.put_receipt(receipt(2, b="timeout")).unsettled == {"b": "timeout"}
    assert backend.store.put_receipt(receipt(3, b="stored")).outcome == "done"
    assert backend.store.put_receipt(failed).items == {"a": "stored", "b": "stored"}


RECEIVED = "2026-11-01T08:00:00.000000Z"
RESENT = "2026-11-01T08:00:01.000000Z"


@pytest.mark.parametrize("failing", [RECEIVED, RESENT], ids=["the first", "the resend"])
@pytest.mark.parametrize("places", list(combinations(range(4), 2)), ids=str)
def test_an_older_delivery_never_settles_an_item_of_a_resend(
    backend: Backend, places: tuple[int, int], failing: str
) -> None:
    """Each delivery writes its receipt twice; `places` are those of the first delivery."""
    last_state = {failing: "timeout", RESENT if failing == RECEIVED else RECEIVED: "stored"}
    writes = {time: iter(["pending", last_state[time]]) for time in (RECEIVED, RESENT)}
    for place in range(4):
        received_at = RECEIVED if place in places else RESENT
        state = next(writes[received_at])
        backend.store.put_receipt(receipt(1, received_at, a=state), same_attempt=state != "pending")

    found = backend.store.get_receipt("msg_1")
    assert found
    assert found.items == {"a": last_state[RESENT]}
    assert (found.received_at, found.attempts) == (RESENT, 2)


def test_a_message_without_a_time_of_receipt_is_known_by_its_id() -> None:
    first = DeliveryId("2026-11-01T08:00:00Z", "7")

    assert first.is_same_as(DeliveryId("2026-11-01T08:00:09.5Z", "7"))
    assert not DeliveryId("2026-11-01T08:00:09.5Z", "7").is_later_than(first)
    assert DeliveryId("2026-11-01T08:00:00.1Z", "8").is_later_than(first)
    assert not first.is_same_as(DeliveryId("2026-11-01T08:00:00.1Z", ""))


@pytest.mark.parametrize("length", [200, 201, 241, 256])
def test_an_event_id_of_any_length_can_be_stored(
    backend: Backend, background: Background, length: int
) -> None:
    event_id = "e" * length
    long = replace(receipt(1, a="stored"), event_id=event_id)

    backend.store.put_receipt(long)
    background.run(backend.store.put_payload(event_id, b"body"))

    assert backend.store.get_receipt(event_id) == Receipt.read(long.line())
    assert backend.store.get_payload(event_id) == b"body"
    assert backend.store.get_receipt("e" * (length - 1)) is None


def test_a_body_as_deep_as_can_be_read_can_be_read_in_its_receipt(backend: Backend) -> None:
    body = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    backend.store.put_receipt(replace(receipt(1, a="timeout"), payload=body))

    merged = backend.store.put_receipt(replace(receipt(2, a="stored"), payload=body))

    assert merged.outcome == "done"


def test_a_receipt_with_a_version_is_replaced_without_being_read(bucket: Bucket) -> None:
    first = bucket.store.put_receipt(receipt(1, a="pending"))
    bucket.server.garble_reads()

    second = bucket.store.put_receipt(replace(first, items={"a": "timeout"}), same_attempt=True)
    third = bucket.store.put_receipt(replace(second, items={"a": "stored"}), same_attempt=True)

    assert bucket.read("events/msg_1.json") == third.line()
    with pytest.raises(StorageError, match="cannot be read"):
        bucket.store.get_receipt("msg_1")


@pytest.mark.parametrize("changed_by", ["a write", "a deletion"])
def test_a_receipt_with_a_version_that_is_no_longer_stored_is_merged(
    backend: Backend, changed_by: str
) -> None:
    first = backend.store.put_receipt(receipt(1, a="pending", b="pending"))
    if changed_by == "a write":
        backend.store.put_receipt(receipt(1, b="stored"))
    else:
        backend.delete("events/msg_1.json")

    continued = replace(first, items={"a": "stored", "b": "timeout"})
    merged = backend.store.put_receipt(continued, same_attempt=True)

    assert merged.items == {"a": "stored", "b": "stored" if changed_by == "a write" else "timeout"}
    assert merged.attempts == (2 if changed_by == "a write" else 1)
    assert backend.read("events/msg_1.json") == merged.line()


def test_a_file_that_changes_within_the_precision_of_its_time_is_another_version(
    tmp_path: Path,
) -> None:
    folder = Folder(tmp_path)
    first = folder.store.put_receipt(receipt(1, a="timeout"))
    path = tmp_path / "events" / "msg_1.json"
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes(receipt(2, a="timeout").line())
    os.utime(path, ns=times)

    assert folder.store.put_receipt(first, same_attempt=True).attempts == 2


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


def test_a_payload_is_written_again_so_that_it_is_kept_as_long_again(
    backend: Backend, background: Background
) -> None:
    def written_at() -> float:
        background.run(backend.store.put_payload("msg_1", b"\x00 body"))
        return backend.written_at("payloads/msg_1")

    first = written_at()

    # Two writes may have the same time in a file system whose times are coarse.
    wait_for(lambda: written_at() > first, "a later time of the object")
    assert backend.store.get_payload("msg_1") == backend.read("payloads/msg_1") == b"\x00 body"


def test_a_checkpoint_is_kept_until_it_is_deleted(backend: Backend) -> None:
    assert backend.store.get_checkpoint("last-48h") is None
    backend.store.put_checkpoint("last-48h", b"1")
    backend.store.put_checkpoint("last-48h", b"2")
    assert backend.store.get_checkpoint("last-48h") == b"2"

    backend.store.delete_checkpoint("last-48h")
    backend.store.delete_checkpoint("last-48h")

    assert backend.store.get_checkpoint("last-48h") is None


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

    assert bucket.store.put_item(item(1)).result is WriteResult.CREATED


LOST_ANSWERS = pytest.mark.parametrize("status", [503, None], ids=["an error", "no answer"])


@LOST_ANSWERS
def test_an_item_whose_write_was_carried_out_counts_as_stored(
    bucket: Bucket, status: int | None
) -> None:
    bucket.server.lose_answers(status)
    assert bucket.store.put_item(item(1)).result is WriteResult.CREATED

    bucket.server.lose_answers(status)
    assert bucket.store.put_item(item(2)).result is WriteResult.REPLACED

    assert bucket.read("items/i1.json") == item(2).line


@LOST_ANSWERS
def test_a_receipt_whose_write_was_carried_out_counts_its_attempt_once(
    bucket: Bucket, status: int | None
) -> None:
    bucket.server.lose_answers(status)
    assert bucket.store.put_receipt(receipt(1, a="timeout")).attempts == 1

    bucket.server.lose_answers(status)
    assert bucket.store.put_receipt(receipt(1, a="stored")).attempts == 2

    found = bucket.store.get_receipt("msg_1")
    assert found
    assert (found.attempts, found.items) == (2, {"a": "stored"})


def test_a_repeated_write_that_finds_another_one_is_not_taken_for_it(bucket: Bucket) -> None:
    bucket.store.put_item(item(2))
    bucket.server.fail_next(503)

    assert bucket.store.put_item(item(1)).result is WriteResult.UNCHANGED
    assert bucket.read("items/i1.json") == item(2).line


def test_a_write_whose_connection_breaks_is_repeated(bucket: Bucket) -> None:
    bucket.server.break_writes(2)

    assert bucket.store.put_item(item(1)).result is WriteResult.CREATED
    assert bucket.store.put_receipt(receipt(1, a="stored")).attempts == 1


def test_a_read_whose_connection_breaks_goes_on_where_it_stopped(bucket: Bucket) -> None:
    payload = bytes(range(256)) * 4096
    bucket.write("payloads/msg_1", payload)
    bucket.server.cut_reads()

    assert bucket.store.get_payload("msg_1") == payload


def test_a_write_that_gets_no_answer_is_repeated_in_time(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_TRY_SECONDS", 0.5)
    bucket.server.hold_writes(f"{bucket.prefix}/items/i1")

    with ThreadPoolExecutor(1) as writer:
        stored = writer.submit(bucket.store.put_item, item(1))
        wait_for(lambda: bucket.server.held_writes >= 2, "a second try")
        bucket.server.hold_writes(None)

        assert stored.result().result is WriteResult.CREATED


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
    pretty = Receipt("e", "unrecognised", DeliveryId("", ""), 1, {}, b'[\n  1.10,\n  "\xc3\xa9"\n]')
    binary = Receipt("e", "unrecognised", DeliveryId("", ""), 1, {}, b"\xff\n")

    assert pretty.line().endswith(b',"payload":[1.10,"\xc3\xa9"]}')
    assert binary.line().endswith(b'"payload_encoding":"base64","payload":"/wo="}')
    assert b"\n" not in pretty.line() + binary.line()


NAMES = st.text() | st.sampled_from(["payload", "items", "outcome", ',"payload":', '"}', "\\"])
JSON = st.recursive(
    st.none() | st.integers() | NAMES,
    lambda values: st.lists(values) | st.dictionaries(NAMES, values),
    max_leaves=5,
)


@given(
    items=st.dictionaries(NAMES, NAMES),
    discarded=st.dictionaries(NAMES, NAMES),
    payload=JSON.map(lambda value: json.dumps(value).encode()) | st.binary(),
)
@example(
    items={"payload": "stored", "b": "timeout"},
    discarded={"a": "", "payload": "by a person"},
    payload=b'{"a":1,"items":{"x":"y"},"payload":{}}',
)
def test_a_stored_receipt_is_read_as_it_was_written(
    items: dict[str, str], discarded: dict[str, str], payload: bytes
) -> None:
    written = replace(receipt(3), items=items, discarded=discarded, payload=payload)
    members = json.loads(written.line())

    read = Receipt.read(written.line())

    assert read == replace(written, payload=b"")
    assert read.outcome == members["outcome"]
    assert members["items"] == items
    # Also where another program has written it: with white space, in another order of members.
    assert Receipt.read(json.dumps(members, indent=1).encode()) == read
    reverse = dict(reversed(members.items()))
    assert Receipt.read(json.dumps(reverse, separators=(",", ":")).encode()) == read


def test_a_receipt_of_many_items_is_read_as_it_was_written() -> None:
    many = replace(receipt(1), items={f"i{n}": "stored" if n % 3 else "" for n in range(25_000)})

    assert json.loads(many.line())["items"] == many.items
    assert Receipt.read(many.line()) == replace(many, payload=b"")


@pytest.mark.parametrize("cut", [2, 15, 60])
def test_an_incomplete_receipt_is_not_read(cut: int) -> None:
    with pytest.raises(ReceiptError):
        Receipt.read(receipt(1, a="stored").line()[:-cut])
