"""Collects what is known about an event: log lines, its receipt, and where its message is."""

from operate.console import CommandError, UsageError
from operate.diagnosis.story import Evidence
from operate.installation import Installation, LogQuery, Place
from pipeline.deadline import Deadline
from pipeline.dimmy.client import DimmyError
from pipeline.dimmy.request_statistics import RequestStatistics
from pipeline.store.states import reason_class

_MAX_LINES = 1000
_API_SECONDS = 20.0


def collect(
    installation: Installation, event_id: str, last: str, *, leases: bool = True
) -> Evidence:
    """What is known about an event, from log lines within a time such as 30d.

    Without `leases`, dead letters that can only be found by leasing them are not looked at: they
    would be hidden from a re-drive for a while.

    Raises:
        UsageError, CommandError: the installation cannot be read.
    """
    lines = installation.log_lines(LogQuery(last, _MAX_LINES, event_id=event_id))
    receipt = installation.receipts([event_id]).get(event_id)
    if receipt and receipt.is_finished:
        return Evidence(event_id, lines, receipt, Place.NOWHERE)
    place = installation.place_of(event_id) if leases else _queued_place(installation, event_id)
    if place is Place.NOWHERE:
        # It may have been finished since.
        receipt = installation.receipts([event_id]).get(event_id)
    unsettled = receipt.unsettled if receipt else {}
    waits_for_unknown = bool(unsettled) and reason_class(unsettled.values()) == "not_found"
    knows_others = _api_knows_items(installation) if waits_for_unknown else None
    return Evidence(event_id, lines, receipt, place, knows_others)


def _queued_place(installation: Installation, event_id: str) -> Place:
    queue = installation.queued_events()
    if queue is None:
        return Place.PUBSUB_OR_DEAD_LETTERS
    return queue[event_id].place if event_id in queue else Place.NOWHERE


def _api_knows_items(installation: Installation) -> bool | None:
    """Whether the API lists any item with this key; None where that is unknown."""
    try:
        return installation.dimmy().has_items(Deadline(_API_SECONDS), RequestStatistics())
    except (DimmyError, UsageError, CommandError):
        return None
