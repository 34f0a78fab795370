"""The filters of Cloud Logging and Cloud Monitoring, as far as the commands and gcloud use them.

`field=value` and `field=("a" OR "b")` with =, !=, =~, !~, :, <, <=, > and >=, joined with AND, OR,
NOT and parentheses (https://cloud.google.com/logging/docs/view/logging-query-language).
"""

import operator
import re
from collections.abc import Callable
from typing import Any

from sandbox.google_cloud.errors import ApiError, Json

Matches = Callable[[Json], bool]

_TOKENS = re.compile(
    r'\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<sign>=~|!~|!=|<=|>=|[=<>:()])|(?P<word>[^\s"=<>!~:()]+))'
)
_ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT")


def parse_filter(text: str) -> Matches:
    """Whether an entry matches. An empty filter matches all.

    Raises:
        ApiError: 400 for a filter that cannot be read.
    """
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        position = 0
        while text[position:].strip():
            found = _TOKENS.match(text, position)
            if not found:
                raise ApiError(400, f"Unparseable filter: syntax error at column {position}.")
            self._tokens.append(found[0].strip())
            position = found.end()

    def parse(self) -> Matches:
        if not self._tokens:
            return lambda _: True
        matches = self._alternatives()
        if self._tokens:
            raise ApiError(400, f"Unparseable filter: unexpected {self._tokens[0]}.")
        return matches

    def _alternatives(self) -> Matches:
        parts = [self._all_of()]
        while self._take("OR"):
            parts.append(self._all_of())
        return lambda entry: any(part(entry) for part in parts)

    def _all_of(self) -> Matches:
        parts = [self._term()]
        while self._take("AND") or (self._tokens and self._tokens[0] not in {"OR", ")"}):
            parts.append(self._term())
        return lambda entry: all(part(entry) for part in parts)

    def _term(self) -> Matches:
        if self._take("NOT"):
            negated = self._term()
            return lambda entry: not negated(entry)
        if self._take("("):
            inner = self._alternatives()
            self._expect(")")
            return inner
        path, sign = self._next(), self._next()
        values = [self._next()]
        if values == ["("]:
            values = [self._next()]
            while self._take("OR"):
                values.append(self._next())
            self._expect(")")
        return _comparison(path, sign, [_unquoted(value) for value in values])

    def _next(self) -> str:
        if not self._tokens:
            raise ApiError(400, "Unparseable filter: unexpected end.")
        return self._tokens.pop(0)

    def _take(self, token: str) -> bool:
        if self._tokens[:1] != [token]:
            return False
        self._tokens.pop(0)
        return True

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise ApiError(400, f"Unparseable filter: {token} is missing.")


def _comparison(path: str, sign: str, values: list[str]) -> Matches:
    def matches(entry: Json) -> bool:
        found = _values(entry, path.split("."))
        one = any(_compare(path, sign.lstrip("!"), each, v) for each in found for v in values)
        return not one if sign.startswith("!") else one

    return matches


def _compare(path: str, sign: str, found: Any, value: str) -> bool:
    text = str(found)
    if sign in {"=~", "~"}:
        return re.search(value, text) is not None
    if sign == ":":
        return value == "*" or value.lower() in text.lower()
    if sign == "=":
        return text == value
    left, right = _ordered(path, text), _ordered(path, value)
    return bool(_ORDERS[sign](left, right))


def _ordered(path: str, text: str) -> Any:
    """A value in the order of its kind: of severities, of numbers, or of times."""
    if path == "severity":
        return _SEVERITIES.index(text)
    if path == "timestamp":
        return text
    return float(text)


def _values(value: Any, path: list[str]) -> list[Any]:
    """What a path leads to; every element of a list counts."""
    if isinstance(value, list):
        return [found for each in value for found in _values(each, path)]
    if not path:
        return [value]
    if not isinstance(value, dict):
        return []
    # Monitoring writes metric.label and resource.label, too.
    key = path[0] if path[0] in value else f"{path[0]}s"
    return _values(value[key], path[1:]) if key in value else []


def _unquoted(token: str) -> str:
    if not token.startswith('"'):
        return token
    return re.sub(r"\\(.)", r"\1", token[1:-1])
