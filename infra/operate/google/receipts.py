"""Receipts in the bucket of a deployment, read through gcloud."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from operate.console import CommandError
from operate.google.gcloud import Gcloud
from pipeline.layout import receipt_name
from pipeline.store.receipts import Receipt, ReceiptError

_MAX_ON_COMMAND_LINE = 100


def read_receipts(gcloud: Gcloud, bucket: str, event_ids: Iterable[str]) -> dict[str, Receipt]:
    """The receipts of those events that have one.

    Raises:
        CommandError: gcloud fails, or an object is not a receipt.
    """
    wanted = sorted(event_ids)
    names = [f"gs://{bucket}/{receipt_name(event_id)}" for event_id in wanted]
    receipts: dict[str, Receipt] = {}
    for start in range(0, len(names), _MAX_ON_COMMAND_LINE):
        for value in _json_objects(_read(gcloud, names[start : start + _MAX_ON_COMMAND_LINE])):
            try:
                receipt = Receipt.from_json(value)
            except ReceiptError as error:
                raise CommandError(f"gs://{bucket}: {error}") from error
            receipts[receipt.event_id] = receipt
    return {event_id: receipts[event_id] for event_id in wanted if event_id in receipts}


def _read(gcloud: Gcloud, names: list[str]) -> str:
    """The content of those objects that exist, one after the other."""
    try:
        return gcloud.run("storage", "cat", *names)
    except CommandError as error:
        if "matched no objects" not in str(error) and "404" not in str(error):
            raise
        # gcloud prints nothing at all if one of several is missing.
        if len(names) == 1:
            return ""
        middle = len(names) // 2
        return _read(gcloud, names[:middle]) + _read(gcloud, names[middle:])


def _json_objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text, whatever is between them."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        found, end = decoder.raw_decode(text, start)
        yield found
        start = text.find("{", end)
