"""Reads stored items for the pages. Their content is untrusted and may have any type."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pipeline.archive.photos import name_of
from pipeline.json_text import NotJsonError, objects_in, read_json
from pipeline.store.items import Item, NotAnItemError, as_item

_MAX_CHARACTERS = 300
_IDENTIFIER = re.compile(r"(?:\w+_)?(?:code|barcode|identifier|reference|sku)")
_MAX_FIELDS = 60  # of a step; the raw JSON has them all
_MAX_PHOTOS = 60
_MAX_DEPTH = 10


class Sides(NamedTuple):
    """A measured box, in its own unit."""

    width: float
    height: float
    depth: float
    unit: str

    def __str__(self) -> str:
        numbers = " x ".join(f"{side:,.12g}" for side in self[:3])
        return f"{numbers} {self.unit}".rstrip()


@dataclass(frozen=True, slots=True)
class Photo:
    """`link` is empty where the address is not safe to open.

    `name` is the one under which `archive` stores the photo.
    """

    address: str
    link: str
    name: str


@dataclass(frozen=True, slots=True)
class Summary:
    """An item as a row of the table.

    `name` is that of the object, without folder and suffix: the item's id, unless the object was
    not written by this software. `code` is its barcode or another code that identifies it, `photo`
    the first one. `text` is what a search looks at, `fault` why it is not an item.
    """

    name: str
    code: str
    flow: str
    sides: Sides | None
    weight: str
    photos: int
    photo: Photo | None
    time: datetime
    text: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a flow: a scan, a measurement, a weighing, photos or an answer.

    `left_out` is the number of fields and photos that are not shown.
    """

    kind: str
    name: str
    started: str
    ended: str
    fields: list[tuple[str, str]]
    photos: list[Photo]
    left_out: int


@dataclass(frozen=True, slots=True)
class Scan:
    """An item as a page of its own."""

    summary: Summary
    facts: list[tuple[str, str]]
    steps: list[Step]

    @property
    def photos(self) -> list[Photo]:
        """The photos of all steps."""
        return [photo for step in self.steps for photo in step.photos]


def read_summary(name: str, body: bytes, stored: datetime) -> Summary:
    """The row of an object, which may not be an item."""
    try:
        value = read_json(body)
        return _summary(name, value, as_item(value, body), stored)
    except (NotJsonError, NotAnItemError) as error:
        return Summary(
            name,
            "",
            "",
            None,
            "",
            0,
            None,
            stored,
            name.casefold(),
            f"This is not an item: {error}",
        )


def read_scan(name: str, body: bytes, stored: datetime) -> Scan:
    """The page of an object; one that is not an item has neither facts nor steps."""
    summary = read_summary(name, body, stored)
    if summary.fault:
        return Scan(summary, [], [])
    item = read_json(body)
    facts: list[tuple[str, str]] = []
    steps: list[Step] = []
    for key, value in item.items():
        if isinstance(value, list) and all(isinstance(result, dict) for result in value):
            steps += [_step(key, result) for result in value]
        else:
            facts += _flat(value, _text(key))
    return Scan(summary, facts[:_MAX_FIELDS], sorted(steps, key=lambda step: step.started))


def _summary(name: str, value: Mapping[str, Any], item: Item, stored: datetime) -> Summary:
    codes = _codes(value)
    answers = [_text(step.get("answer")) for step in objects_in(value.get("questions"))]
    flow = _text(value.get("flow_id"))
    weighed = next(iter(objects_in(value.get("weighing"))), {})
    weight = _text(weighed.get("weight"))
    photos = [
        photo for step in objects_in(value.get("photographing")) for photo in _list(step, "photos")
    ]
    first = next((_photo(photo) for photo in photos if isinstance(photo, dict)), None)
    return Summary(
        name=name,
        code=", ".join(codes),
        flow=flow,
        sides=_sides(value),
        weight=f"{weight} {_text(weighed.get('unit'))}".strip() if weight else "",
        photos=len(photos),
        photo=first,
        time=item.created_at.datetime if item.created_at else stored,
        text="\n".join([name, *codes, flow, *answers]).casefold(),
    )


def _codes(item: Mapping[str, Any]) -> list[str]:
    """The scanned barcodes or, without one, other fields that identify the item.

    A deep link into the app stores a code on the item itself, in a field that is not documented.
    """
    scanned = [_text(step.get("code")) for step in objects_in(item.get("barcode_scanning"))]
    if any(scanned):
        return [code for code in scanned if code]
    return [
        _text(value)
        for name, value in item.items()
        if _IDENTIFIER.fullmatch(name) and isinstance(value, str | int) and _text(value)
    ]


def _step(kind: str, result: Mapping[str, Any]) -> Step:
    photos = [
        _photo(photo) for photo in _list(result, "photos")[:_MAX_PHOTOS] if isinstance(photo, dict)
    ]
    named = {"flow_step_id", "started_at", "ended_at"} | ({"photos"} if photos else set())
    fields: list[tuple[str, str]] = []
    beyond = 0
    for path, value in _flat({k: v for k, v in result.items() if k not in named}, ""):
        if len(fields) < _MAX_FIELDS:
            fields.append((path, value))
        else:
            beyond += 1
    return Step(
        kind=_text(kind).replace("_", " "),
        name=_text(result.get("flow_step_id")),
        started=_text(result.get("started_at")),
        ended=_text(result.get("ended_at")),
        fields=fields,
        photos=photos,
        left_out=beyond + (len(_list(result, "photos")) - len(photos) if photos else 0),
    )


def _flat(value: Any, path: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """The leaves of a value with their paths, such as `a.1.b`; elements are counted from 1."""
    below: Iterable[tuple[str, Any]]
    if isinstance(value, dict) and depth < _MAX_DEPTH:
        below = value.items()
    elif isinstance(value, list) and depth < _MAX_DEPTH:
        below = ((str(number), element) for number, element in enumerate(value, start=1))
    else:
        yield path, "..." if isinstance(value, dict | list) else _text(value)
        return
    for key, element in below:
        yield from _flat(element, f"{path}.{_text(key)}".lstrip("."), depth + 1)


def _photo(photo: Mapping[str, Any]) -> Photo:
    address = photo.get("url")
    link = address if isinstance(address, str) and _is_safe(address) else ""
    return Photo(_text(address), link, name_of(address))


def _is_safe(address: str) -> bool:
    """Whether a link to it is safe: https, or http on this machine (the sandbox)."""
    # Browsers ignore some of these, or read them as another character.
    if re.search(r"[\x00-\x20\\\x7f]", address):
        return False
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname == "127.0.0.1")


def _sides(item: Mapping[str, Any]) -> Sides | None:
    for step in objects_in(item.get("dimensioning")):
        measured = step.get("dimensions")
        if isinstance(measured, dict):
            width, height, depth = (
                _length(measured.get(side)) for side in ("width", "height", "depth")
            )
            if width and height and depth:
                return Sides(width, height, depth, _text(measured.get("unit")))
    return None


def _length(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        length = float(value)
    except OverflowError:
        return None
    return length if math.isfinite(length) and 1e-6 <= length <= 1e9 else None


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []


def _text(value: object) -> str:
    """A value on one line, shortened."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    # Python refuses to print integers of thousands of digits.
    if isinstance(value, int) and abs(value) >= 10**100:
        return "a very large number"
    text = " ".join(str(value).split())
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]} ..."


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s"\[\]{},:]+')


def indented(body: bytes) -> str:
    """JSON with one line per value; tokens are unchanged. It may be cut off anywhere."""
    written: list[str] = []
    depth = 0
    tokens = _TOKEN.findall(body.decode("utf-8", errors="replace"))
    for token, following in zip(tokens, [*tokens[1:], ""], strict=True):
        if token in "]}":
            depth -= 1
        written.append(token)
        if token in "[{":
            depth += 1
        if token == ":":
            written.append(" ")
        elif token + following not in {"[]", "{}"} and (
            token in {"[", "{", ","} or following in {"]", "}"}
        ):
            written.append("\n" + "  " * (depth - (following in {"]", "}"})))
    return "".join(written)
