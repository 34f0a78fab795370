"""Generates random, realistic items as the flows of a warehouse produce them.

The fields of `photographing` and `barcode_scanning` are those of the vendor's example. The others
follow the vendor's documentation; it does not describe the fields of `weighing` and `questions`,
which are inferred. Timestamps are UTC and have no time zone.
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


_PHOTO_URL_PREFIX = "https://dimmy.s3.amazonaws.com/66826269369bbc3d56b479ce/"


def make_item(
    rng: random.Random, photos: int | None = None, photo_url_prefix: str = _PHOTO_URL_PREFIX
) -> Item:
    """One finished flow with random steps: some items have every kind of step, some have few.

    `photos` is the number of photos, `photo_url_prefix` the beginning of their URLs.
    """
    ended = datetime.now(UTC).replace(tzinfo=None) - timedelta(
        seconds=rng.randint(1, 120), milliseconds=rng.randint(0, 999)
    )
    clock = _Clock(ended - timedelta(seconds=rng.randint(12, 90)))
    item: Item = {
        "created_at": ended.isoformat(),
        "updated_at": ended.isoformat(),
        "owner_id": "66826269369bbc3d56b479ce",
        "_id": new_id(rng),
        "scanner_account_id": "66826269369bbc3d56b479d1",
        "started_at": clock.now(),
        "flow_id": rng.choice(FLOWS),
    }
    steps = {
        "barcode_scanning": [_barcode(rng, clock)],
        "dimensioning": [_dimensions(rng, clock)],
        "weighing": [_weight(rng, clock)],
        "photographing": [_photos(rng, clock, photo_url_prefix + item["_id"], photos)],
        "questions": [_question(rng, clock, step) for step in _QUESTIONS],
    }
    for kind, results in steps.items():
        if rng.random() < 0.85 or (kind == "photographing" and photos):
            item[kind] = results
    item["ended_at"] = clock.now()
    return item


def vendor_example(photo_url_prefix: str) -> Item:
    """The vendor's example with its photo at another address."""
    (step,) = VENDOR_EXAMPLE["photographing"]
    (photo,) = step["photos"]
    name = photo["url"].rpartition("/")[2]
    moved = step | {"photos": [photo | {"url": f"{photo_url_prefix}{name}"}]}
    return VENDOR_EXAMPLE | {"photographing": [moved]}


def new_id(rng: random.Random) -> str:
    """An id in MongoDB's format: 24 hexadecimal digits."""
    return f"{rng.getrandbits(96):024x}"


def updated(item: Item, **changes: Any) -> Item:
    """The item with these changes and an `updated_at` that is 1.5 s later."""
    later = datetime.fromisoformat(item["updated_at"]) + timedelta(milliseconds=1500)
    return item | {"updated_at": later.isoformat()} | changes


def padded(item: Item, size: int) -> Item:
    """The item with so many photos that its JSON has about `size` bytes."""
    photo = {"date": "2026-11-01T08:00:00", "url": "https://dimmy.s3.amazonaws.com/" + "0" * 960}
    step = {"flow_step_id": "walkaround", "photos": [photo] * (size // 1024)}
    return item | {"photographing": [step]}


class _Clock:
    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> str:
        return self._now.isoformat(timespec="seconds")

    def step(self, rng: random.Random, name: str) -> Item:
        started = self.now()
        self._now += timedelta(seconds=rng.randint(1, 9))
        return {"flow_step_id": name, "started_at": started, "ended_at": self.now()}


def _barcode(rng: random.Random, clock: _Clock) -> Item:
    code = rng.choice(
        (
            f"{rng.randrange(10**13):013d}",
            f"A{rng.randrange(10**7):07X}",
            f"(01){rng.randrange(10**14):014d}(21){rng.randrange(10**6)}",
        )
    )
    return clock.step(rng, "barcode") | {"code": code}


def _dimensions(rng: random.Random, clock: _Clock) -> Item:
    step = clock.step(rng, "measure")
    sides = {side: round(rng.uniform(4, 180), 1) for side in ("width", "height", "depth")}
    times = {"predicted_at": step["started_at"], "confirmed_at": step["ended_at"]}
    mode = rng.choice(("box", "pallet", "irregular"))
    return step | {"mode": mode, "dimensions": sides | {"unit": "cm"} | times}


def _weight(rng: random.Random, clock: _Clock) -> Item:
    return clock.step(rng, "scale") | {
        "weight": round(rng.uniform(0.1, 900), 2),
        "unit": "kg",
    }


def _photos(rng: random.Random, clock: _Clock, url_prefix: str, count: int | None) -> Item:
    step = clock.step(rng, "photos")
    count = rng.randint(1, 6) if count is None else count
    photos = [{"date": step["ended_at"], "url": f"{url_prefix}-{n}"} for n in range(1, count + 1)]
    return step | {"photos": photos}


def _question(rng: random.Random, clock: _Clock, name: str) -> Item:
    question, answers = _QUESTIONS[name]
    return clock.step(rng, name) | {"question": question, "answer": rng.choice(answers)}
