"""JSON that stays as it was written: numbers, escapes and the order of keys are never changed."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, NoReturn

# Of nested arrays and objects. Python's own decoder reads some ten times as many, but not always as
# many as it has read before, and what is stored must be readable again.
MAX_DEPTH = 100

_LARGE_BYTES = 1024 * 1024
_large_text = threading.Lock()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_OPENING_BRACKET = re.compile(r"[ \t\r\n]*\[[ \t\r\n]*")
_OPENING_BRACE = re.compile(r"\s*\{\s*")
_COLON = re.compile(r"\s*:\s*")
_COMMA = re.compile(r"\s*,?\s*")
_NEXT_ELEMENT = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_END_OF_ARRAY = re.compile(r"[ \t\r\n]*\][ \t\r\n]*\Z")

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPACES = (b" ", b"\t", b"\r", b"\n")
_MARKERS_TRIED = 3

# Either a run of tokens, including strings, or the white space between two tokens.
_TOKENS_OR_SPACE = re.compile(r'((?:[^" \t\r\n]++|"(?:[^"\\]++|\\.)*+")++)|[ \t\r\n]++')


class NotJsonError(ValueError):
    """The text is not JSON (RFC 8259)."""


class TooDeepError(NotJsonError):
    """The text is nested too deeply to be read."""


def without_byte_order_mark(body: bytes) -> bytes:
    """The text without the byte order mark that a sender may put before it (RFC 8259, 8.1)."""
    return body.removeprefix(_BYTE_ORDER_MARK)


def turn_to_decode(body: bytes) -> AbstractContextManager[object]:
    """A context in which to decode a body: for a large one, no other thread is in such a context.

    Decoding a large body takes several times its size. One context must not be inside another.
    """
    return _large_text if len(body) > _LARGE_BYTES else nullcontext()


def read_json(body: bytes, max_depth: int = MAX_DEPTH) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
        NotJsonError: it is something else, or nested more deeply than `max_depth`.
    """
    value = _read_json(body)
    check_depth(value, max_depth)
    return value


def check_depth(value: Any, max_depth: int = MAX_DEPTH) -> None:
    """Do nothing for a value that is nested at most so deeply.

    Raises:
        TooDeepError: it is nested more deeply.
    """
    containers = [value] if isinstance(value, dict | list) else []
    for _ in range(max_depth):
        containers = [
            child
            for container in containers
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, dict | list)
        ]
        if not containers:
            return
    raise TooDeepError(f"nested more than {max_depth} deep")


def objects_in(value: object) -> list[dict[str, Any]]:
    """The objects in a decoded array; none where the value is not an array."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def read_array(body: bytes) -> Iterator[tuple[Any, bytes]]:
    """The elements of a JSON array, each as its value and as its text.

    They are decoded one after the other, because a decoded page takes several times its size.

    Raises:
        NotJsonError: the body is not a JSON array, which may be seen only after some elements. The
            depth of its elements is not checked.
    """
    try:
        yield from _elements(body.decode("utf-8"))
    except RecursionError as error:
        raise TooDeepError("nested too deeply to be read") from error
    except ValueError as error:
        raise NotJsonError(f"not JSON: {error}") from error


def _elements(text: str) -> Iterator[tuple[Any, bytes]]:
    bracket = _OPENING_BRACKET.match(text)
    if bracket is None:
        raise ValueError("not an array")
    place = bracket.end()
    if _END_OF_ARRAY.match(text, place):
        return
    while True:
        value, end = _DECODER.raw_decode(text, place)
        yield value, text[place:end].encode("utf-8")
        del value
        if _END_OF_ARRAY.match(text, end):
            return
        comma = _NEXT_ELEMENT.match(text, end)
        if comma is None:
            raise ValueError(f"neither a comma nor the end after an element: char {end}")
        place = comma.end()


def read_member(body: bytes, name: str) -> bytes:
    """The text of an object's member, as it is written there; empty where it has none.

    The body must be valid JSON, with an object at its top.
    """
    text = body.decode("utf-8")
    place = _OPENING_BRACE.match(text).end()  # type: ignore[union-attr]
    while text[place] != "}":
        key, end = _DECODER.raw_decode(text, place)
        start = _COLON.match(text, end).end()  # type: ignore[union-attr]
        _, end = _DECODER.raw_decode(text, start)
        if key == name:
            return text[start:end].encode("utf-8")
        place = _COMMA.match(text, end).end()  # type: ignore[union-attr]
    return b""


def read_members_before(body: bytes, name: str, max_depth: int = MAX_DEPTH) -> Any:
    """The object in a JSON text up to its member `name`, which is not decoded, nor what follows it.

    If the object is not compact, or has no such member, all of it is decoded.

    Raises:
        NotJsonError: what was decoded is not JSON, or nested more deeply than `max_depth`.
    """
    marker = f',"{name}":'.encode()
    end = body.find(marker) if body.endswith(b"}") else -1
    for _ in range(_MARKERS_TRIED):
        if end < 0:
            break
        # A marker inside a nested object does not count: what is before it lacks a brace then.
        with suppress(NotJsonError):
            value = _read_json(memoryview(body)[:end], "}")
            check_depth(value, max_depth)
            return value
        end = body.find(marker, end + 1)
    return read_json(body, max_depth)


def _read_json(body: bytes | memoryview, missing_end: str = "") -> Any:
    try:
        text = str(body, "utf-8")
        text += missing_end
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise TooDeepError("nested too deeply to be read") from error
    except ValueError as error:
        raise NotJsonError(f"not JSON: {error}") from error


def compact(body: bytes) -> bytes:
    """The same JSON without white space between its tokens. The body must be valid JSON."""
    if not any(space in body for space in _SPACES):
        return body
    text = body.decode("utf-8")
    compacted = _TOKENS_OR_SPACE.sub(r"\1", text)
    return body if len(compacted) == len(text) else compacted.encode("utf-8")
