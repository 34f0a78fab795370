"""Lists the stored objects that a command works on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError

from operate.commands.arguments import read_date
from operate.console import CommandError

if TYPE_CHECKING:
    from obstore.store import GCSStore, LocalStore


def stored_since(
    storage: "LocalStore | GCSStore", folder: str, settings: Mapping[str, str]
) -> list[str]:
    """The names of the objects in a folder that were written since SINCE; all, where it is not set.

    Raises:
        UsageError: SINCE is not a date.
        CommandError: the storage cannot be listed.
    """
    since = read_date(settings, "SINCE") if settings.get("SINCE") else None
    try:
        return [
            str(found["path"])
            for page in obstore.list(storage, f"{folder}/")
            for found in page
            if since is None or found["last_modified"] >= since
        ]
    except BaseError as error:
        raise CommandError(f"storage: {str(error).splitlines()[0]}") from error
