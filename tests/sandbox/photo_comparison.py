"""Compares the photos in a bucket with those that the sandbox's Dimmy serves."""

from collections.abc import Mapping

from pipeline.archive.photos import photos_of
from pipeline.json_text import read_json
from pipeline.layout import photo_name
from sandbox.dimmy_api import DimmyApi


def missing_photos(
    items: Mapping[str, bytes], objects: Mapping[str, bytes], api: DimmyApi
) -> list[str]:
    """The names of the photos of these items (by id) that are not stored, or not as they are.

    `objects` are the contents of all stored objects by their names. Photos of other hosts, which
    `archive` refuses, do not count.
    """
    missing = []
    for item_id, line in items.items():
        for photo in photos_of(read_json(line)):
            served = str(photo.address).removeprefix(api.photo_url_prefix)
            name = photo_name(item_id, photo.name)
            if served != photo.address and objects.get(name) != api.photos.content_of(served):
                missing.append(name)
    return missing
