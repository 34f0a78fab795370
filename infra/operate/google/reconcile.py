"""The deployed `reconcile`, called as the person who is signed in to gcloud."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import requests

from operate.console import CommandError
from operate.google.gcloud import Gcloud
from operate.installation import ReconcileAnswer
from pipeline.reconcile.counts import COUNTS

_TRIES = 3
_REQUEST_SECONDS = 1830  # a little longer than the function's timeout
_TOKEN_SECONDS = 1800  # an identity token is valid for an hour


class GoogleReconcile:
    """Implements `installation.Reconcile`."""

    longest: timedelta | None = timedelta(days=1)

    def __init__(self, gcloud: Gcloud, url: str) -> None:
        self.description = url
        self._gcloud = gcloud
        self._url = url
        self._token = ""
        self._token_until = 0.0

    def window(
        self, start: datetime, end: datetime, _progress: Callable[[datetime, int], None]
    ) -> ReconcileAnswer:
        counts: dict[str, int] = {}
        reason = ""
        for _ in range(_TRIES):
            response = self._post(start, end)
            if response.status_code in {401, 403}:
                raise CommandError(
                    f"reconcile answers {response.status_code}: the account of gcloud needs"
                    " roles/run.invoker on it"
                )
            answer = _json(response)
            counts = {name: int(answer.get(name, 0)) for name in COUNTS}
            if response.status_code == 200:
                return ReconcileAnswer(counts)
            reason = f"{response.status_code} {answer.get('message', '')}"
            if response.status_code == 400:
                break
        return ReconcileAnswer(counts, reason)

    def _post(self, start: datetime, end: datetime) -> requests.Response:
        if time.monotonic() > self._token_until:
            self._token = self._gcloud.token("identity")
            self._token_until = time.monotonic() + _TOKEN_SECONDS
        try:
            return requests.post(
                self._url,
                params={"start_date": start.isoformat(), "end_date": end.isoformat()},
                headers={"Authorization": f"Bearer {self._token}"},
                timeout=_REQUEST_SECONDS,
            )
        except requests.RequestException as error:
            raise CommandError(f"reconcile cannot be reached: {type(error).__name__}") from error


def _json(response: requests.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except requests.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}
