"""Reads settings from environment variables and reports every problem at once.

Each package has its own settings, which it parses with this reader. Values of secrets never appear
in a message.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class SettingsError(Exception):
    """The environment cannot be used; the text lists every problem and how to solve it."""

    def __init__(self, entry_point: str, problems: list[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{entry_point} cannot start, its settings need attention:\n{lines}")


class Environment:
    """Reads variables one by one and collects the problem of each.

    `raise_problems` has to be called before any value is used: a value that could not be read is
    None, whatever its type says.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._problems: dict[str, None] = {}  # in order, and each once

    def required(self, name: str, parse: Callable[[str], T], meaning: str) -> T:
        """The parsed value; a missing one is a problem. `meaning` says what to set it to."""
        if not self._variables.get(name, "").strip():
            self.add_problem(f"{name} is missing: set it to {meaning}")
            return None  # type: ignore[return-value]
        return self._parse(name, parse)

    def optional(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """The parsed value, or the default where the variable is missing or empty."""
        if not self._variables.get(name, "").strip():
            return default
        return self._parse(name, parse)

    def unchanged(self, name: str) -> str:
        """The value as libraries read it: with the white space around it."""
        return self._variables.get(name, "")

    def add_problem(self, text: str) -> None:
        """Note a problem of several variables, or of what they name. `text` has no full stop."""
        self._problems[f"{text}."] = None

    def raise_problems(self, entry_point: str) -> None:
        """Raise SettingsError if any variable had a problem."""
        if self._problems:
            raise SettingsError(entry_point, list(self._problems))

    def _parse(self, name: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(self._variables[name].strip())
        except ValueError as error:
            self.add_problem(f"{name} {error}")
            return None  # type: ignore[return-value]


def one_of(*words: str) -> Callable[[str], str]:
    """A parser for one of these words, in upper or lower case."""

    def parse(text: str) -> str:
        for word in words:
            if text.lower() == word.lower():
                return word
        raise ValueError(f"is none of {', '.join(words)}")

    return parse


def readable_file(text: str) -> str:
    """A parser for the path of a file. The path itself may be a secret by mistake."""
    try:
        with Path(text).open("rb"):
            return text
    except OSError as error:
        raise ValueError(f"names no file that can be read ({error.strerror})") from None


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A parser for an integer within these bounds."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"is not a whole number from {low} to {high}")
        return int(text)

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """A parser for a decimal number of seconds within these bounds."""

    def parse(text: str) -> float:
        if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text) or not low <= float(text) <= high:
            raise ValueError(f"is not a number of seconds from {low} to {high}")
        return float(text)

    return parse


def check_google_credentials(environment: Environment) -> None:
    """A file of default credentials has to be readable; Google's own machines need none."""
    path = environment.optional("GOOGLE_APPLICATION_CREDENTIALS", readable_file, None)
    if path and path != environment.unchanged("GOOGLE_APPLICATION_CREDENTIALS"):
        environment.add_problem("GOOGLE_APPLICATION_CREDENTIALS has white space around the path")
