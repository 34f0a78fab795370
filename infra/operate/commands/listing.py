"""Lists the stored objects that a command works on."""

from collections.abc import Mapping

from rich.console import Console

from operate.commands.arguments import read_date
from operate.console import CommandError, print_error
from operate.installation import Installation
from operate.object_listing import ListingError, ObjectListing


def stored_since(
    installation: Installation, folder: str, settings: Mapping[str, str], console: Console
) -> list[str]:
    """The names of the objects in a folder that were written since SINCE; all, where it is not set.

    Names that the storage library cannot read are printed and left out.

    Raises:
        UsageError: SINCE is not a date.
        CommandError: the storage cannot be listed.
    """
    since = read_date(settings, "SINCE") if settings.get("SINCE") else None
    listing = ObjectListing(installation.storage())
    try:
        names = listing.names(f"{folder}/", since)
    except ListingError as error:
        raise CommandError(f"storage: {error}") from error
    if listing.odd_names:
        print_error(console, listing.describe_odd_names())
    return names
