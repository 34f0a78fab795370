"""Output, questions and exit statuses, shared by all commands."""

import getpass
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

T = TypeVar("T")


class UsageError(Exception):
    """Something has to be done first; the text is one clear sentence."""


class CommandError(Exception):
    """A program that was called has failed; the text says which one, and what it printed."""


def open_console() -> Console:
    """Standard output; a file or a pipe gets lines that are wide enough for tables."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def run(command: Callable[[Console], int]) -> int:
    """Run a command, print what went wrong, and return its exit status.

    0: done. 1: not everything could be done. 2: it could not begin, and nothing was changed. 130:
    stopped by Ctrl-C.
    """
    console = open_console()
    try:
        return command(console)
    except UsageError as error:
        print_error(console, error)
        return 2
    except CommandError as error:
        print_error(console, error)
        return 1
    except KeyboardInterrupt:
        return 130


def print_text(console: Console, text: str) -> None:
    """Print text as it is; the terminal breaks its lines."""
    console.print(text, markup=False, soft_wrap=True)


def count_of(number: int, noun: str) -> str:
    """A number of things in words: "1 item", "2 items"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def first_line(error: Exception) -> str:
    """The first line of an error's text, which may have many; its class where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def text_of(error: Exception) -> str:
    """The text of an error for people; of one that nobody foresaw also its class."""
    is_for_people = isinstance(error, CommandError | UsageError)
    return str(error) if is_for_people else f"{type(error).__name__}: {error}"


def print_error(console: Console, error: object) -> None:
    """Print an error in red."""
    console.print(str(error), style="red", markup=False, soft_wrap=True)


def show_progress(
    console: Console, title: str, steps: Iterable[T], total: int | None = None
) -> Iterator[T]:
    """The same steps, with a bar that shows how many are done."""
    number = len(steps) if total is None and isinstance(steps, Sized) else total
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        yield from progress.track(steps, total=number, description=title)


def confirm(
    console: Console,
    settings: Mapping[str, str],
    question: str,
    word: str = "yes",
    refused: str = "Nothing was changed.",
) -> None:
    """Return only if a person agrees, or has agreed beforehand with YES=1.

    A `word` other than yes has to be typed in full, by a person. `refused` is the text
    after a refusal.

    Raises:
        UsageError: it was not confirmed.
    """
    if settings.get("YES") == "1" and word == "yes":
        return
    if not sys.stdin.isatty():
        agree = "add YES=1 to skip the question" if word == "yes" else "run it in one"
        raise UsageError(f"{question} There is no terminal to ask: {agree}. {refused}")
    console.print(f"{question} Type {word} to go on: ", end="", style="bold", markup=False)
    try:
        answer = input()
    except EOFError:  # Ctrl-D
        answer = ""
        console.print()
    if answer.strip() != word:
        raise UsageError(refused)


def ask_unseen(question: str) -> str:
    """The answer of a person, which the terminal does not show while it is typed.

    Raises:
        UsageError: there is none, after Ctrl-D.
    """
    try:
        return getpass.getpass(f"{question}: ").strip()
    except EOFError:
        raise UsageError("Nothing was changed.") from None
