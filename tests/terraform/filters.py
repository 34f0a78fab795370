"""The part of Cloud Logging's query language that the log-based metrics use.

https://cloud.google.com/logging/docs/view/logging-query-language: comparisons joined by AND, with
`=`, `=~` (a regular expression found anywhere), `>=` on severities and numbers, and several values
for one field as `("a" OR "b")`.
"""

import re
from typing import Any

Entry = dict[str, Any]

_SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL")
_VALUE = r'"(?:[^"\\]|\\.)*"|\w+'
_COMPARISON = re.compile(rf"([\w.]+)(=~|>=|=)({_VALUE}|\((?:{_VALUE})(?: OR (?:{_VALUE}))*\))")


def matches(query: str, entry: Entry) -> bool:
    """Whether a log entry matches the query.

    Raises:
        ValueError: the query uses syntax that is not supported here.
    """
    position, comparisons = 0, []
    while found := _COMPARISON.match(query, position):
        comparisons.append(found.groups())
        position = found.end()
        if position == len(query):
            return all(_holds(entry, *comparison) for comparison in comparisons)
        if not query.startswith(" AND ", position):
            break
        position += len(" AND ")
    raise ValueError(f"unsupported query syntax: {query[position:]}")


def field(entry: Entry, path: str) -> Any:
    """The value at a path such as jsonPayload.outcome, or None."""
    value: Any = entry
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _holds(entry: Entry, path: str, operator: str, written: str) -> bool:
    value = field(entry, path)
    if value is None:
        return False
    wanted = [text.strip('"').replace('\\"', '"') for text in re.findall(_VALUE, written)]
    wanted = [text for text in wanted if text != "OR"]
    match operator:
        case "=":
            return str(value) in wanted
        case "=~":
            return any(re.search(text, str(value)) for text in wanted)
        case _ if isinstance(value, int | float):
            return value >= float(wanted[0])
        case _:
            return _SEVERITIES.index(str(value)) >= _SEVERITIES.index(wanted[0])
