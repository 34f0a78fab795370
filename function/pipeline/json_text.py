"""JSON that stays as it was written: numbers, escapes and the order of keys are never changed."""

import json
import re
from typing import Any, NoReturn

_DECODER = json.JSONDecoder()
_OPENING_BRACKET = re.compile(r"\s*\[\s*")
_COMMA = re.compile(r"\s*,?\s*")

# Either a run of tokens, including strings, or the white space between two tokens.
_TOKENS_OR_SPACE = re.compile(r'((?:[^" \t\r\n]++|"(?:[^"\\]++|\\.)*+")++)|[ \t\r\n]++')


class NotJsonError(ValueError):
    """The text is not JSON (RFC 8259), or nested too deeply to be read."""


def read_json(body: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
        NotJsonError: it is something else.
    """
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise NotJsonError(f"not JSON: {error}") from error


def read_array(body: bytes) -> list[tuple[Any, bytes]]:
    """The elements of a JSON array, each as its value and as its text.

    Raises:
        NotJsonError: the body is not a JSON array.
    """
    read_json(body)
    text = body.decode("utf-8")
    bracket = _OPENING_BRACKET.match(text)
    if bracket is None:
        raise NotJsonError("not JSON: not an array")
    elements = []
    start = bracket.end()
    while text[start] != "]":
        value, end = _DECODER.raw_decode(text, start)
        elements.append((value, text[start:end].encode("utf-8")))
        start = _COMMA.match(text, end).end()  # type: ignore[union-attr]
    return elements


def compact(body: bytes) -> bytes:
    """The same JSON without white space between its tokens. The body must be valid JSON."""
    return _TOKENS_OR_SPACE.sub(r"\1", body.decode("utf-8")).encode("utf-8")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
