"""The Pub/Sub push handler of the items topic: stores the photos of the item in a message.

One rule decides the answer: a message is acknowledged when, and only when, every photo of its item
is stored, or can never be. Dimmy announces items whose photos are still being uploaded, so whatever
a server answers (403, 404, ...) is not final: Pub/Sub delivers the message again for hours and in
the end moves it to the dead letters. Final is only what the item itself says (an address that is
not allowed) and the size of a photo, because both stay as they are until a person changes them.
"""

import time
from typing import Any

import flask
from werkzeug.exceptions import HTTPException

from pipeline.archive.addresses import look_up
from pipeline.archive.client import LookUp, PhotoClient
from pipeline.archive.items import Announcement, MessageError, read_announcement, read_photos
from pipeline.archive.keeper import THREADS, PhotoKeeper
from pipeline.archive.settings import ArchiveSettings
from pipeline.archive.states import count_kinds, kind_of
from pipeline.deadline import Deadline
from pipeline.logs import Severity, log, stack_trace
from pipeline.pubsub.push import EnvelopeError, read_push_request
from pipeline.store.errors import StorageError
from pipeline.store.objects import Objects
from pipeline.unforeseen import state_after

Answer = tuple[dict[str, str] | str, int]


class Archiver:
    """Answers Pub/Sub's push requests. Connects to nothing before the first of them."""

    def __init__(self, settings: ArchiveSettings, look_up: LookUp = look_up) -> None:
        self._attempt_seconds = settings.attempt_seconds
        self._objects = Objects(settings.storage)
        client = PhotoClient(settings.photo_origins, THREADS, look_up)
        self._keeper = PhotoKeeper(self._objects, client, settings.photo_origins)

    def handle(self, request: flask.Request) -> Answer:
        """204 acknowledges; 400: this is not a message of the topic; 503: another attempt."""
        started = time.perf_counter()
        deadline = Deadline(self._attempt_seconds)
        fields: dict[str, Any] = {"trace": request.headers.get("traceparent")}
        try:
            pushed = read_push_request(request.get_data(cache=False))
            fields["attempt"] = pushed.attempt
            announcement = read_announcement(pushed.data())
            return self._answer(announcement, deadline, started, fields)
        except (EnvelopeError, MessageError) as error:
            outcome = "malformed_envelope" if isinstance(error, EnvelopeError) else "malformed_item"
            log("WARNING", "delivery refused", outcome=outcome, reason=str(error), **fields)
            return {"error": outcome, "message": f"Nothing was done: {error}."}, 400
        except StorageError as error:
            _log_attempt("ERROR", "unavailable", started, fields | {"reason": f"storage: {error}"})
            return {"error": "unavailable", "message": f"Storage failed: {error}."}, 503
        except HTTPException:
            raise  # the request could not be read
        except Exception as error:  # noqa: BLE001  # see pipeline.unforeseen
            fields |= {"reason": state_after(error), **stack_trace(error)}
            _log_attempt("ERROR", "unavailable", started, fields)
            message = f"The log has the reason: {state_after(error)}."
            return {"error": "unavailable", "message": message}, 503

    def _answer(
        self, announcement: Announcement, deadline: Deadline, started: float, fields: dict[str, Any]
    ) -> Answer:
        fields["item_id"] = announcement.item_id
        if announcement.event_id:
            fields["event_id"] = announcement.event_id
        photos = read_photos(announcement, self._objects)
        states = self._keeper.keep_all(announcement.item_id, photos, deadline)
        counts = count_kinds(states.values())
        fields |= {"photos": len(states), **counts}
        for outcome in ("waiting", "refused"):
            if counts[outcome]:
                name, state = next(each for each in states.items() if kind_of(each[1]) == outcome)
                fields["reason"] = f"{name}: {state}"
                _log_attempt("WARNING", outcome, started, fields)
                break
        else:
            _log_attempt("INFO", "archived", started, fields)
        if counts["waiting"]:
            message = f"{counts['waiting']} photos are not stored yet."
            return {"error": "waiting", "message": message}, 503
        return "", 204


def _log_attempt(severity: Severity, outcome: str, started: float, fields: dict[str, Any]) -> None:
    milliseconds = round((time.perf_counter() - started) * 1000, 1)
    log(severity, f"photos {outcome}", outcome=outcome, milliseconds=milliseconds, **fields)
