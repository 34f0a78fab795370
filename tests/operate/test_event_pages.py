"""The events on the page of `make view`: the list, its states, and the story of each.

One of them: .venv/bin/pytest tests/operate/test_event_pages.py -k state
"""

import re
from contextlib import closing
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path

import pytest
import requests

from operate.installation import LogLine, Place, QueuedEvent
from operate.view.events import EventList, Receipts, Sources, search
from operate.view.index import Index
from operate.view.stories import Stories
from pipeline.store.receipts import DeliveryId, Kind, Receipt
from pipeline.store.settings import StorageSettings
from sandbox.log_file import LogFile
from sandbox.pubsub_admin import subscription_path
from sandbox.pubsub_file import QUEUE_FILE, QueueFile, StoredMessage
from sandbox.stack import DEAD_LETTERS, RESOLVE
from support.page import HOSTILE, Serve, Served
from support.waiting import wait_for

NOW = datetime.now(UTC)
STATES = {
    "msg_waits": "waiting",
    "msg_partial": "partial, waiting",
    "msg_dead": "partial, dead letter",
    "msg_given_up": "dead letter",
    "msg_refused": "refused",
    "": "refused",
    "msg_doctor1": "unrecognised",
    "msg_done": "done",
}

QUEUE = {
    "msg_waits": RESOLVE,
    "msg_partial": RESOLVE,
    "msg_dead": DEAD_LETTERS,
    "msg_given_up": DEAD_LETTERS,
}


@pytest.fixture
def url(tmp_path: Path, serve: Serve) -> str:
    """The page of an installation with an event in each state."""
    write_log(LogFile(tmp_path))
    write_queue(tmp_path / QUEUE_FILE)
    write_receipts(tmp_path / "events")
    (tmp_path / "items").mkdir()
    (tmp_path / "items" / "67c8.json").write_text('{"_id": "67c8"}')
    url = serve(f"file://{tmp_path}")
    wait_for(lambda: set(states(url)) == set(STATES), "the events")
    return url


def write_log(log_file: LogFile) -> None:
    accepted: dict[str, object] = {
        "message": "webhook published",
        "outcome": "published",
        "bytes": 1490,
    }
    refused: dict[str, object] = {
        "message": "webhook signature_mismatch",
        "outcome": "signature_mismatch",
        "severity": "WARNING",
        "status": 401,
    }
    for fields in (
        accepted | {"severity": "INFO", "event_id": "msg_waits"},
        refused | {"event_id": "msg_refused"},
        refused | {"event_id": "msg_done"},  # and accepted later
        refused | {"status": 400, "outcome": "malformed", "reason": HOSTILE},
    ):
        log_file.add("receive", fields)


def write_queue(path: Path) -> None:
    with closing(QueueFile(path)) as queue:
        for number, (event_id, subscription) in enumerate(QUEUE.items()):
            attributes = {"svix-id": event_id}
            message = StoredMessage(number, 1, "2026-11-01T08:00:00Z", attributes, b"{}")
            queue.add([subscription_path(subscription)], [message])


def write_receipts(folder: Path) -> None:
    folder.mkdir()
    missing = "404: Item not found"
    receipts: dict[str, tuple[Kind, dict[str, str]]] = {
        "msg_done": ("items.scanned", {"67c8": "stored"}),
        "msg_partial": ("items.scanned", {"67c8": "stored", "67c9": missing}),
        "msg_dead": ("items.scanned", {"67ca": missing}),
        "msg_doctor1": ("unrecognised", {}),
    }
    for event_id, (kind, items) in receipts.items():
        delivery = DeliveryId("2026-11-01T08:00:00.123456Z", "1")
        receipt = Receipt(event_id, kind, delivery, 1, items, b"{}")
        (folder / f"{event_id}.json").write_bytes(receipt.line())


def replace(path: Path, content: bytes) -> None:
    """Write a file as the storage library does, which changes the time of its folder."""
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").rename(path)


def states(url: str, query: str = "") -> dict[str, str]:
    """The ids and the states of the listed events."""
    response = requests.get(f"{url}/events{query}", timeout=5)
    response.raise_for_status()
    row = r'<tr>\s*<td class="code">(.*?)</td>.*?class="state-of.*?>(.*?)</td>'
    found = re.findall(row, response.text, re.DOTALL)
    ids = (re.search(r'/events/([^"]+)', cell) for cell, _ in found)
    return {each[1] if each else "": state for each, (_, state) in zip(ids, found, strict=True)}


def test_every_event_is_listed_with_its_state(url: str) -> None:
    assert states(url) == STATES


@pytest.mark.parametrize(
    ("query", "event_ids"),
    [
        ("?state=waiting", ["msg_partial", "msg_waits"]),
        ("?state=partial", ["msg_dead", "msg_partial"]),
        ("?state=dead+letter", ["msg_dead", "msg_given_up"]),
        ("?state=refused", ["", "msg_refused"]),
        ("?state=unrecognised", ["msg_doctor1"]),
        ("?state=done", ["msg_done"]),
        ("?q=67c9", ["msg_partial"]),
        ("?q=401+SIGNATURE", ["msg_refused"]),
        ("?state=waiting&q=67ca", []),
    ],
)
def test_events_are_chosen_by_state_and_by_words(
    url: str, query: str, event_ids: list[str]
) -> None:
    assert sorted(states(url, query)) == event_ids


def test_a_state_that_does_not_exist_is_no_page(url: str) -> None:
    assert requests.get(f"{url}/events?state=lost", timeout=5).status_code == 404


def test_the_tiles_lead_to_their_events(url: str) -> None:
    def page() -> str:
        return requests.get(url, timeout=5).text

    wait_for(lambda: "dead letters" in page(), "the status")
    for name, link in {
        "events waiting": "/events?state=waiting",
        "dead letters": "/events?state=dead%20letter",
        "refused webhooks": "/events?state=refused",
        "last event": "/events",
    }.items():
        assert f'<a href="{link}">{name}</a>' in page()


def test_a_search_for_items_names_the_events_that_match(url: str) -> None:
    assert '<a href="/events?q=67c9">1 event</a>' in requests.get(f"{url}/?q=67c9", timeout=5).text


def test_an_event_tells_its_story_and_leads_to_its_items(url: str) -> None:
    page = unescape(requests.get(f"{url}/events/msg_partial", timeout=5).text)

    assert "1 item not stored yet; it waits on disk, and `make run` goes on with it." in page
    assert "To do:" in page
    assert '<li><a href="/items/67c8">67c8</a> stored</li>' in page
    assert "<li>67c9 404: Item not found</li>" in page
    assert '<a href="/events/msg_partial.json">' in page
    assert requests.get(f"{url}/events/msg_partial.json", timeout=5).json()["items"]


def test_a_refused_event_says_why_and_one_of_ours_who_sent_it(url: str) -> None:
    refused = unescape(requests.get(f"{url}/events/msg_refused", timeout=5).text)

    assert "Refused with 401, signature_mismatch" in refused
    assert "The signing secret is not that of the endpoint" in refused
    assert "msg_doctor1 (sent by make doctor)" in requests.get(f"{url}/events", timeout=5).text


def test_hostile_reasons_are_shown_as_text(url: str) -> None:
    page = requests.get(f"{url}/events?state=refused", timeout=5).text

    assert HOSTILE in unescape(page)
    assert "<img src=x" not in page


def test_an_event_of_very_many_items_shows_those_that_are_missing_first(
    url: str, tmp_path: Path
) -> None:
    items = {f"{number:024x}": "stored" for number in range(3000)} | {"67cb": "404: Item not found"}
    receipt = Receipt(
        "msg_large", "items.scanned", DeliveryId("2026-11-01T08:00:00Z", "1"), 1, items, b"{}"
    )
    (tmp_path / "events" / "msg_large.json").write_bytes(receipt.line())

    page = requests.get(f"{url}/events/msg_large", timeout=5).text

    first, *_, last = re.findall(r"<li>(.*?)</li>", page.partition("<h3>Items</h3>")[2])[:501]
    assert first == "67cb 404: Item not found"
    assert last == "and 2,501 more"


def test_the_story_follows_the_receipt(url: str, tmp_path: Path) -> None:
    assert "not stored yet" in requests.get(f"{url}/events/msg_partial", timeout=5).text
    receipt = tmp_path / "events" / "msg_partial.json"
    replace(receipt, receipt.read_bytes().replace(b"404: Item not found", b"stored"))

    wait_for(
        lambda: "Done: 2 items of 2" in requests.get(f"{url}/events/msg_partial", timeout=5).text,
        "the new story",
    )


def test_other_sites_cannot_make_the_page_read(url: str) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}

    assert requests.get(f"{url}/events/msg_x", headers=headers, timeout=5).status_code == 403
    headers["Sec-Fetch-Mode"] = "navigate"
    assert requests.get(f"{url}/events", headers=headers, timeout=5).status_code == 200


# Without a page


def receipt_of(event_id: str, state: str, received_at: str = "2026-11-01T08:00:00Z") -> Receipt:
    delivery = DeliveryId(received_at, "1")
    return Receipt(event_id, "items.scanned", delivery, 1, {"67c8": state}, b"{}")


def published(event_id: str, time: datetime) -> LogLine:
    return LogLine(time, "receive", {"event_id": event_id, "bytes": 1490})


def test_where_pubsub_does_not_say_what_waits_an_unfinished_event_may_be_a_dead_letter() -> None:
    receipts = {"msg_1": receipt_of("msg_1", "404")}
    sources = Sources([published("msg_2", NOW)], [], None)

    new, partial = EventList().of(Receipts(receipts), sources)

    assert (new.states, partial.states) == (("waiting",), ("partial",))
    for state in ("waiting", "partial", "dead letter"):
        assert search([partial], "", state, 10)[1] == 1


def test_nothing_follows_from_a_receipt_that_was_not_read() -> None:
    lines = [published("msg_old", NOW - timedelta(hours=3)), published("msg_new", NOW)]
    sources = Sources(lines, [], None)

    events = EventList().of(Receipts({}, since=NOW - timedelta(hours=1)), sources)

    assert [event.event_id for event in events] == ["msg_new"]
    # What does not wait has been resolved.
    assert EventList().of(Receipts({}), Sources(lines, [], {})) == []


def test_a_row_is_made_again_only_for_another_receipt_or_place() -> None:
    events, receipts = EventList(), {"msg_1": receipt_of("msg_1", "404")}
    waits = {"msg_1": QueuedEvent(Place.PUBSUB, NOW)}
    (first,) = events.of(Receipts(receipts), Sources([], [], waits))

    (same,) = events.of(Receipts(receipts), Sources([], [], waits))
    (moved,) = events.of(Receipts(receipts), Sources([], [], {}))
    (done,) = events.of(Receipts({"msg_1": receipt_of("msg_1", "stored")}), Sources([], [], {}))

    assert same is first
    assert [each.states for each in (first, moved, done)] == [
        ("partial", "waiting"),
        ("partial",),
        ("done",),
    ]


@pytest.mark.parametrize("received_at", ["", "0001-01-01T00:00:00", "by hand"])
def test_a_receipt_with_an_odd_time_is_listed(received_at: str) -> None:
    receipts = {
        "msg_1": receipt_of("msg_1", "stored", received_at),
        "msg_2": receipt_of("msg_2", "stored"),
    }

    events = EventList().of(Receipts(receipts), Sources([], [], {}))

    assert [event.event_id for event in events] == ["msg_2", "msg_1"]


def test_the_receipts_can_be_used_while_others_are_read(tmp_path: Path) -> None:
    write_receipts(tmp_path / "events")
    settings = StorageSettings(f"file://{tmp_path}")
    index = Index(settings, 100)
    index.refresh()
    reading = iter(index.receipts.receipts)
    next(reading)

    (tmp_path / "events" / "msg_new.json").write_bytes(receipt_of("msg_new", "stored").line())
    index.refresh()

    assert len([*reading]) == 3
    assert "msg_new" in index.receipts.receipts


class Patient(Served):
    status_poll_seconds = 3600.0


def test_the_story_of_another_version_of_a_receipt_is_read_at_once(tmp_path: Path) -> None:
    write_receipts(tmp_path / "events")
    settings = StorageSettings(f"file://{tmp_path}")
    index = Index(settings, 100)
    index.refresh()
    stories = Stories(Patient(tmp_path, settings), index)
    first = stories.evidence("msg_partial")
    assert stories.evidence("msg_partial") is first

    stored = receipt_of("msg_partial", "stored")
    replace(tmp_path / "events" / "msg_partial.json", stored.line())
    index.refresh()

    receipt = stories.evidence("msg_partial").receipt
    assert receipt
    assert receipt.is_finished


@pytest.mark.parametrize("event_id", ["msg_unknown", "..%2fsecret", "%00", "a%20b"])
def test_an_unknown_event_is_no_page(url: str, event_id: str) -> None:
    response = requests.get(f"{url}/events/{event_id}", timeout=5)

    assert response.status_code == 404
