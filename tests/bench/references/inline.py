"""The design of the vendor's sample: it fetches and stores everything while the sender waits.

Requests to the API are sequential, each over its own connection. The sample prints the items; this
version stores them.
"""

import os
from pathlib import Path

import flask
import requests
from svix.webhooks import Webhook, WebhookVerificationError


def inline(request: flask.Request) -> tuple[str, int]:
    """Verify the webhook, then fetch and store each item."""
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
