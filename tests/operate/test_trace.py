"""`make trace` of an installation in Google Cloud.

One of them: .venv/bin/pytest tests/operate/test_trace.py -k item
"""

import json
import re
from pathlib import Path

import pytest

from operate.diagnosis.story import remedy_of
from sandbox.installation import SandboxInstallation
from support.operator import (
    FINISHED_RECEIPT,
    PARTIAL,
    PUBLISHED,
    RECEIPT,
    REFUSED,
    Operator,
    log_entry,
)

EXPECTED = """\
msg_1
2026-11-01 08:00:01.123 UTC  receive   refused    503 unavailable: storage: unreachable
2026-11-01 08:00:06.123 UTC  receive   received   204 published, 1,490 bytes, from 52.215.16.239
2026-11-01 08:00:08.123 UTC  resolve   attempt 1  partial, 2 items, 1 of them not stored: 67c9: 404
The receipt: items.scanned, partial, attempts 1, received 2026-11-01 08:00:06 UTC
67c9  404: Item not found
67c8  stored
1 item not stored yet; Pub/Sub has given up and keeps it among the dead letters.
To do: Dimmy's API does not know the item, at least not with this key: does the key belong to the \
account that scanned it, and was the item deleted? Then make redrive ENV=dev PROJECT=warehouse-1."""


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("404: Item not found", "Dimmy's API does not know the item"),
        ("404, but not from Dimmy's API (is DIMMY_API_URL right?)", "Another program than Dimmy's"),
        ("malformed: not an item id", "Dimmy's API will never accept this id"),
        ('malformed: its updated_at is not a time: "8 pm"', "Dimmy's item cannot be stored"),
    ],
)
@pytest.mark.parametrize("item", ["", "67c861de20bb29fb40d2cbbd: "])
def test_each_reason_has_its_own_remedy(
    tmp_path: Path, item: str, reason: str, remedy: str
) -> None:
    instructions = SandboxInstallation({"DATA": str(tmp_path)}).instructions

    text, needs_person = remedy_of(item + reason, instructions)

    assert text.startswith(remedy)
    assert needs_person


def test_trace_prints_the_history_the_missing_items_and_the_next_step(operator: Operator) -> None:
    dead_letter = {"ackId": "a", "message": {"messageId": "1", "attributes": {"svix-id": "msg_1"}}}
    operator.set_answers(
        ("logging read", json.dumps([PARTIAL, PUBLISHED, REFUSED]), 0),
        ("storage cat", json.dumps(RECEIPT), 0),
        ("subscriptions pull", json.dumps([dead_letter]), 0),
    )

    assert operator.run("trace", EVENT="msg_1") == 1

    printed = [line.strip() for line in operator.printed.splitlines() if line.strip()]
    assert "\n".join(printed) == EXPECTED
    assert "--freshness=30d" in operator.call("logging", "read")


def test_trace_of_a_finished_event_pulls_no_dead_letters(operator: Operator) -> None:
    done = RECEIPT | {"outcome": "done", "items": {"67c8": "stored"}}
    operator.set_answers(
        ("logging read", json.dumps([PUBLISHED]), 0), ("storage cat", json.dumps(done), 0)
    )

    assert operator.run("trace", EVENT="msg_1") == 0

    assert "Done: 1 item of 1 in storage." in operator.printed
    assert not any("pull" in call for call in operator.calls)


def test_trace_of_an_item_finds_the_events_that_named_it(operator: Operator) -> None:
    attempt = log_entry("resolve", 9, outcome="done", item_ids=["67c8"], items=1.0)
    done = RECEIPT | {"outcome": "done", "items": {"67c8": "stored"}}
    operator.set_answers(
        ("logging read", json.dumps([attempt]), 0), ("storage cat", json.dumps(done), 0)
    )

    assert operator.run("trace", ITEM="67c8", LAST="2d") == 0

    call = next(call for call in operator.calls if "logging" in call)
    assert '(jsonPayload.item_ids="67c8" OR jsonPayload.item_id="67c8")' in call[3]
    assert "--freshness=2d" in call
    assert "msg_1" in operator.printed


def test_trace_of_an_unknown_event_names_the_commands_that_recover_it(operator: Operator) -> None:
    operator.set_answers(("storage cat", "matched no objects", 1))

    assert operator.run("trace", EVENT="msg_lost") == 1

    assert "Nothing is known about it" in operator.printed
    assert "make backfill SINCE=... ENV=dev PROJECT=warehouse-1" in operator.printed


def test_times_are_in_the_zone_of_the_person_who_reads_them(operator: Operator) -> None:
    operator.set_answers(
        ("logging read", json.dumps([PUBLISHED]), 0), ("storage cat", json.dumps(RECEIPT), 0)
    )

    operator.run("trace", EVENT="msg_1", TZ="CET-1")

    assert "2026-11-01 09:00:06.123 CET  receive" in operator.printed
    assert "received 2026-11-01 09:00:06 CET" in operator.printed


def test_a_long_history_is_collapsed(operator: Operator) -> None:
    attempts = [
        log_entry("resolve", second, outcome="partial", attempt=second, items=1)
        for second in range(1, 60)
    ]
    operator.set_answers(
        ("logging read", json.dumps(attempts[::-1]), 0), ("storage cat", json.dumps(RECEIPT), 0)
    )

    operator.run("trace", EVENT="msg_1")

    shown = [int(number) for number in re.findall(r"attempt (\d+) +partial", operator.printed)]
    assert shown == [*range(1, 7), *range(46, 60)]
    assert (
        "... 39 lines more: make logs EVENT=msg_1 LAST=30d LIMIT=1000 ENV=dev" in operator.printed
    )


@pytest.mark.parametrize(
    ("event_id", "shown"),
    [("msg_doctor1", "msg_doctor1 (sent by make doctor)"), ("msg_1", "msg_1")],
)
def test_events_of_our_own_commands_are_named_as_such(
    operator: Operator, event_id: str, shown: str
) -> None:
    operator.set_answers(("storage cat", json.dumps(FINISHED_RECEIPT), 0))

    operator.run("trace", EVENT=event_id)

    assert operator.printed.splitlines()[1] == shown


def answer_for(operator: Operator, *event_ids: str) -> None:
    """Log lines of these events, whatever is asked for, but none of an event with another id."""
    lines = [
        PUBLISHED | {"jsonPayload": PUBLISHED["jsonPayload"] | {"event_id": each}}
        for each in event_ids
    ]
    operator.set_answers(
        ('event_id="', "[]", 0, 1),
        ("logging read", json.dumps(lines), 0),
        ("storage cat", "matched no objects", 1, 1),
        ("storage cat", json.dumps(FINISHED_RECEIPT), 0),
        ("subscriptions pull", "[]", 0),
    )


@pytest.mark.parametrize("typed", ["BhZItVmgjmi", "…BhZItVmgjmi"])
def test_the_ending_of_an_id_suffices(operator: Operator, typed: str) -> None:
    answer_for(operator, "msg_1BhZItVmgjmi")

    assert operator.run("trace", EVENT=typed, LAST="2d") == 0

    assert "msg_1BhZItVmgjmi" in operator.printed
    searched = [call[3] for call in operator.calls if "logging" in call][1]
    assert '(jsonPayload.event_id=~"BhZItVmgjmi$")' in searched


def test_an_ending_of_several_ids_is_refused_with_them(operator: Operator) -> None:
    answer_for(operator, "msg_1mgjmi", "msg_2mgjmi")

    assert operator.run("trace", EVENT="mgjmi") == 2

    assert "2 ids end with mgjmi, such as msg_1mgjmi, msg_2mgjmi: give more" in operator.printed


def test_the_ending_of_an_items_id_suffices(operator: Operator) -> None:
    attempt = log_entry("resolve", 9, outcome="done", item_ids=["5f67c8", "5f67c9"], items=2.0)
    operator.set_answers(
        ('item_ids="67c8"', "[]", 0),
        ("logging read", json.dumps([attempt]), 0),
        ("storage cat", json.dumps(FINISHED_RECEIPT), 0),
    )

    assert operator.run("trace", ITEM="67c8") == 0

    searches = [call[3] for call in operator.calls if "logging" in call]
    assert '(jsonPayload.item_id=~"67c8$" OR jsonPayload.item_ids=~"67c8$")' in searches[1]
    assert 'jsonPayload.item_ids="5f67c8"' in searches[2]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"EVENT": "msg_1", "ITEM": "67c8"},
        {"EVENT": 'x" OR "1"="1'},
        {"EVENT": "m", "LAST": "?"},
    ],
)
def test_trace_refuses_invalid_settings(operator: Operator, settings: dict[str, str]) -> None:
    assert operator.run("trace", **settings) == 2

    assert operator.calls == []
