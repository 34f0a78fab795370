"""The listing of a bucket or a folder, and the newest objects in it.

One of them: .venv/bin/pytest tests/operate/test_object_listing.py -k million
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from operate.object_listing import ListingError, ObjectListing
from operate.time_ordered_ids import first_event_id, first_item_id, time_in
from operate.view.newest import Newest
from pipeline.store.settings import StorageSettings
from sandbox.background import Background
from sandbox.cloud_storage import CloudStorage
from sandbox.processes import free_port

NOW = datetime.now(UTC)


@pytest.fixture
def bucket(background: Background) -> Iterator[CloudStorage]:
    storage = CloudStorage()
    background.run(storage.start())
    yield storage
    background.run(storage.stop())


def listing(bucket: CloudStorage, url: str = "gs://scans", **changes: Any) -> ObjectListing:
    return ObjectListing(StorageSettings(url, bucket.url, **changes))


def item_name(age: timedelta, number: int = 0) -> str:
    return f"items/{first_item_id(NOW - age)}{number:016x}.json"


def last_of(newest: Newest) -> list[str]:
    """The names that are found in the end."""
    *_, found = newest.find()
    return [each.name for each in found]


def put(bucket: CloudStorage, *names: str) -> None:
    for name in names:
        bucket.put(f"scans/{name}", b"{}")


def test_pages_begin_and_end_at_a_name(bucket: CloudStorage) -> None:
    put(bucket, *(f"items/{number:04}.json" for number in range(2500)), "items2/a", "events/a")

    pages = list(listing(bucket).pages("items/", "items/0100", "items/2200"))

    assert [len(page) for page in pages] == [1000, 1000, 100]
    names = [each.name for page in pages for each in page]
    assert names == [f"items/{number:04}.json" for number in range(100, 2200)]


def test_names_are_relative_to_the_prefix_of_the_storage(bucket: CloudStorage) -> None:
    put(bucket, "dimmy/prod/items/a.json", "dimmy/test/items/b.json")

    assert listing(bucket, "gs://scans/dimmy/prod").names("items/") == ["items/a.json"]


def test_a_written_object_has_another_version(bucket: CloudStorage) -> None:
    put(bucket, "items/a.json")
    objects = listing(bucket)
    ((before,),) = objects.pages("items/")

    put(bucket, "items/a.json")

    ((after,),) = objects.pages("items/")
    assert after.version != before.version
    assert objects.names("items/", after.written_at) == ["items/a.json"]
    assert objects.names("items/", after.written_at + timedelta(seconds=1)) == []


@pytest.mark.parametrize("odd", ["items//x.json", "items/a\tb.json", "items/../x.json", "items/"])
def test_an_odd_name_is_left_out_and_named(bucket: CloudStorage, odd: str) -> None:
    put(bucket, "items/a.json", odd, "items/b.json")
    objects = listing(bucket)

    assert objects.names("items/") == ["items/a.json", "items/b.json"]
    assert objects.describe_odd_names() == (
        f"1 object left out, whose name cannot be read, such as {odd!r}"
    )


def test_a_refusal_is_an_error_with_its_reason(bucket: CloudStorage) -> None:
    bucket.fail_next(403)

    with pytest.raises(ListingError, match="403 an injected fault"):
        listing(bucket).names("items/")


def test_an_unreachable_bucket_is_an_error() -> None:
    settings = StorageSettings("gs://scans", f"http://127.0.0.1:{free_port()}")

    with pytest.raises(ListingError, match="ConnectionError"):
        ObjectListing(settings).names("items/")


def test_a_credential_is_used_until_it_expires(bucket: CloudStorage) -> None:
    given: list[datetime] = []

    def credential() -> dict[str, object]:
        given.append(NOW + timedelta(hours=len(given)))  # the first one has expired
        return {"token": "a-token", "expires_at": given[-1]}

    objects = listing(bucket, credential=credential)

    for _ in range(4):
        objects.names("items/")

    assert len(given) == 2


def test_a_folder_is_listed_too(tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "items" / f"{name}.json").write_text("{}")
    objects = ObjectListing(StorageSettings(f"file://{tmp_path}"))

    assert sorted(objects.names("items/")) == ["items/a.json", "items/b.json", "items/c.json"]
    ((found,),) = objects.pages("items/", "items/b", "items/c")
    assert found.name == "items/b.json"


def test_the_newest_of_many_are_found_without_listing_the_others(bucket: CloudStorage) -> None:
    """1,000 items a day for 60 days; the newest 3,000 of them are within the last week."""
    for day in range(60):
        put(bucket, *(item_name(timedelta(days=day, minutes=5), number) for number in range(1000)))
    newest = Newest(listing(bucket), "items/", first_item_id, 3000)

    found = last_of(newest)

    assert len(found) == 3000
    assert found == sorted(found, reverse=True)
    assert found[-1].startswith(item_name(timedelta(days=2, minutes=5))[:14])
    assert newest.since == pytest.approx(NOW - timedelta(days=7), abs=timedelta(minutes=5))
    assert bucket.listings < 12

    listings = bucket.listings
    assert next(iter(Newest(listing(bucket), "items/", first_item_id, 10).find()))
    assert bucket.listings == listings + 1
    assert newest.left_out == 4000

    put(bucket, new := item_name(timedelta(0)))
    assert last_of(newest)[0] == new


def test_few_objects_are_all_found_however_old(bucket: CloudStorage) -> None:
    names = [item_name(timedelta(days=days)) for days in (0, 3, 20, 100, 300, 3000)]
    put(bucket, *names, "items/zzz.json", "items/a-note.txt")
    newest = Newest(listing(bucket), "items/", first_item_id, 100)

    assert last_of(newest) == ["items/zzz.json", *names]
    assert newest.since is None


def test_a_long_span_of_very_many_is_not_read_to_its_end(bucket: CloudStorage) -> None:
    put(bucket, recent := item_name(timedelta(minutes=5)))
    put(bucket, *(item_name(timedelta(days=400), number) for number in range(30_000)))
    newest = Newest(listing(bucket), "items/", first_item_id, 1000)

    assert last_of(newest) == [recent]
    assert newest.since == pytest.approx(NOW - timedelta(days=365), abs=timedelta(minutes=5))
    assert bucket.listings <= 6 + 21


def test_ids_begin_with_their_time() -> None:
    time = datetime(2025, 3, 5, 14, 38, 22, tzinfo=UTC)

    assert time_in("67c861de20bb29fb40d2cbbd") == time
    assert first_item_id(time) == "67c861de"
    assert first_event_id(time) < first_event_id(time + timedelta(seconds=1))
    # https://github.com/segmentio/ksuid: its example, and the time in it.
    example = datetime(2017, 10, 10, 4, 0, 47, tzinfo=UTC)
    assert first_event_id(example)[:9] == "msg_0ujtsYcgvSTl8PAuAdqWYSMnLOv"[:9]
    assert first_event_id(example) <= "msg_0ujtsYcgvSTl8PAuAdqWYSMnLOv"
    assert first_event_id(datetime(2000, 1, 1, tzinfo=UTC)) == "msg_" + 27 * "0"
