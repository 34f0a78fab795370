"""`make status` and `make trace` where photos are archived.

The same of the sandbox, with the whole pipeline, is in tests/system/test_photos.py.
One of them: .venv/bin/pytest tests/operate/test_photos.py -k trace
"""

import json
import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from operate.diagnosis.photo_story import PhotoEvidence, tell_photos
from operate.google.deployment import Deployment
from operate.installation import Instructions, LogLine
from pipeline.archive.photos import Photo, photos_of
from pipeline.layout import photo_name
from sandbox import catalogue
from sandbox.background import Background
from sandbox.cloud_storage import CloudStorage
from support.operator import Endpoint, Operator, log_entry, time_series

START = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)
WITH_ARCHIVE: dict[str, Any] = {
    "archive_subscription": "projects/warehouse-1/subscriptions/dimmy-dev-archive",
    "item_dead_letter_subscriptions": {
        "archive": "projects/warehouse-1/subscriptions/dimmy-dev-archive-dead-letters"
    },
}


def line(seconds: int, name: str, state: str) -> LogLine:
    fields = {"message": "photo", "item_id": "67c8", "photo": name, "state": state}
    return LogLine(START + timedelta(seconds=seconds), "archive", fields)


def story_of(names: str, stored: str, *lines: LogLine) -> tuple[list[str], str, bool]:
    photos = [Photo(name, "") for name in names.split()]
    story = tell_photos(PhotoEvidence(photos, stored.split(), lines), Instructions())
    return story.history, story.state, story.needs_person


@pytest.mark.parametrize(
    ("instructions", "change"),
    [
        (Instructions(), "set PHOTO_HOSTS in .env and start `make run` again"),
        (
            Deployment("dev", "warehouse-1").instructions,
            "set photo_hosts in infra/envs/dev.tfvars, then make deploy ENV=dev",
        ),
    ],
)
def test_another_host_of_photos_is_set_where_the_installation_has_it(
    instructions: Instructions, change: str
) -> None:
    lines = [line(1, "a", "refused: its host is not in PHOTO_HOSTS")]

    story = tell_photos(PhotoEvidence([Photo("a", "")], [], lines), instructions)

    assert change in story.next_step


def test_the_latest_state_of_a_photo_counts_but_storage_counts_more() -> None:
    lines = [
        line(2, "b", "404: Not Found"),
        line(1, "b", "403: Forbidden"),
        line(1, "a", "timeout"),
    ]

    history, state, needs_person = story_of("a b c", "a", *lines)

    assert history == [
        "b  404: Not Found (2026-11-01 08:00:02 UTC)",
        "c  waiting: no attempt in the period searched",
        "a  stored",
    ]
    assert (
        state == "1 of 3 photos in storage, 2 waiting; Pub/Sub delivers the item again for hours."
    )
    assert not needs_person


def test_a_refused_photo_needs_a_person() -> None:
    refused = line(1, "a", "refused: it is larger than 64 MiB")

    history, state, needs_person = story_of("a b", "", refused)

    assert history[0] == "a  refused: it is larger than 64 MiB (2026-11-01 08:00:01 UTC)"
    assert (state, needs_person) == ("0 of 2 photos in storage, 1 refused, 1 waiting.", True)


@pytest.mark.parametrize("state", ["stored", "present"])
def test_a_photo_that_was_deleted_from_storage_is_not_called_stored(state: str) -> None:
    history, _, _ = story_of("a", "", line(1, "a", state))

    assert history == ["a  waiting: no attempt in the period searched"]


def test_an_item_without_photos_and_one_with_very_many_are_short() -> None:
    assert story_of("", "") == ([], "0 of 0 photos in storage.", False)
    history, _, _ = story_of(" ".join(f"a{number}" for number in range(100)), "a1")
    assert len(history) == 21
    assert history[-1] == "and 80 more"


def archive_entry(**fields: str) -> dict[str, Any]:
    """A log entry of archive, at second 9, about no event."""
    entry = log_entry("archive", 9, **fields)
    del entry["jsonPayload"]["event_id"]
    return entry


@pytest.fixture
def bucket(background: Background) -> Iterator[CloudStorage]:
    server = CloudStorage()
    background.run(server.start())
    yield server
    background.run(server.stop())


def test_trace_of_an_item_lists_its_photos_in_the_bucket_and_the_others(
    operator: Operator, bucket: CloudStorage
) -> None:
    item = catalogue.make_item(random.Random(1), photos=2)
    item_id = item["_id"]
    stored, missing = photos_of(item)
    prefix = "warehouse-1-dimmy-dev-data"
    bucket.put(f"{prefix}/items/{item_id}.json", json.dumps(item).encode())
    bucket.put(f"{prefix}/{photo_name(item_id, stored.name)}", b"a photo")
    fields = {"item_id": item_id, "photo": missing.name, "state": "404: Not Found"}
    waiting = archive_entry(message="photo", **fields)
    operator.set_answers(("logging read", json.dumps([waiting]), 0), **WITH_ARCHIVE)

    operator.run("trace", ITEM=item_id, STORAGE_EMULATOR_HOST=bucket.url)

    assert f"{stored.name}  stored" in operator.printed
    assert f"{missing.name}  404: Not Found (2026-11-01 08:00:09 UTC)" in operator.printed
    assert "1 of 2 photos in storage, 1 waiting" in operator.printed
    queries = [call[3] for call in operator.calls if call[1:3] == ["logging", "read"]]
    assert any(f'AND jsonPayload.item_id="{item_id}"' in query for query in queries)
    assert all('"dimmy-dev-archive"' in query for query in queries)


def test_status_counts_what_waits_for_photos_and_names_the_remedies(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    monitoring = endpoint((200, time_series(3)))
    refused = archive_entry(message="photos refused", item_id="67c8")
    operator.set_answers(
        ("logging read photos refused", json.dumps([refused, refused]), 0), **WITH_ARCHIVE
    )

    assert operator.run("status", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url) == 1

    for row in (
        r"items waiting for photos +3",
        r"dead letters of archive +3 +make logs SEVERITY=WARNING ENV=dev",
        r"items with refused photos +1 in the last day +make trace ITEM=67c8 ENV=dev",
    ):
        assert re.search(row, operator.printed), row


def test_status_says_nothing_of_photos_where_they_are_not_archived(
    operator: Operator, endpoint: Callable[..., Endpoint]
) -> None:
    monitoring = endpoint((200, {}))

    operator.run("status", CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=monitoring.url)

    assert "photos" not in operator.printed
    assert "archive" not in operator.printed
