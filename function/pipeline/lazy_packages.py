"""Imports single modules of a package without running the package's `__init__`.

`svix/__init__` imports an API client and `google/pubsub_v1/__init__` every client of Pub/Sub,
of which nothing is needed here: on two cores they add 0.45 s to a cold start of 0.25 s. Importing
`svix.webhooks` runs them all the same, because Python runs the `__init__` of every parent first.
"""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any


def import_only(package: str, *modules: str) -> None:
    """Import these modules of a package, so that later imports of them do not run its `__init__`.

    The `__init__` runs as soon as something asks the package for a name that has not been imported.
    Where this cannot work (the package is imported already, is missing, or its modules need what
    its `__init__` does), nothing changes, and later imports are plain ones.
    """
    if package in sys.modules:
        return
    parent, _, name = package.rpartition(".")
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:  # of its parent
        return
    if spec is None or spec.loader is None or spec.submodule_search_locations is None:
        return
    lazy = importlib.util.module_from_spec(spec)
    lazy.__class__ = _LazyPackage
    sys.modules[package] = lazy
    if parent:
        setattr(sys.modules[parent], name, lazy)
    try:
        for module in modules:
            importlib.import_module(f"{package}.{module}")
    except (ImportError, AttributeError):
        for imported in list(sys.modules):
            if f"{imported}.".startswith(f"{package}."):
                del sys.modules[imported]


class _LazyPackage(ModuleType):
    """A package whose `__init__` has not run yet."""

    def __getattr__(self, name: str) -> Any:
        """Import a module of the package, or run its `__init__` for any other name."""
        spec = self.__spec__
        if spec is None or spec.loader is None:
            raise AttributeError(name)
        if importlib.util.find_spec(f"{self.__name__}.{name}"):
            return importlib.import_module(f"{self.__name__}.{name}")
        self.__class__ = ModuleType  # type: ignore[assignment]
        spec.loader.exec_module(self)
        return getattr(self, name)
