"""The resources of one API, by their names."""

import copy
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from sandbox.google_cloud.errors import ApiError, Json


def now() -> str:
    """The time as Google's APIs write it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Resources:
    """`missing` and `taken` make the errors for a name that does not exist, or exists."""

    def __init__(
        self, missing: Callable[[str], ApiError], taken: Callable[[str], ApiError]
    ) -> None:
        self._by_name: dict[str, Json] = {}
        self._missing = missing
        self._taken = taken

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def names(self) -> list[str]:
        """All names, in the order in which they were created."""
        return list(self._by_name)

    def create(self, name: str, value: Json) -> Json:
        """Raises ApiError (409) where the name is taken."""
        if name in self._by_name:
            raise self._taken(name)
        return self.put(name, value)

    def put(self, name: str, value: Json) -> Json:
        """Create or replace it."""
        self._by_name[name] = copy.deepcopy(value)
        return self._by_name[name]

    def get(self, name: str) -> Json:
        """The resource itself, not a copy. Raises ApiError (404)."""
        if name not in self._by_name:
            raise self._missing(name)
        return self._by_name[name]

    def below(self, collection: str) -> list[Json]:
        """The resources of a collection such as `projects/p/topics`, without those below them."""
        return [
            value for name, value in self._by_name.items() if name.rpartition("/")[0] == collection
        ]

    def patch(self, name: str, changes: Json, mask: Iterable[str] = ()) -> Json:
        """Change the fields of the mask; without a mask those that are given."""
        resource = self.get(name)
        for path in mask or changes:
            _copy(changes, resource, [_camel_case(part) for part in path.split(".")])
        return resource

    def delete(self, name: str) -> Json:
        """Delete it with everything below it; return it."""
        deleted = self.get(name)
        for each in [n for n in self._by_name if n == name or n.startswith(f"{name}/")]:
            del self._by_name[each]
        return deleted


def _copy(source: Json, target: Json, path: list[str]) -> None:
    """Copy a field; one that the source lacks is removed."""
    for part in path[:-1]:
        source = source.get(part) or {}
        target = target.setdefault(part, {})
    if path[-1] in source:
        target[path[-1]] = copy.deepcopy(source[path[-1]])
    else:
        target.pop(path[-1], None)


def _camel_case(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)
