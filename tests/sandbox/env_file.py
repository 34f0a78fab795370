"""The file .env of `make run`: its settings, and what is wrong with it."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from operate.console import UsageError

SETTINGS = (
    "ALLOWED_SOURCES",
    "ATTEMPT_SECONDS",
    "DATA",
    "DIMMY_API_KEY",
    "DIMMY_API_URL",
    "DIMMY_CONCURRENCY",
    "DIMMY_TIMEOUT_SECONDS",
    "LIMIT",
    "PHOTOS",
    "PHOTO_HOSTS",
    "PORT",
    "PUBSUB",
    "SIGNING_SECRETS",
    "TRUSTED_PROXY_HOPS",
    "VIEW_PORT",
)


@dataclass(frozen=True)
class EnvFile:
    """The settings that have a value, by their names; `unknown` are names that nothing reads."""

    values: Mapping[str, str]
    unknown: tuple[str, ...] = ()

    def describe(self) -> list[str]:
        """What was read, and the names that were probably meant; no value."""
        known = [name for name in self.values if name not in self.unknown]
        lines = [f".env: {', '.join(known)}"] if known else []
        for name in self.unknown:
            similar = difflib.get_close_matches(name.upper(), SETTINGS, n=1, cutoff=0.7)
            meant = f": did you mean {similar[0]}?" if similar else "."
            lines.append(f".env: {name} is unknown and was ignored{meant}")
        return lines


def read_env_file(path: Path) -> EnvFile:
    """The settings in a file; none where it does not exist.

    Raises:
        UsageError: it is not text, or has a line that cannot be read; the text gives its number.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return EnvFile({})
    except UnicodeDecodeError:
        raise UsageError(".env is not UTF-8 text: create it again from .env.example.") from None
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            text_before, _, _ = binding.original.string.partition(binding.original.string.strip())
            number = binding.original.line + text_before.count("\n")
            raise UsageError(
                f".env, line {number}: write NAME=value, with both quotation marks or none."
            )
    values = {name: value for name, value in dotenv_values(stream=StringIO(text)).items() if value}
    return EnvFile(values, tuple(name for name in values if name not in SETTINGS))
