"""The error of storage that pages show."""

import contextlib
from collections.abc import Iterator

from obstore.exceptions import BaseError

from operate.console import first_line
from operate.object_listing import ListingError


class UnreadableError(Exception):
    """Storage cannot be read; the text is its error."""


@contextlib.contextmanager
def unreadable() -> Iterator[None]:
    """Turn an error of storage into an UnreadableError."""
    try:
        yield
    except (BaseError, OSError, ListingError) as error:
        raise UnreadableError(first_line(error)) from error
