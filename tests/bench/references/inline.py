"""The design of the vendor's sample: everything happens while the sender waits.

One request to the API after the other, each over a connection of its own; where the sample prints
an item, this one stores it.
"""

import os
from pathlib import Path

import flask
import requests
from svix.webhooks import Webhook, WebhookVerificationError


def inline(request: flask.Request) -> tuple[str, int]:
    """Verify, fetch each item, store it, answer."""
    try:
        Webhook(os.environ["SIGNING_SECRETS"]).verify(request.get_data(), dict(request.headers))
    except WebhookVerificationError:
        return "no valid signature", 401
    folder = Path(os.environ["STORAGE_URL"].removeprefix("file://")) / "items"
    folder.mkdir(parents=True, exist_ok=True)
    for item_id in request.get_json(force=True)["item_ids"]:
        response = requests.get(
            f"{os.environ['DIMMY_API_URL']}/items/{item_id}",
            headers={"X-API-KEY": os.environ["DIMMY_API_KEY"]},
            timeout=60,
        )
        response.raise_for_status()
        (folder / f"{item_id}.json").write_bytes(response.content)
    return "", 204
