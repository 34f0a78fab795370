"""Items of realistic variety: what a warehouse's flows leave behind.

The fields of `photographing` and `barcode_scanning` are those of the vendor's own example; the
others follow its documentation as far as it goes (the inside of `weighing` and `questions` is
inferred). Timestamps carry no zone: they are UTC.
"""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

Item = dict[str, Any]

VENDOR_EXAMPLE: Item = {
    "created_at": "2025-03-05T14:38:22.903000",
    "updated_at": "2025-03-05T14:38:22.903000",
    "_id": "67c861de20bb29fb40d2cbbd",
    "started_at": "2025-03-05T14:38:10",
    "ended_at": "2025-03-05T14:38:20",
    "flow_id": "APIDocsFlow1",
    "photographing": [
        {
            "flow_step_id": "picz",
            "started_at": "2025-03-05T14:38:15",
            "ended_at": "2025-03-05T14:38:20",
            "photos": [
                {
                    "date": "2025-03-05T14:38:20",
                    "url": "https://dimmy.s3.amazonaws.com/66826269369bbc3d56b479ce/"
                    "67c861dc45b0e6fb32ff2ca1",
                }
            ],
        }
    ],
    "barcode_scanning": [
        {
            "flow_step_id": "barcode",
            "started_at": "2025-03-05T14:38:10",
            "ended_at": "2025-03-05T14:38:15",
            "code": "A0155C35",
        }
    ],
}

FLOWS = ("Inbound", "Outbound", "Returns", "Stock count", "Réception à quai")
_QUESTIONS = {
    "damaged": ("Is the packaging damaged?", ("no", "no", "no", "yes, a corner", "ja, nat 🌧")),
    "stackable": ("Can it be stacked?", ("yes", "no")),
}


_PHOTOS = "https://dimmy.s3.amazonaws.com/66826269369bbc3d56b479ce/"


def make_item(variety: random.Random, photos: int | None = None, photos_at: str = _PHOTOS) -> Item:
    """One finished flow; some carry every kind of step, some hardly any.

    `photos` is how many there are, `photos_at` what their addresses begin with.
    """
    ended = datetime.now(UTC).replace(tzinfo=None) - timedelta(
        seconds=variety.randint(1, 120), milliseconds=variety.randint(0, 999)
    )
    clock = _Clock(ended - timedelta(seconds=variety.randint(12, 90)))
    item: Item = {
        "created_at": ended.isoformat(),
        "updated_at": ended.isoformat(),
        "owner_id": "66826269369bbc3d56b479ce",
        "_id": new_id(variety),
        "scanner_account_id": "66826269369bbc3d56b479d1",
        "started_at": clock.now(),
        "flow_id": variety.choice(FLOWS),
    }
    steps = {
        "barcode_scanning": [_barcode(variety, clock)],
        "dimensioning": [_dimensions(variety, clock)],
        "weighing": [_weight(variety, clock)],
        "photographing": [_photos(variety, clock, photos_at + item["_id"], photos)],
        "questions": [_question(variety, clock, step) for step in _QUESTIONS],
    }
    for kind, results in steps.items():
        if variety.random() < 0.85 or (kind == "photographing" and photos):
            item[kind] = results
    item["ended_at"] = clock.now()
    return item


def new_id(variety: random.Random) -> str:
    """An id in the form of MongoDB's: 24 hexadecimal digits."""
    return f"{variety.getrandbits(96):024x}"


def updated(item: Item, **changes: Any) -> Item:
    """The item as it stands a moment later, with a newer `updated_at`."""
    later = datetime.fromisoformat(item["updated_at"]) + timedelta(milliseconds=1500)
    return item | {"updated_at": later.isoformat()} | changes


def padded(item: Item, size: int) -> Item:
    """A long flow: the item with so many photos that its JSON has about `size` bytes."""
    photo = {"date": "2026-11-01T08:00:00", "url": "https://dimmy.s3.amazonaws.com/" + "0" * 960}
    step = {"flow_step_id": "walkaround", "photos": [photo] * (size // 1024)}
    return item | {"photographing": [step]}


class _Clock:
    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> str:
        return self._now.isoformat(timespec="seconds")

    def step(self, variety: random.Random, name: str) -> Item:
        started = self.now()
        self._now += timedelta(seconds=variety.randint(1, 9))
        return {"flow_step_id": name, "started_at": started, "ended_at": self.now()}


def _barcode(variety: random.Random, clock: _Clock) -> Item:
    code = variety.choice(
        (
            f"{variety.randrange(10**13):013d}",
            f"A{variety.randrange(10**7):07X}",
            f"(01){variety.randrange(10**14):014d}(21){variety.randrange(10**6)}",
        )
    )
    return clock.step(variety, "barcode") | {"code": code}


def _dimensions(variety: random.Random, clock: _Clock) -> Item:
    step = clock.step(variety, "measure")
    sides = {side: round(variety.uniform(4, 180), 1) for side in ("width", "height", "depth")}
    times = {"predicted_at": step["started_at"], "confirmed_at": step["ended_at"]}
    mode = variety.choice(("box", "pallet", "irregular"))
    return step | {"mode": mode, "dimensions": sides | {"unit": "cm"} | times}


def _weight(variety: random.Random, clock: _Clock) -> Item:
    return clock.step(variety, "scale") | {
        "weight": round(variety.uniform(0.1, 900), 2),
        "unit": "kg",
    }


def _photos(variety: random.Random, clock: _Clock, base: str, count: int | None) -> Item:
    step = clock.step(variety, "photos")
    count = variety.randint(1, 6) if count is None else count
    photos = [{"date": step["ended_at"], "url": f"{base}-{n}"} for n in range(1, count + 1)]
    return step | {"photos": photos}


def _question(variety: random.Random, clock: _Clock, name: str) -> Item:
    question, answers = _QUESTIONS[name]
    return clock.step(variety, name) | {"question": question, "answer": variety.choice(answers)}
