"""Routes, written as in Google's API definitions: `v1/{name=projects/*/topics/*}:publish`."""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.google_cloud.errors import Json


@dataclass(frozen=True)
class Call:
    """A request. `names` are the parts of the path that its route names."""

    names: Mapping[str, str]
    query: Mapping[str, str]
    all_query: tuple[tuple[str, str], ...]
    body: Json
    content: bytes
    headers: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.names[name]

    def repeated(self, name: str) -> list[str]:
        """The values of a parameter that occurs several times."""
        return [value for key, value in self.all_query if key == name]

    @property
    def update_mask(self) -> list[str]:
        """The fields to change; empty for all that are given."""
        mask = self.query.get("updateMask") or self.body.get("updateMask") or ""
        return [part for part in str(mask).split(",") if part]


@dataclass(frozen=True)
class Answer:
    """An answer other than 200 with JSON."""

    status: int = 200
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Call], Json | Answer]


@dataclass(frozen=True)
class Route:
    """`*` matches one part of a path, `**` several; a part without a pattern is one part."""

    method: str
    template: str
    handler: Handler

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """The named parts of a path, or None where the route does not match."""
        if method != self.method:
            return None
        found = _pattern(self.template).fullmatch(path)
        return found.groupdict() if found else None


@functools.cache
def _pattern(template: str) -> "re.Pattern[str]":
    def named(found: "re.Match[str]") -> str:
        name, _, inner = found[1].partition("=")
        parts = re.split(r"(\*\*|\*)", inner or "*")
        wildcards = {"*": "[^/:]+", "**": ".+"}
        return f"(?P<{name}>{''.join(wildcards.get(part, re.escape(part)) for part in parts)})"

    pieces = re.split(r"(\{[^}]+\})", template)
    return re.compile(
        "".join(
            re.sub(r"\{([^}]+)\}", named, piece) if piece.startswith("{") else re.escape(piece)
            for piece in pieces
        )
    )


def without_defaults(value: Any) -> Any:
    """JSON of a protocol buffer: scalars that are zero and empty lists are left out.

    Messages that are set but empty stay (https://protobuf.dev/programming-guides/json).
    """
    if isinstance(value, dict):
        kept = ((name, without_defaults(inner)) for name, inner in value.items())
        return {name: inner for name, inner in kept if inner or isinstance(inner, dict)}
    return [without_defaults(inner) for inner in value] if isinstance(value, list) else value
