"""`make republish [SINCE=...]`: publishes the stored items to the items topic once more.

It fills a new subscriber with what was stored before it existed. The other subscribers get the
items again, too, which does no harm: each keeps the newest version. What is replaced meanwhile is
published again, because the last one counts of two contents with the same time. SINCE leaves out
what was stored before. Exit status 0 when all are published; 1 when an object is not an item; 2
when it could not begin.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import obstore
from obstore.exceptions import BaseError
from rich.console import Console

from operate.commands.listing import stored_since
from operate.console import (
    CommandError,
    confirm,
    count_of,
    first_line,
    print_error,
    print_text,
    show_progress,
)
from operate.installation import EncodedMessage, Installation, open_objects
from pipeline.items_topic.item_message import ItemMessage, describe
from pipeline.json_text import NotJsonError
from pipeline.layout import ITEMS
from pipeline.store.items import NotAnItemError, read_item

if TYPE_CHECKING:
    from obstore.store import GCSStore, LocalStore

_READERS = 32
_READ_AT_ONCE = 256
_MAX_BATCH_BYTES = 6_000_000  # in base64 within the 10 MB of a request to Pub/Sub


def run(installation: Installation, settings: Mapping[str, str], console: Console) -> int:
    """Show how many there are, ask, and publish them; return the exit status."""
    return publish_stored(installation, settings, console, lambda _: True)


def publish_stored(
    installation: Installation,
    settings: Mapping[str, str],
    console: Console,
    is_wanted: Callable[[ItemMessage], bool],
) -> int:
    """The same for those of the items that are wanted."""
    topic = installation.items_topic()
    storage = open_objects(installation.storage())
    names = stored_since(installation, ITEMS, settings, console)
    print_text(console, f"{count_of(len(names), 'stored item')} to publish to {topic}.")
    if not names:
        return 0
    if installation.asks_before_changes:
        confirm(console, settings, "Publish them once more?")
    problems = []
    with ThreadPoolExecutor(_READERS) as readers:
        starts = range(0, len(names), _READ_AT_ONCE)
        for start in show_progress(console, f"published, {_READ_AT_ONCE} at a time", starts):
            part: Sequence[str] = names[start : start + _READ_AT_ONCE]
            while part:
                read = list(readers.map(partial(_read, storage), part))
                messages = [each.content for each in read if isinstance(each.content, ItemMessage)]
                encoded = ((each.attributes(), each.data()) for each in messages if is_wanted(each))
                for batch in _batches(encoded):
                    installation.publish_items(batch)
                problems += [each.content for each in read if isinstance(each.content, str)]
                part = [name for name in readers.map(partial(_replaced, storage), read) if name]
    for problem in problems:
        print_error(console, problem)
    return 1 if problems else 0


class _Found(NamedTuple):
    """What an object had when it was read: a message, or why there is none; None: it is gone."""

    name: str
    e_tag: str | None
    content: ItemMessage | str | None


def _read(storage: "LocalStore | GCSStore", name: str) -> _Found:
    try:
        found = obstore.get(storage, name)
        e_tag, content = found.meta["e_tag"], bytes(found.bytes())
    except FileNotFoundError:
        return _Found(name, None, None)
    except BaseError as error:
        raise CommandError(f"{name}: {first_line(error)}") from error
    try:
        return _Found(name, e_tag, describe(read_item(content)))
    except (NotJsonError, NotAnItemError) as error:
        return _Found(name, e_tag, f"{name} is not an item: {error}")


def _replaced(storage: "LocalStore | GCSStore", found: _Found) -> str:
    """The name of an object that was replaced after it was read, else nothing."""
    if not isinstance(found.content, ItemMessage):
        return ""
    try:
        is_same = obstore.head(storage, found.name)["e_tag"] == found.e_tag
    except FileNotFoundError:
        return ""
    except BaseError as error:
        raise CommandError(f"{found.name}: {first_line(error)}") from error
    return "" if is_same else found.name


def _batches(messages: Iterable[EncodedMessage]) -> Iterator[list[EncodedMessage]]:
    """The messages, as many together as a request to Pub/Sub takes."""
    batch: list[EncodedMessage] = []
    size = 0
    for message in messages:
        length = len(message[1])
        if batch and size + length > _MAX_BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += length
    if batch:
        yield batch
