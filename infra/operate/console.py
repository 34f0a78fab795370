"""How the commands talk with people: text, a question before anything changes, an exit status."""

import sys
from collections.abc import Callable, Mapping

from rich.console import Console


class UsageError(Exception):
    """Something has to be mended first; the text is one clear sentence."""


class CommandError(Exception):
    """A program that was called failed; the text says which one, and what it said."""


def open_console() -> Console:
    """Standard output; a file or a pipe gets lines that are wide enough for tables."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def run(command: Callable[[Console], int]) -> int:
    """Run a command, say what went wrong, and return its exit status.

    0: done. 1: not all of it could be done. 2: it could not begin, and nothing was changed. 130:
    stopped by Ctrl-C.
    """
    console = open_console()
    try:
        return command(console)
    except UsageError as error:
        say_error(console, error)
        return 2
    except CommandError as error:
        say_error(console, error)
        return 1
    except KeyboardInterrupt:
        return 130


def say_error(console: Console, error: object) -> None:
    console.print(str(error), style="red", markup=False, soft_wrap=True)


def confirm(
    console: Console,
    environ: Mapping[str, str],
    question: str,
    word: str = "yes",
    refused: str = "Nothing was changed.",
) -> None:
    """Go on only where a person agrees, or YES=1 has agreed beforehand.

    A `word` other than yes has to be typed in full, by a person.

    Raises:
        UsageError: nobody agreed; says what that means (`refused`).
    """
    if environ.get("YES") == "1" and word == "yes":
        return
    if not sys.stdin.isatty():
        agree = "add YES=1 to go on without being asked" if word == "yes" else "only a person can"
        raise UsageError(f"{question} There is no terminal to ask: {agree}. {refused}")
    console.print(f"{question} Type {word} to go on: ", end="", style="bold", markup=False)
    if input().strip() != word:
        raise UsageError(refused)
