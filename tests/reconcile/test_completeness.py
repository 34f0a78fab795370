"""`reconcile` never reports a window as done that it has not read to its end.

One of them: .venv/bin/pytest tests/reconcile/test_completeness.py -k deleted
"""

import itertools
import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.deadline import Deadline
from pipeline.dimmy.client import DimmyClient
from pipeline.dimmy.request_statistics import RequestStatistics
from pipeline.items_topic.topic import ItemsTopic
from pipeline.reconcile.pages import PAGE_ITEMS
from pipeline.reconcile.reconciler import NO_ITEMS
from pipeline.reconcile.settings import read_reconcile_settings
from pipeline.reconcile.storing import Attempt, ItemStorer
from pipeline.store.items import read_item
from pipeline.store.store import Store
from sandbox import catalogue
from sandbox.dimmy_api import DimmyApi, Fault
from support.reconciling import RunningReconcile, start_reconcile
from support.waiting import wait_for

DAY = {"start_date": "2026-01-05", "end_date": "2026-01-06"}
ROUTE_UNKNOWN = Fault(status=404, detail="Not Found")  # as FastAPI answers any unknown path

pytestmark = pytest.mark.xdist_group("reconcile")


@pytest.mark.parametrize("kind", ["bare status", "not json", "truncated", "cut"])
@pytest.mark.parametrize("after", [0, 1], ids=["the first page", "the second page"])
def test_an_answer_that_is_not_the_apis_does_not_end_a_window(
    reconcile: RunningReconcile, kind: str, after: int
) -> None:
    item_ids = reconcile.put(5, count=2 * PAGE_ITEMS)
    reconcile.api.fail(Fault(kind, status=404, after=after))  # type: ignore[arg-type]

    status, answer = reconcile.request(**DAY)

    assert (status, answer["error"]) == (503, "unfinished")
    assert answer["seen"] == after * PAGE_ITEMS

    reconcile.api.clear_faults()
    assert reconcile.request(**DAY)[0] == 200
    assert set(reconcile.stored()) == set(item_ids)


def test_an_empty_window_is_believed_where_the_api_lists_other_items(
    reconcile: RunningReconcile,
) -> None:
    reconcile.put(7)
    reconcile.api.fail(Fault(status=404, detail="Not Found", times=1))

    status, answer = reconcile.request(**DAY)

    assert (status, answer["seen"]) == (200, 0)
    assert "warning" not in answer


@pytest.mark.parametrize("fault", [None, ROUTE_UNKNOWN], ids=["no items", "unknown route"])
def test_an_api_that_lists_no_items_at_all_is_a_warning(
    reconcile: RunningReconcile, fault: Fault | None
) -> None:
    if fault:
        reconcile.put(5)
        reconcile.api.fail(fault)

    status, answer = reconcile.request(**DAY)

    assert (status, answer["seen"]) == (200, 0)
    assert "lists no items at all" in answer["warning"]


def test_a_page_with_a_malformed_item_is_recognised_when_it_comes_again(
    reconcile: RunningReconcile,
) -> None:
    reconcile.put(5, count=3)
    reconcile.api.put({"_id": "../evil", "created_at": "2026-01-05T09:00:00"})
    reconcile.api.ignores_skip = True

    status, answer = reconcile.request(**DAY)

    assert status == 503
    assert "same page" in answer["message"]
    assert len(reconcile.api.requests) <= 3


@pytest.mark.parametrize("deleted", [1, 3, PAGE_ITEMS], ids=str)
@pytest.mark.parametrize("place", ["the beginning", "the end"])
def test_items_that_are_deleted_between_two_pages_hide_no_other_item(
    reconcile: RunningReconcile, deleted: int, place: str
) -> None:
    item_ids = reconcile.put(5, count=3 * PAGE_ITEMS)
    first_page = item_ids[:PAGE_ITEMS]
    gone = first_page[:deleted] if place == "the beginning" else first_page[-deleted:]
    requests = itertools.count()

    def delete_after_the_first_page() -> float:
        if next(requests) == 1:
            for item_id in gone:
                reconcile.api.delete(item_id)
        return 0.0

    reconcile.api.latency = delete_after_the_first_page

    status, _ = reconcile.request(**DAY)

    assert status == 200
    assert set(item_ids) <= set(reconcile.stored())


@pytest.mark.parametrize("created", [1, PAGE_ITEMS + 50], ids=str)
def test_items_that_are_created_between_two_pages_hide_no_other_item(
    reconcile: RunningReconcile, created: int
) -> None:
    item_ids = reconcile.put(5, hour=12, count=3 * PAGE_ITEMS)
    requests = itertools.count()

    def create_after_the_first_page() -> float:
        if next(requests) == 1:
            reconcile.put(5, hour=1, count=created)
        return 0.0

    reconcile.api.latency = create_after_the_first_page

    status, _ = reconcile.request(**DAY)

    assert status == 200
    assert set(item_ids) <= set(reconcile.stored())


@pytest.mark.parametrize("place", [0, 250, 599], ids=["first", "middle", "last"])
@pytest.mark.parametrize("fault", ["too large", "too deep"])
def test_an_item_that_cannot_be_read_is_counted_and_the_others_are_stored(
    reconcile: RunningReconcile, place: int, fault: str
) -> None:
    item_ids = reconcile.put(5, count=600)
    item = json.loads(reconcile.api.body_of(item_ids[place]))
    if fault == "too large":
        body = json.dumps(item | {"note": "x" * (33 * 1024 * 1024)}).encode()
    else:
        body = json.dumps(item)[:-1].encode() + b',"x":' + b"[" * 9999 + b"]" * 9999 + b"}"
    reconcile.api.put(item, body)

    status, answer = reconcile.request(**DAY)

    assert status == 503
    assert (answer["seen"], answer["stored"], answer["failed"]) == (600, 599, 1)
    assert set(reconcile.stored()) == set(item_ids) - {item_ids[place]}
    assert len(reconcile.api.requests) < 60, "the page size must grow again"


def test_the_next_run_of_a_window_continues_where_the_last_one_ended(
    reconcile: RunningReconcile,
) -> None:
    week = {"start_date": "2026-01-05", "end_date": "2026-01-12"}
    days = [reconcile.put(day, count=3) for day in range(5, 12)]
    reconcile.api.fail(Fault(status=500, after=9))  # three requests for each day

    status, answer = reconcile.request(**week)

    assert (status, answer["reached"]) == (503, "2026-01-08T00:00:00+00:00")
    assert (answer["seen"], answer["stored"]) == (9, 9)
    assert [each["reached"] for each in reconcile.checkpoints().values()] == [answer["reached"]]

    reconcile.api.clear_faults()
    reconcile.api.requests.clear()
    status, answer = reconcile.request(**week)

    assert (status, answer["seen"], answer["stored"]) == (200, 12, 12)
    assert "start_date=2026-01-07T23" in reconcile.api.requests[0].query
    assert set(reconcile.stored()) == set(itertools.chain(*days))
    assert reconcile.checkpoints() == {}

    assert reconcile.request(**week)[1]["unchanged"] == 21, "a finished window begins again"


def test_an_item_that_could_not_be_stored_is_tried_again_by_the_next_run(
    reconcile: RunningReconcile,
) -> None:
    week = {"start_date": "2026-01-05", "end_date": "2026-01-12"}
    days = [reconcile.put(day, count=3) for day in range(5, 12)]
    blocked = reconcile.folder / "items" / f"{days[0][1]}.json"
    blocked.mkdir(parents=True)
    reconcile.api.fail(Fault(status=500, after=9))
    status, answer = reconcile.request(**week)
    assert (status, answer["failed"], answer["stored"]) == (503, 1, 8)
    assert "500" in answer["message"]

    reconcile.api.clear_faults()
    status, answer = reconcile.request(**week)
    assert (status, answer["complete"], answer["failed"]) == (503, True, 1)
    assert "1 items could not be stored" in answer["message"]

    blocked.rmdir()
    status, answer = reconcile.request(**week)
    assert (status, answer["stored"], answer["seen"]) == (200, 1, 1)
    assert set(reconcile.stored()) == set(itertools.chain(*days))
    assert reconcile.checkpoints() == {}


@pytest.mark.parametrize("is_listed", [True, False], ids=["listed", "interrupted"])
def test_nothing_is_lost_of_a_window_where_the_api_loses_its_routes(
    reconcile: RunningReconcile, is_listed: bool
) -> None:
    """Each item is then unknown, as if it had been deleted, and each slice is empty."""
    week = {"start_date": "2026-01-05", "end_date": "2026-01-12"}
    days = [reconcile.put(day, count=3) for day in range(5, 12)]
    blocked = reconcile.folder / "items" / f"{days[0][1]}.json"
    blocked.mkdir(parents=True)
    if not is_listed:
        reconcile.api.fail(Fault(status=500, after=9))
    assert reconcile.request(**week)[0] == 503
    blocked.rmdir()

    reconcile.api.clear_faults()
    reconcile.api.fail(ROUTE_UNKNOWN)
    status, answer = reconcile.request(**week)
    assert (status, answer["failed"], answer["complete"]) == (503, 1, is_listed)
    assert "1 items could not be stored" in answer["message"]

    reconcile.api.clear_faults()
    assert reconcile.request(**week)[0] == 200
    assert set(reconcile.stored()) == set(itertools.chain(*days))
    assert reconcile.checkpoints() == {}


def test_an_interrupted_window_is_continued_after_the_api_had_lost_its_routes(
    reconcile: RunningReconcile,
) -> None:
    week = {"start_date": "2026-01-05", "end_date": "2026-01-12"}
    days = [reconcile.put(day, count=3) for day in range(5, 12)]
    reconcile.api.fail(Fault(status=500, after=9))
    reached = reconcile.request(**week)[1]["reached"]
    reconcile.api.clear_faults()
    reconcile.api.fail(ROUTE_UNKNOWN)
    status, answer = reconcile.request(**week)
    assert (status, answer["warning"]) == (200, NO_ITEMS)

    reconcile.api.clear_faults()
    status, answer = reconcile.request(**week)

    assert (status, answer["began_at"]) == (200, reached)
    assert set(reconcile.stored()) == set(itertools.chain(*days))


def test_a_malformed_item_is_reported_even_if_a_later_run_finishes_the_window(
    reconcile: RunningReconcile,
) -> None:
    reconcile.put(5)
    reconcile.api.put({"_id": "../evil", "created_at": "2026-01-05T09:00:00"})
    reconcile.put(7)
    window = {"start_date": "2026-01-05", "end_date": "2026-01-08"}
    reconcile.api.fail(Fault(status=500, after=3))
    assert reconcile.request(**window)[0] == 503
    reconcile.api.clear_faults()

    status, answer = reconcile.request(**window)

    assert (status, answer["complete"]) == (503, True)
    assert "1 items could not be stored" in answer["message"]


def test_an_item_that_can_never_be_stored_is_reported_after_it_was_tried_again(
    reconcile: RunningReconcile,
) -> None:
    (item_id,) = reconcile.put(5)
    stored = reconcile.api.body_of(item_id)
    blocked = reconcile.folder / "items" / f"{item_id}.json"
    blocked.mkdir(parents=True)
    assert reconcile.request(**DAY)[0] == 503
    blocked.rmdir()
    blocked.write_bytes(stored)
    reconcile.api.put(json.loads(stored) | {"updated_at": "8 pm"})

    status, answer = reconcile.request(**DAY)

    assert (status, answer["seen"], answer["failed"]) == (503, 1, 1)
    assert "1 items could not be stored" in answer["message"]
    assert blocked.read_bytes() == stored


def test_many_items_that_could_not_be_stored_are_stored_by_several_short_runs(
    dimmy_api: DimmyApi, tmp_path: Path
) -> None:
    function = start_reconcile(dimmy_api, tmp_path, ATTEMPT_SECONDS="1")
    try:
        reconcile = RunningReconcile(function, dimmy_api, tmp_path)
        item_ids = reconcile.put(5, count=30)
        blocked = tmp_path / "items"
        blocked.write_text("no folder")
        wait_for(lambda: reconcile.request(**DAY)[1].get("complete"), "the end of the window")
        blocked.unlink()
        dimmy_api.latency = lambda: 0.1

        # Each of them tries at least one item that the ones before have not tried.
        statuses = [reconcile.request(**DAY)[0]]
        while statuses[-1] != 200 and len(statuses) <= len(item_ids):
            statuses.append(reconcile.request(**DAY)[0])

        assert statuses[-1] == 200
        assert set(reconcile.stored()) == set(item_ids)
    finally:
        dimmy_api.latency = lambda: 0.0
        function.stop()


def test_a_window_that_ends_in_the_future_is_listed_again(reconcile: RunningReconcile) -> None:
    """A scan that is made later is not taken for one that has been listed."""
    now = datetime.now(UTC)
    window = {
        "start_date": (now - timedelta(hours=1)).isoformat(),
        "end_date": (now + timedelta(hours=1)).isoformat(),
    }
    blocked_id = reconcile.put_at(now - timedelta(minutes=30))
    blocked = reconcile.folder / "items" / f"{blocked_id}.json"
    blocked.mkdir(parents=True)
    assert reconcile.request(**window)[0] == 503
    blocked.rmdir()
    late_id = reconcile.put_at(datetime.now(UTC))

    wait_for(lambda: reconcile.request(**window)[0] == 200, "a complete window")

    assert set(reconcile.stored()) == {blocked_id, late_id}


def test_a_route_that_disappears_during_a_run_does_not_end_the_window(
    reconcile: RunningReconcile,
) -> None:
    for day in (5, 6, 7):
        reconcile.put(day, count=3)
    reconcile.api.fail(Fault(status=404, detail="Not Found", after=3))

    status, answer = reconcile.request(start_date="2026-01-05", end_date="2026-01-08")

    assert (status, answer["seen"]) == (503, 3)
    assert answer["reached"] == "2026-01-06T00:00:00+00:00"


@pytest.mark.parametrize("way", ["an old checkpoint", "fresh"])
def test_a_run_begins_at_the_start_where_an_earlier_one_says_nothing(
    reconcile: RunningReconcile, way: str
) -> None:
    window = {"start_date": "2026-01-05", "end_date": "2026-01-07"}
    reconcile.put(5)
    reconcile.put(6)
    reconcile.api.fail(Fault(status=500, after=3))
    reconcile.request(**window)
    reconcile.api.clear_faults()
    late_id = reconcile.put(5, hour=1)[0]  # uploaded after the first run
    assert reconcile.request(**window)[1]["began_at"] == "2026-01-06T00:00:00+00:00"
    assert late_id not in reconcile.stored()

    reconcile.api.fail(Fault(status=500, after=3))
    reconcile.request(**window)
    reconcile.api.clear_faults()
    if way == "fresh":
        window["fresh"] = "true"
    else:
        _age_checkpoint(reconcile)
    status, answer = reconcile.request(**window)

    assert (status, answer["seen"]) == (200, 3)
    assert late_id in reconcile.stored()


def test_a_failed_item_is_tried_again_when_the_window_has_moved_past_it(
    reconcile: RunningReconcile,
) -> None:
    now = datetime.now(UTC)
    item_id = reconcile.put_at(now - timedelta(hours=47))
    blocked = reconcile.folder / "items" / f"{item_id}.json"
    blocked.mkdir(parents=True)
    assert reconcile.request(hours="48")[0] == 503
    moved = {"created_at": (now - timedelta(hours=49)).replace(tzinfo=None).isoformat()}
    reconcile.api.put(json.loads(reconcile.api.body_of(item_id)) | moved)
    _age_checkpoint(reconcile)

    status, answer = reconcile.request(hours="48")
    assert (status, answer["seen"], answer["failed"]) == (503, 1, 1)
    blocked.rmdir()
    assert reconcile.request(hours="48")[0] == 200

    assert set(reconcile.stored()) == {item_id}
    assert reconcile.checkpoints() == {}


def test_a_failed_item_does_not_keep_a_listed_window_from_being_listed_again(
    reconcile: RunningReconcile,
) -> None:
    now = datetime.now(UTC)
    blocked_id, edited_id = (reconcile.put_at(now - timedelta(days=days)) for days in (70, 80))
    (reconcile.folder / "items" / f"{blocked_id}.json").mkdir(parents=True)
    assert reconcile.request(hours="2160")[0] == 503
    reconcile.api.put(catalogue.updated(json.loads(reconcile.api.body_of(edited_id))))
    _age_checkpoint(reconcile)

    status, answer = reconcile.request(hours="2160")

    assert (status, answer["updated"]) == (503, 1)
    assert "1 items could not be stored" in answer["message"], "it is counted once"


def test_a_page_that_the_api_cannot_return_hides_only_the_item_in_question(
    reconcile: RunningReconcile,
) -> None:
    item_ids = reconcile.put(5, count=450)
    reconcile.api.unservable_ids = {item_ids[250]}

    status, answer = reconcile.request(**DAY)

    assert (status, answer["stored"], answer["failed"]) == (503, 449, 1)
    assert set(reconcile.stored()) == set(item_ids) - {item_ids[250]}


def test_a_slice_that_a_rate_limit_stops_is_made_shorter(reconcile: RunningReconcile) -> None:
    reconcile.put(5, count=2 * PAGE_ITEMS)
    reconcile.api.fail(Fault(status=429, retry_after="3600", after=1))

    assert reconcile.request(**DAY)[0] == 503

    (checkpoint,) = reconcile.checkpoints().values()
    assert checkpoint["slice_seconds"] == 6 * 3600


def test_an_item_at_the_very_start_of_a_window_is_found_whatever_the_api_includes(
    reconcile: RunningReconcile,
) -> None:
    item = catalogue.make_item(random.Random()) | {"created_at": "2026-01-05T00:00:00"}
    item_id = reconcile.api.put(item)
    reconcile.api.excludes_start = True

    assert reconcile.request(**DAY)[1]["stored"] == 1
    assert set(reconcile.stored()) == {item_id}


def test_a_checkpoint_that_cannot_be_read_is_ignored(reconcile: RunningReconcile) -> None:
    item_ids = reconcile.put(5, count=2)
    reconcile.api.fail(Fault(status=500))
    reconcile.request(**DAY)
    (checkpoint,) = (reconcile.folder / "reconcile").iterdir()
    checkpoint.write_text("[")
    reconcile.api.clear_faults()

    status, answer = reconcile.request(**DAY)

    assert (status, answer["stored"]) == (200, len(item_ids))


def test_a_window_that_does_not_fit_into_an_attempt_is_finished_by_several(
    reconcile: RunningReconcile,
) -> None:
    """An attempt ends after six requests, of which a slice of 1,600 items would need eleven."""
    item_ids = reconcile.put(5, hour=0, count=8 * PAGE_ITEMS)  # within three minutes
    window = {"start_date": "2026-01-05T00:00:00", "end_date": "2026-01-05T00:05:00"}
    answers: list[tuple[int, dict[str, Any]]] = []
    while not answers or answers[-1][0] != 200:
        reconcile.api.clear_faults()
        reconcile.api.fail(Fault(status=422, after=6))
        answers.append(reconcile.request(**window))
        assert len(answers) < 30

    assert len(answers) > 2
    assert set(reconcile.stored()) == set(item_ids)
    reached = [answer.get("reached", "") for _, answer in answers[:-1]]
    assert reached == sorted(reached)


def test_an_item_on_the_bound_of_two_slices_is_seen_once(reconcile: RunningReconcile) -> None:
    for day in (6, 7):
        for microseconds in (-1, 0, 1):
            moment = datetime(2026, 1, day) + timedelta(microseconds=microseconds)  # noqa: DTZ001
            item = catalogue.make_item(random.Random())
            reconcile.api.put(item | {"created_at": moment.isoformat()})

    status, answer = reconcile.request(start_date="2026-01-05", end_date="2026-01-08")

    assert (status, answer["seen"], answer["stored"]) == (200, 6, 6)


def test_an_edit_of_an_old_item_is_found_by_a_long_window(reconcile: RunningReconcile) -> None:
    created = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=80)
    item = catalogue.make_item(random.Random()) | {"created_at": created.isoformat()}
    item_id = reconcile.api.put(item)
    reconcile.store([item_id])
    reconcile.api.put(catalogue.updated(item))

    status, answer = reconcile.request(hours="2160")

    assert (status, answer["updated"]) == (200, 1)
    assert reconcile.stored() == {item_id: reconcile.api.body_of(item_id)}


def test_a_page_that_comes_when_the_time_is_over_is_left_to_the_next_run(
    dimmy_api: DimmyApi, tmp_path: Path
) -> None:
    """In this process, because storing it could take longer than the function may run."""
    settings = read_reconcile_settings(
        {
            "STORAGE_URL": f"file://{tmp_path}",
            "DIMMY_API_URL": dimmy_api.url,
            "DIMMY_API_KEY": dimmy_api.key,
        }
    )
    store, dimmy = Store(settings.storage), DimmyClient(settings.dimmy)
    storer = ItemStorer(store, dimmy, ItemsTopic(settings.items_topic), 4)
    item = read_item(json.dumps(catalogue.make_item(random.Random())).encode())
    attempt = Attempt(Deadline(0), RequestStatistics(), Counter())

    failures = storer.store_page([item], datetime.now(UTC), attempt)

    assert failures == ([item.item_id], 0)
    assert not (tmp_path / "items").exists()


def _age_checkpoint(reconcile: RunningReconcile) -> None:
    """Let the checkpoint be so old that a short window is listed from its start again."""
    (path,) = (reconcile.folder / "reconcile").iterdir()
    checkpoint = json.loads(path.read_bytes())
    checkpoint["started_at"] = (datetime.now(UTC) - timedelta(hours=7)).isoformat()
    path.write_text(json.dumps(checkpoint))
