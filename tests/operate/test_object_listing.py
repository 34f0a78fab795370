"""The listing of a bucket or a folder, and the newest objects in it.

One of them: .venv/bin/pytest tests/operate/test_object_listing.py -k million
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from operate.console import CommandError, UsageError
from operate.object_listing import ListingError, ObjectListing
from operate.time_ordered_ids import first_event_id, first_item_id, time_in
from operate.view.newest import Newest
from pipeline.store.settings import StorageSettings
from sandbox.background import Background
from sandbox.cloud_storage import CloudStorage
from sandbox.processes import free_port


@pytest.fixture
def bucket(background: Background) -> Iterator[CloudStorage]:
    storage = CloudStorage()
    background.run(storage.start())
    yield storage
    background.run(storage.stop())


def listing(bucket: CloudStorage, url: str = "gs://scans", **changes: Any) -> ObjectListing:
    return ObjectListing(StorageSettings(url, bucket.url, **changes))


class ItemName(Protocol):
    def __call__(self, age: timedelta, number: int = 0) -> str: ...


@pytest.fixture
def item_name() -> ItemName:
    """The name of an item that was this old when the test began."""
    now = datetime.now(UTC)

    def name(age: timedelta, number: int = 0) -> str:
        return f"items/{first_item_id(now - age)}{number:016x}.json"

    return name


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
    now = datetime.now(UTC)

    def credential() -> dict[str, object]:
        given.append(now + timedelta(hours=len(given)))  # the first one has expired
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


def test_the_newest_of_many_are_found_without_listing_the_others(
    bucket: CloudStorage, item_name: ItemName
) -> None:
    """1,000 items a day for 60 days."""
    for day in range(60):
        put(bucket, *(item_name(timedelta(days=day, minutes=5), number) for number in range(1000)))
    newest = Newest(listing(bucket), "items/", first_item_id, 3000)

    found = last_of(newest)

    assert len(found) == 3000
    assert found == sorted(found, reverse=True)
    assert found[-1].startswith(item_name(timedelta(days=2, minutes=5))[:14])
    assert newest.is_cut
    assert bucket.listings < 20

    put(bucket, new := item_name(timedelta(0)))
    assert last_of(newest)[0] == new

    listings = bucket.listings
    assert next(iter(Newest(listing(bucket), "items/", first_item_id, 10).find()))
    assert bucket.listings == listings + 2  # the pages of the last hour


def test_few_objects_are_all_found_however_old(bucket: CloudStorage, item_name: ItemName) -> None:
    names = [item_name(timedelta(days=days)) for days in (0, 3, 20, 100, 300, 3000)]
    put(bucket, *names, "items/zzz.json", "items/a-note.txt")
    newest = Newest(listing(bucket), "items/", first_item_id, 100)

    assert sorted(last_of(newest)) == sorted([*names, "items/zzz.json"])
    assert newest.since is None
    assert not newest.is_cut


@pytest.mark.parametrize("age", [timedelta(hours=7), timedelta(days=400)])
def test_a_span_of_very_many_is_divided_until_its_newest_are_found(
    bucket: CloudStorage, item_name: ItemName, age: timedelta
) -> None:
    put(bucket, recent := item_name(timedelta(minutes=5)))
    for number in range(150_000):
        put(bucket, item_name(age + number * timedelta(seconds=20), number))
    newest = Newest(listing(bucket), "items/", first_item_id, 1000)

    found = last_of(newest)

    newest_first = [recent, *(item_name(age + n * timedelta(seconds=20), n) for n in range(999))]
    assert found == newest_first
    assert newest.is_cut
    assert bucket.listings < 60


def test_a_page_that_stays_open_does_not_list_more_and_more(
    bucket: CloudStorage, item_name: ItemName
) -> None:
    newest = Newest(listing(bucket), "items/", first_item_id, 1000)
    put(bucket, item_name(timedelta(minutes=50)))
    last_of(newest)
    for number in range(5000):
        put(bucket, item_name(timedelta(minutes=40) - number * timedelta(milliseconds=400), number))
    last_of(newest)
    listings = bucket.listings

    assert len(last_of(newest)) == 1000
    assert bucket.listings - listings <= 2


def test_events_of_our_own_commands_do_not_displace_others(bucket: CloudStorage) -> None:
    for number in range(20):
        put(bucket, f"events/msg_doctor{number:016x}.json")
    in_a_minute = datetime.now(UTC) + timedelta(minutes=1)
    put(bucket, recent := f"events/{first_event_id(in_a_minute)}.json")

    newest = Newest(listing(bucket), "events/", first_event_id, 1)

    assert last_of(newest) == [recent]


def test_a_fault_in_the_middle_of_a_listing_is_tried_again(bucket: CloudStorage) -> None:
    put(bucket, *(f"items/{number:04}.json" for number in range(1500)))
    pages = listing(bucket).pages("items/")
    next(pages)
    bucket.fail_next(503, times=2)

    assert len(next(pages)) == 500


@pytest.mark.parametrize("error", [CommandError("gcloud: offline"), UsageError("log in first")])
def test_a_credential_that_cannot_be_obtained_is_an_error_of_the_listing(
    bucket: CloudStorage, error: Exception
) -> None:
    def credential() -> dict[str, object]:
        raise error

    with pytest.raises(ListingError, match=str(error)):
        listing(bucket, credential=credential).names("items/")


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
