"""`archive` as Pub/Sub sees it: which items it acknowledges, and what it has stored then.

One of them: .venv/bin/pytest tests/archive/test_archiver.py -k late
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline.archive.keeper import SMALL_PHOTO_BYTES
from pipeline.archive.photos import name_of
from sandbox import catalogue
from sandbox.dimmy_api import DimmyApi
from sandbox.photos import FaultKind, PhotoFault
from support.archiving import (
    RNG,
    RunningArchive,
    envelope,
    item_with,
    message_of,
    start_archive,
)
from support.memory import peak_mebibytes
from support.waiting import wait_for

pytestmark = pytest.mark.xdist_group("archive")


@pytest.fixture(scope="module")
def shared_archive(
    api: DimmyApi, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningArchive]:
    folder = tmp_path_factory.mktemp("archive")
    function = start_archive(api, folder)
    yield RunningArchive(function, api, folder)
    function.stop()


@pytest.fixture
def archive(shared_archive: RunningArchive) -> Iterator[RunningArchive]:
    yield shared_archive
    shared_archive.photos.release()
    shared_archive.photos.clear_faults()


def new_name() -> str:
    """The name of a photo that no other test has."""
    return catalogue.new_id(RNG)


def test_an_item_is_acknowledged_once_all_its_photos_are_stored(archive: RunningArchive) -> None:
    names = [new_name() for _ in range(3)]
    archive.photos.put(names[0], b"\xff\xd8 a photo")
    item = archive.item_with(*names)

    status, attempt = archive.deliver(item)

    assert status == 204
    assert archive.stored(item) == archive.photos_of(*names)
    assert attempt["message"] == "photos archived"
    assert attempt["severity"] == "INFO"
    counts = {"photos": 3, "stored": 3, "present": 0, "waiting": 0, "refused": 0}
    assert attempt.items() >= (counts | {"item_id": item["_id"], "attempt": 1}).items()
    assert attempt["milliseconds"] > 0


def test_an_item_without_photos_is_acknowledged(archive: RunningArchive) -> None:
    for item in (
        item_with(),
        catalogue.make_item(RNG, photos=0),
        item_with() | {"photographing": None},
        item_with() | {"photographing": {"photos": 7}},
        item_with() | {"photographing": [None, 7, {"photos": "x"}, {"photos": [None, "x", 7]}]},
    ):
        status, attempt = archive.deliver(item)

        assert (status, attempt["photos"]) == (204, 0)


def test_a_photo_is_fetched_once_however_often_its_item_is_announced(
    archive: RunningArchive,
) -> None:
    item = archive.item_with(name := new_name())
    archive.deliver(item)
    later = catalogue.updated(item, flow_id="another")

    for announced in (item, later, later):
        status, attempt = archive.deliver(announced)
        assert (status, attempt["present"], attempt["stored"]) == (204, 1, 0)

    assert archive.photos.requests_for(name) == 1


def test_an_address_that_occurs_twice_in_an_item_is_fetched_once(archive: RunningArchive) -> None:
    name = new_name()
    item = archive.item_with(name, name, f"{name}?signature=1", f"{name}?signature=2")

    status, attempt = archive.deliver(item)

    assert (status, attempt["photos"], attempt["stored"]) == (204, 1, 1)
    (request,) = [each for each in archive.photos.requests if each.name == name]
    assert request.query == "signature=2", "the newest signature counts"
    assert archive.stored(item) == archive.photos_of(name)


def test_a_photo_of_the_same_file_name_in_another_folder_is_another_photo(
    archive: RunningArchive,
) -> None:
    item = archive.item_with("front/photo.jpg", "back/photo.jpg")

    assert archive.deliver(item)[0] == 204

    assert archive.stored(item) == archive.photos_of("front/photo.jpg", "back/photo.jpg")
    assert len(archive.stored(item)) == 2
    only_the_other = item | {"photographing": archive.item_with("side/photo.jpg")["photographing"]}
    assert archive.deliver(only_the_other)[0] == 204
    assert len(archive.stored(item)) == 3


@pytest.mark.parametrize("status", [403, 404, 500, 503, 410, 429])
def test_a_late_photo_is_waited_for_and_the_others_are_stored(
    archive: RunningArchive, status: int
) -> None:
    late, stored = new_name(), new_name()
    archive.photos.fail(PhotoFault("status", status, name=late, times=2))
    item = archive.item_with(late, stored)

    answer, attempt = archive.deliver(item)

    assert answer == 503
    assert archive.stored(item) == archive.photos_of(stored)
    assert (attempt["message"], attempt["severity"]) == ("photos waiting", "WARNING")
    assert (attempt["stored"], attempt["waiting"]) == (1, 1)
    assert attempt["reason"].startswith(f"{name_of(f'/photos/{late}')}: {status}: ")
    assert archive.deliver(item, attempt=2)[0] == 503
    answer, attempt = archive.deliver(item, attempt=3)
    assert (answer, attempt["stored"], attempt["present"], attempt["attempt"]) == (204, 1, 1, 3)
    assert archive.stored(item) == archive.photos_of(late, stored)
    assert archive.photos.requests_for(stored) == 1


INCOMPLETE: dict[FaultKind, str] = {
    "cut": "connection failed: ",
    "unmarked end": "200, but without the size of the photo",
    "empty": "200, but empty",
    "compressed": "200, but encoded as gzip",
}


@pytest.mark.parametrize("kind", INCOMPLETE)
@pytest.mark.parametrize("size", [100_000, 12_000_000], ids=["small", "large"])
def test_a_photo_that_does_not_arrive_whole_is_not_stored(
    archive: RunningArchive, kind: FaultKind, size: int
) -> None:
    archive.photos.put(name := new_name(), RNG.randbytes(size))
    archive.photos.fail(PhotoFault(kind, name=name, times=1))
    item = archive.item_with(name)

    assert archive.deliver(item)[0] == 503

    assert archive.stored(item) == {}
    assert archive.state_of(item, name).startswith(INCOMPLETE[kind])
    assert archive.deliver(item, attempt=2)[0] == 204
    assert archive.stored(item) == archive.photos_of(name)


@pytest.mark.parametrize("content_type", ["text/html", "application/json", "application/xml"])
def test_a_notice_in_place_of_a_photo_is_not_stored(
    archive: RunningArchive, content_type: str
) -> None:
    archive.photos.put(name := new_name(), b"Sign in to see this", content_type)
    item = archive.item_with(name)

    assert archive.deliver(item)[0] == 503

    assert archive.stored(item) == {}
    assert archive.state_of(item, name) == f"200, but {content_type} instead of a photo"
    archive.photos.put(name, RNG.randbytes(1_000))
    assert archive.deliver(item, attempt=2)[0] == 204
    assert archive.stored(item) == archive.photos_of(name)


@pytest.mark.parametrize("kind", ["too large", "endless"])
def test_a_photo_that_is_too_large_is_never_stored_and_not_waited_for(
    archive: RunningArchive, kind: FaultKind
) -> None:
    name, stored = new_name(), new_name()
    archive.photos.fail(PhotoFault(kind, name=name))
    item = archive.item_with(name, stored)

    status, attempt = archive.deliver(item)

    assert status == 204
    assert archive.state_of(item, name) == "refused: it is larger than 64 MiB"
    assert (attempt["message"], attempt["severity"]) == ("photos refused", "WARNING")
    assert (attempt["stored"], attempt["refused"], attempt["waiting"]) == (1, 1, 0)
    assert archive.stored(item) == archive.photos_of(stored)


def test_an_address_that_is_not_allowed_is_refused_and_not_waited_for(
    archive: RunningArchive,
) -> None:
    """What is refused, and why, is in test_addresses.py."""
    stored, url = new_name(), archive.api.photo_url_prefix
    addresses = [
        "https://photos.example.com/1",
        "http://169.254.169.254/computeMetadata/v1/",
        url.replace("http://", "http://user:password@") + "2",
        url.replace("127.0.0.1", "localhost") + "3",
        "file:///etc/passwd",
        "",
        None,
        7,
        ["https://dimmy.s3.amazonaws.com/4"],
    ]
    item = item_with(*addresses, url + stored)

    status, attempt = archive.deliver(item)

    assert status == 204
    assert attempt["message"] == "photos refused"
    assert (attempt["stored"], attempt["waiting"]) == (1, 0)
    assert attempt["refused"] == attempt["photos"] - 1
    assert attempt["reason"].endswith(
        ": refused: its address is not on a host of PHOTO_HOSTS: photos.example.com"
    )
    assert archive.stored(item) == archive.photos_of(stored)


def test_redirects_are_followed_within_the_allowed_hosts(archive: RunningArchive) -> None:
    name, target = new_name(), new_name()
    archive.photos.put(target, b"elsewhere")
    for status, location in (
        (301, f"/photos/{target}"),
        (302, target),
        (303, archive.api.photo_url_prefix + target),
        (307, f"{target}?X-Amz-Signature=1"),
        (308, f"../photos/{target}"),
    ):
        archive.photos.fail(PhotoFault("redirect", status, location, name=name, times=1))
        item = archive.item_with(name)

        assert archive.deliver(item)[0] == 204

        assert archive.stored(item) == {name_of(f"/photos/{name}"): b"elsewhere"}


@pytest.mark.parametrize(
    "location",
    [
        "https://photos.example.com/1",
        "//photos.example.com/1",
        "http://169.254.169.254/computeMetadata/v1/",
        "file:///etc/passwd",
        "http://[::1",
        "",
        "/a b",
    ],
)
def test_a_redirect_to_another_host_is_not_followed(archive: RunningArchive, location: str) -> None:
    """It is waited for: another answer may come, or PHOTO_HOSTS be changed."""
    archive.photos.fail(PhotoFault("redirect", 302, location, name=(name := new_name())))
    item = archive.item_with(name)

    assert archive.deliver(item)[0] == 503

    assert archive.stored(item) == {}
    if location:
        state = archive.state_of(item, name)
        assert state.startswith("302, but the address that it leads to ")


def test_redirects_do_not_go_on_for_ever(archive: RunningArchive) -> None:
    name = new_name()
    archive.photos.fail(PhotoFault("redirect", 302, f"/photos/{name}", name=name))
    item = archive.item_with(name)

    assert archive.deliver(item)[0] == 503

    assert archive.state_of(item, name) == "more than 3 redirects"
    assert archive.photos.requests_for(name) == 4


def test_a_photo_that_comes_byte_by_byte_ends_with_the_attempt(
    api: DimmyApi, tmp_path: Path
) -> None:
    function = start_archive(api, tmp_path, ATTEMPT_SECONDS="5")
    try:
        archive = RunningArchive(function, api, tmp_path)
        slow, stored = new_name(), new_name()
        api.photos.fail(PhotoFault("trickle", name=slow))
        item = archive.item_with(slow, stored)

        status, attempt = archive.deliver(item)

        assert (status, attempt["stored"], attempt["waiting"]) == (503, 1, 1)
        assert archive.stored(item) == archive.photos_of(stored)
    finally:
        api.photos.clear_faults()
        function.stop()


def test_a_server_that_says_nothing_is_given_up_at_the_end_of_the_attempt(
    api: DimmyApi, tmp_path: Path
) -> None:
    function = start_archive(api, tmp_path, ATTEMPT_SECONDS="1")
    try:
        archive = RunningArchive(function, api, tmp_path)
        api.photos.hold()

        status, attempt = archive.deliver(archive.item_with(new_name()))

        assert status == 503
        assert attempt["reason"].endswith(": timeout")
    finally:
        api.photos.release()
        function.stop()


def test_simultaneous_requests_are_bounded(archive: RunningArchive) -> None:
    archive.photos.max_concurrent_requests = 0
    items = [archive.item_with(*(new_name() for _ in range(40))) for _ in range(3)]

    with ThreadPoolExecutor() as senders:
        answers = list(senders.map(archive.deliver, items))

    assert [status for status, _ in answers] == [204, 204, 204]
    assert archive.photos.max_concurrent_requests <= 8
    assert [len(archive.stored(item)) for item in items] == [40, 40, 40]


@pytest.mark.parametrize("size", [1_000, 12_000_000], ids=["small", "large"])
def test_two_simultaneous_attempts_at_a_photo_both_succeed(
    archive: RunningArchive, size: int
) -> None:
    """A small one is stored by one of them. A large one, written in parts, may be by both."""
    archive.photos.put(name := new_name(), RNG.randbytes(size))
    item = archive.item_with(name)
    archive.photos.hold()

    with ThreadPoolExecutor() as senders:
        answers = [senders.submit(archive.deliver, item) for _ in range(2)]
        wait_for(lambda: archive.photos.requests_for(name) == 2, "both requests")
        archive.photos.release()
        assert [answer.result()[0] for answer in answers] == [204, 204]

    assert archive.stored(item) == archive.photos_of(name)
    wait_for(lambda: len(archive.attempts_at(item)) == 2, "the lines of both attempts")
    counts = [
        sum(line[kind] for line in archive.attempts_at(item)) for kind in ("stored", "present")
    ]
    assert counts == [1, 1] or (size > SMALL_PHOTO_BYTES and counts == [2, 0])


def test_nothing_is_sent_along(archive: RunningArchive) -> None:
    archive.deliver(archive.item_with(name := new_name()))

    (request,) = [each for each in archive.photos.requests if each.name == name]
    sent = {header.lower() for header in request.headers}
    assert sent == {"host", "user-agent", "accept", "accept-encoding", "connection"}
    assert request.headers["Accept-Encoding"] == "identity"


def test_no_signature_is_logged(archive: RunningArchive) -> None:
    name, other = new_name(), new_name()
    archive.photos.fail(PhotoFault("status", 403, name=name))
    archive.photos.fail(
        PhotoFault("redirect", 302, "https://evil.example/?sig=hunter2", name=other)
    )
    item = archive.item_with(f"{name}?sig=hunter2", f"{other}?sig=hunter2")

    assert archive.deliver(item)[0] == 503

    assert not any("hunter2" in line for line in archive.function.lines)
    assert not any("hunter2" in path for path in archive.stored(item))


def test_no_signature_is_logged_by_a_library(api: DimmyApi, tmp_path: Path) -> None:
    """Google sets LOG_EXECUTION_ID, with which the framework logs what libraries report.

    urllib3 reports a response whose type lacks a parameter, with the whole URL.
    """
    function = start_archive(api, tmp_path, LOG_EXECUTION_ID="true")
    try:
        archive = RunningArchive(function, api, tmp_path)
        archive.photos.put(name := new_name(), b"a photo", "multipart/form-data")

        assert archive.deliver(archive.item_with(f"{name}?sig=hunter2"))[0] == 204
    finally:
        function.stop()

    assert not any("hunter2" in line for line in function.lines)


def test_an_item_that_was_too_large_for_its_message_is_read_from_storage(
    archive: RunningArchive,
) -> None:
    item = archive.item_with(name := new_name()) | {"signature": "x" * 2_000_000}
    message = message_of(item)
    assert message["item"] is None
    missing = archive.push(envelope(message))
    assert missing.status_code == 503
    (archive.folder / "items").mkdir(exist_ok=True)
    (archive.folder / "items" / f"{item['_id']}.json").write_text(json.dumps(item))

    assert archive.push(envelope(message)).status_code == 204

    assert archive.stored(item) == archive.photos_of(name)


@pytest.mark.parametrize("item_id", ["../../x", "a/b", "", None, 7, ".lock", "x" * 129])
def test_a_hostile_id_is_refused_before_anything_is_read_or_stored(
    archive: RunningArchive, item_id: object
) -> None:
    before = len(archive.photos.requests)
    item = archive.item_with(new_name())

    for changes in ({}, {"item": None, "object": "../secret"}):
        response = archive.push(envelope(message_of(item, item_id=item_id, **changes)))
        assert response.status_code == 400
        assert response.json()["error"] == "malformed_item"

    assert len(archive.photos.requests) == before
    assert {path.name for path in archive.folder.iterdir()} <= {"photos", "items"}


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"[]", b"7", b'{"item": "{}"}', b'{"item_id": "1", "item": 7}']
    + [b'{"item_id": "1", "item": %s}' % text for text in (b'"x"', b'"[]"', b'"\\ud800"', b"{}")],
)
def test_a_message_of_another_topic_is_refused(archive: RunningArchive, data: bytes) -> None:
    response = archive.push(envelope(data))

    assert response.status_code == 400
    assert response.json()["error"] == "malformed_item"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"message": {"messageId": "1", "data": "***"}}'])
def test_a_malformed_push_request_is_refused(archive: RunningArchive, body: bytes) -> None:
    response = archive.push(body)

    assert response.status_code == 400
    assert response.json()["error"] == "malformed_envelope"


def test_storage_that_cannot_be_written_to_is_waited_for(archive: RunningArchive) -> None:
    item = archive.item_with(name := new_name())
    blocked = archive.folder / "photos" / item["_id"]
    blocked.parent.mkdir(exist_ok=True)
    blocked.write_text("a file in place of the folder")

    assert archive.deliver(item)[0] == 503
    assert archive.state_of(item, name).startswith("storage: photos/")

    blocked.unlink()
    assert archive.deliver(item, attempt=2)[0] == 204
    assert archive.stored(item) == archive.photos_of(name)


def test_an_attempt_without_a_number_is_logged_so(archive: RunningArchive) -> None:
    assert archive.deliver(archive.item_with(new_name()), attempt=None)[1]["attempt"] is None


def test_the_memory_of_large_photos_is_bounded(api: DimmyApi, tmp_path: Path) -> None:
    """Eight photos of 30 MB at once, which have 240 MB together."""
    function = start_archive(api, tmp_path, LOG_LEVEL="INFO")
    try:
        archive = RunningArchive(function, api, tmp_path)
        archive.deliver(archive.item_with(new_name()))
        before = peak_mebibytes(function)
        names = [new_name() for _ in range(8)]
        for name in names:
            api.photos.put(name, RNG.randbytes(30_000_000))
        item = archive.item_with(*names)

        status, _ = archive.deliver(item)

        taken = peak_mebibytes(function) - before
    finally:
        function.stop()
    print(f"Eight photos of 30 MB took {taken:.0f} MiB beyond {before:.0f} MiB.")
    assert status == 204
    assert archive.stored(item) == archive.photos_of(*names)
    assert taken < 8 * 20, "at most some parts of each photo may be in memory"


def test_the_memory_of_large_stored_items_is_bounded(api: DimmyApi, tmp_path: Path) -> None:
    """Eight messages at once that contain no item, because it has 30 MB."""
    function = start_archive(api, tmp_path, THREADS="8")
    try:
        archive = RunningArchive(function, api, tmp_path)
        rows = ["one of the many short texts of a large item"] * (30_000_000 // 46)
        item = item_with() | {"rows": rows}
        (tmp_path / "items").mkdir()
        (tmp_path / "items" / f"{item['_id']}.json").write_text(json.dumps(item))
        message = envelope(message_of(item) | {"item": None})

        with ThreadPoolExecutor(8) as senders:
            answers = list(senders.map(archive.push, [message] * 8))

        peak = peak_mebibytes(function)
    finally:
        function.stop()
    assert [answer.status_code for answer in answers] == [204] * 8
    assert peak < 450, "a deployed instance has 512 MiB"


def test_the_line_of_an_attempt_names_the_event(archive: RunningArchive) -> None:
    item = archive.item_with(new_name())
    message: dict[str, Any] = message_of(item, event_id="msg_1")

    archive.push(envelope(message))

    (attempt,) = wait_for(lambda: archive.attempts_at(item), "the line of the attempt")
    assert attempt["event_id"] == "msg_1"
