"""The story of an item's photos: which are stored, which wait, and which never can be."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from operate.console import count_of
from operate.diagnosis.story import Story
from operate.installation import Instructions, LogLine
from operate.times import shown
from pipeline.archive.photos import Photo
from pipeline.archive.states import PRESENT, STORED, kind_of

_SHOWN_PHOTOS = 20
_NEVER_TRIED = "waiting: no attempt in the period searched"


@dataclass(frozen=True)
class PhotoEvidence:
    """The photos of a stored item, the names of those in storage, and the log lines of the item."""

    photos: Sequence[Photo]
    stored: Collection[str]
    log_lines: Sequence[LogLine]


def tell_photos(evidence: PhotoEvidence, instructions: Instructions) -> Story:
    """The story of an item's photos."""
    latest = _latest_lines(evidence.log_lines)
    states = {
        photo.name: STORED if photo.name in evidence.stored else _state_of(latest.get(photo.name))
        for photo in evidence.photos
    }
    unsettled_first = sorted(states, key=lambda name: kind_of(states[name]) == STORED)
    history = [
        f"{name}  {states[name]}" + _when(latest.get(name), states[name])
        for name in unsettled_first[:_SHOWN_PHOTOS]
    ]
    if len(states) > _SHOWN_PHOTOS:
        history.append(f"and {len(states) - _SHOWN_PHOTOS} more")
    state, next_step, needs_person = _conclusion(states.values(), instructions)
    return Story(history, state, next_step, needs_person)


def _latest_lines(lines: Iterable[LogLine]) -> Mapping[str, LogLine]:
    """The latest line about each photo."""
    about_photos = [line for line in lines if line.function == "archive" and "photo" in line.fields]
    return {
        str(line.fields["photo"]): line for line in sorted(about_photos, key=lambda line: line.time)
    }


def _state_of(line: LogLine | None) -> str:
    state = str(line.fields.get("state", "")) if line else ""
    # A photo that is not in storage now has been deleted since.
    return _NEVER_TRIED if state in {"", STORED, PRESENT} else state


def _when(line: LogLine | None, state: str) -> str:
    if line is None or state in {STORED, _NEVER_TRIED}:
        return ""
    return f" ({shown(line.time)})"


def _conclusion(states: Iterable[str], instructions: Instructions) -> tuple[str, str, bool]:
    kinds = [kind_of(state) for state in states]
    waiting, refused = kinds.count("waiting"), kinds.count("refused")
    stored = f"{kinds.count('stored')} of {count_of(len(kinds), 'photo')} in storage"
    republish = instructions.command("republish", SINCE="...")
    if refused:
        state = f"{stored}, {refused} refused{f', {waiting} waiting' if waiting else ''}."
        next_step = (
            "A refused photo is not tried again. If its host is Dimmy's, add that:"
            f" {instructions.change_setting('PHOTO_HOSTS')}, then {republish}."
        )
        return state, next_step, True
    if waiting:
        state = f"{stored}, {waiting} waiting; Pub/Sub delivers the item again for hours."
        next_step = (
            f"Wait. If {instructions.command('status')} counts dead letters of archive, and the"
            f" reason is solved: {republish}."
        )
        return state, next_step, False
    return f"{stored}.", "Nothing.", False
