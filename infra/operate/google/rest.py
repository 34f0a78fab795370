"""Google's REST APIs, for what gcloud cannot do, or does only in its beta."""

import os
from typing import Any

import requests

from operate.console import CommandError
from operate.google.gcloud import Gcloud

_NAMES = {
    "cloudresourcemanager": "Resource Manager",
    "monitoring": "Cloud Monitoring",
    "pubsub": "Pub/Sub",
    "serviceusage": "Service Usage",
}
_SECONDS = 60


def request(gcloud: Gcloud, api: str, method: str, path: str, **options: Any) -> dict[str, Any]:
    """The answer to a request of the person who is signed in. `options` are those of requests.

    Raises:
        CommandError: the API cannot be reached, or refuses.
    """
    # This variable sets another address of the API for gcloud, so it is used here, too.
    variable = f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{api.upper()}"
    base = os.environ.get(variable, f"https://{api}.googleapis.com/")
    headers = {"Authorization": f"Bearer {gcloud.access_token()}"}
    try:
        response = requests.request(
            method, f"{base}{path}", headers=headers, timeout=_SECONDS, **options
        )
    except OSError as error:
        raise CommandError(f"{_NAMES[api]} cannot be reached: {type(error).__name__}") from error
    if response.status_code != 200:
        text = f"{_NAMES[api]} answers {response.status_code}: {response.text[:300]}"
        raise CommandError(text)
    answer: dict[str, Any] = response.json()
    return answer
