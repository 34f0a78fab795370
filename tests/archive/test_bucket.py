"""`archive` with a bucket: content types, uploads in parts, and what is left after failures.

One of them: .venv/bin/pytest tests/archive/test_bucket.py -k condition
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.archive.photos import name_of
from pipeline.store.objects import UPLOAD_PART_BYTES
from sandbox import catalogue
from sandbox.background import Background
from sandbox.catalogue import Item
from sandbox.cloud_storage import CloudStorage, StoredObject
from sandbox.dimmy_api import DimmyApi
from sandbox.photos import PhotoFault
from support.archiving import RNG, RunningArchive, start_archive

pytestmark = pytest.mark.xdist_group("archive")

LARGE = 2 * UPLOAD_PART_BYTES + 1_000_000


@pytest.fixture(scope="module")
def bucket(background: Background) -> Iterator[CloudStorage]:
    server = CloudStorage()
    background.run(server.start())
    yield server
    background.run(server.stop())


@pytest.fixture(scope="module")
def archive(api: DimmyApi, bucket: CloudStorage) -> Iterator[RunningArchive]:
    settings = {"STORAGE_URL": "gs://scans", "STORAGE_EMULATOR_HOST": bucket.url}
    function = start_archive(api, Path(), **settings)
    yield RunningArchive(function, api, Path())
    function.stop()


@pytest.fixture(autouse=True)
def _no_fault_of_another_test(archive: RunningArchive, bucket: CloudStorage) -> None:
    archive.photos.clear_faults()
    bucket.uploads.clear()


def new_photo(archive: RunningArchive, size: int, content_type: str) -> str:
    archive.photos.put(name := catalogue.new_id(RNG), RNG.randbytes(size), content_type)
    return name


def stored(bucket: CloudStorage, item: Item, name: str) -> StoredObject | None:
    return bucket.objects.get(f"scans/photos/{item['_id']}/{name_of(f'/photos/{name}')}")


@pytest.mark.parametrize("size", [1_000, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("image/jpeg", "image/jpeg"),
        ("IMAGE/HEIC; q=1", "image/heic"),
        ("binary/octet-stream", "binary/octet-stream"),
        ("application/octet-stream", "application/octet-stream"),
        ("text/plain", "application/octet-stream"),
        ("image/svg+xml", "application/octet-stream"),
        ("application/pdf", "application/octet-stream"),
    ],
)
def test_the_content_type_of_a_photo_is_kept_but_none_that_makes_a_page_of_it(
    archive: RunningArchive, bucket: CloudStorage, given: str, kept: str, size: int
) -> None:
    name = new_photo(archive, size, given.partition(";")[0])
    item = archive.item_with(name)

    assert archive.deliver(item)[0] == 204

    found = stored(bucket, item, name)
    assert found
    assert found.content == archive.photos.content_of(name)
    assert found.content_type == kept


@pytest.mark.parametrize("size", [1_000, LARGE], ids=["small", "large"])
def test_a_stored_photo_is_neither_fetched_nor_written_again(
    archive: RunningArchive, bucket: CloudStorage, size: int
) -> None:
    item = archive.item_with(name := new_photo(archive, size, "image/jpeg"))
    archive.deliver(item)
    first = stored(bucket, item, name)

    status, attempt = archive.deliver(item, attempt=2)

    assert (status, attempt["present"]) == (204, 1)
    assert stored(bucket, item, name) == first
    assert archive.photos.requests_for(name) == 1


def test_a_small_photo_is_created_under_a_condition(
    archive: RunningArchive, bucket: CloudStorage
) -> None:
    """So that of two attempts only one writes, and an answer that is lost does no harm."""
    item = archive.item_with(name := new_photo(archive, 1_000, "image/jpeg"))
    bucket.lose_answers(503, times=2)
    before = bucket.writes

    assert archive.deliver(item)[0] == 204

    assert stored(bucket, item, name)
    assert bucket.writes - before == 1


def test_a_photo_that_ends_too_early_is_not_stored_in_parts(
    archive: RunningArchive, bucket: CloudStorage
) -> None:
    item = archive.item_with(name := new_photo(archive, 3 * LARGE, "image/jpeg"))
    archive.photos.fail(PhotoFault("cut", name=name, times=1))

    assert archive.deliver(item)[0] == 503

    assert stored(bucket, item, name) is None
    assert not bucket.uploads, "the parts that were uploaded are deleted"
    assert archive.deliver(item, attempt=2)[0] == 204
    found = stored(bucket, item, name)
    assert found
    assert found.content == archive.photos.content_of(name)


@pytest.mark.parametrize("size", [1_000, LARGE], ids=["small", "large"])
def test_a_bucket_that_fails_for_a_moment_gets_the_photo_all_the_same(
    archive: RunningArchive, bucket: CloudStorage, size: int
) -> None:
    item = archive.item_with(name := new_photo(archive, size, "image/jpeg"))
    bucket.fail_next(503)

    assert archive.deliver(item)[0] == 204
    assert stored(bucket, item, name)


@pytest.mark.parametrize("size", [1_000, LARGE], ids=["small", "large"])
def test_a_bucket_that_refuses_is_waited_for(
    archive: RunningArchive, bucket: CloudStorage, size: int
) -> None:
    item = archive.item_with(name := new_photo(archive, size, "image/jpeg"))
    bucket.fail_writes(1.0, seed=1)

    assert archive.deliver(item)[0] == 503
    assert archive.state_of(item, name).startswith("storage: photos/")

    bucket.fail_writes(0.0, seed=1)
    assert archive.deliver(item, attempt=2)[0] == 204
